"""What the modules that probe have in common: their options, the clients they need, and a clean end when they are interrupted."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.pipeline_probe_records import Thresholds
from ansible.module_utils.pipeline_probe_run import Clients
from ansible.module_utils.pipeline_probe_verdicts import Targets

# Described in the documentation of the module pipeline_probe.
ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "queue_url": {"type": "str", "required": True},
    "dead_letter_queue_url": {"type": "str", "required": True},
    "table": {"type": "str", "required": True},
    "log_group": {"type": "str", "required": True},
    "high_value_threshold": {"type": "str", "required": True},
    "medium_value_threshold": {"type": "str", "required": True},
    "poison_reason": {"type": "str", "default": "amount_missing"},
    "timeout": {"type": "int", "default": 60},
    "log_timeout": {"type": "int", "default": 60},
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OptionError(Exception):
    """An option that no probe can work with; the text names it."""


class InterruptedProbe(BaseException):
    """Somebody wants this process to end: not an Exception, so that nothing but the clean-up takes notice."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first signal into InterruptedProbe, and ignore further ones while the probe cleans up."""

    def interrupt(number: int, _frame: Any) -> None:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        raise InterruptedProbe(signal.Signals(number).name)

    before = {one: signal.signal(one, interrupt) for one in SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def thresholds_of(options: Mapping[str, Any]) -> Thresholds:
    """The thresholds. Raises OptionError for one that is no number, or for a negative time."""
    for name in ("timeout", "log_timeout"):
        if options[name] < 0:
            raise OptionError(f"{name} must not be negative: found {options[name]}")
    try:
        return Thresholds.parse(options["high_value_threshold"], options["medium_value_threshold"])
    except ValueError as error:
        raise OptionError(str(error)) from error


def targets_of(options: Mapping[str, Any], version: str = "", direct: bool = False) -> Targets:
    """Where the pipeline is, and which version of the function shall process the records."""
    names = ("queue_url", "dead_letter_queue_url", "table", "log_group", "poison_reason")
    return Targets(*(options[name] for name in names), version, direct)


def clients_of(module: Any) -> Clients:
    """The clients of an AnsibleAWSModule that a probe needs."""
    return Clients(sqs=module.client("sqs"), dynamodb=module.client("dynamodb"), logs=module.client("logs"))
