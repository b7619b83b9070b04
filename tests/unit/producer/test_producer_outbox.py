"""How the producer and its outbox work together: what is committed when, what the next life sends, and what a full or broken disk does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from botocore.exceptions import NoCredentialsError
from fakes import client_error
from outbox import Outbox
from outbox_error import OutboxError
from outbox_records import Draft
from producer_fakes import OneByOne, World, fail, message, stream_of, take_all, wanted
from sending import Producer
from sqs_client import SendError

AWAY = client_error("ServiceUnavailable", "SendMessageBatch", 503)


def record(world: World, count: int, body: str = "") -> None:
    """What an earlier life of the producer committed and did not send."""
    outbox = Outbox(world.directory, exclusive=True)
    for number in range(1, count + 1):
        outbox.add(Draft([message(f"old-{number}", **({"body": json.dumps({"transaction_id": f"old-{number}", "x": body})}))]))
    outbox.close()


class Nothing:
    """A source that has ended."""

    path = None

    def next_moment(self, now: float) -> float:
        return math.inf

    def draw(self, now: float, limit: int) -> Draft:
        return Draft()


# What is committed when


def test_nothing_is_sent_before_it_is_committed_and_nothing_marked_before_it_is_sent():
    # given a queue that looks into the outbox at every request
    seen = []

    def look(entries: list[dict]) -> dict:
        states = world.states()
        seen.append({states[int(each["MessageAttributes"]["outbox_id"]["StringValue"].rpartition("/")[2])] for each in entries})
        return take_all(entries)

    world = World(*[look] * 1_000)
    assert world.run(count=55, rate=100) == 0
    assert len(seen) >= 6 and all(states == {"unsent"} for states in seen)
    assert set(world.states().values()) == {"sent"}


def test_each_message_carries_its_outbox_id_and_its_message_id_is_kept():
    entries_seen: list[dict] = []

    def keep(entries: list[dict]) -> dict:
        entries_seen.extend(entries)
        return take_all(entries)

    world = World(keep)
    world.run(count=3, rate=100)
    outbox = world.outbox()
    kept = list(outbox.pages("SELECT sequence, transaction_id, message_id, amount, timestamp FROM entry WHERE sequence > ? LIMIT ?"))
    outbox.close()
    for (sequence, identity, message_id, amount, timestamp), entry in zip(kept, entries_seen, strict=True):
        sent = json.loads(entry["MessageBody"], parse_float=str)
        assert entry["MessageAttributes"] == {"outbox_id": {"DataType": "String", "StringValue": f"{outbox.host}/{sequence}"}}
        assert (identity, amount, timestamp) == (sent["transaction_id"], sent["amount"], sent["timestamp"])
        assert message_id == f"m-{entry['Id']}"


def test_entries_that_failed_stay_unsent_until_they_are_taken():
    states = []

    def look(entries: list[dict]) -> dict:
        states.append(world.states())
        return take_all(entries)

    world = World(fail("1"), look)
    world.run(count=3, rate=100)
    assert states == [{1: "sent", 2: "unsent", 3: "sent"}]


def test_what_comes_together_is_committed_together(monkeypatch: pytest.MonkeyPatch):
    commits = []
    monkeypatch.setattr(Outbox, "_commit", lambda self: commits.append(1) or self._connection.execute("COMMIT"))
    World(latency=0.1).run(count=1_000, rate=1_000)
    assert len(commits) <= 250  # for ten that have come, one before they are sent and one after


# The next life


def test_what_is_unsent_is_sent_first_and_in_order():
    world = World()
    record(world, 25)
    assert world.run(count=20, rate=1_000, linger=0) == 0
    old = [f"old-{number}" for number in range(1, 26)]
    assert world.sent() == old + [each["transaction_id"] for each in stream_of(20)]
    assert [len(ids) for _, ids in world.requests[:3]] == [10, 10, 5] and world.requests[2][0] == 0


def test_a_great_backlog_is_sent_with_a_bounded_window_in_memory():
    # given 3,000 unsent entries, and a queue that looks how many of them are in memory
    held = []

    def look(entries: list[dict]) -> dict:
        held.append(len(producer._held))
        return take_all(entries)

    world = World(*[look] * 1_000)
    record(world, 3_000)
    outbox = Outbox(world.directory, exclusive=True)
    producer = Producer(wanted(), outbox, world.connect, world.say, world.stop, world.now, world.wait, Nothing(), OneByOne())
    assert producer.run() == 0
    outbox.close()
    assert max(held) == 1_000 and world.sent() == [f"old-{number}" for number in range(1, 3_001)]


def test_large_bodies_make_the_window_smaller():
    held = []

    def look(entries: list[dict]) -> dict:
        held.append(sum(producer._held.values()))
        return take_all(entries)

    world = World(*[look] * 1_000)
    record(world, 40, body="x" * 1_000_000)
    outbox = Outbox(world.directory, exclusive=True)
    producer = Producer(wanted(), outbox, world.connect, world.say, world.stop, world.now, world.wait, Nothing(), OneByOne())
    assert producer.run() == 0
    outbox.close()
    assert 10_000_000 < max(held) <= 16 * 1_048_576 and len(world.sent()) == 40


def test_what_another_process_makes_unsent_is_sent_within_seconds():
    # given a producer that waits for a transaction that is an hour away, when another process makes entries unsent
    class Resending(World):
        def wait(self, event, seconds):
            super().wait(event, seconds)
            if self.now() >= 100 and not self.moment:
                self.moment = self.now()
                other = self.outbox()
                other.resend([1, 3])
                other.close()

    world = Resending(stop_at=200.0)
    world.moment = 0.0
    record(world, 3)
    assert world.run(rate=0.0001) == 0
    # then they are sent again
    moment, ids = world.requests[1]
    assert ids == ["old-1", "old-3"] and moment <= world.moment + 2.1


def test_a_stop_with_a_great_backlog_keeps_to_its_time_and_says_how_much_stays():
    world = World(stop_at=1.0, latency=0.5)
    record(world, 3_000)
    assert world.run() == 1
    assert world.clock.passed - 1 <= 20
    unsent = world.lines("stopped")[0]["unsent"]
    assert unsent == 3_000 - len(world.sent()) > 2_000
    line = world.lines("error")[0]
    assert (
        line["error"].startswith(f"{unsent} transactions are unsent and stay in the outbox {world.directory}") and line["unsent"] == unsent
    )
    assert list(world.states().values()) == ["sent"] * len(world.sent()) + ["unsent"] * unsent


# Draining


def test_a_drain_sends_all_and_draws_nothing():
    world = World(AWAY, AWAY)
    record(world, 25)
    assert world.run(count=0, within=60.0) == 0
    assert world.sent() == [f"old-{number}" for number in range(1, 26)] and len(world.states()) == 25
    assert world.lines("stopped")[0]["reason"] == "drained" and world.clock.passed < 10


@pytest.mark.parametrize("entries", [0, 1, 25])
def test_a_drain_waits_for_nothing_where_the_queue_takes_all(entries: int):
    world = World()
    record(world, entries)
    assert world.run(count=0, within=60.0) == 0
    assert len(world.sent()) == entries and world.clock.passed == 0


@pytest.mark.parametrize("within", [30.0, 600.0])
def test_a_drain_gives_up_in_time(within: float):
    world = World(*[AWAY] * 10_000, latency=7.0)
    record(world, 5)
    assert world.run(count=0, within=within) == 1
    assert within - 10 < world.clock.passed <= within
    assert world.lines("error")[0]["unsent"] == 5


def test_a_signal_ends_a_drain_sooner():
    world = World(*[AWAY] * 10_000, stop_at=100.0)
    record(world, 5)
    assert world.run(count=0, within=86_400.0) == 1
    assert world.clock.passed - 100 <= 20


def test_a_refused_drain_ends_at_once_and_keeps_all():
    world = World(client_error("QueueDoesNotExist"))
    record(world, 5)
    with pytest.raises(SendError, match="no such queue"):
        world.run(count=0, within=600.0)
    assert set(world.states().values()) == {"unsent"}


# What is full or broken


def test_a_full_outbox_goes_on_when_entries_are_reconciled():
    # given an outbox that is full of what was sent, when a part of it is reconciled after ten minutes
    class Reconciling(World):
        def wait(self, event, seconds):
            super().wait(event, seconds)
            if self.now() >= 600 and not self.settled:
                other = self.outbox()
                self.settled = other.settle(700)
                other.close()

    world = Reconciling()
    world.settled = 0
    assert world.run(rate=100, count=1_500, outbox_rows=1_000) == 0
    # then the rest comes in and is sent, and nothing that was not reconciled is gone
    assert world.settled == 700 and len(world.sent()) == 1_500
    full = [line["at"] for line in world.lines("full")]
    assert full[0] < 12 and full[9] < 601
    kept = [state for state in world.states().values() if state == "sent"]
    assert len(kept) == 800


def test_a_full_outbox_by_bytes_takes_in_no_more():
    class Large(Nothing):
        def next_moment(self, now: float) -> float:
            return now

        def draw(self, now: float, limit: int) -> Draft:
            return Draft([message("large", body=json.dumps({"transaction_id": "large", "x": "x" * 1_000_000})) for _ in range(limit)])

    world = World(*[AWAY] * 1_000, stop_at=100.0)
    assert world.run_from(Large(), outbox_bytes=20_000_000) == 1
    outbox = world.outbox()
    assert 20_000_000 <= outbox.bytes_in_use() < 62_000_000  # one commit over it at most
    outbox.close()
    assert world.lines("full")[0]["bytes"] >= 20_000_000


Work = Callable[[Outbox], object]


def trouble(name: str, transient: bool = True) -> OutboxError:
    return OutboxError(name, "/state/outbox.sqlite3", "f", "e", "do this", transient=transient)


@pytest.mark.parametrize("work", ["add", "mark", "record_start"])
def test_a_trouble_that_passes_is_waited_out_and_said(work: str, monkeypatch: pytest.MonkeyPatch):
    # given an outbox that is locked, or whose disk is full, five times
    original, troubles = getattr(Outbox, work), [trouble("disk full")] * 5
    requests_before: list[int] = []

    def troubled(self: Outbox, *arguments: object) -> object:
        requests_before.append(len(world.requests))
        if troubles:
            raise troubles.pop()
        return original(self, *arguments)

    monkeypatch.setattr(Outbox, work, troubled)
    world = World()
    assert world.run(count=25, rate=100) == 0
    # then it says so each time, sends nothing meanwhile, and goes on without a loss
    waiting = world.lines("waiting")
    assert len(waiting) == 5 and {(line["reason"], line["what_to_do"]) for line in waiting} == {("disk full", "do this")}
    assert len(set(requests_before[:6])) == 1
    assert world.sent() == [each["transaction_id"] for each in stream_of(25)]


@pytest.mark.parametrize("work", ["add", "mark", "record_start"])
def test_a_trouble_that_lasts_ends_the_run(work: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Outbox, work, lambda *_: (_ for _ in ()).throw(trouble("outbox damaged", transient=False)))
    world = World()
    with pytest.raises(OutboxError, match="outbox damaged"):
        world.run(count=25, rate=100)
    assert len(world.requests) == (1 if work == "mark" else 0)


def test_a_stop_while_the_disk_is_full_ends_in_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Outbox, "mark", lambda *_: (_ for _ in ()).throw(trouble("disk full")))
    world = World(stop_at=60.0)
    with pytest.raises(OutboxError, match="disk full"):
        world.run(rate=10)
    assert world.clock.passed - 60 <= 20 and len(world.requests) == 1


def test_without_credentials_nothing_is_drawn_and_nothing_committed():
    world = World()

    def nothing() -> None:
        raise NoCredentialsError()

    outbox = Outbox(world.directory, exclusive=True)
    with pytest.raises(SendError):
        Producer(wanted(), outbox, nothing, world.say, world.stop, world.now, world.wait).run()
    outbox.close()
    assert world.states() == {}


def test_a_refused_start_keeps_what_was_committed_for_the_next():
    world = World(client_error("AccessDenied"))
    with pytest.raises(SendError):
        world.run(count=3, rate=100)
    assert set(world.states().values()) == {"unsent"}
    assert world.run(count=1, rate=100) == 0
    assert len(world.sent()) == 4 and set(world.states().values()) == {"sent"}
