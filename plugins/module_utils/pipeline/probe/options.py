"""What the modules that probe have in common: their options, and the clients they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.module import OptionError, require_least
from .checks import Targets
from .records import Thresholds
from .run import Clients


def thresholds_of(options: Mapping[str, Any]) -> Thresholds:
    """The thresholds. Raises OptionError for one that is no number, or for a negative time."""
    require_least(options, timeout=0, log_timeout=0)
    try:
        return Thresholds.parse(options["high_value_threshold"], options["medium_value_threshold"])
    except ValueError as error:
        raise OptionError(str(error)) from error


def targets_of(options: Mapping[str, Any], version: str = "", direct: bool = False) -> Targets:
    """Where the pipeline is, and which version of the function shall process the records."""
    names = ("queue_url", "dead_letter_queue_url", "table", "log_group")
    return Targets(**{name: options[name] for name in names}, version=version, direct=direct)


def clients_of(module: Any) -> Clients:
    """The clients of an AnsibleAWSModule that a probe needs."""
    return Clients(sqs=module.client("sqs"), dynamodb=module.client("dynamodb"), logs=module.client("logs"))
