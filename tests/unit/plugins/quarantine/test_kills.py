"""A process that moves quarantined messages may be killed before any of its steps: nothing is lost, and nothing has two contents."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.aws import dead_letter_queue as quarantine_messages
from aws_fakes import swept
from quarantine_fakes import World, record, text

COUNT = 12  # two calls' worth
KILLER = Path(__file__).resolve().parents[4] / "tests" / "support" / "quarantine_killer.py"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto as a process of its own, so that its queues outlast those who use them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    with log, subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log) as server:
        for _attempt in range(600):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.kill()


@pytest.fixture
def world(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setattr(quarantine_messages, "POLL_SECONDS", 0)
    return World.connect(tmp_path, endpoint_url=endpoint)


def killed_everywhere(world: World, endpoint: str, action: str, repair: list[str], steps: int) -> list[tuple[World, str]]:
    """So many quarantines with messages 0 to COUNT - 1, in each of which a process was killed one step later; and before which."""
    places = []
    attributes = text(reason="amount_not_a_number", detail="{}", source_message_id="m-1")
    entries = [
        {"Id": str(number), "MessageBody": record(number, amount=f"{number}.50"), "MessageAttributes": attributes}
        for number in range(COUNT)
    ]
    for number in range(steps):
        place = replace(world, directory=world.directory / str(number))
        place.make_queues(f"-{action}-{number}")
        for some in (entries[:10], entries[10:]):
            place.sqs.send_message_batch(QueueUrl=place.dead_letters, Entries=some)
        places.append(place)
    request = {"endpoint": endpoint, "action": action, "repair": repair}
    request |= {"places": [[place.queue, place.dead_letters, str(place.directory)] for place in places]}
    done = subprocess.run(
        [sys.executable, str(KILLER)], input=json.dumps(request), capture_output=True, text=True, timeout=120, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(zip(places, json.loads(done.stdout), strict=True))


def contents(bodies: list[str]) -> dict[str, set[str]]:
    """By transaction_id, the different bodies there are."""
    found: dict[str, set[str]] = {}
    for body in bodies:
        found.setdefault(json.loads(body)["transaction_id"], set()).add(body)
    return found


@pytest.fixture
def ids() -> set[str]:
    return {f"t-{number}" for number in range(COUNT)}


def test_a_replay_killed_before_any_step_is_finished_by_the_next_one(world: World, endpoint: str, ids: set[str]):
    places = killed_everywhere(world, endpoint, "replay", ["parse amount"], steps=14)
    steps = [step for _, step in places]
    # fsync: the directory, twice, and the journal's name in it; then two calls' worth, and nothing left to release.
    once = ["begin", "send_message_batch", "sent", "delete_message_batch", "removed"]
    assert steps == ["fsync", "fsync", *once, *once, "finished", "finished"]
    for place, step in places:
        report = place.act("replay", ["set amount 99"])  # what was begun keeps the content that it was begun with
        assert report.errors == [], (step, report.errors)
        found = contents(place.bodies(place.queue))
        assert found.keys() == ids, step
        assert {len(bodies) for bodies in found.values()} == {1}, step
        assert place.take(place.dead_letters) == [], step


def test_a_purge_killed_before_any_step_loses_nothing(world: World, endpoint: str, ids: set[str]):
    places = killed_everywhere(world, endpoint, "purge", [], steps=8)
    steps = [step for _, step in places]
    assert steps == ["fsync", "fsync", "replace", "fsync", "delete_message_batch", "delete_message_batch", "finished", "finished"]
    for place, step in places:
        archived = place.archives()
        assert len(archived) <= 1, step
        in_archive = {line["transaction_id"] for lines in archived for line in lines[:-1]}
        with swept(place.sqs, place.dead_letters, place.clock, 30) as held:
            in_queue = {message.transaction_id for message in held.messages}
        assert in_archive | in_queue == ids, step
        assert in_archive in (set(), ids), step  # whole, or not there
        assert place.act("purge", run="run-2").errors == [], step
        assert {line["transaction_id"] for lines in place.archives() for line in lines[:-1]} == ids, step
        assert place.take(place.dead_letters) == [], step


def test_a_list_killed_hides_messages_for_a_while_only(world: World, endpoint: str, ids: set[str]):
    (place, step), *_ = killed_everywhere(world, endpoint, "list", [], steps=1)
    assert step == "change_message_visibility_batch"
    report: Any = place.act("list")
    assert (report.facts["total"], report.facts["complete"]) == (COUNT, True)
