"""When a transaction is lost: not before the queue was idle for long enough, and everything was read again."""

from __future__ import annotations

from typing import Any

import pytest
from aws_fakes import TABLE
from fakes import client_error
from reconciliation_fakes import (
    DAY,
    HOST,
    OVERDUE,
    WHOLE,
    Entry,
    World,
    body,
    entry,
)


def test_nothing_is_lost_before_the_counters_stayed_at_zero_for_long_enough(world: World) -> None:
    world.ledger(entry("a"))
    assert world.counts(timeout=9) == {"sent": 1, "in_flight": 1}


@pytest.mark.parametrize("counter", ["", "NotVisible", "Delayed"])
def test_each_of_the_three_counters_keeps_an_entry_in_flight(world: World, counter: str) -> None:
    world.ledger(entry("a"))
    real = world.sqs.real.get_queue_attributes

    def attributes(**arguments: Any) -> Any:
        answer = real(**arguments)
        if arguments["QueueUrl"] == world.queue_url:
            answer["Attributes"][f"ApproximateNumberOfMessages{counter}"] = "1"
        return answer

    world.sqs.get_queue_attributes = attributes
    assert world.counts() == {"sent": 1, "in_flight": 1}


def test_the_time_at_rest_begins_anew_when_a_counter_was_not_zero(world: World) -> None:
    world.ledger(entry("a"))
    looks = {"sent": False}

    def one_more() -> None:
        if world.passed > 6 and not looks["sent"]:
            looks["sent"] = True
            world.queue()
        elif looks["sent"]:
            world.empty_queue()

    world.on_wait = one_more
    assert world.counts(timeout=12) == {"sent": 1, "in_flight": 1}


def test_what_arrives_while_the_queue_comes_to_rest_is_stored(world: World) -> None:
    world.ledger(entry("a"))
    world.on_wait = lambda: world.store(body("a")) if world.passed > 5 else None
    assert world.counts() == {"sent": 1, "stored": 1}


def test_an_entry_stored_just_before_it_would_be_lost_is_found_by_the_last_look(world: World) -> None:
    world.ledger(entry("a"))
    read, late = world.dynamodb.real.batch_get_item, []

    def batch_get_item(**arguments: Any) -> Any:
        if world.passed > 10 and not late:
            late.append(world.store(body("a")))
        return read(**arguments)

    world.dynamodb.batch_get_item = batch_get_item
    assert world.counts() == {"sent": 1, "stored": 1}


def test_an_entry_stored_while_the_quarantine_is_read_is_found_by_the_last_look(world: World) -> None:
    """So the table is read after the quarantine, from which a replay may have taken it."""
    world.ledger(entry("a"))
    receive = world.sqs.receive_message

    def receive_message(**arguments: Any) -> Any:
        world.store(body("a"))
        return receive(**arguments)

    world.sqs.receive_message = receive_message
    assert world.counts() == {"sent": 1, "stored": 1}


def test_an_entry_sent_again_during_the_last_look_is_in_flight(world: World) -> None:
    world.ledger(entry("a"))
    read = world.dynamodb.real.batch_get_item

    def batch_get_item(**arguments: Any) -> Any:
        if world.passed > 10:
            world.queue(body("a"))
        return read(**arguments)

    world.dynamodb.batch_get_item = batch_get_item
    assert world.counts() == {"sent": 1, "in_flight": 1}


def test_every_read_is_consistent(world: World) -> None:
    world.ledger(entry("a"), entry("b"))
    world.store(body("a"))
    world.run()
    reads = [arguments for name, arguments in world.dynamodb.calls if name == "scan"]
    reads += [
        request[TABLE] for request in (arguments["RequestItems"] for name, arguments in world.dynamodb.calls if name == "batch_get_item")
    ]
    assert {arguments.get("ConsistentRead") for arguments in reads} == {True}


def test_what_moved_from_the_quarantine_back_to_the_queue_is_not_lost(world: World) -> None:
    """It is met in neither: the queue cannot be read, and the quarantine no longer has it."""
    world.ledger(entry("a"))
    world.on_wait = lambda: world.queue(body("a")) if 2 < world.passed < 3 else None
    assert world.counts() == {"sent": 1, "in_flight": 1}


def test_what_somebody_else_hides_in_the_quarantine_is_not_lost(world: World) -> None:
    world.ledger(entry("a"))
    world.quarantine(body("a"), f"{HOST}/1")
    world.sqs.real.receive_message(QueueUrl=world.quarantine_url, VisibilityTimeout=600)
    run = world.run()
    assert (run.matcher.counts()["in_flight"], run.matcher.counts()["lost"]) == (1, 0)
    assert set(world.failed(run)) == {WHOLE}


@pytest.mark.parametrize("age", [60, 5 * DAY])
def test_nothing_is_lost_while_the_quarantine_cannot_be_read(world: World, age: float) -> None:
    world.ledger(Entry("a", body("a"), age=age))

    def refused(**_arguments: Any) -> Any:
        raise client_error("AccessDenied", "ReceiveMessage")

    world.sqs.receive_message = refused
    run = world.run()
    assert (run.matcher.counts()["in_flight"], run.matcher.counts()["lost"]) == (1, 0)
    assert "AccessDenied" in world.failed(run)[WHOLE]


def test_what_is_older_than_the_queue_keeps_it_is_lost_whatever_the_counters_say(world: World) -> None:
    world.ledger(Entry("old", body("old"), age=4 * DAY + 60), entry("new"))
    world.queue(body("new"))
    run = world.run()
    assert ([one.transaction_id for one in run.matcher.lost()], run.matcher.counts()["in_flight"]) == (["old"], 1)


def test_what_has_been_in_flight_for_too_long_is_a_finding(world: World) -> None:
    world.ledger(Entry("a", body("a"), age=3650))
    world.queue()
    run = world.run()
    assert list(world.failed(run)) == [OVERDUE]
    assert world.failed(run)[OVERDUE].startswith("1, the oldest, a, sent 1:0")


def test_it_waits_for_what_is_to_be_sent_when_it_is_told_to(world: World) -> None:
    world.ledger(Entry("a", body("a"), "unsent"))
    world.on_wait = lambda: world.store(body("a")) if world.passed > 5 else None
    assert world.counts(await_unsent=True) == {"sent": 1, "stored": 1}


def test_what_was_to_be_sent_and_did_not_arrive_is_named(world: World) -> None:
    world.ledger(Entry("a", body("a"), "unsent"))
    assert world.failed(world.run(await_unsent=True)) == {"all that was to be sent has arrived": "1: a"}
