"""Listing a quarantine, and choosing of it: counts by reason, ages and samples, and both versions of a conflict."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.pipeline.quarantine.listing import Selection
from aws_fakes import TABLE
from fakes import client_error
from quarantine_fakes import World, record


def test_a_list_counts_by_reason_with_ages_and_a_few_samples(world: World):
    for number in range(5):
        world.add_dead_letter(record(number, amount="12.50"), "amount_not_a_number", outbox_id=f"web-1/{number}")
    redriven = world.add_dead_letter("nope", None)
    report = world.act("list", samples=2)
    (first, second) = report.facts["reasons"]
    assert (report.facts["total"], report.facts["complete"], report.changed, report.errors) == (6, True, False, [])
    assert (first["reason"], first["count"], len(first["samples"])) == ("amount_not_a_number", 5, 2)
    assert 0 <= first["oldest_age_seconds"] < 60 and 1209500 < first["expires_in_seconds"] <= 1209600
    assert re.fullmatch(r"web-1/\d", first["samples"][0]["outbox_id"]) and "body" not in first["samples"][0]
    assert (second["reason"], second["samples"][0]["message_id"]) == ("retries_exhausted", redriven)
    assert report.lines[0] == "FinancialTransactionQueue-dlq: 6 messages"
    assert report.lines[1].startswith("5 amount_not_a_number, the oldest 0:00:0")
    assert len(world.take(world.dead_letters)) == 6


def test_a_list_of_a_selection_counts_the_others_too(world: World):
    world.add_dead_letter("nope", "not_json")
    world.add_dead_letter("[]", "not_an_object")
    report = world.act("list", reasons=["not_json"])
    assert (report.facts["total"], report.facts["others"]) == (1, 1)
    assert report.lines[-1] == "1 others, which are not selected: 1 not_an_object"


def test_a_conflict_names_both_versions_where_they_differ(world: World):
    stored = {"transaction_id": {"S": "t-1"}, "user_id": {"S": "u-1"}, "amount": {"N": "99.99"}, "processed_at_utc": {"S": "yesterday"}}
    world.dynamodb.put_item(TableName=TABLE, Item=stored)
    world.add_dead_letter(record(1), "conflict")
    report = world.act("list")
    (sample,) = report.facts["reasons"][0]["samples"]
    assert sample["versions"] == {
        "amount": {"quarantined": "12.5", "stored": "99.99"},
        "currency": {"quarantined": '"EUR"', "stored": None},
    }
    assert (sample["differing"], sample["stored_at"]) == (2, "yesterday")
    assert "        amount: quarantined 12.5, stored 99.99" in report.lines


def test_the_stored_version_is_read_consistently(world: World, monkeypatch: pytest.MonkeyPatch):
    asked: list[dict[str, Any]] = []
    read = world.dynamodb.batch_get_item
    monkeypatch.setattr(world.dynamodb, "batch_get_item", lambda **arguments: asked.append(arguments) or read(**arguments))
    world.add_dead_letter(record(1), "conflict")
    world.act("list")
    assert [one["RequestItems"] for one in asked] == [{TABLE: {"Keys": [{"transaction_id": {"S": "t-1"}}], "ConsistentRead": True}}]


BUSY = "ProvisionedThroughputExceededException (BatchGetItem): the table was too busy to read 1 of the ids"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"Responses": {}}, "the table has no such item now"),
        (
            {"Responses": {}, "UnprocessedKeys": {TABLE: {"Keys": [{}]}}},
            BUSY,
        ),
        (client_error("AccessDenied", "BatchGetItem"), "AccessDenied (BatchGetItem): refused"),
    ],
)
def test_a_stored_version_that_cannot_be_read_is_said(world: World, monkeypatch: pytest.MonkeyPatch, answer: Any, said: str):
    def read(**_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(world.dynamodb, "batch_get_item", read)
    world.add_dead_letter(record(1), "conflict")
    assert world.act("list").facts["reasons"][0]["samples"][0]["versions"] == said


def test_long_values_of_a_conflict_are_cut(world: World):
    world.dynamodb.put_item(TableName=TABLE, Item={"transaction_id": {"S": "t-1"}, "note": {"NULL": True}})
    world.add_dead_letter(record(1, note="x" * 1000), "conflict")
    (sample,) = world.act("list").facts["reasons"][0]["samples"]
    assert sample["versions"]["note"] == {"quarantined": '"' + "x" * 126 + "...", "stored": "null"}


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, {0, 1, 2}),
        ({"reasons": ["conflict", " not_json"]}, {0, 1}),
        ({"reasons": ["retries_exhausted"]}, {2}),
        ({"ids": ["t-0"]}, {0}),
        ({"ids": ["web-1/1", "t-2"]}, {1, 2}),
        ({"reasons": ["conflict"], "ids": ["web-1/1"]}, set()),
        ({"since": "2001-01-01"}, {0, 1, 2}),
        ({"until": "2001-01-01T12:00:00Z"}, set()),
    ],
)
def test_a_selection_is_what_meets_every_condition(world: World, conditions: dict[str, Any], matches: set[int]):
    world.add_dead_letter(record(0), "conflict", outbox_id="web-1/0")
    world.add_dead_letter("nope", "not_json", outbox_id="web-1/1")
    world.add_dead_letter(record(2), None, outbox_id="web-1/2")
    assert world.act("list", samples=9, **conditions).facts["total"] == len(matches)
    assert {int(message["outbox_id"][-1]) for message in chosen(world, **conditions)} == matches


def chosen(world: World, **conditions: Any) -> list[dict[str, Any]]:
    reasons = world.act("list", samples=9, **conditions).facts["reasons"]
    return [sample for reason in reasons for sample in reason["samples"]]


def test_a_message_can_be_selected_by_its_own_id(world: World):
    message_id = world.add_dead_letter("nope", "not_json")
    world.add_dead_letter("nope", "not_json")
    assert [one["message_id"] for one in chosen(world, ids=[message_id])] == [message_id]


def test_times_without_a_zone_are_utc_and_the_end_is_not_included(world: World):
    message_id = world.add_dead_letter("nope", "not_json")
    (sample,) = chosen(world, ids=[message_id])
    sent = datetime.fromisoformat(sample["sent_at"])
    later = (sent + timedelta(milliseconds=1)).astimezone(UTC).replace(tzinfo=None).isoformat()
    assert len(chosen(world, since=sample["sent_at"], until=later)) == 1
    assert chosen(world, until=sample["sent_at"]) == []


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_that_is_none_is_refused(name: str):
    with pytest.raises(ValueError, match=f"{name} is 'yesterday', expected a time such as"):
        Selection.read([], [], **({"since": "", "until": ""} | {name: "yesterday"}))
