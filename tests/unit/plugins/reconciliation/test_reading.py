"""What a reconciliation reads, at which rate, and what it reports."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from ansible.module_utils.pipeline.reconciliation.ledger import LedgerError
from fakes import client_error
from reconciliation_fakes import (
    HOST,
    LOST,
    NOW,
    OLD,
    WHOLE,
    Entry,
    World,
    body,
    entry,
)

# --- The quarantine


def test_a_message_that_has_been_quarantined_for_ten_days_is_a_finding(world: World) -> None:
    world.ledger(entry("a"))
    world.quarantine(body("a"), f"{HOST}/1")
    run = world.run()
    assert world.failed(run) == {}
    run.options = replace(run.options, quarantine_age=NOW.timestamp() - run.matcher.quarantined_before(1e12)[0][2])
    assert list(world.failed(run)) == [OLD]


def test_the_quarantine_is_left_as_it_was(world: World) -> None:
    world.ledger(entry("a"))
    world.quarantine(body("a"), f"{HOST}/1")
    world.run()
    assert len(world.sqs.real.receive_message(QueueUrl=world.quarantine_url)["Messages"]) == 1


def test_the_quarantine_is_not_received_from_when_nothing_is_in_it_and_nothing_is_looked_for(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"))
    world.run()
    assert world.sqs.count("receive_message") == 0


def test_nothing_is_ever_received_from_the_queue(world: World) -> None:
    world.ledger(entry("a"), entry("b"))
    world.queue(body("a"))
    world.quarantine(body("b"), f"{HOST}/2")
    world.run()
    assert {arguments["QueueUrl"] for name, arguments in world.sqs.calls if name == "receive_message"} == {world.quarantine_url}


# --- Read units


def test_a_scan_is_chosen_where_items_are_small_and_asking_where_the_ledger_is_short(world: World) -> None:
    world.ledger(*(entry(f"t-{number}") for number in range(100)))
    assert world.run().plan["method"] == "scan"
    world.ledgers.clear()
    world.ledger(entry("a"))
    world.dynamodb.describe_table = lambda **_: {"Table": {"TableSizeBytes": 4097}}
    assert world.run().plan == {"method": "batch_get", "batch_get_units": 1, "scan_units": 2}


def test_items_in_no_ledger_are_not_looked_for_when_the_table_is_asked_for_ids(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"))
    world.dynamodb.describe_table = lambda **_: {"Table": {"TableSizeBytes": 8192}}
    assert world.counts() == {"sent": 1, "stored": 1, "unknown": None}


def test_a_rate_is_kept_to(world: World) -> None:
    world.ledger(*(entry(f"t-{number}", merchant="x" * 3000) for number in range(200)))
    for number in range(200):
        world.store(body(f"t-{number}", merchant="x" * 3000))
    scan = world.dynamodb.real.scan
    world.dynamodb.scan = lambda **arguments: {**scan(**arguments), "ConsumedCapacity": {}}  # moto counts a unit a page
    run = world.run(rate=10.0)
    assert run.reader.capacity.used >= 150
    assert world.passed >= run.reader.capacity.used / 10 - 1


def test_a_throttled_table_is_asked_again(world: World) -> None:
    world.ledger(*(entry(f"t-{number}") for number in range(50)))
    for number in range(50):
        world.store(body(f"t-{number}"))
    scan, refused = world.dynamodb.real.scan, iter([client_error("ProvisionedThroughputExceededException", "Scan")] * 3)

    def throttled(**arguments: Any) -> Any:
        for error in refused:
            raise error
        return scan(**arguments)

    world.dynamodb.scan = throttled
    assert world.counts() == {"sent": 50, "stored": 50}


@pytest.mark.parametrize(
    ("client", "call"), [("dynamodb", "describe_table"), ("dynamodb", "batch_get_item"), ("sqs", "get_queue_attributes")]
)
def test_what_cannot_be_read_leaves_no_count_that_could_pass_for_zero(world: World, client: str, call: str) -> None:
    world.ledger(entry("a"))

    def refused(**_arguments: Any) -> Any:
        raise client_error("AccessDeniedException", call)

    setattr(getattr(world, client), call, refused)
    run = world.run()
    assert list(world.failed(run)) == [WHOLE]
    assert set(world.counts().values()) == {None}


# --- What is settled


@pytest.mark.parametrize(
    ("entries", "through"),
    [
        ([entry("stored"), entry("stored-2"), entry("stored-3")], {HOST: 3}),
        ([entry("stored"), entry("gone"), entry("stored-2")], {HOST: 1}),
        ([entry("stored"), entry("altered")], {HOST: 1}),
        ([entry("stored"), entry("poison")], {HOST: 1}),
        ([entry("stored"), Entry("stored", body("stored"), "unsent")], {HOST: 1}),
        ([entry("gone"), entry("stored")], {}),
        ([], {}),
    ],
)
def test_a_ledger_is_settled_up_to_the_first_entry_that_is_not_stored(world: World, entries: list[Entry], through: dict[str, int]) -> None:
    for number in ("", "-2", "-3"):
        world.store(body(f"stored{number}"))
    world.store(body("altered"), amount=Decimal("1"))
    world.ledger(*entries)
    world.quarantine(body("poison"), f"{HOST}/2") if entry("poison") in entries else None
    assert world.run().matcher.settled_through() == through


def test_what_somebody_hides_for_long_does_not_keep_a_short_run(world: World) -> None:
    world.ledger(entry("a"))
    world.quarantine(body("b"), None)
    world.sqs.real.receive_message(QueueUrl=world.quarantine_url, VisibilityTimeout=600)
    run = world.run(timeout=10)
    assert world.passed <= 30
    assert world.failed(run)[WHOLE] == "the quarantine was not read whole: about 1 of its messages are hidden by someone else"


# --- The report


def test_only_its_owner_may_read_what_it_writes(world: World) -> None:
    world.store(body("a"), amount=Decimal("99"))
    world.ledger(entry("a"))
    world.set(repaired=world.directory / "reports" / "repaired.jsonl")
    before = os.umask(0)
    try:
        world.run().repair(delete=True)
    finally:
        os.umask(before)
    for path in (world.options.repaired, world.directory / "progress.log"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.options.repaired.parent.stat().st_mode) == 0o700


def test_the_report_has_every_id(world: World) -> None:
    world.ledger(*(entry(f"lost-{number}") for number in range(8)), entry("altered"))
    world.store(body("altered"), amount=Decimal("1"))
    run = world.run()
    found = world.report(run)
    assert [one["transaction_id"] for one in found["lost"]] == [f"lost-{number}" for number in range(8)]
    assert found["altered"][0]["fields"] == [{"field": "amount", "sent": "12.30", "stored": "1"}]
    assert world.failed(run)[LOST] == "8: lost-0, lost-1, lost-2, lost-3, lost-4, and 3 more"


def test_progress_says_how_far_it_is(world: World) -> None:
    world.ledger(entry("a"))
    world.run()
    text = (world.directory / "progress.log").read_text()
    assert "1 entries of 1 ledgers read" in text
    assert "reading the table by scan, about 1 read units" in text


def test_the_same_ledger_twice_is_refused(world: World) -> None:
    world.ledger(entry("a"))
    world.ledger(entry("a"))
    with pytest.raises(LedgerError, match="was given before"):
        world.run()
