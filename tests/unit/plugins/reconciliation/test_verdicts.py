"""Every verdict has its own cause, and no verdict is given that was not proved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from ansible.module_utils.pipeline.reconciliation.report import checks
from reconciliation_fakes import (
    ALTERED,
    DOUBLED,
    FOREIGN,
    HOST,
    LEDGERS,
    LOST,
    NOW,
    SUM,
    UNKNOWN,
    Entry,
    World,
    body,
    entry,
    iso,
)

# --- Verdicts


def test_what_is_stored_as_it_was_sent_passes_every_check(world: World) -> None:
    world.ledger(entry("a"), entry("b", "0.07"))
    world.store(body("a"))
    world.store(body("b", "0.07"))
    run = world.run()
    assert (run.matcher.counts()["sent"], run.matcher.counts()["stored"], world.failed(run)) == (2, 2, {})


def test_what_is_in_none_of_them_is_lost_once_the_queue_has_been_at_rest(world: World) -> None:
    world.ledger(entry("a"), entry("b"))
    world.store(body("a"))
    run = world.run()
    assert [one.transaction_id for one in run.matcher.lost()] == ["b"]
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
    assert [one.fields for one in run.matcher.altered()] == [fields]
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
    assert (run.matcher.counts()["quarantined"], run.matcher.reasons(), world.failed(run)) == (1, {"not_json": 1}, {})


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
    assert (run.matcher.counts()["in_flight"], run.matcher.counts()["lost"], world.failed(run)) == (1, 0, {})


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
    found = {one["check"]: one["found"] for one in checks(run, 0.0, "report.json")}
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
    assert (run.matcher.counts()["stored"], run.matcher.counts()["quarantined"], world.failed(run)) == (1, 1, {})
    assert [one["fields"] for one in run.conflicts] == [[{"field": "amount", "stored": "1.00", "quarantined": "2.00"}]]


def test_a_conflict_that_is_not_in_the_quarantine_is_lost_though_its_id_is_stored(world: World) -> None:
    world.ledger(entry("a", "1.00"))
    world.ledger(entry("a", "2.00"), name="web-2")
    world.store(body("a", "1.00"))
    run = world.run()
    assert [one.outbox_id for one in run.matcher.lost()] == ["web-2/1"]


def test_an_altered_item_is_altered_though_a_copy_of_what_was_sent_became_a_conflict(world: World) -> None:
    world.ledger(entry("a"))
    world.store(body("a"), amount=Decimal("13"))
    world.quarantine(body("a"), f"{HOST}/1", "conflict")
    run = world.run()
    assert (run.matcher.counts()["altered"], run.matcher.counts()["quarantined"]) == (1, 0)


def test_of_two_contents_the_one_that_is_no_conflict_is_the_altered_one(world: World) -> None:
    world.ledger(entry("a", "1.00"), entry("a", "2.00"))
    world.store(body("a"), amount=Decimal("3"))
    world.quarantine(body("a", "1.00"), f"{HOST}/1", "conflict")
    run = world.run()
    assert [one.named.outbox_id for one in run.matcher.altered()] == [f"{HOST}/2"]
    assert run.matcher.counts()["quarantined"] == 1


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
