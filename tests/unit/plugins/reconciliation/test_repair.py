"""A repair deletes what is altered, so that it can be sent again, and may be killed before any step."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.reconciliation.run import Reconciliation
from fakes import client_error
from reconciliation_fakes import (
    HOST,
    Entry,
    World,
    archive,
    body,
    entry,
)


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
        patch.setattr(os, "replace", failing(os.replace))
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
    assert {one.transaction_id for one in world.run().matcher.lost()} == gone

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
    assert run.matcher.counts()["altered"] == 1
    assert (run.repair(delete=True), world.stored()) == (0, {"a"})


def test_an_answer_that_was_lost_leaves_the_id_on_the_list(world: World) -> None:
    path = altered_world(world, 1)
    delete = world.dynamodb.real.delete_item

    def lost_answer(**arguments: Any) -> Any:
        delete(**arguments)
        raise client_error("InternalServerError", "DeleteItem")

    world.dynamodb.delete_item = lost_answer
    world.run().repair(delete=True)
    assert (world.stored(), ids(path)) == ({"good"}, ["t-0"])
