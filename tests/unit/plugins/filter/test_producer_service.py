"""What verify.yml makes of the answers of a producer's host, and the program as it is shipped."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.release.package import build, collect, write

from plugins.filter.producer_service import (
    answer,
    feed_problem,
    outbox_checks,
    runs,
    sends,
    supervisord_checks,
    systemd_checks,
)

ROOT = Path(__file__).resolve().parents[4]
OPTIONS = {
    "name": "it",
    "manager": "supervisord",
    "log": "/opt/it/it.log",
    "rate": 0.3,
    "linger": 30,
    "feed": "",
    "feed_quiet": 60,
    "outbox_rows": 2_000_000,
    "outbox_bytes": 1_073_741_824,
    "unsent_seconds": 300,
}
HEALTHY = {
    "entries": 10,
    "unsent": 0,
    "oldest_unsent_seconds": None,
    "newest_sent_seconds": 1.0,
    "bytes": 100_000,
    "feed_error": None,
    "feed_waiting_bytes": 0,
    "feed_lost_places": 0,
    "feed_rejected_lines": 0,
    "integrity_errors": [],
}


def failed(checks: list[dict[str, Any]]) -> list[str]:
    """Names of the checks that fail; every check says something in each of its texts."""
    assert all(isinstance(check[part], str) and check[part] for check in checks for part in ("expected", "found", "remedy"))
    assert all(check["check"].startswith("producer it: ") and isinstance(check["passed"], bool) for check in checks)
    return [check["check"].removeprefix("producer it: ") for check in checks if not check["passed"]]


def says(**changes: Any) -> dict[str, Any]:
    return {"rc": 0, "stdout_lines": [json.dumps(HEALTHY | changes)], "stderr_lines": []}


def outbox(given: dict[str, Any], **options: Any) -> list[str]:
    return failed(outbox_checks(given, OPTIONS | options))


def test_a_healthy_outbox_passes():
    assert outbox(says()) == []


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ({"integrity_errors": ["row 3 missing from index unsent"]}, "outbox is whole"),
        ({"unsent": 5, "oldest_unsent_seconds": 300.5}, "outbox is sent"),
        ({"entries": 1_800_000}, "outbox has room"),
        ({"bytes": 970_000_000}, "outbox has room"),
        ({"feed_rejected_lines": 1}, "feed"),
        ({"feed_error": "no source"}, "feed is there"),
        ({"feed_lost_places": 1}, "feed is whole"),
        ({"feed_waiting_bytes": 5}, "feed ends its lines"),
    ],
)
def test_each_thing_that_is_not_as_it_should_be_is_named(found: dict[str, Any], name: str):
    assert outbox(says(**found)) == [name]


@pytest.mark.parametrize(
    "found", [{"unsent": 5, "oldest_unsent_seconds": 299.0}, {"entries": 1_799_999}, {"oldest_unsent_seconds": -3_600.0}]
)
def test_what_is_within_bounds_passes(found: dict[str, Any]):
    assert outbox(says(**found)) == []


HIDDEN = ["/home/a/feed", "/root/feed", "/tmp/feed", "/var/tmp/feed", "/run/user/1000/feed", "/data/../home/feed", "//tmp//feed"]
SEEN = ["/data/feed", "/var/lib/feeds/home/feed", "/homes/feed", "/tmpfiles/feed", "/var/log/tmp/feed"]


@pytest.mark.parametrize("feed", ["feed", "~/feed", "./feed", "../feed", *HIDDEN])
def test_a_feed_that_the_service_cannot_see_is_noticed(feed: str):
    assert feed_problem(feed, "systemd").startswith(f"{feed} is ")
    assert outbox(says(), feed=feed, manager="systemd") == ["feed is there"]
    assert outbox(says(), feed=feed) == (["feed is there"] if feed not in HIDDEN else [])


@pytest.mark.parametrize("feed", ["", *SEEN])
def test_a_feed_that_the_service_can_see_passes(feed: str):
    assert outbox(says(), feed=feed, manager="systemd") == []


@pytest.mark.parametrize("seconds", [10, "10"])
def test_a_bound_is_a_setting(seconds: Any):
    assert outbox(says(oldest_unsent_seconds=11.0), unsent_seconds=seconds) == ["outbox is sent"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"rc": 4, "stdout_lines": [], "stderr_lines": ['{"error": "outbox damaged"}']}, '{"error": "outbox damaged"}'),
        ({"rc": 2, "stdout_lines": [], "stderr_lines": [], "msg": "No such file"}, "no answer"),
        ({"rc": 1, "stdout_lines": [], "stderr_lines": ["Traceback", "ImportError: x"]}, "ImportError: x"),
    ],
)
def test_an_outbox_that_does_not_answer_is_one_failed_check(given: dict[str, Any], found: str):
    assert outbox(given) == ["outbox is whole"]
    assert outbox_checks(given, OPTIONS)[0]["found"] == found


@pytest.mark.parametrize(("newest", "fails"), [(0.0, False), (52.9, False), (53.5, True), (None, True), (-3_600.0, False)])
def test_a_service_that_makes_up_transactions_and_sends_none_is_named(newest: float | None, fails: bool):
    rates = {"rate": 0.3, "linger": 10}  # so that 10 / 0.3 + 10 + 10 s are too long
    assert outbox(says(newest_sent_seconds=newest), **rates) == ["sends"] * fails
    assert sends(says(newest_sent_seconds=newest), OPTIONS | rates) is not fails


def test_a_feed_may_be_quiet():
    for newest in None, 1e6:
        assert outbox(says(newest_sent_seconds=newest), feed="/var/feed") == []


def test_no_answer_is_no_sign_that_the_service_sends():
    assert not sends({"rc": 4, "stderr_lines": ['{"error": "outbox damaged"}']}, OPTIONS)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"rc": 0, "stdout_lines": ['{"sent": 1}', '{"sent": 2}'], "stderr_lines": ['{"error": "x"}']}, {"sent": 2}),
        ({"rc": 1, "stdout_lines": ['{"sent": 1}'], "stderr_lines": ['{"error": "x"}']}, {"error": "x"}),
        ({"rc": 1, "stdout_lines": [], "stderr_lines": ["ImportError: x"]}, {}),
        ({"skipped": True}, {}),
    ],
)
def test_the_answer_is_the_last_line_of_output_or_of_errors(result: dict[str, Any], said: dict[str, Any]):
    assert answer(result) == said


@pytest.mark.parametrize(("status", "passes"), [("it  RUNNING  pid 5", True), ("it  STARTING", False), ("it: ERROR (none)", False)])
def test_a_service_of_supervisord_runs_or_is_named(status: str, passes: bool):
    given = {"stdout": status, "rc": 0}
    assert runs(given, "supervisord") is passes
    (check,) = supervisord_checks(given, OPTIONS)
    assert failed([check]) == ["running"] * (not passes) and check["cause"] and check["found"] == status


SHOWN = {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NRestarts": "0", "InvocationID": "a"}
NAMES = ("program", "settings", "unit")


def shown(**changes: str) -> dict[str, Any]:
    return {"stdout_lines": [f"{name}={value}" for name, value in (SHOWN | changes).items()]}


def systemd(**changes: Any) -> list[str]:
    """Names of the checks that fail on a host that is as it should be but for the changes."""
    package = hashlib.sha256(b"a zip").hexdigest()
    files = [
        {"item": {"name": "program", "src": "/build/it.pyz"}, "stat": {"checksum": hashlib.sha256(b"a zip").hexdigest()}},
        *(
            {"item": {"name": name, "content": "Ünït"}, "stat": {"checksum": hashlib.sha256("Ünït".encode()).hexdigest()}}
            for name in NAMES[1:]
        ),
    ]
    seen = {
        "before": shown(),
        "after": shown(),
        "clock_offset": 0.1,
        "venv": {"rc": 0},
        "pins": ["botocore==1"],
        "package": {"sha256": package},
        "files": files,
    }
    return failed(systemd_checks(seen | changes, OPTIONS | {"manager": "systemd"}))


def test_a_healthy_host_with_systemd_passes():
    assert systemd() == []


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"after": shown(ActiveState="failed", SubState="dead")}, ["running"]),
        ({"after": shown(UnitFileState="")}, ["starts at boot"]),
        ({"after": shown(InvocationID="b", NRestarts="1")}, ["keeps running"]),
        ({"venv": {"rc": 1, "stderr_lines": ["no botocore"]}}, ["packages"]),
        ({"venv": {"rc": 2, "msg": "No such file"}}, ["packages"]),
        ({"clock_offset": -60.0}, ["clock"]),
        ({"clock_offset": "61.5"}, ["clock"]),
        ({"package": {"sha256": hashlib.sha256(b"another zip").hexdigest()}}, ["program"]),
    ],
)
def test_each_thing_that_is_not_as_systemd_should_have_it_is_named(changes: dict[str, Any], names: list[str]):
    assert systemd(**changes) == names


@pytest.mark.parametrize("stat", [{"exists": False}, {"exists": True, "checksum": "other"}])
def test_each_file_that_is_missing_or_other_is_named(stat: dict[str, Any]):
    items = [{"name": "program"}, {"name": "settings", "content": "a"}, {"name": "unit", "content": "b"}]
    assert systemd(files=[{"item": item, "stat": stat} for item in items]) == list(NAMES)


def test_the_program_runs_from_the_one_file_that_is_shipped(tmp_path: Path):
    program = tmp_path / "financial_producer.pyz"
    write(build(collect([ROOT / "producer_src"])), program)
    done = subprocess.run([sys.executable, "-Es", program, "outbox", "--state-directory", tmp_path], capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stderr)["error"].split(":")[0]) == (4, "no outbox")
