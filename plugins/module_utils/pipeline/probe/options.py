"""What the modules that probe have in common: their options, and the clients they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .checks import Targets
from .records import Thresholds
from .run import Clients

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
    "log_timeout": {"type": "int", "default": 180},
}


class OptionError(Exception):
    """An option that no probe can work with; the text names it."""


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
