"""Replaying when something goes wrong on the way: nothing is lost, and the next run finishes what was begun, as it was begun."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.aws import dead_letter_queue as quarantine_messages
from ansible.module_utils.pipeline.core.files import make_directory
from ansible.module_utils.pipeline.quarantine.archive import BusyError, exclusive
from ansible.module_utils.pipeline.quarantine.journal import FILE_NAME, Journal
from botocore.exceptions import EndpointConnectionError
from fakes import client_error
from quarantine_fakes import World, note, record

REPAIR = ["parse amount"]


def refuse(code: str) -> Callable[..., Any]:
    def refused(**_: Any) -> Any:
        raise client_error(code, "SendMessageBatch")

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
    world.add_dead_letter(record(1, amount="12.50"), "amount_not_a_number")
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
    world.add_dead_letter(record(1), None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", lose_the_answer(world))
        world.act("replay")
    assert world.act("replay", confirmed=False).lines[1] == "1 that an interrupted run had begun would be sent, as they were begun"


def test_a_message_that_was_sent_and_could_not_be_deleted_is_only_deleted_by_the_next_run(world: World, monkeypatch: pytest.MonkeyPatch):
    world.add_dead_letter(record(1), None)
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
        world.add_dead_letter(record(number), None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "removed", raising(KeyboardInterrupt))
        world.act("replay")
    assert states(world) == ["sent"] * 3
    assert world.act("replay", write=False).facts["gone"] == 0
    assert states(world) == ["sent"] * 3
    report = world.act("replay")
    assert (report.changed, report.facts["gone"], states(world)) == (False, 0, ["removed"] * 3)


def test_what_was_begun_and_is_gone_is_told_and_kept(world: World, monkeypatch: pytest.MonkeyPatch):
    world.add_dead_letter(record(1), None)
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
        world.add_dead_letter(record(number), None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", lose_the_answer(world))
        world.act("replay")
    report = world.act("replay", limit=1)
    assert (report.facts["resumed"], report.facts["sent"]) == (10, 1)


def test_an_entry_that_the_queue_refuses_is_left_and_may_be_repaired_otherwise(world: World, monkeypatch: pytest.MonkeyPatch):
    world.add_dead_letter(record(1), None)
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
        world.add_dead_letter(record(number), None)
    report = world.act("replay")
    assert (report.facts["sent"], [one["transaction_id"] for one in report.facts["left"]]) == (2, ["t-1"])
    assert (world.bodies(world.queue), world.bodies(world.dead_letters)) == ([record(0), record(2)], [record(1)])


def test_an_entry_that_failed_for_now_or_is_not_mentioned_stays_begun(world: World, monkeypatch: pytest.MonkeyPatch):
    for number in range(2):
        world.add_dead_letter(record(number), None)
    answer = {"Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", lambda **_: answer)
        report = world.act("replay")
    assert report.errors == ["2 messages could not be moved whole; the next replay finishes them"]
    assert world.act("replay", ["set amount 99"]).facts["resumed"] == 2
    assert world.bodies(world.queue) == [record(0), record(1)]


def test_a_refused_permission_ends_the_run_and_everything_is_visible(world: World, monkeypatch: pytest.MonkeyPatch):
    for number in range(25):
        world.add_dead_letter(record(number), None)
    monkeypatch.setattr(world.sqs, "send_message_batch", refuse("AccessDenied"))
    report = world.act("replay")
    assert report.errors[0] == "AccessDenied (SendMessageBatch): refused"
    assert len(world.take(world.dead_letters)) == 25


def test_each_send_is_in_the_journal_before_and_each_deletion_after_it(world: World, monkeypatch: pytest.MonkeyPatch):
    for number in range(12):
        world.add_dead_letter(record(number), None)
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
    monkeypatch.setattr("ansible.module_utils.pipeline.quarantine.journal.sync_directory", synced.append)
    Journal(tmp_path)
    assert synced == [tmp_path]


def test_a_file_system_that_cannot_keep_a_journal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda _path, **options: connect(":memory:", **options))
    with pytest.raises(OSError, match="cannot be written safely: journal_mode memory"):
        Journal(tmp_path)


def test_two_runs_do_not_work_on_one_directory(world: World):
    make_directory(world.directory)
    with exclusive(world.directory), pytest.raises(BusyError, match="another run works on"):
        world.act("replay")
    assert world.act("list").errors == []


def test_what_a_killed_archive_left_is_cleared_away(world: World):
    make_directory(world.directory)
    (world.directory / "x.jsonl.gz.part").write_text("half")
    world.add_dead_letter("nope", "not_json")
    world.act("archive")
    assert [path.suffix for path in world.directory.iterdir() if path.suffix == ".part"] == []


def test_reading_that_ends_early_is_an_error_of_any_action(world: World, monkeypatch: pytest.MonkeyPatch):
    world.add_dead_letter("nope", "not_json")
    monkeypatch.setattr(quarantine_messages, "MAX_HELD", 1)
    for action in ("list", "archive", "replay", "purge"):
        assert world.act(action).errors[0].startswith("it has more than the 1 messages")


def test_messages_that_somebody_else_hides_are_told_of(world: World):
    world.add_dead_letter("nope", "not_json")
    world.sqs.receive_message(QueueUrl=world.dead_letters, VisibilityTimeout=600)
    report = world.act("list", seconds=0.3)
    assert (report.facts["complete"], report.facts["unseen"]) == (False, 1)
    assert report.lines[-1].startswith("About 1 more are hidden by somebody else")


def test_a_journal_of_a_purged_message_is_closed(world: World, monkeypatch: pytest.MonkeyPatch):
    world.add_dead_letter(record(1), None)
    with monkeypatch.context() as patch:
        patch.setattr(world.sqs, "send_message_batch", refuse("ExpiredToken"))
        world.act("replay")
    world.act("purge")
    assert states(world) == ["removed"]
