"""The probe's parts: its parameters, what it does with signals, the amounts it picks, and how it reads a log."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.pipeline.core.clock import Clock
from ansible.module_utils.pipeline.core.interruption import Interruption, interruptible
from ansible.module_utils.pipeline.probe import logs as pipeline_probe_logs
from ansible.module_utils.pipeline.probe.logs import Wanted, wait_for_lines
from ansible.module_utils.pipeline.probe.records import Thresholds, make_samples


@pytest.fixture(scope="module")
def module() -> ModuleType:
    path = Path(__file__).resolve().parents[4] / "plugins" / "modules" / "pipeline_probe.py"
    spec = importlib.util.spec_from_file_location("pipeline_probe_module", path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_a_signal_interrupts_once() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(Interruption, match="SIGTERM"), interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) is before


class Ended(Exception):
    """How a module ends: "exit" or "fail", with what it returns."""


def ending(kind: str) -> Any:
    def end(**returned: Any) -> None:
        raise Ended(kind, returned)

    return end


class FakeModule:
    """An Ansible module with given parameters."""

    params: dict[str, Any]
    check_mode = False
    exit_json = staticmethod(ending("exit"))
    fail_json = staticmethod(ending("fail"))

    def __init__(self, argument_spec: dict[str, Any], supports_check_mode: bool) -> None:
        pass

    def client(self, service: str) -> Any:
        raise AssertionError(f"no call to {service} is due")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"high_value_threshold": "much"}, "high_value_threshold must be a decimal number such as 1000.00: found 'much'"),
        ({"medium_value_threshold": "NaN"}, "medium_value_threshold must be at least 0 and below"),
        ({"medium_value_threshold": "-1"}, "medium_value_threshold must be at least 0 and below"),
        ({"medium_value_threshold": "10001"}, "medium_value_threshold must be at most high_value_threshold: found '10001' and '10000'"),
        ({"timeout": -1}, "timeout must be at least 0: found -1"),
    ],
)
def test_bad_parameters_fail_before_anything_is_sent(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(module, "AnsibleAWSModule", FakeModule)
    right = {"high_value_threshold": "10000", "medium_value_threshold": "1000", "timeout": 1, "log_timeout": 1}
    monkeypatch.setattr(FakeModule, "params", right | wrong, raising=False)

    with pytest.raises(Ended) as ended:
        module.main()

    kind, returned = ended.value.args
    assert kind == "fail" and returned["msg"].startswith(said)


def test_check_mode_sends_nothing_and_is_skipped(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AnsibleAWSModule", FakeModule)
    right = {"high_value_threshold": "10000", "medium_value_threshold": "1000", "timeout": 1, "log_timeout": 1}
    monkeypatch.setattr(FakeModule, "params", right, raising=False)
    monkeypatch.setattr(FakeModule, "check_mode", True)

    with pytest.raises(Ended) as ended:
        module.main()

    kind, returned = ended.value.args
    assert kind == "exit" and returned["skipped"] and "checks" not in returned


@pytest.mark.parametrize(
    ("high", "medium", "boundaries"),
    [
        ("10000", "1000", ["10000.00", "9999.99", "1000.00", "999.99"]),
        ("100.5", "0", ["100.50", "100.49", "0.00"]),
        ("5", "5", ["5.00", "4.99"]),
        ("0.125", "0.01", ["0.125", "0.115", "0.01", "0.00"]),
    ],
)
def test_boundaries_follow_the_thresholds(high: str, medium: str, boundaries: list[str]) -> None:
    samples = make_samples(Thresholds.parse(high, medium), datetime.now(UTC))

    assert [f"{sample.amount:f}" for sample in samples if sample.boundary] == boundaries


class Pages:
    """A log group that answers page by page."""

    def __init__(self, pages: list[dict[str, Any]]) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def filter_log_events(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(dict(arguments))
        return self.pages[len(self.asked) - 1]


def event(moment: int, *ids: str) -> dict[str, Any]:
    return {"timestamp": moment, "message": "[INFO]\t" + json.dumps({"message": "Successfully processed", "transaction_ids": ids})}


def read_pages(pages: list[dict[str, Any]]) -> tuple[Pages, set[str]]:
    client = Pages(pages)
    clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: 0.0, wait=lambda _: None)
    since = datetime.fromtimestamp(0.001, UTC)
    findings = wait_for_lines(client, "group", since, Wanted(frozenset({"a", "b"}), "m", "o"), clock, 0)
    return client, findings.named


def test_log_pages_are_followed_by_their_token_through_empty_ones() -> None:
    pages = [{"events": [event(1, "a")], "nextToken": "t"}, {"events": [], "nextToken": "u"}, {"events": [event(2, "b", "c")]}]

    client, named = read_pages(pages)

    assert named == {"a", "b"} and [asked.get("nextToken") for asked in client.asked] == [None, "t", "u"]


def test_a_full_log_page_without_a_token_is_continued_from_its_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_probe_logs, "EVENTS_PER_CALL", 2)

    client, named = read_pages([{"events": [event(1, "x"), event(5, "a")]}, {"events": [event(5, "a"), event(6, "b")]}, {"events": []}])

    assert named == {"a", "b"} and [asked["startTime"] for asked in client.asked] == [1, 5, 6]
