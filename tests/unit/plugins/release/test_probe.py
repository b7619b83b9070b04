"""How a release probes: a moved alias that is not followed yet, a queue that is full, and what a bad version wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.aws.queue import COUNTERS
from ansible.module_utils.pipeline.release.probe import BACKLOG, ReleaseProbes
from ansible.module_utils.pipeline.release.versions import ReleaseError
from probe_fakes import LOG_GROUP, TABLE, World


class Releases:
    """As far as the probes ask them."""

    def configuration(self, qualifier: str) -> dict[str, Any]:
        return {"Version": qualifier, "Timeout": 17}


@pytest.fixture
def world(aws: None) -> World:
    return World()


def probes(world: World, directory: Path) -> ReleaseProbes:
    options = {
        "function": "f",
        "queue_url": world.queue_url,
        "dead_letter_queue_url": world.dead_letter_url,
        "table": TABLE,
        "log_group": LOG_GROUP,
        "high_value_threshold": "10000",
        "medium_value_threshold": "1000",
        "timeout": 20,
        "log_timeout": 20,
        "read_units": 100,
        "records_directory": str(directory),
    }
    return ReleaseProbes(options, world.clients, world, Releases(), world.clock)  # type: ignore[arg-type]


def failed(checks: list[dict[str, Any]]) -> list[str]:
    return [check["check"] for check in checks if not check["passed"]]


def test_a_right_version_passes_both_ways_and_nothing_is_left(world: World, tmp_path: Path):
    for probe in (probes(world, tmp_path).directly, probes(world, tmp_path).through_queue):
        assert failed(probe("3")) == []
    assert (world.items(), world.dead_letters()) == ([], [])


@pytest.mark.parametrize("seconds", [10, 1000], ids=["late", "later-than-that"])
def test_a_late_log_line_refuses_no_version(world: World, tmp_path: Path, seconds: int):
    world.function.logs = False

    def allow() -> None:
        world.function.logs = world.passed > seconds

    world.on_wait = allow
    assert failed(probes(world, tmp_path).directly("3")) == failed(probes(world, tmp_path).through_queue("3")) == []
    assert (world.items(), world.dead_letters()) == ([], [])


def test_a_log_that_cannot_be_read_refuses_a_version(world: World, tmp_path: Path):
    world.function.logs = False
    world.logs.delete_log_group(logGroupName=LOG_GROUP)
    assert failed(probes(world, tmp_path).directly("3")) == [
        "probe: function logs name every id",
        "probe: invalid record is in the function's log with its reason",
    ]


def test_records_that_the_version_before_still_processed_are_sent_anew(world: World, tmp_path: Path):
    world.function.version = "2"

    def follow() -> None:
        world.function.version = "3"

    world.on_wait = follow
    assert failed(probes(world, tmp_path).through_queue("3")) == []


def test_an_alias_that_is_never_followed_fails_in_time(world: World, tmp_path: Path):
    world.function.version = "2"
    assert failed(probes(world, tmp_path).through_queue("3")) == ["probe: a published version processed them"]
    assert 20 <= world.passed < 60


def test_a_version_that_is_wrong_is_not_probed_twice(world: World, tmp_path: Path):
    world.function.version, world.function.money = "2", round
    assert len(failed(probes(world, tmp_path).through_queue("3"))) == 2
    assert world.sqs.calls.count("send_message") == 1  # one invalid record


def counters(waiting: int) -> Callable[..., dict[str, Any]]:
    """A queue's answer with so many messages."""
    return lambda **_: {"Attributes": dict.fromkeys(COUNTERS.values(), "0") | {COUNTERS["visible"]: str(waiting)}}


@pytest.mark.parametrize(("waiting", "inconclusive"), [(BACKLOG, False), (BACKLOG + 1, True)])
def test_records_that_did_not_come_through_say_nothing_while_much_waits_before_them(
    world: World, tmp_path: Path, waiting: int, inconclusive: bool
):
    world.function.alive = False
    world.sqs.get_queue_attributes = counters(waiting)
    if inconclusive:
        with pytest.raises(ReleaseError, match=f"could not be checked within 20 s, since {waiting} messages wait"):
            probes(world, tmp_path).through_queue("3")
    else:
        assert "probe: its transactions are stored" in failed(probes(world, tmp_path).through_queue("3"))


def test_a_version_that_is_wrong_fails_however_much_waits(world: World, tmp_path: Path):
    world.function.money = round
    world.sqs.get_queue_attributes = counters(5000)
    assert failed(probes(world, tmp_path).through_queue("3")) == ["probe: cents are stored exactly"]


def test_what_a_version_wrote_is_read_when_its_last_invocation_is_over(world: World, tmp_path: Path):
    item = {"transaction_id": {"S": "late"}, "processed_at_utc": {"S": "2026-01-01T00:00:00Z"}, "processor_version": {"S": "3"}}
    world.on_wait = lambda: world.dynamodb.put_item(TableName=TABLE, Item=item)
    found = probes(world, tmp_path).written("3")
    assert (found.ids, found.path, world.passed) == (["late"], str(tmp_path / "f-3.jsonl"), 17)
