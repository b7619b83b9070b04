"""Which attributes of a queue have to be set, and to what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.aws_drift_values import structure


def differing(wanted: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, str]:
    """The attributes of `wanted` that mean something else in `found`, as SQS takes them: texts; empty for one that shall go."""
    return {name: _text(value) for name, value in wanted.items() if _meaning(_text(value)) != _meaning(found.get(name, ""))}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _meaning(text: str) -> Any:
    return structure(json.loads(text)) if text.startswith("{") else text
