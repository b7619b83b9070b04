"""What verify.yml makes of what the producer's outbox and files on its host say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

ROOT = Path(__file__).resolve().parents[3]
init_plugin_loader()  # the variables look others up
HEALTHY = {
    "entries": 10,
    "unsent": 0,
    "oldest_unsent_seconds": None,
    "newest_sent_seconds": 1.0,
    "bytes": 100_000,
    "feed_trouble": None,
    "feed_waiting_bytes": 0,
    "feed_lost_places": 0,
    "feed_rejected_lines": 0,
    "complaints": [],
}


def service(manager: str = "supervisord", **variables: Any) -> Templar:
    """The variables of the role producer_service."""
    loader = DataLoader()
    given = {"producer_service_name": "it", "producer_service_source": str(ROOT / "producer_src"), "producer_service_manager": manager}
    found: dict[str, Any] = {}
    for file in ("roles/producer_service/defaults/main.yml", "inventories/shared/settings.yml", "roles/producer_service/vars/main.yml"):
        found |= loader.load_from_file(str(ROOT / file), trusted_as_template=True)
    return Templar(loader=loader, variables=found | given | variables)


def failed(answer: dict[str, Any], **variables: Any) -> list[str]:
    """Names of the checks that fail when the command `outbox --json --check` answers so."""
    templar = service(__producer_service_outbox_answer=answer, **variables)
    checks = templar.template(templar.available_variables["__producer_service_outbox_checks"])
    assert all(isinstance(check[part], str) and check[part] for check in checks for part in ("expected", "found", "remedy"))
    return [check["check"] for check in checks if not check["passed"]]


def says(**changes: Any) -> dict[str, Any]:
    return {"rc": 0, "stdout": json.dumps(HEALTHY | changes), "stderr_lines": []}


def test_a_healthy_outbox_passes():
    assert failed(says()) == []


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ({"complaints": ["row 3 missing from index unsent"]}, "outbox is whole"),
        ({"unsent": 5, "oldest_unsent_seconds": 300.5}, "outbox is sent"),
        ({"entries": 1_800_000}, "outbox has room"),
        ({"bytes": 970_000_000}, "outbox has room"),
        ({"feed_rejected_lines": 1}, "feed"),
        ({"feed_trouble": "no source"}, "feed is there"),
        ({"feed_lost_places": 1}, "feed is whole"),
        ({"feed_waiting_bytes": 5}, "feed ends its lines"),
    ],
)
def test_each_thing_that_is_not_as_it_should_be_is_named(found: dict[str, Any], name: str):
    assert failed(says(**found)) == [f"producer it: {name}"]


@pytest.mark.parametrize(
    "found", [{"unsent": 5, "oldest_unsent_seconds": 299.0}, {"entries": 1_799_999}, {"oldest_unsent_seconds": -3_600.0}]
)
def test_what_is_within_bounds_passes(found: dict[str, Any]):
    assert failed(says(**found)) == []


HIDDEN = ["/home/a/feed", "/root/feed", "/tmp/feed", "/var/tmp/feed", "/run/user/1000/feed", "/data/../home/feed", "//tmp//feed"]
SEEN = ["/data/feed", "/var/lib/feeds/home/feed", "/homes/feed", "/tmpfiles/feed", "/var/log/tmp/feed"]


@pytest.mark.parametrize("feed", ["feed", "~/feed", "./feed", "../feed", *HIDDEN])
def test_a_feed_that_the_service_cannot_see_is_noticed(feed: str):
    assert failed(says(), producer_service_feed=feed, producer_service_manager="systemd") == ["producer it: feed is there"]
    hidden = feed not in HIDDEN
    assert failed(says(), producer_service_feed=feed) == (["producer it: feed is there"] if hidden else [])


@pytest.mark.parametrize("feed", ["", *SEEN])
def test_a_feed_that_the_service_can_see_passes(feed: str):
    assert failed(says(), producer_service_feed=feed, producer_service_manager="systemd") == []


def test_a_bound_is_a_setting():
    assert failed(says(oldest_unsent_seconds=11.0), producer_service_unsent_seconds=10) == ["producer it: outbox is sent"]


@pytest.mark.parametrize(
    "answer",
    [
        {"rc": 4, "stdout": "", "stderr_lines": ['{"error": "outbox damaged"}']},
        {"rc": 2, "stdout": "", "stderr_lines": [], "msg": "No such file"},
    ],
)
def test_an_outbox_that_does_not_answer_is_one_failed_check(answer: dict[str, Any]):
    assert failed(answer) == ["producer it: outbox is whole"]


@pytest.mark.parametrize(("newest", "fails"), [(0.0, False), (52.9, False), (53.5, True), (None, True), (-3_600.0, False)])
def test_a_service_that_makes_up_transactions_and_sends_none_is_named(newest: float | None, fails: bool):
    rates = {"producer_service_rate": 0.3, "producer_service_linger": 10}  # so that 10 / 0.3 + 10 + 10 s are too long
    assert failed(says(newest_sent_seconds=newest), **rates) == ["producer it: sends"] * fails


def test_a_feed_may_be_quiet():
    for newest in None, 1e6:
        assert failed(says(newest_sent_seconds=newest), producer_service_feed="/var/feed") == []


def sums_of_the_program() -> dict[str, str]:
    return {path.name: hashlib.sha1(path.read_bytes()).hexdigest() for path in (ROOT / "producer_src").glob("*.py")}


@pytest.mark.parametrize("directory", ["/opt/it", "/opt/other/..//it"])
def test_each_file_of_the_program_is_compared_with_what_is_deployed(directory: str):
    # given a host where one file is another, and one is missing
    sums = {f"/opt/it/{name}": checksum for name, checksum in sums_of_the_program().items()} | {"/opt/it/outbox.py": "other"}
    del sums["/opt/it/feed.py"]
    others = ["/opt/it/settings.env", "/etc/systemd/system/it.service"]
    files = [{"name": each, "path": each, "content": "c"} for each in others]
    # when they are compared
    there = {"files": [{"path": path, "checksum": checksum} for path, checksum in sums.items()]}
    found = {"__producer_service_found_files": there, "__producer_service_files": files, "producer_service_directory": directory}
    strange = service("systemd", **found).template(service("systemd").available_variables["__producer_service_strange"])
    # then both are named, and what was never there
    assert sorted(strange) == sorted(["/opt/it/outbox.py", "/opt/it/feed.py", *others])


def test_only_what_is_not_as_it_should_be_is_installed():
    there = {name: {"path": f"/opt/it/{name}", "checksum": checksum, "mode": "0644"} for name, checksum in sums_of_the_program().items()}
    assert differs(files=list(there.values())) == []
    there["outbox.py"]["checksum"], there["sending.py"]["mode"] = "other", "0666"
    del there["feed.py"]
    assert differs(files=[*there.values(), {"path": "/opt/it/old.py", "checksum": "1", "mode": "0644"}]) == [
        "feed.py",
        "outbox.py",
        "sending.py",
    ]
    assert differs(skipped=True) == sorted(sums_of_the_program())


def differs(**program: Any) -> list[str]:
    templar = service(__producer_service_found_program=program)
    return templar.template(templar.available_variables["__producer_service_program_differs"])
