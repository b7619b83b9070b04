"""What was purged to an archive, and what was replayed."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.pipeline.aws import dead_letter_queue as quarantine_messages
from ansible.module_utils.pipeline.quarantine.archive import ArchiveError
from aws_fakes import TABLE
from quarantine_fakes import World as Quarantined
from reconciliation_fakes import (
    DAY,
    HOST,
    OVERDUE,
    SUM,
    Entry,
    World,
    archive,
    body,
    entry,
    replay,
)


def test_what_was_purged_to_an_archive_is_neither_lost_nor_holds_up_settling(world: World) -> None:
    world.ledger(entry("purged"), entry("gone"))
    archive(world, f"{HOST}/1", "web-9/1")
    run = world.run()
    assert world.counts() == {"sent": 2, "quarantined": 1, "archived": 1, "lost": 1}
    assert run.matcher.settled_through() == {HOST: 1}
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
    assert (run.matcher.counts()["lost"], run.matcher.settled_through()) == (1, {})


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
    assert (run.matcher.counts()["lost"], run.matcher.settled_through()) == (1, {})


@pytest.mark.parametrize("outbox_id", [f"{HOST}/1", None])
def test_what_was_replayed_a_moment_ago_is_judged_by_that_whenever_it_was_first_sent(world: World, outbox_id: str | None) -> None:
    world.ledger(Entry("old", body("old"), age=5 * DAY), Entry("older", body("older"), age=5 * DAY))
    world.queue(body("old"))
    replay(world, "m", outbox_id, at=60, identity="old")
    run = world.run()
    assert [one.transaction_id for one in run.matcher.in_flight()] == ["old"]
    assert [one.transaction_id for one in run.matcher.lost()] == ["older"]
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
    assert (run.matcher.counts()["lost"], run.matcher.settled_through()) == (1, {})

    world.quarantine(body("a"), f"{HOST}/1", "throttled")  # sent again, and refused again
    quarantine.act("purge", run="purge")
    run = world.run()
    assert (run.matcher.counts()["archived"], run.matcher.settled_through()) == (1, {HOST: 1})


def test_an_archive_that_is_not_whole_is_refused(world: World) -> None:
    world.ledger(entry("a"))
    archive(world, f"{HOST}/1", messages=2)
    with pytest.raises(ArchiveError, match=r"archive\.jsonl\.gz is not whole: line 2: it closes with 2 messages, but has 1"):
        world.run()
