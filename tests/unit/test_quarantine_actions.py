"""The four actions on a quarantine: what they tell, move and keep, and that nothing leaves it before it is safe elsewhere."""

from __future__ import annotations

import json
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import quarantine_actions, quarantine_files, quarantine_messages, quarantine_replay
from ansible.module_utils.pipeline_checks import Clock
from ansible.module_utils.quarantine_files import BusyError, alone, make_directory
from ansible.module_utils.quarantine_journal import FILE_NAME, Journal
from ansible.module_utils.quarantine_listing import Selection
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws
from quarantine_world import TABLE, World, record, text

REPAIR = ["parse amount"]
BLOB = {"blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setattr(quarantine_messages, "POLL_SECONDS", 0)  # moto has one server, which a short poll asks as well
        yield World.make(tmp_path_factory.mktemp("nowhere"))


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """New queues, an empty table, and a directory that is not there yet."""
    made.make_queues()
    made.dynamodb.delete_item(TableName=TABLE, Key={"transaction_id": {"S": "t-1"}})
    return replace(made, directory=tmp_path / "kept" / "here")


def history(message: dict[str, Any]) -> list[dict[str, Any]]:
    return json.loads(message["MessageAttributes"]["history"]["StringValue"])


# --- list ---------------------------------------------------------------------------------------------------------


def test_a_list_counts_by_reason_with_ages_and_a_few_samples(world: World):
    for number in range(5):
        world.letter(record(number, amount="12.50"), "amount_not_a_number", outbox_id=f"web-1/{number}")
    redriven = world.letter("nope", None)
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
    world.letter("nope", "not_json")
    world.letter("[]", "not_an_object")
    report = world.act("list", reasons=["not_json"])
    assert (report.facts["total"], report.facts["others"]) == (1, 1)
    assert report.lines[-1] == "1 others, which are not selected: 1 not_an_object"


def test_a_conflict_names_both_versions_where_they_differ(world: World):
    stored = {"transaction_id": {"S": "t-1"}, "user_id": {"S": "u-1"}, "amount": {"N": "99.99"}, "processed_at_utc": {"S": "yesterday"}}
    world.dynamodb.put_item(TableName=TABLE, Item=stored)
    world.letter(record(1), "conflict")
    report = world.act("list")
    (sample,) = report.facts["reasons"][0]["samples"]
    assert sample["versions"] == {
        "amount": {"quarantined": "12.5", "stored": "99.99"},
        "currency": {"quarantined": '"EUR"', "stored": None},
    }
    assert (sample["differing"], sample["stored_at"]) == (2, '"yesterday"')
    assert "        amount: quarantined 12.5, stored 99.99" in report.lines


def test_the_stored_version_is_read_consistently(world: World, monkeypatch: pytest.MonkeyPatch):
    asked: list[dict[str, Any]] = []
    read = world.dynamodb.batch_get_item
    monkeypatch.setattr(world.dynamodb, "batch_get_item", lambda **arguments: asked.append(arguments) or read(**arguments))
    world.letter(record(1), "conflict")
    world.act("list")
    assert asked == [{"RequestItems": {TABLE: {"Keys": [{"transaction_id": {"S": "t-1"}}], "ConsistentRead": True}}}]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"Responses": {}}, "the table has no such item now"),
        ({"Responses": {}, "UnprocessedKeys": {TABLE: {"Keys": [{}]}}}, "the table is too busy to read it"),
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "BatchGetItem"), "AccessDenied (BatchGetItem): no"),
    ],
)
def test_a_stored_version_that_cannot_be_read_is_said(world: World, monkeypatch: pytest.MonkeyPatch, answer: Any, said: str):
    def read(**_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(world.dynamodb, "batch_get_item", read)
    world.letter(record(1), "conflict")
    assert world.act("list").facts["reasons"][0]["samples"][0]["versions"] == said


def test_long_values_of_a_conflict_are_cut(world: World):
    world.dynamodb.put_item(TableName=TABLE, Item={"transaction_id": {"S": "t-1"}, "note": {"NULL": True}})
    world.letter(record(1, note="x" * 1000), "conflict")
    (sample,) = world.act("list").facts["reasons"][0]["samples"]
    assert sample["versions"]["note"] == {"quarantined": '"' + "x" * 59 + "…", "stored": "null"}


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, {0, 1, 2}),
        ({"reasons": ["conflict", "not_json"]}, {0, 1}),
        ({"reasons": ["retries_exhausted"]}, {2}),
        ({"ids": ["t-0"]}, {0}),
        ({"ids": ["web-1/1", "t-2"]}, {1, 2}),
        ({"reasons": ["conflict"], "ids": ["web-1/1"]}, set()),
        ({"since": "2001-01-01"}, {0, 1, 2}),
        ({"until": "2001-01-01T12:00:00Z"}, set()),
    ],
)
def test_a_selection_is_what_meets_every_condition(world: World, conditions: dict[str, Any], matches: set[int]):
    world.letter(record(0), "conflict", outbox_id="web-1/0")
    world.letter("nope", "not_json", outbox_id="web-1/1")
    world.letter(record(2), None, outbox_id="web-1/2")
    assert world.act("list", samples=9, **conditions).facts["total"] == len(matches)
    assert {int(message["outbox_id"][-1]) for message in chosen(world, **conditions)} == matches


def chosen(world: World, **conditions: Any) -> list[dict[str, Any]]:
    reasons = world.act("list", samples=9, **conditions).facts["reasons"]
    return [sample for reason in reasons for sample in reason["samples"]]


def test_a_message_can_be_selected_by_its_own_id(world: World):
    message_id = world.letter("nope", "not_json")
    world.letter("nope", "not_json")
    assert [one["message_id"] for one in chosen(world, ids=[message_id])] == [message_id]


def test_times_without_a_zone_are_utc_and_the_end_is_not_included(world: World):
    message_id = world.letter("nope", "not_json")
    (sample,) = chosen(world, ids=[message_id])
    sent = datetime.fromisoformat(sample["sent_at"])
    later = (sent + timedelta(milliseconds=1)).astimezone(UTC).replace(tzinfo=None).isoformat()
    assert len(chosen(world, since=sample["sent_at"], until=later)) == 1
    assert chosen(world, until=sample["sent_at"]) == []


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_that_is_none_is_refused(name: str):
    with pytest.raises(ValueError, match=f"{name} is 'yesterday', expected a time such as"):
        Selection.read([], [], **({"since": "", "until": ""} | {name: "yesterday"}))


# --- archive and purge --------------------------------------------------------------------------------------------


def test_an_archive_has_the_whole_messages_and_proves_itself_whole(world: World):
    world.letter("Ünï\tcode", "not_json", BLOB, outbox_id="web-1/1")
    world.letter(record(2), None)
    report = world.act("archive")
    ((first, second, last),) = world.archives()
    by_reason = {line["reason"]: line for line in (first, second)}
    assert by_reason["not_json"]["body"] == "Ünï\tcode"
    assert by_reason["not_json"]["attributes"]["blob"] == {"DataType": "Binary", "BinaryValue": "AP8="}
    assert by_reason["not_json"]["attributes"]["outbox_id"] == {"DataType": "String", "StringValue": "web-1/1"}
    assert by_reason["retries_exhausted"]["transaction_id"] == "t-2"
    assert (last["archive"], last["messages"]) == ("FinancialTransactionQueue-dlq", 2)
    assert (report.facts["archived"], Path(report.facts["archive_file"]).parent) == (2, world.directory)
    assert len(world.take(world.dead_letters)) == 2


def test_only_the_owner_may_look_into_what_is_kept(world: World):
    world.letter(record(1), None)
    world.act("archive")
    world.act("replay")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in world.directory.iterdir()}
    assert set(modes.values()) == {0o600} and len(modes) == 3, modes  # lock, archive, journal
    assert stat.S_IMODE(world.directory.stat().st_mode) == 0o700


def test_an_archive_of_nothing_is_no_file(world: World):
    world.letter("nope", "not_json")
    report = world.act("archive", reasons=["conflict"])
    assert (report.changed, report.facts["archive_file"], world.archives()) == (False, None, [])
    assert [path.name for path in world.directory.iterdir()] == ["lock"]


def test_a_purge_deletes_what_its_archive_has_and_nothing_else(world: World):
    for number in range(12):
        world.letter(f"nope {number}", "not_json")
    world.letter(record(1), "conflict")
    report = world.act("purge", reasons=["not_json"])
    ((*lines, last),) = world.archives()
    assert sorted(line["body"] for line in lines) == sorted(f"nope {number}" for number in range(12))
    assert (last["messages"], report.facts["purged"], report.errors) == (12, 12, [])
    assert world.bodies(world.dead_letters) == [record(1)]


def test_a_limit_holds_for_a_purge(world: World):
    for number in range(12):
        world.letter(f"nope {number}", "not_json")
    assert world.act("purge", limit=5).facts["purged"] == 5
    assert len(world.take(world.dead_letters)) == 7


def note(events: list[str], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *arguments, **options: events.append(name) or real(*arguments, **options))


def test_nothing_is_purged_before_the_archive_and_its_name_are_on_the_disk(world: World, monkeypatch: pytest.MonkeyPatch):
    world.letter("nope", "not_json")
    make_directory(world.directory)
    events: list[str] = []
    note(events, monkeypatch, quarantine_files.os, "fsync")
    note(events, monkeypatch, quarantine_files.os, "rename")
    note(events, monkeypatch, world.sqs, "delete_message_batch")
    world.act("purge")
    assert events[:4] == ["fsync", "rename", "fsync", "delete_message_batch"]


def test_a_directory_that_is_made_is_on_the_disk_with_its_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    monkeypatch.setattr(quarantine_files, "sync_directory", synced.append)
    make_directory(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_a_full_disk_purges_nothing(world: World, monkeypatch: pytest.MonkeyPatch, moment: str):
    world.letter("nope", "not_json")
    make_directory(world.directory)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(quarantine_files.os, moment, full)
        world.act("purge")
    assert [path.name for path in world.directory.iterdir()] == ["lock"]
    assert world.bodies(world.dead_letters) == ["nope"]


def test_what_could_not_be_purged_is_named(world: World, monkeypatch: pytest.MonkeyPatch):
    message_id = world.letter("nope", "not_json")
    monkeypatch.setattr(world.sqs, "delete_message_batch", lambda **_: {"Failed": [{"Id": "0", "Code": "InternalError"}]})
    report = world.act("purge")
    assert report.errors == ["1 messages, which the archive has, could not be deleted"]
    assert [(one["message_id"], one["why"]) for one in report.facts["problems"]] == [(message_id, "InternalError")]
    assert world.bodies(world.dead_letters) == ["nope"]


# --- replay -------------------------------------------------------------------------------------------------------


def test_a_replay_sends_the_body_as_it_was_with_its_attributes_and_history(world: World):
    quarantined = world.letter(record(1) + " ", None, BLOB, outbox_id="web-1/1")
    report = world.act("replay")
    (sent,) = world.take(world.queue)
    attributes = sent["MessageAttributes"]
    assert sent["Body"] == record(1) + " "
    assert (attributes["outbox_id"]["StringValue"], attributes["blob"]["BinaryValue"]) == ("web-1/1", b"\x00\xff")
    assert set(attributes) == {"outbox_id", "blob", "history"}
    (entry,) = history(sent)
    assert (entry["quarantine_message_id"], entry["reason"], entry["repairs"]) == (quarantined, "retries_exhausted", [])
    assert world.take(world.dead_letters) == []
    assert (report.facts["sent"], report.facts["sent_by_reason"], report.changed) == (1, {"retries_exhausted": 1}, True)


def test_what_the_letter_said_is_in_the_history_and_no_longer_beside_the_body(world: World):
    world.letter(record(1, amount="12.50"), "amount_not_a_number", detail='{"found": "S"}', source_message_id="m-9")
    world.act("replay", REPAIR)
    (sent,) = world.take(world.queue)
    assert set(sent["MessageAttributes"]) == {"history"}
    (entry,) = history(sent)
    assert {name: entry[name] for name in ("reason", "detail", "source_message_id", "repairs")} == {
        "reason": "amount_not_a_number",
        "detail": '{"found": "S"}',
        "source_message_id": "m-9",
        "repairs": REPAIR,
    }


def test_a_history_grows_to_its_bound_and_loses_its_oldest_first(world: World):
    old = [{"replayed_at": str(number)} for number in range(10)]
    world.letter(record(1), "conflict", history=json.dumps(old))
    world.act("replay")
    (sent,) = world.take(world.queue)
    assert history(sent)[:-1] == old[1:] and history(sent)[-1]["reason"] == "conflict"
    world.letter(record(1), "conflict", history=json.dumps([{"x": "y" * 8000}, {"z": 1}]))
    world.act("replay")
    (sent,) = world.take(world.queue)
    assert history(sent)[0] == {"z": 1} and len(history(sent)) == 2


def test_an_attribute_of_that_name_that_is_no_history_is_kept_in_it(world: World):
    world.letter(record(1), "conflict", history="long")
    world.act("replay")
    assert history(world.take(world.queue)[0])[0] == {"found": "long"}


def test_a_message_without_room_for_a_history_is_replayed_all_the_same(world: World):
    world.letter(record(1), None, text(**{f"a{number}": "x" for number in range(10)}))
    whole = record(2)
    room = 262144 - len("a") - len("String") - len("x")
    world.letter(whole + " " * (room - len(whole)), None, a="x")
    assert world.act("replay").facts["sent"] == 2
    sent = {len(message["MessageAttributes"]): message for message in world.take(world.queue)}
    assert set(sent) == {1, 10} and all("history" not in message["MessageAttributes"] for message in sent.values())


def test_a_repair_that_leaves_no_room_in_the_queue_is_not_done(world: World):
    whole = record(1, amount="1")
    world.letter(whole + " " * (262144 - len(whole)), None)
    report = world.act("replay", ["parse amount", f"set note {json.dumps('x' * 262144)}"])
    assert "the queue takes 262144 and 10" in report.facts["left"][0]["why"]
    assert len(world.take(world.dead_letters)) == 1


def test_a_repair_turns_a_text_into_money_to_the_cent(world: World):
    world.letter(record(1, amount="1.234,10"), "amount_not_a_number")
    world.act("replay", ["parse amount ,"])
    assert '"amount": 1234.10' in world.bodies(world.queue)[0]


def test_what_would_be_refused_is_left_where_it_is_and_named(world: World):
    bodies = [record(1, amount="abc"), record(2, amount=-1), "nope"]
    for body in bodies:
        world.letter(body, "amount_not_a_number")
    report = world.act("replay", REPAIR)
    assert sorted(one["why"].split(":")[0] for one in report.facts["left"]) == ["the repair does not apply"] * 3
    report = world.act("replay")
    assert sorted(one["why"] for one in report.facts["left"])[0] == (
        'as it is, it would be refused: amount_negative {"transaction_id": "t-2", "amount": "-1"}'
    )
    assert (report.facts["left_count"], report.facts["sent"], report.changed, report.errors) == (3, 0, False, [])
    assert (world.take(world.queue), world.bodies(world.dead_letters)) == ([], sorted(bodies))


def test_a_limit_and_a_selection_hold_for_a_replay(world: World):
    for number in range(12):
        world.letter(record(number), "conflict")
    world.letter(record(99), None)
    assert world.act("replay", reasons=["conflict"], limit=5).facts["sent"] == 5
    assert len(world.take(world.queue)) == 5
    assert len(world.take(world.dead_letters)) == 8


@pytest.mark.parametrize("how", [{"confirmed": False}, {"write": False}])
@pytest.mark.parametrize("action", ["replay", "purge"])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(world: World, action: str, how: dict[str, bool]):
    world.letter(record(1), None)
    world.letter("nope", "not_json")
    report = world.act(action, **how)
    assert report.changed and report.lines[-1] == quarantine_actions.NOTHING_DONE
    assert "would be" in report.lines[0]
    assert not world.directory.exists()
    assert (len(world.take(world.dead_letters)), world.take(world.queue)) == (2, [])


def test_check_mode_writes_no_archive(world: World):
    world.letter(record(1), None)
    assert world.act("archive", write=False).lines == ["1 messages would be archived"]
    assert not world.directory.exists()


def test_a_replay_keeps_to_its_rate(world: World):
    passed = [0.0]

    def wait(seconds: float) -> None:
        passed[0] += seconds

    world.clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: passed[0], wait=wait)
    for number in range(25):
        world.letter(record(number), None)
    world.act("replay", rate=2, seconds=600)
    assert (passed[0], len(world.take(world.queue))) == (10.0, 25)


def test_a_replay_ends_in_time_and_leaves_the_rest(world: World):
    passed = [0.0]

    def wait(seconds: float) -> None:
        passed[0] += seconds

    world.clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: passed[0], wait=wait)
    for number in range(25):
        world.letter(record(number), None)
    report = world.act("replay", rate=1, seconds=25)
    assert report.errors == ["the time is up; what is left stays in the quarantine for the next run"]
    assert (report.facts["sent"], len(world.take(world.queue)), len(world.take(world.dead_letters))) == (20, 20, 5)


def test_large_messages_go_in_calls_of_at_most_a_mebibyte(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine_replay, "MAX_CALL_BYTES", 500_000)
    sizes: list[int] = []
    send = world.sqs.send_message_batch
    monkeypatch.setattr(world.sqs, "send_message_batch", lambda **a: sizes.append(len(a["Entries"])) or send(**a))
    for number in range(5):
        world.letter(record(number, note="x" * 200_000), None)
    world.act("replay")
    assert sizes == [2, 2, 1]


def test_what_comes_back_at_once_is_not_sent_again_and_again(world: World, monkeypatch: pytest.MonkeyPatch):
    send = world.sqs.send_message_batch

    def send_and_quarantine(**arguments: Any) -> Any:
        answer = send(**arguments)
        for entry in answer["Successful"]:
            world.letter(record(1), "conflict", source_message_id=entry["MessageId"])
        return answer

    monkeypatch.setattr(world.sqs, "send_message_batch", send_and_quarantine)
    for number in range(20):
        world.letter(record(number), "conflict")
    report = world.act("replay")
    assert (report.facts["sent"], report.facts["came_back"]) == (20, 10)  # of the last ten there was nothing more to read
    assert len(world.take(world.dead_letters)) == 20


# --- what goes wrong on the way -----------------------------------------------------------------------------------


def refuse(code: str) -> Callable[..., Any]:
    def refused(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "refused"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "SendMessageBatch")

    return refused


def raising(error: type[BaseException]) -> Callable[..., Any]:
    def raises(*_: Any, **__: Any) -> Any:
        raise error

    return raises


def lose_the_answer(world: World) -> Callable[..., Any]:
    send = world.sqs.send_message_batch

    def sent_and_lost(**arguments: Any) -> Any:
        send(**arguments)
        raise EndpointConnectionError(endpoint_url="x")

    return sent_and_lost


def test_a_lost_answer_keeps_the_message_and_the_next_run_sends_the_same_again(world: World, monkeypatch: pytest.MonkeyPatch):
    world.letter(record(1, amount="12.50"), "amount_not_a_number")
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", lose_the_answer(world))
        report = world.act("replay", REPAIR)
    assert report.errors[0].startswith("EndpointConnectionError")
    assert [one["why"] for one in report.facts["problems"]] == ["whether it was sent is not known"]
    assert (states(world), report.facts["gone"]) == (["begun"], 0)
    report = world.act("replay", ["set amount 99"])
    assert (report.facts["resumed"], report.facts["sent"]) == (1, 0)
    assert len(set(world.bodies(world.queue))) == 1
    assert world.take(world.dead_letters) == []


def test_a_dry_run_tells_of_what_the_next_run_would_finish(world: World, monkeypatch: pytest.MonkeyPatch):
    world.letter(record(1), None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", lose_the_answer(world))
        world.act("replay")
    assert world.act("replay", confirmed=False).lines[1] == "1 that an interrupted run had begun would be sent, as they were begun"


def test_a_message_that_was_sent_and_could_not_be_deleted_is_only_deleted_by_the_next_run(world: World, monkeypatch: pytest.MonkeyPatch):
    world.letter(record(1), None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "delete_message_batch", lambda **_: {"Failed": [{"Id": "0", "Code": "InternalError"}]})
        report = world.act("replay")
    assert [one["why"] for one in report.facts["problems"]] == ["it was sent, and could not be deleted: InternalError"]
    assert states(world) == ["sent"]
    report = world.act("replay", reasons=["conflict"])  # whatever it is asked for, it finishes first
    assert (report.facts["finished"], report.facts["sent"], report.errors) == (1, 0, [])
    assert (len(world.take(world.queue)), world.take(world.dead_letters)) == (1, [])


def states(world: World) -> list[str]:
    with closing(sqlite3.connect(world.directory / FILE_NAME)) as database:
        return [state for (state,) in database.execute("SELECT state FROM replays ORDER BY state")]


def test_what_was_deleted_before_the_journal_could_say_so_is_settled_by_the_next_run(world: World, monkeypatch: pytest.MonkeyPatch):
    for number in range(3):
        world.letter(record(number), None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "removed", raising(KeyboardInterrupt))
        world.act("replay")
    assert states(world) == ["sent"] * 3
    assert world.act("replay", write=False).facts["gone"] == 0
    assert states(world) == ["sent"] * 3
    report = world.act("replay")
    assert (report.changed, report.facts["gone"], states(world)) == (False, 0, ["removed"] * 3)


def test_what_was_begun_and_is_gone_is_told_and_kept(world: World, monkeypatch: pytest.MonkeyPatch):
    world.letter(record(1), None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", refuse("ExpiredToken"))
        world.act("replay")
    world.take(world.dead_letters)
    report = world.act("replay")
    assert report.facts["gone"] == 1
    assert report.lines[-1] == "1 that an interrupted run had begun are not here; replays.sqlite3 has their content"
    assert states(world) == ["begun"]


def test_a_limit_does_not_keep_a_run_from_finishing_what_was_begun(world: World, monkeypatch: pytest.MonkeyPatch):
    for number in range(30):
        world.letter(record(number), None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", lose_the_answer(world))
        world.act("replay")
    report = world.act("replay", limit=1)
    assert (report.facts["resumed"], report.facts["sent"]) == (10, 1)


def test_an_entry_that_the_queue_refuses_is_left_and_may_be_repaired_otherwise(world: World, monkeypatch: pytest.MonkeyPatch):
    world.letter(record(1), None)
    refusal = {"Failed": [{"Id": "0", "Code": "InvalidMessageContents", "SenderFault": True, "Message": "no"}]}
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", lambda **_: refusal)
        report = world.act("replay")
    assert report.facts["left"][0]["why"] == "the queue refuses it: InvalidMessageContents: no"
    assert world.act("replay", ["set amount 99"]).facts["resumed"] == 0
    assert '"amount": 99' in world.bodies(world.queue)[0]


def test_a_call_refused_for_one_entry_is_made_entry_by_entry(world: World, monkeypatch: pytest.MonkeyPatch):
    send = world.sqs.send_message_batch

    def picky(**arguments: Any) -> Any:
        bad = any("t-1" in entry["MessageBody"] for entry in arguments["Entries"])
        return refuse("InvalidMessageContents")() if bad else send(**arguments)

    monkeypatch.setattr(world.sqs, "send_message_batch", picky)
    for number in range(3):
        world.letter(record(number), None)
    report = world.act("replay")
    assert (report.facts["sent"], [one["transaction_id"] for one in report.facts["left"]]) == (2, ["t-1"])
    assert (world.bodies(world.queue), world.bodies(world.dead_letters)) == ([record(0), record(2)], [record(1)])


def test_an_entry_that_failed_for_now_or_is_not_mentioned_stays_begun(world: World, monkeypatch: pytest.MonkeyPatch):
    for number in range(2):
        world.letter(record(number), None)
    answer = {"Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", lambda **_: answer)
        report = world.act("replay")
    assert report.errors == ["2 messages could not be moved whole; the next replay finishes them"]
    assert world.act("replay", ["set amount 99"]).facts["resumed"] == 2
    assert world.bodies(world.queue) == [record(0), record(1)]


def test_a_refused_permission_ends_the_run_and_everything_is_visible(world: World, monkeypatch: pytest.MonkeyPatch):
    for number in range(25):
        world.letter(record(number), None)
    monkeypatch.setattr(world.sqs, "send_message_batch", refuse("AccessDenied"))
    report = world.act("replay")
    assert report.errors[0] == "AccessDenied (SendMessageBatch): refused"
    assert len(world.take(world.dead_letters)) == 25


def test_each_send_is_in_the_journal_before_and_each_deletion_after_it(world: World, monkeypatch: pytest.MonkeyPatch):
    for number in range(12):
        world.letter(record(number), None)
    events: list[str] = []
    for owner, name in (
        (Journal, "begin"),
        (world.sqs, "send_message_batch"),
        (Journal, "sent"),
        (world.sqs, "delete_message_batch"),
        (Journal, "removed"),
    ):
        note(events, monkeypatch, owner, name)
    world.act("replay")
    assert events == ["begin", "send_message_batch", "sent", "delete_message_batch", "removed"] * 2


def test_the_journal_is_on_the_disk_with_each_transaction(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert Journal(tmp_path)._database.execute("PRAGMA synchronous").fetchone() == (2,)
    synced: list[Path] = []
    monkeypatch.setattr("ansible.module_utils.quarantine_journal.sync_directory", synced.append)
    Journal(tmp_path)
    assert synced == [tmp_path]


def test_a_file_system_that_cannot_keep_a_journal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda _path, **options: connect(":memory:", **options))
    with pytest.raises(OSError, match="cannot be written safely: journal_mode memory"):
        Journal(tmp_path)


def test_two_runs_do_not_work_on_one_directory(world: World):
    make_directory(world.directory)
    with alone(world.directory), pytest.raises(BusyError, match="another run works on"):
        world.act("replay")
    assert world.act("list").errors == []


def test_what_a_killed_archive_left_is_cleared_away(world: World):
    make_directory(world.directory)
    (world.directory / "x.jsonl.gz.part").write_text("half")
    world.letter("nope", "not_json")
    world.act("archive")
    assert [path.suffix for path in world.directory.iterdir() if path.suffix == ".part"] == []


def test_reading_that_ends_early_is_an_error_of_any_action(world: World, monkeypatch: pytest.MonkeyPatch):
    world.letter("nope", "not_json")
    monkeypatch.setattr(quarantine_messages, "MAX_HELD", 1)
    for action in ("list", "archive", "replay", "purge"):
        assert world.act(action).errors[0].startswith("it has more than the 1 messages")


def test_messages_that_somebody_else_hides_are_told_of(world: World):
    world.letter("nope", "not_json")
    world.sqs.receive_message(QueueUrl=world.dead_letters, VisibilityTimeout=600)
    report = world.act("list", seconds=0.3)
    assert (report.facts["complete"], report.facts["unseen"]) == (False, 1)
    assert report.lines[-1].startswith("About 1 more are hidden by somebody else")


def test_a_journal_of_a_purged_message_is_closed(world: World, monkeypatch: pytest.MonkeyPatch):
    world.letter(record(1), None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", refuse("ExpiredToken"))
        world.act("replay")
    world.act("purge")
    assert states(world) == ["removed"]
