"""Reconciliation: every verdict has its own cause, and no verdict is given that was not proved."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.aws import dead_letter_queue as quarantine_messages
from ansible.module_utils.pipeline.aws.dead_letter_queue import QuarantinedMessage
from ansible.module_utils.pipeline.quarantine.journal import Journal, Outgoing
from ansible.module_utils.pipeline.quarantine.outcomes import ArchiveError
from ansible.module_utils.pipeline.reconciliation.ledger import LedgerError
from ansible.module_utils.pipeline.reconciliation.report import checks
from ansible.module_utils.pipeline.reconciliation.run import Reconciliation
from botocore.exceptions import ClientError
from quarantine_fakes import World as Quarantined
from reconciliation_fakes import DAY, HOST, NOW, TABLE, Entry, World, body, entry, iso

LOST, ALTERED, DOUBLED = "nothing is lost", "nothing is altered", "nothing is doubled"
SUM, UNKNOWN = "sent = stored + quarantined + in flight", "every item of the table is in a ledger"
OVERDUE, OLD = "nothing is in flight for too long", "no quarantined message is near its end"
FOREIGN = "every quarantined message is in a ledger"
WHOLE, LEDGERS = "table, queue and quarantine were read whole", "every producer's ledger is there"


@pytest.fixture
def world(aws: None, tmp_path: Path) -> World:
    return World(tmp_path)


def refuse(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "refused"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, operation)


# --- Verdicts


def test_what_is_stored_as_it_was_sent_passes_every_check(world: World) -> None:
    world.ledger(entry("a"), entry("b", "0.07"))
    world.store(body("a"))
    world.store(body("b", "0.07"))
    run = world.run()
    assert (run.book.counts()["sent"], run.book.counts()["stored"], world.failed(run)) == (2, 2, {})


def test_what_is_in_none_of_them_is_lost_once_the_queue_has_been_at_rest(world: World) -> None:
    world.ledger(entry("a"), entry("b"))
    world.store(body("a"))
    run = world.run()
    assert [one.transaction_id for one in run.book.lost()] == ["b"]
    assert world.failed(run) == {LOST: "1: b", SUM: "1 stored + 0 quarantined + 0 in flight"}
    assert world.passed >= 10


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"amount": Decimal("12.31")}, [{"field": "amount", "sent": "12.30", "stored": "12.31"}]),
        ({"amount": Decimal("12")}, [{"field": "amount", "sent": "12.30", "stored": "12"}]),
        ({"amount": "12.30"}, [{"field": "amount", "sent": "12.30", "stored": '"12.30"'}]),
        ({"merchant": None}, [{"field": "merchant", "sent": '"Caf\\u00e9 Z\\u00fcrich"', "stored": None}]),
        ({"fee": True}, [{"field": "fee", "sent": None, "stored": "true"}]),
        (
            {"user_id": "other", "currency": "USD"},
            [{"field": "currency", "sent": '"EUR"', "stored": '"USD"'}, {"field": "user_id", "sent": '"user-1"', "stored": '"other"'}],
        ),
    ],
)
def test_an_item_that_is_not_what_was_sent_is_altered_and_names_each_field(
    world: World, changed: dict[str, Any], fields: list[Any]
) -> None:
    world.ledger(entry("a"))
    world.store(body("a"), **changed)
    run = world.run()
    assert [one.fields for one in run.book.altered()] == [fields]
    assert set(world.failed(run)) == {ALTERED, SUM}


def test_a_cent_is_seen_in_amounts_that_a_float_cannot_tell_apart(world: World) -> None:
    world.ledger(entry("a", "90071992547409.93"), entry("b", "90071992547409920.01"))
    world.store(body("a", "90071992547409.92"))
    world.store(body("b", "90071992547409920.02"))
    assert world.counts() == {"sent": 2, "altered": 2}


@pytest.mark.parametrize("own", ["transaction_category", "processed_at_utc", "processor_version"])
def test_the_functions_own_fields_are_not_compared(world: World, own: str) -> None:
    world.ledger(entry("a"))
    world.store(body("a"), **{own: "anything"})
    assert world.counts() == {"sent": 1, "stored": 1}


def test_another_spelling_of_a_number_is_the_same_number(world: World) -> None:
    world.ledger(entry("a", "1e3"), entry("b", "10.50"), entry("c", "-0"))
    for identity, amount in (("a", "1000"), ("b", "10.5"), ("c", "0")):
        world.store(body(identity, amount))
    assert world.counts() == {"sent": 3, "stored": 3}


def test_true_is_no_number(world: World) -> None:
    world.ledger(entry("a", fee=True), entry("b", fee=1))
    world.store(body("a", fee=1))
    world.store(body("b", fee=True))
    assert world.counts() == {"sent": 2, "altered": 2}


def test_what_the_quarantine_has_is_quarantined_by_its_outbox_id_though_its_body_cannot_be_read(world: World) -> None:
    world.ledger(Entry(None, "not JSON"), entry("b"))
    world.store(body("b"))
    world.quarantine("not JSON", f"{HOST}/1", "not_json")
    run = world.run()
    assert (run.book.counts()["quarantined"], run.book.reasons(), world.failed(run)) == (1, {"not_json": 1}, {})


def test_what_is_quarantined_has_arrived_and_is_not_waited_for(world: World) -> None:
    world.ledger(entry("a"), Entry("b", body("b", "null"), age=1))
    world.store(body("a"))
    world.quarantine(body("b", "null"), f"{HOST}/2", "amount_not_a_number")
    assert world.failed(world.run(timeout=600)) == {}
    assert world.passed < 5  # the long poll that finds no more


def test_a_quarantined_message_without_outbox_id_is_known_by_its_transaction_id(world: World) -> None:
    world.ledger(entry("a"))
    world.quarantine(body("a"), None, None)
    assert world.counts() == {"sent": 1, "quarantined": 1}


def test_stored_comes_before_quarantined(world: World) -> None:
    """A copy that was tried too often, of what is stored, is no second transaction: replayed, it changes nothing."""
    world.ledger(entry("a"))
    world.store(body("a"))
    world.quarantine(body("a"), f"{HOST}/1", None)
    run = world.run()
    assert world.failed(run) == {}
    assert world.counts() == {"sent": 1, "stored": 1}


def test_what_waits_in_the_queue_is_in_flight_however_long_it_takes(world: World) -> None:
    world.ledger(entry("a"))
    world.queue(body("a"))
    run = world.run()
    assert (run.book.counts()["in_flight"], run.book.counts()["lost"], world.failed(run)) == (1, 0, {})


def test_what_was_not_sent_yet_is_not_lost(world: World) -> None:
    world.ledger(Entry("a", body("a"), "unsent"), entry("b"))
    world.store(body("b"))
    assert world.counts() == {"sent": 1, "stored": 1, "unsent": 1}


def test_what_the_table_has_was_sent_whatever_its_mark_says(world: World) -> None:
    world.ledger(Entry("a", body("a"), "unsent"))
    world.store(body("a"))
    assert world.counts() == {"sent": 1, "stored": 1}


def test_an_item_in_no_ledger_is_named(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"))
    world.store(body("nobody's", "5.00"))
    assert world.failed(world.run()) == {UNKNOWN: "1: nobody's"}


def test_the_probes_own_items_are_no_finding(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"))
    world.store(body("verify-6f9619ff-8b86-4011-b42d-00c04fc964ff"))
    world.store(body("verify-me", "5.00"))
    assert world.failed(world.run()) == {UNKNOWN: "1: verify-me"}


def test_an_item_stored_after_the_ledgers_were_exported_is_no_finding(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"))
    world.store(body("new", "5.00"), processed_at_utc=iso(NOW))
    assert world.failed(world.run()) == {}


def test_a_kept_ledger_of_long_ago_hides_no_item_that_is_in_none(world: World) -> None:
    world.ledger(entry("old"), name="gone", now=NOW - timedelta(days=30))
    world.ledger(entry("a"))
    for identity, amount in (("old", "12.30"), ("a", "12.30"), ("nobody's", "5.00")):
        world.store(body(identity, amount), processed_at_utc=iso(NOW - timedelta(hours=1)))
    assert world.failed(world.run(ledgers=world.ledgers[1:], kept_ledgers=world.ledgers[:1])) == {UNKNOWN: "1: nobody's"}


def test_what_a_kept_ledger_has_is_lost_when_no_queue_can_have_it_any_more(world: World) -> None:
    world.ledger(entry("missing"), name="gone", now=NOW - timedelta(days=30))
    world.ledger(entry("a"))
    world.store(body("a"))
    world.queue()  # never at rest
    run = world.run(ledgers=world.ledgers[1:], kept_ledgers=world.ledgers[:1])
    assert world.failed(run)[LOST] == "1: missing (cannot be sent again: its body is pruned, or its producer is gone)"


def test_a_quarantined_message_in_no_ledger_is_named_unless_it_is_the_probes_or_new(world: World) -> None:
    world.ledger(entry("a"), now=datetime.now(UTC) + timedelta(days=1))  # moto sends by the machine's clock
    world.store(body("a"))
    world.quarantine(body("nobody's"), None)
    world.quarantine("not JSON", "web-9/1", "not_json")
    world.quarantine(body("verify-1"), "verify:1/1")
    run = world.run()
    assert world.failed(run)[FOREIGN].startswith("2: nobody's, ")
    assert list(world.failed(run)) == [FOREIGN]
    world.ledgers.clear()
    world.ledger(entry("a"))  # exported in the past
    assert world.failed(world.run()) == {}


def test_what_others_sent_is_counted_and_no_finding_where_they_may(world: World) -> None:
    world.ledger(entry("a"), entry("lost"), now=datetime.now(UTC) + timedelta(days=1))
    world.store(body("a"))
    world.store(body("another's", "5.00"))
    world.quarantine(body("another's too"), None)
    run = world.run(others_allowed=True)
    assert list(world.failed(run)) == [SUM, LOST]
    found = {one["check"]: one["found"] for one in checks(run, world.limits, 0.0, "report.json")}
    why = "(no finding: others may send (reconciliation_other_senders))"
    assert found[f"reconciliation: {UNKNOWN}"] == f"1: another's {why}"
    assert found[f"reconciliation: {FOREIGN}"] == f"1: another's too {why}"
    assert set(world.failed(world.run())) == {SUM, LOST, UNKNOWN, FOREIGN}


def test_items_are_no_finding_where_a_ledger_begins_later_or_is_missing(world: World) -> None:
    world.ledger(entry("b"), first=501)
    world.store(body("old", "5.00"))
    world.store(body("b"))
    assert UNKNOWN not in world.failed(world.run())
    world.ledgers.clear()
    world.ledger(entry("b"))
    assert world.failed(world.run(missing_ledgers=["web-2"])) == {LEDGERS: "1, none of web-2"}


# --- Copies, conflicts, doubles


def test_copies_count_once_in_one_ledger_or_in_several(world: World) -> None:
    world.ledger(entry("a"), entry("a"))
    world.ledger(entry("a"), name="web-2")
    world.store(body("a"))
    assert world.counts() == {"sent": 1, "stored": 1, "copies": 2}


def test_a_copy_that_waits_unsent_does_not_hide_that_the_other_is_lost(world: World) -> None:
    world.ledger(Entry("a", body("a"), "unsent"))
    world.ledger(entry("a"), name="web-2")
    assert world.counts() == {"sent": 1, "lost": 1, "copies": 1}


def test_a_pruned_copy_is_stored_with_the_other(world: World) -> None:
    world.ledger(Entry("a", None, "reconciled"))
    world.ledger(entry("a"), name="web-2")
    world.store(body("a"))
    assert world.counts()["stored"] == 2


def test_one_id_with_two_contents_is_two_transactions_of_which_the_second_is_a_conflict(world: World) -> None:
    world.ledger(entry("a", "1.00"))
    world.ledger(entry("a", "2.00"), name="web-2")
    world.store(body("a", "1.00"))
    world.quarantine(body("a", "2.00"), "web-2/1", "conflict")
    run = world.run()
    assert (run.book.counts()["stored"], run.book.counts()["quarantined"], world.failed(run)) == (1, 1, {})
    assert [one["fields"] for one in run.conflicts] == [[{"field": "amount", "stored": "1.00", "quarantined": "2.00"}]]


def test_a_conflict_that_is_not_in_the_quarantine_is_lost_though_its_id_is_stored(world: World) -> None:
    world.ledger(entry("a", "1.00"))
    world.ledger(entry("a", "2.00"), name="web-2")
    world.store(body("a", "1.00"))
    run = world.run()
    assert [one.outbox_id for one in run.book.lost()] == ["web-2/1"]


def test_an_altered_item_is_altered_though_a_copy_of_what_was_sent_became_a_conflict(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"), amount=Decimal("13"))
    world.quarantine(body("a"), f"{HOST}/1", "conflict")
    run = world.run()
    assert (run.book.counts()["altered"], run.book.counts()["quarantined"]) == (1, 0)


def test_of_two_contents_the_one_that_is_no_conflict_is_the_altered_one(world: World) -> None:
    world.ledger(entry("a", "1.00"), entry("a", "2.00"))
    world.store(body("a"), amount=Decimal("3"))
    world.quarantine(body("a", "1.00"), f"{HOST}/1", "conflict")
    run = world.run()
    assert [one.named.outbox_id for one in run.book.altered()] == [f"{HOST}/2"]
    assert run.book.counts()["quarantined"] == 1


def test_a_second_item_that_differs_in_its_id_only_is_doubled(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"))
    world.store(body("a"), transaction_id="a-again")
    run = world.run()
    assert world.failed(run) == {DOUBLED: "1: a (in the table as a-again)"}


def test_what_is_stored_and_waits_in_the_quarantine_under_another_id_is_doubled(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"))
    world.quarantine(body("a2"), f"{HOST}/1", "throttled")
    assert world.failed(world.run()) == {DOUBLED: "1: a (in the quarantine as a2)"}


# --- Repaired in the quarantine


@pytest.mark.parametrize(
    "sent",
    [
        body("a", '"12.30"'),
        body("a", "-1"),
        body("a", "null"),
        body("a", "1e999"),
        '{"transaction_id": "a", "amount": 1, "amount": 2}',
        '{"transaction_id": "a", "amount": 1',
    ],
)
def test_what_could_not_be_stored_as_it_was_sent_was_repaired_not_altered(world: World, sent: str) -> None:
    world.ledger(Entry("a", sent))
    world.store(body("a"))
    assert world.counts() == {"sent": 1, "stored": 1, "repaired": 1}


def test_what_was_given_its_id_in_the_quarantine_is_found_by_the_rest_of_it(world: World) -> None:
    world.ledger(entry(None))
    world.store(body("given"))
    assert world.counts() == {"sent": 1, "stored": 1, "repaired": 1}


# --- When an id is lost


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
    assert (run.book.counts()["in_flight"], run.book.counts()["lost"]) == (1, 0)
    assert set(world.failed(run)) == {WHOLE}


@pytest.mark.parametrize("age", [60, 5 * DAY])
def test_nothing_is_lost_while_the_quarantine_cannot_be_read(world: World, age: float) -> None:
    world.ledger(Entry("a", body("a"), age=age))

    def refused(**_arguments: Any) -> Any:
        raise refuse("AccessDenied", "ReceiveMessage")

    world.sqs.receive_message = refused
    run = world.run()
    assert (run.book.counts()["in_flight"], run.book.counts()["lost"]) == (1, 0)
    assert "AccessDenied" in world.failed(run)[WHOLE]


def test_what_is_older_than_the_queue_keeps_it_is_lost_whatever_the_counters_say(world: World) -> None:
    world.ledger(Entry("old", body("old"), age=4 * DAY + 60), entry("new"))
    world.queue(body("new"))
    run = world.run()
    assert ([one.transaction_id for one in run.book.lost()], run.book.counts()["in_flight"]) == (["old"], 1)


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


# --- The quarantine


def test_a_message_that_has_been_quarantined_for_ten_days_is_a_finding(world: World) -> None:
    world.ledger(entry("a"))
    world.quarantine(body("a"), f"{HOST}/1")
    run = world.run()
    assert world.failed(run) == {}
    world.limits = type(world.limits)(overdue=3700, quarantine_age=(NOW.timestamp() - run.book.letters_before(1e12)[0][2]))
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
    assert run.reader.pace.units >= 150
    assert world.passed >= run.reader.pace.units / 10 - 1


def test_a_throttled_table_is_asked_again(world: World) -> None:
    world.ledger(*(entry(f"t-{number}") for number in range(50)))
    for number in range(50):
        world.store(body(f"t-{number}"))
    scan, refused = world.dynamodb.real.scan, iter([refuse("ProvisionedThroughputExceededException", "Scan")] * 3)

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
        raise refuse("AccessDeniedException", call)

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
    assert world.run().book.settled_through() == through


def test_what_somebody_hides_for_long_does_not_keep_a_short_run(world: World) -> None:
    world.ledger(entry("a"))
    world.quarantine(body("b"), None)
    world.sqs.real.receive_message(QueueUrl=world.quarantine_url, VisibilityTimeout=600)
    run = world.run(timeout=10)
    assert world.passed <= 30
    assert world.failed(run)[WHOLE] == "the quarantine was not read whole: about 1 of its messages are hidden by someone else"


# --- Purged


def archive(world: World, *outbox_ids: str, messages: int | None = None, at: float = 0, purged: bool = True) -> None:
    """An archive that was begun so many seconds before now; the messages are called m-<outbox id>."""
    lines = [{"message_id": f"m-{one}", "outbox_id": one, "reason": "amount_missing"} for one in outbox_ids]
    closing = {"archive": "quarantine", "messages": len(lines) if messages is None else messages, "purged": purged}
    closing["archived_at"] = iso(NOW - timedelta(seconds=at))
    path = world.directory / "quarantine" / "archive.jsonl.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in [*lines, closing]).encode()))
    world.set(quarantine_directory=path.parent)


def replay(world: World, message_id: str, outbox_id: str | None, at: float, identity: str | None = None) -> None:
    """That a replay of this message was begun so many seconds before now, whether it was sent or not."""
    directory = world.directory / "quarantine"
    directory.mkdir(exist_ok=True)
    began = NOW - timedelta(seconds=at)
    message = QuarantinedMessage(message_id, "", "", {}, "throttled", "", outbox_id, None, identity, began, 1)
    with contextlib.closing(Journal(directory)) as journal:
        journal.begin([Outgoing(message, "{}", {})], [], "run", iso(began))
    world.set(quarantine_directory=directory)


def test_what_was_purged_to_an_archive_is_neither_lost_nor_holds_up_settling(world: World) -> None:
    world.ledger(entry("purged"), entry("gone"))
    archive(world, f"{HOST}/1", "web-9/1")
    run = world.run()
    assert world.counts() == {"sent": 2, "quarantined": 1, "archived": 1, "lost": 1}
    assert run.book.settled_through() == {HOST: 1}
    assert world.failed(run)[SUM] == "0 stored + 1 quarantined + 0 in flight, 1 of the quarantined in archives only"


def test_an_archived_message_that_was_replayed_is_in_flight_and_then_stored(world: World) -> None:
    world.ledger(entry("a"))
    archive(world, f"{HOST}/1")
    world.queue(body("a"))
    assert world.counts() == {"sent": 1, "in_flight": 1}
    world.store(body("a"))
    assert world.counts() == {"sent": 1, "stored": 1}


def test_an_archive_that_deleted_nothing_is_no_excuse(world: World) -> None:
    world.ledger(entry("a"))
    archive(world, f"{HOST}/1", purged=False)
    assert world.counts() == {"sent": 1, "lost": 1}


@pytest.mark.parametrize(
    ("message_id", "replayed_at"),
    [("another", 5), (f"m-{HOST}/1", 5), (f"m-{HOST}/1", 30)],
    ids=["another-message-later", "the-same-message-later", "the-same-message-before"],
)
def test_what_was_purged_and_may_have_been_replayed_is_lost_when_it_is_nowhere(world: World, message_id: str, replayed_at: float) -> None:
    world.ledger(entry("a"))
    archive(world, f"{HOST}/1", at=10)
    replay(world, message_id, f"{HOST}/1", replayed_at)
    run = world.run()
    assert (run.book.counts()["lost"], run.book.settled_through()) == (1, {})


def test_what_came_back_from_a_replay_and_was_purged_then_is_archived(world: World) -> None:
    world.ledger(entry("a"))
    replay(world, "first", f"{HOST}/1", at=30)
    archive(world, f"{HOST}/1", at=10)
    assert world.counts() == {"sent": 1, "quarantined": 1, "archived": 1}


def test_what_its_producer_sent_again_after_the_purge_is_lost_when_it_is_nowhere(world: World) -> None:
    world.ledger(Entry("a", body("a"), age=5))
    archive(world, f"{HOST}/1", at=10)
    assert world.counts() == {"sent": 1, "lost": 1}


def test_what_a_repair_may_have_deleted_is_not_archived(world: World) -> None:
    """It was stored, and a copy of it in the quarantine was purged: the archive is no excuse for the item that is gone."""
    world.ledger(entry("a"))
    archive(world, f"{HOST}/1")
    world.options.repaired.write_text(json.dumps({"outbox_id": f"{HOST}/1", "transaction_id": "a"}) + "\n")
    run = world.run()
    assert (run.book.counts()["lost"], run.book.settled_through()) == (1, {})


@pytest.mark.parametrize("outbox_id", [f"{HOST}/1", None])
def test_what_was_replayed_a_moment_ago_is_judged_by_that_whenever_it_was_first_sent(world: World, outbox_id: str | None) -> None:
    world.ledger(Entry("old", body("old"), age=5 * DAY), Entry("older", body("older"), age=5 * DAY))
    world.queue(body("old"))
    replay(world, "m", outbox_id, at=60, identity="old")
    run = world.run()
    assert ([one.transaction_id for one in run.book.in_flight()], [one.transaction_id for one in run.book.lost()]) == (["old"], ["older"])
    assert OVERDUE not in world.failed(run)


def test_archived_replayed_stored_and_then_gone_is_lost_until_it_is_purged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the quarantine's own actions, one after the other."""
    monkeypatch.setattr(quarantine_messages, "POLL_SECONDS", 0)
    directory = world.directory / "quarantine"
    quarantine = Quarantined(world.sqs.real, world.dynamodb.real, directory, world.queue_url, world.quarantine_url, world.clock)
    world.set(quarantine_directory=directory)
    world.ledger(entry("a"))
    world.quarantine(body("a"), f"{HOST}/1", "throttled")
    for action in ("archive", "replay"):
        quarantine.act(action, run=action)
    assert world.counts() == {"sent": 1, "in_flight": 1}
    world.empty_queue()
    world.store(body("a"))
    assert world.counts() == {"sent": 1, "stored": 1}
    world.dynamodb.delete_item(TableName=TABLE, Key={"transaction_id": {"S": "a"}})
    run = world.run()
    assert (run.book.counts()["lost"], run.book.settled_through()) == (1, {})

    world.quarantine(body("a"), f"{HOST}/1", "throttled")  # sent again, and refused again
    quarantine.act("purge", run="purge")
    run = world.run()
    assert (run.book.counts()["archived"], run.book.settled_through()) == (1, {HOST: 1})


def test_an_archive_that_is_not_whole_is_refused(world: World) -> None:
    world.ledger(entry("a"))
    archive(world, f"{HOST}/1", messages=2)
    with pytest.raises(ArchiveError, match=r"archive\.jsonl\.gz is not whole: it has 1 messages, and closes with 2"):
        world.run()


# --- Repair


def altered_world(world: World, count: int = 3) -> Path:
    for number in range(count):
        world.store(body(f"t-{number}"), amount=Decimal("99"))
    world.store(body("good"))
    world.ledger(*(entry(f"t-{number}") for number in range(count)), entry("good"))
    return world.directory / "repaired.jsonl"


def ids(path: Path) -> list[str]:
    return [json.loads(line)["transaction_id"] for line in path.read_text().splitlines()]


def test_repair_deletes_what_is_altered_and_lists_it_for_resend(world: World) -> None:
    path = altered_world(world)
    assert world.run().repair(delete=True) == 3
    assert (world.stored(), ids(path)) == ({"good"}, ["t-0", "t-1", "t-2"])


def test_in_check_mode_repair_says_how_many_and_touches_nothing(world: World) -> None:
    path = altered_world(world)
    assert world.run().repair(delete=False) == 3
    assert (len(world.stored()), path.exists()) == (4, False)


class KilledError(BaseException):
    pass


def killed_before(step: int, run: Reconciliation, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Repairs until before this step, counted from 0, that has an effect outside the process; whether there was such a step."""
    left = [step]
    client = run.reader._client

    def failing(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if not left[0]:
                raise KilledError
            left[0] -= 1
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("delete_item", "batch_get_item"):
            patch.setattr(client, name, failing(getattr(client, name)), raising=False)
        patch.setattr(os, "fsync", failing(os.fsync))
        patch.setattr(Path, "replace", failing(Path.replace))
        try:
            run.repair(delete=True)
        except KilledError:
            return True
    return False


# Two writes of a file are three steps each, of three items each is deleted, and all are looked at again.
@pytest.mark.parametrize("step", range(10))
@pytest.mark.parametrize("excuse", ["nothing", "an archive", "a former run", "another ledger"])
def test_a_repair_killed_before_any_step_is_taken_up_by_the_next_which_sends_all_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch, step: int, excuse: str
) -> None:
    path, everything = altered_world(world), {f"t-{number}" for number in range(3)}
    if excuse == "an archive":  # of copies that were purged
        archive(world, *(f"{HOST}/{number}" for number in (1, 2, 3)))
    elif excuse == "a former run":
        path.write_text(json.dumps({"outbox_id": f"{HOST}/1", "transaction_id": "t-0"}) + "\n")
    elif excuse == "another ledger":  # which was not given this time
        path.write_text(json.dumps({"outbox_id": "web-9/1", "transaction_id": "t-9"}) + "\n")
        everything.add("t-9")

    assert killed_before(step, world.run(), monkeypatch)
    gone = {f"t-{number}" for number in range(3)} - world.stored()
    assert gone <= set(ids(path) if path.exists() else ())
    assert {one.transaction_id for one in world.run().book.lost()} == gone

    world.run().repair(delete=True)
    assert (set(ids(path)), world.stored()) == (everything, {"good"})
    assert not killed_before(99, world.run(), monkeypatch)
    assert set(ids(path)) == everything

    for number in range(3):
        world.store(body(f"t-{number}"))
    world.run().repair(delete=True)
    assert set(ids(path)) == everything & {"t-9"}


def test_a_repair_keeps_the_body_of_what_it_deletes(world: World) -> None:
    """Its ledger may prune the body of what was settled before it sends it again."""
    path = altered_world(world, 1)
    world.run().repair(delete=True)
    assert [json.loads(line)["body"] for line in path.read_text().splitlines()] == [body("t-0")]


def test_a_deletion_whose_answer_was_lost_and_that_was_made_again_stays_on_the_list(world: World) -> None:
    """The second one is refused: its condition is about an item that is gone."""
    path = altered_world(world, 1)
    delete = world.dynamodb.real.delete_item

    def twice(**arguments: Any) -> Any:
        delete(**arguments)
        return delete(**arguments)

    world.dynamodb.delete_item = twice
    world.run().repair(delete=True)
    assert (world.stored(), ids(path)) == ({"good"}, ["t-0"])


def test_what_waits_in_the_quarantine_leaves_the_list(world: World) -> None:
    path = altered_world(world, 1)
    world.run().repair(delete=True)
    world.quarantine(body("t-0"), f"{HOST}/1")
    world.run().repair(delete=True)
    assert ids(path) == []


def test_what_was_sent_again_and_is_stored_leaves_the_list(world: World) -> None:
    path = altered_world(world, 1)
    world.run().repair(delete=True)
    world.store(body("t-0"))
    assert world.run().repair(delete=True) == 0
    assert ids(path) == []


@pytest.mark.parametrize("change", [{"amount": Decimal("12.30")}, {"amount": Decimal("98")}, {"processed_at_utc": "2026-11-24T12:00:01Z"}])
def test_an_item_that_changed_since_it_was_read_is_not_deleted(world: World, change: dict[str, Any]) -> None:
    path = altered_world(world, 1)
    run = world.run()
    world.store(body("t-0"), **{"amount": Decimal("99")} | change)
    assert run.repair(delete=True) == 0
    assert ("t-0" in world.stored(), ids(path)) == (True, [])


def test_an_item_that_got_a_missing_field_back_is_not_deleted(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"), merchant=None)
    run = world.run()
    world.store(body("a"))
    assert run.repair(delete=True) == 0


def test_what_the_ledger_no_longer_has_is_not_deleted(world: World) -> None:
    world.ledger(Entry("a", None, "reconciled"))
    world.store(body("a"), amount=Decimal("99"))
    run = world.run()
    assert run.book.counts()["altered"] == 1
    assert (run.repair(delete=True), world.stored()) == (0, {"a"})


def test_an_answer_that_was_lost_leaves_the_id_on_the_list(world: World) -> None:
    path = altered_world(world, 1)
    delete = world.dynamodb.real.delete_item

    def lost_answer(**arguments: Any) -> Any:
        delete(**arguments)
        raise refuse("InternalServerError", "DeleteItem")

    world.dynamodb.delete_item = lost_answer
    world.run().repair(delete=True)
    assert (world.stored(), ids(path)) == ({"good"}, ["t-0"])


# --- The report


def test_only_its_owner_may_read_what_it_writes(world: World) -> None:
    altered_world(world, 1)
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
