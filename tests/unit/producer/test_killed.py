"""The producer killed at every step, against a queue on the loopback: what was committed arrives, once or twice, and never not at all."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from killing_producer import COMMAND_STEPS, STEPS
from outbox import Outbox
from producer_process import Cloud, Program

LINES = 130
AGAIN = ["after-the-checkpoint", "after-it-is-committed", "after-it-is-sent", "before-the-mark-is-committed"]  # and in the middle of work
PRUNING = [step for step in STEPS if "prune" in step]


def write_feed(path: Path, first: int, last: int) -> list[str]:
    """Transactions of these numbers, with a line among them that is none; gives their ids."""
    names = [f"t-{number}" for number in range(first, last + 1)]
    lines = [json.dumps({"transaction_id": name, "amount": 1.5}) for name in names]
    lines.insert(len(lines) // 2, "no transaction")
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    return names


def ledger(state: Path) -> list[dict[str, Any]]:
    outbox = Outbox(state)
    try:
        rows = outbox.pages("SELECT sequence, transaction_id, state FROM entry WHERE sequence > ? ORDER BY sequence LIMIT ?")
        return [{"outbox_id": f"{outbox.host}/{number}", "transaction_id": name, "state": found} for number, name, found in rows]
    finally:
        outbox.close()


def rejected(state: Path) -> list[tuple[int, str, bytes]]:
    outbox = Outbox(state)
    try:
        return [row[1:] for row in outbox.pages("SELECT number, line, reason, content FROM rejected WHERE number > ? LIMIT ?")]
    finally:
        outbox.close()


def check(cloud: Cloud, state: Path, names: list[str], at_most: int = 2) -> None:
    """Every transaction is in the ledger once and sent, and arrived `at_most` so often, each time under the same outbox_id."""
    entries = ledger(state)
    assert [entry["transaction_id"] for entry in entries] == names
    assert {entry["state"] for entry in entries} == {"sent"}
    assert set(Counter(cloud.received).values()) <= set(range(1, at_most + 1)) and set(cloud.received) == set(names)
    assert dict(zip(cloud.outbox_ids, cloud.received, strict=True)) == {entry["outbox_id"]: entry["transaction_id"] for entry in entries}
    doubled = len(cloud.received) - len(names)
    assert doubled <= 40  # no more than the four batches that were under way


@pytest.mark.parametrize(("step", "nth"), [(step, 1) for step in STEPS if step not in PRUNING] + [(step, 3) for step in AGAIN])
def test_a_feed_whose_reader_is_killed_arrives_whole(step: str, nth: int, cloud: Cloud, directory: Path):
    # given a feed, and a producer that kills itself at the step
    names = write_feed(directory / "feed", 1, LINES)
    feed = ["--source", str(directory / "feed"), "--source-end", "stop"]
    killed = Program(cloud, *feed, state=directory / "state", kill=f"{step}:{nth}")
    code, _, err = killed.finish()
    assert code == -9, (code, err)
    # when it is started again
    code, _, err = Program(cloud, *feed, state=directory / "state").finish()
    # then
    assert (code, err) == (0, []), (code, err)
    check(cloud, directory / "state", names)
    assert rejected(directory / "state") == [(LINES // 2 + 1, "not_json", b"no transaction")]


@pytest.mark.parametrize("step", ["after-it-is-committed", "before-it-is-sent", "after-it-is-sent", "before-the-mark-is-committed"])
def test_what_a_killed_producer_had_committed_is_sent_by_a_drain(step: str, cloud: Cloud, directory: Path):
    assert Program(cloud, "--rate", "500", "--linger", "0.1", state=directory, kill=f"{step}:4").finish()[0] == -9
    committed = [entry["transaction_id"] for entry in ledger(directory)]
    assert len(committed) >= 4
    assert Program(cloud, "drain", state=directory).finish()[0] == 0
    check(cloud, directory, committed)


def test_killed_time_and_again_it_loses_nothing(cloud: Cloud, directory: Path):
    names = write_feed(directory / "feed", 1, LINES)
    feed = ["--source", str(directory / "feed"), "--source-end", "stop"]
    steps = ["after-it-is-inserted", "after-it-is-sent", "before-the-checkpoint", "in-the-middle-of-a-mark", "after-it-is-sent"]
    for step in steps:
        assert Program(cloud, *feed, state=directory / "state", kill=step).finish()[0] == -9
    assert Program(cloud, *feed, state=directory / "state").finish()[0] == 0
    assert set(cloud.received) == set(names)
    assert [entry["transaction_id"] for entry in ledger(directory / "state")] == names


@pytest.mark.parametrize("step", PRUNING)
def test_killed_while_it_prunes_it_keeps_all_that_is_not_reconciled(step: str, cloud: Cloud, directory: Path):
    # given an outbox that is nearly full, most of it reconciled
    names = write_feed(directory / "feed", 1, 800)
    feed = ["--source", str(directory / "feed"), "--source-end", "stop", "--outbox-rows", "1000"]
    assert Program(cloud, *feed, state=directory / "state").finish()[0] == 0
    assert Program(cloud, "reconciled", "--through", "600", state=directory / "state").finish()[0] == 0
    names += write_feed(directory / "feed", 801, 1_300)
    # when it is killed at its first step of pruning, and started again
    assert Program(cloud, *feed, state=directory / "state", kill=step).finish()[0] == -9
    assert Program(cloud, *feed, state=directory / "state").finish()[0] == 0
    # then
    assert set(cloud.received) == set(names)
    kept = [entry["transaction_id"] for entry in ledger(directory / "state") if entry["state"] != "reconciled"]
    assert kept == names[600:]


@pytest.mark.parametrize("step", COMMAND_STEPS)
def test_a_command_that_is_killed_can_be_given_again(step: str, cloud: Cloud, directory: Path):
    # given 700 sent entries, more than a command changes in one transaction
    names = write_feed(directory / "feed", 1, 700)
    assert Program(cloud, "--source", str(directory / "feed"), "--source-end", "stop", state=directory / "state").finish()[0] == 0
    lost = directory / "lost"
    lost.write_text("".join(json.dumps({"outbox_id": entry["outbox_id"]}) + "\n" for entry in ledger(directory / "state")))
    command = ["resend", "--lost", str(lost)] if "resend" in step else ["reconciled", "--through", "700"]
    # when it is killed in the middle, and given again
    assert Program(cloud, *command, state=directory / "state", kill=step).finish()[0] == -9
    assert Program(cloud, *command, state=directory / "state").finish()[0] == 0
    # then it has done all of it
    expected = {"unsent"} if "resend" in step else {"reconciled"}
    assert {entry["state"] for entry in ledger(directory / "state")} == expected
    assert Program(cloud, "drain", state=directory / "state").finish()[0] == 0
    assert Counter(cloud.received) == dict.fromkeys(names, 2 if "resend" in step else 1)
