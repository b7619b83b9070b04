"""The module around the quarantine's actions: what it refuses to start with, what it returns, and when it fails."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.pipeline.aws import dead_letter_queue as quarantine_messages
from ansible.module_utils.pipeline.quarantine.actions import Quarantine, Report
from ansible.module_utils.pipeline.quarantine.archive import BusyError
from aws_fakes import TABLE
from fakes import client_error
from quarantine_fakes import World, record

ROOT = Path(__file__).resolve().parents[4]


class Ended(Exception):
    """How the module ended, and with what."""


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "transaction_quarantine_module", ROOT / "plugins" / "modules" / "transaction_quarantine.py"
    )
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the module with these options beside the required ones; returns how it ended and what it returned."""

    def run(world: World | None = None, check_mode: bool = False, **options: Any) -> tuple[str, dict[str, Any]]:
        class FakeModule:
            def __init__(self, argument_spec: dict[str, Any], supports_check_mode: bool) -> None:
                assert supports_check_mode
                required = {name: "x" for name, spec in argument_spec.items() if spec.get("required")}
                required |= {"rules": str(ROOT / "lambda_src" / "transaction.py"), "directory": str(tmp_path / "kept")}
                if world:
                    required |= {"queue_url": world.queue, "dead_letter_queue_url": world.dead_letters, "table": TABLE}
                self.params = {name: spec.get("default") for name, spec in argument_spec.items()} | required | options
                self.check_mode = check_mode

            def client(self, service: str) -> Any:
                return getattr(world, service, None)

            def exit_json(self, **returned: Any) -> None:
                raise Ended("exit", returned)

            def fail_json(self, **returned: Any) -> None:
                raise Ended("fail", returned)

            def fail_json_aws(self, error: Exception, msg: str) -> None:
                raise Ended("fail", {"msg": f"{msg}: {error}"})

        monkeypatch.setattr(module, "AnsibleAWSModule", FakeModule)
        with pytest.raises(Ended) as ended:
            module.main()
        kind, returned = ended.value.args
        return kind, returned

    return run


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limit": -1}, "limit must be at least 0: found -1"),
        ({"rate": 0}, "rate must be at least 0.1: found 0"),
        ({"timeout": 29}, "timeout must be at least 30: found 29"),
        ({"timeout": 43196}, "timeout must be at most 43195: found 43196"),
        ({"samples": -1}, "samples must be at least 0: found -1"),
        ({"since": "yesterday"}, "since is 'yesterday', expected a time such as"),
        ({"repair": ["parse amount"]}, "repair is for action replay: found action list"),
        ({"action": "replay", "repair": ["mend amount"]}, "found the repair 'mend amount', expected rename"),
        ({"action": "replay", "repair": ['set transaction_id "t-1"']}, "a repair that sets transaction_id is for one message"),
        ({"rules": "/nowhere/transaction.py"}, "[Errno 2] No such file or directory: '/nowhere/transaction.py'"),
    ],
)
def test_bad_options_fail_before_anything_is_received(run: Any, wrong: dict[str, Any], said: str):
    kind, returned = run(**wrong)
    assert kind == "fail" and returned["msg"].startswith(said)


@pytest.mark.parametrize("one", [{"limit": 1}, {"ids": ["m-1"]}])
def test_a_repair_may_set_the_id_of_one_message(run: Any, monkeypatch: pytest.MonkeyPatch, one: dict[str, Any]):
    monkeypatch.setattr(Quarantine, "act", lambda _: Report())
    assert run(action="replay", repair=['set transaction_id "t-1"'], **one)[0] == "exit"


def test_the_result_of_an_action_is_the_module_s(run: Any, aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine_messages, "POLL_SECONDS", 0)
    world = World.make(tmp_path)
    world.add_dead_letter(record(1, amount="1"), "amount_not_a_number")
    replay = {"action": "replay", "repair": ["parse amount"]}
    assert run(world)[1]["total"] == 1
    for dry in ({}, {"check_mode": True, "confirm": True}):
        kind, returned = run(world, **replay, **dry)
        said = returned["lines"][0]
        assert (kind, returned["changed"], said) == ("exit", bool(dry), "1 messages would be sent: 1 amount_not_a_number")
    kind, returned = run(world, confirm=True, **replay)
    assert (kind, returned["changed"], returned["sent"], returned["complete"]) == ("exit", True, 1, True)
    assert '"amount": 1,' in world.bodies(world.queue)[0]


def test_what_has_to_be_run_again_fails(run: Any, monkeypatch: pytest.MonkeyPatch):
    report = Report(changed=True, lines=["12 messages sent"], facts={"sent": 12}, errors=["the time is up", "2 messages more"])
    monkeypatch.setattr(Quarantine, "act", lambda _: report)
    kind, returned = run(action="replay")
    assert (kind, returned["changed"], returned["sent"], returned["lines"]) == ("fail", True, 12, ["12 messages sent"])
    assert returned["msg"] == "the time is up. 2 messages more. Nothing is lost; mend that, and run this again."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BusyError("another run works on here"), "another run works on here"),
        (
            OSError(28, "No space left on device"),
            "[Errno 28] No space left on device. Nothing is lost; mend that, and run this again.",
        ),
        (client_error("AccessDenied", "GetQueueAttributes"), "Cannot ask the queues for their attributes"),
    ],
)
def test_what_keeps_it_from_working_fails_in_words(run: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str):
    def act(_: Quarantine) -> Report:
        raise error

    monkeypatch.setattr(Quarantine, "act", act)
    kind, returned = run(action="replay")
    assert kind == "fail" and said in returned["msg"]


def test_a_signal_ends_it_with_everything_visible(run: Any, aws: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine_messages, "POLL_SECONDS", 0)
    world = World.make(tmp_path)
    for number in range(12):
        world.add_dead_letter(record(number), None)
    monkeypatch.setattr(world.sqs, "send_message_batch", lambda **_: os.kill(os.getpid(), signal.SIGTERM))
    kind, returned = run(world, action="replay", confirm=True)
    assert kind == "fail" and returned["msg"].startswith("Interrupted by SIGTERM. Nothing is lost")
    assert len(world.take(world.dead_letters)) == 12
