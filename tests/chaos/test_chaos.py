"""The pipeline under a steady stream and one fault at a time, then random mixes: nothing lost, altered or doubled, by an independent judge.

The tests go on where the one before ended. CHAOS_SEEDS is how many mixes there are (20); CHAOS_SHORT=1 makes everything brief, and leaves
out the plays under load and the runs with a protection taken away.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from chaos_faults import (
    FAULTS,
    INSERTS,
    OUTAGE_RECEIVES,
    Fault,
    function_failing,
    function_throttled,
    judge_conflicts_anew,
    lasting_an_hour,
    producer_killed,
    receives_of,
    requests,
    resend_lost,
    table_gone,
)
from chaos_judge import OWN_FIELDS, Content, ExactDeserializer, judge, read_dead_letters
from chaos_report import Report, Row
from chaos_stream import Line
from chaos_world import World
from plays import listings, wait_until

SHORT = os.environ.get("CHAOS_SHORT", "") == "1"
SEEDS = range(1, int(os.environ.get("CHAOS_SEEDS", "2" if SHORT else "20")) + 1)
LONG = pytest.mark.skipif(SHORT, reason="the short form leaves it out")
# What takes a play, or half a minute, is left to the long form; but not the kills of the producer.
BRIEF = [fault for fault in FAULTS if fault.mixes or fault.inject is producer_killed]
OUTAGES = {
    "function throttled": function_throttled,
    "function failing": function_failing,
    "table throttled": requests({"actions": INSERTS, "kinds": ["throttling"]}),
    "table missing": table_gone,
}
OUTAGE_VISIBILITY = 1 if SHORT else 2


def name_of(fault: Fault) -> str:
    return fault.name.replace(" ", "-").replace(",", "")


def run(world: World, fault: Fault, protected: bool = True) -> Row:
    """The fault under the stream, what brings it back, and what became of all that was sent meanwhile."""
    with ExitStack() as removed:
        if not protected:
            removed.enter_context(fault.without(world))
        elif fault.within:
            removed.enter_context(fault.within(world))
        first = world.flow()
        with (fault.inject if protected or not fault.instead else fault.instead)(world):
            world.stream.pass_by(min(fault.seconds, 2.0) if SHORT else fault.seconds)
        ended = time.monotonic()
        world.stream.pass_by(0.5)
        world.stream.pause()
        lines = world.stream.lines[first:]
        world.settle(lines)
        recovery = ""
        if protected and fault.recover:  # of what was sent before too
            fault.recover(world)
            recovery = fault.recovery
            world.settle(lines)
        verdict = world.verdict(lines)
    return Row(fault.name, verdict, round(time.monotonic() - ended, 1), recovery, fault.protection)


@pytest.mark.parametrize("fault", BRIEF if SHORT else FAULTS, ids=name_of)
def test_a_fault_harms_nothing(world: World, report: Report, fault: Fault):
    row = run(world, fault)
    report.faults.append(row)
    assert row.verdict.harm == 0, row.verdict
    assert row.recovery == fault.recovery


def hour_of(kind: str) -> Fault:
    gone = next(fault for fault in FAULTS if fault.inject is table_gone)
    return Fault(
        f"an hour, time compressed: {kind}",
        lasting_an_hour(OUTAGES[kind], OUTAGE_VISIBILITY),
        f"{OUTAGE_RECEIVES} receives outlast it",
        receives_of(OUTAGE_RECEIVES // 2, OUTAGE_VISIBILITY),
        seconds=0.1,
        recovery=gone.recovery if kind == "table missing" else "",
        recover=gone.recover if kind == "table missing" else None,
        within=receives_of(OUTAGE_RECEIVES, OUTAGE_VISIBILITY),
    )


@pytest.mark.parametrize("kind", list(OUTAGES)[:1] if SHORT else OUTAGES)
def test_an_outage_of_an_hour_gives_up_nothing_and_its_backlog_drains_by_itself(world: World, report: Report, kind: str):
    row = run(world, hour_of(kind))
    report.faults.append(row)
    assert row.verdict.harm == 0, row.verdict


@LONG
def test_a_conflict_that_is_delivered_again_after_the_table_was_lost_takes_a_replay_of_the_conflicts(world: World):
    """To send again what is lost is not enough then: what came second is stored, and still in the quarantine as well."""
    first = world.flow()
    wait_until(lambda: conflicts(world.stream.lines[first:]), 60, "a conflict in the stream")
    second = conflicts(world.stream.lines[first:])[0]
    wait_until(lambda: second.content in world.dead_letters().get(second.transaction_id, []), 60, "the conflict in the quarantine")
    with table_gone(world):
        world.stream.pause()
    world.client("sqs").send_message(QueueUrl=world.pipeline.queue_url(), MessageBody=second.text)
    lines = world.stream.lines[first:]
    world.settle(lines)
    assert second.transaction_id in world.verdict(lines).named["doubled"]

    resend_lost(world)
    world.settle(lines)
    left = world.verdict(lines)
    assert (left.lost, second.transaction_id in left.named["doubled"]) == (0, True)

    judge_conflicts_anew(world)
    world.settle(lines)
    assert world.verdict(lines).harm == 0, world.verdict(lines)


def conflicts(lines: list[Line]) -> list[Line]:
    """What has the id of an earlier line, and another content."""
    firsts: dict[str, Line] = {}
    return [line for line in lines if firsts.setdefault(line.transaction_id, line).text != line.text]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_mix_of_faults_harms_nothing(world: World, report: Report, seed: int):
    chance = random.Random(seed)
    chosen = chance.sample([fault for fault in FAULTS if fault.mixes], 3)
    first = world.flow()
    world.mixing = True
    try:
        with ExitStack() as faults:
            for fault in chosen:
                faults.enter_context(fault.inject(world))
                world.stream.pass_by(chance.uniform(0.3, 1.0 if SHORT else 3.0))
        ended = time.monotonic()
        world.stream.pass_by(0.5)
    finally:
        world.mixing = False
        world.stream.pause()
    lines = world.stream.lines[first:]
    world.settle(lines)
    row = Row(f"seed {seed}: " + "; ".join(fault.name for fault in chosen), world.verdict(lines), round(time.monotonic() - ended, 1))
    report.mixes.append(row)
    assert row.verdict.harm == 0, row.verdict


@LONG
def test_all_of_the_stream_is_where_it_belongs_and_the_pipelines_own_reconciliation_agrees(world: World):
    judged = world.verdict(world.stream.lines)
    assert judged.harm == 0, judged
    counts = world.reconciled()
    assert [counts[name] for name in ("lost", "altered", "doubled", "in_flight")] == [0, 0, 0, 0]
    assert [counts[name] for name in ("sent", "stored", "quarantined")] == [judged.sent, judged.stored, judged.quarantined]


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]


def exported(directory: Path) -> tuple[dict[str, Content], dict[str, list[Content]], int]:
    """What an export has: the items and the dead-letter messages by transaction id, and the number of entries of the ledger."""
    deserialize, items = ExactDeserializer().deserialize, dict[str, Content]()
    for one in read(directory / "table.jsonl.gz"):
        item = {name: deserialize(value) for name, value in one["Item"].items() if name not in OWN_FIELDS}
        items[item["transaction_id"]] = item
    (ledger,) = directory.glob("ledger-*.jsonl.gz")
    dead_letters = read_dead_letters(one["body"] for one in read(directory / "quarantine.jsonl.gz"))
    return items, dead_letters, len(read(ledger)) - 1


@LONG
def test_a_teardown_under_load_exports_all_that_was_sent(world: World, report: Report):
    world.stream.start()
    world.stream.pass_by(1)
    began = time.monotonic()
    run = world.play("teardown", "--skip-tags", "embedded_cloud").ended_well()
    took = time.monotonic() - began
    world.stream.pause()
    (directory,) = (world.pipeline.directory / "exports").iterdir()
    items, dead_letters, entries = exported(directory)
    verdict = judge(world.stream.lines[:entries], items, dead_letters)
    report.faults.append(Row("teardown under load", verdict, round(took, 1), "", "it drains and exports before it deletes"))
    assert verdict.harm == 0, verdict
    assert 0 < entries <= len(world.stream.lines)
    assert str(directory) in run.output
    left = listings(world.pipeline)
    assert (left["queues"], left["tables"], left["functions"], left["instances"]) == ([], [], [], [])


@LONG
@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_a_fault_does_harm_when_its_protection_is_taken_away(world: World, report: Report, fault: Fault):
    if not world.is_deployed():
        world.deploy_anew()
    row = run(world, fault, protected=False)
    report.without[fault.name] = row.verdict.in_words
    assert row.verdict.harm > 0


@LONG
@pytest.mark.parametrize("kind", OUTAGES)
def test_an_outage_does_harm_with_half_of_the_receives(world: World, report: Report, kind: str):
    row = run(world, hour_of(kind), protected=False)
    report.without[row.name] = row.verdict.in_words
    assert row.verdict.given_up > 0


@LONG
def test_a_teardown_that_discards_exports_nothing(world: World, report: Report):
    world.stream.start()
    world.stream.pass_by(1)
    before = list((world.pipeline.directory / "exports").iterdir())
    run = world.play("teardown", "--skip-tags", "embedded_cloud", "-e", "discard_data=default").ended_well()
    world.stream.pause()
    assert list((world.pipeline.directory / "exports").iterdir()) == before
    assert "All of it is discarded" in run.output
    report.without["teardown under load"] = judge(world.stream.lines, {}, {}).in_words
