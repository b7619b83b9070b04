"""Archiving and purging what is quarantined: nothing is deleted before it is in a file, whole and on the disk."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.core import files
from ansible.module_utils.pipeline.core.files import make_directory
from quarantine_fakes import World, note, record

BLOB = {"blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}


def test_an_archive_has_the_whole_messages_and_proves_itself_whole(world: World):
    world.add_dead_letter("Ünï\tcode", "not_json", BLOB, outbox_id="web-1/1")
    world.add_dead_letter(record(2), None)
    report = world.act("archive")
    ((first, second, last),) = world.archives()
    by_reason = {line["reason"]: line for line in (first, second)}
    assert by_reason["not_json"]["body"] == "Ünï\tcode"
    assert by_reason["not_json"]["attributes"]["blob"] == {"DataType": "Binary", "BinaryValue": "AP8="}
    assert by_reason["not_json"]["attributes"]["outbox_id"] == {"DataType": "String", "StringValue": "web-1/1"}
    assert by_reason["retries_exhausted"]["transaction_id"] == "t-2"
    assert (last["archive"], last["messages"], last["purged"]) == ("FinancialTransactionQueue-dlq", 2, False)
    assert (report.facts["archived"], Path(report.facts["archive_file"]).parent) == (2, world.directory)
    assert len(world.take(world.dead_letters)) == 2


def test_only_the_owner_may_look_into_what_is_kept(world: World):
    world.add_dead_letter(record(1), None)
    world.act("archive")
    world.act("replay")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in world.directory.iterdir()}
    assert set(modes.values()) == {0o600} and len(modes) == 3, modes  # lock, archive, journal
    assert stat.S_IMODE(world.directory.stat().st_mode) == 0o700


def test_an_archive_of_nothing_is_no_file(world: World):
    world.add_dead_letter("nope", "not_json")
    report = world.act("archive", reasons=["conflict"])
    assert (report.changed, report.facts["archive_file"], world.archives()) == (False, None, [])
    assert [path.name for path in world.directory.iterdir()] == ["lock"]


def test_a_purge_deletes_what_its_archive_has_and_nothing_else(world: World):
    for number in range(12):
        world.add_dead_letter(f"nope {number}", "not_json")
    world.add_dead_letter(record(1), "conflict")
    report = world.act("purge", reasons=["not_json"])
    ((*lines, last),) = world.archives()
    assert sorted(line["body"] for line in lines) == sorted(f"nope {number}" for number in range(12))
    assert (last["messages"], last["purged"], report.facts["purged"], report.errors) == (12, True, 12, [])
    assert world.bodies(world.dead_letters) == [record(1)]


def test_a_limit_holds_for_a_purge(world: World):
    for number in range(12):
        world.add_dead_letter(f"nope {number}", "not_json")
    assert world.act("purge", limit=5).facts["purged"] == 5
    assert len(world.take(world.dead_letters)) == 7


def test_nothing_is_purged_before_the_archive_and_its_name_are_on_the_disk(world: World, monkeypatch: pytest.MonkeyPatch):
    world.add_dead_letter("nope", "not_json")
    make_directory(world.directory)
    events: list[str] = []
    note(events, monkeypatch, files.os, "fsync")
    note(events, monkeypatch, files.os, "replace")
    note(events, monkeypatch, world.sqs, "delete_message_batch")
    world.act("purge")
    assert events[:4] == ["fsync", "replace", "fsync", "delete_message_batch"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_full_disk_purges_nothing(world: World, monkeypatch: pytest.MonkeyPatch, moment: str):
    world.add_dead_letter("nope", "not_json")
    make_directory(world.directory)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(files.os, moment, full)
        world.act("purge")
    assert [path.name for path in world.directory.iterdir()] == ["lock"]
    assert world.bodies(world.dead_letters) == ["nope"]


def test_what_could_not_be_purged_is_named(world: World, monkeypatch: pytest.MonkeyPatch):
    message_id = world.add_dead_letter("nope", "not_json")
    monkeypatch.setattr(world.sqs, "delete_message_batch", lambda **_: {"Failed": [{"Id": "0", "Code": "InternalError"}]})
    report = world.act("purge")
    assert report.errors == ["1 messages, which the archive has, could not be deleted"]
    assert [(one["message_id"], one["why"]) for one in report.facts["problems"]] == [(message_id, "InternalError")]
    assert world.bodies(world.dead_letters) == ["nope"]
