"""Compare AWS resources with what is expected, property by property, and restore what no other module restores.

The readers of each family find properties, core.canonical says when two values mean the same, and only this file compares them.
Clients are passed in, one for each service; boto3 clients may be shared between threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..core.canonical import Canonical, as_text
from ..core.checks import make_check
from ..core.clock import Clock, polls
from ..core.errors import AWS_ERRORS, error_code, is_lasting
from ..release.mapping import BUSY_ERRORS
from . import data_stores, ec2, functions, iam, monitoring
from .resource_type import LAST_CHANGE, Disagreement, ResourceType

TYPES: dict[str, ResourceType] = iam.TYPES | data_stores.TYPES | functions.TYPES | monitoring.TYPES | ec2.TYPES

# More readers than cores help, because they wait for answers. AWS's lowest rate limit among them is DescribeAlarms, 9 a second.
READERS_AT_ONCE = 8

# Longest wait, in seconds, until a change shows: SetQueueAttributes may take 60 s (API reference), IAM some seconds.
MEND_SECONDS = 120.0
# Another change is in progress, or the last reading was out of date: the next reading decides.
PASSING_ERRORS = BUSY_ERRORS | {"NoSuchEntity", "ResourceNotFoundException", "OperationAbortedException", "ValidationException"}

UNREADABLE = "Fix the connection or the permission (docs/operator_policy.md) that the error names, and try again."


class ExpectationError(Exception):
    """A type or property that does not exist. The text names those that do."""


@dataclass
class Drift:
    """What comparing found: `checks` in the shape verify collects, `differences` with values, `before` and `after` by resource.

    `menders` are the calls that restore what differs; `lasting` counts the failed checks that neither these calls nor time can fix.
    `unsettled` are resources that differ and were changed so recently that AWS may still show their old state.
    """

    checks: list[dict[str, Any]] = field(default_factory=list)
    differences: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    before: dict[str, dict[str, Any]] = field(default_factory=dict)
    after: dict[str, dict[str, Any]] = field(default_factory=dict)
    menders: list[Callable[[], object]] = field(default_factory=list)
    lasting: int = 0

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [check for check in self.checks if not check["passed"]]


@dataclass(frozen=True)
class _Reading:
    found: dict[str, Any] | None
    error: str
    seconds: float


def required_services(resources: Sequence[Mapping[str, Any]]) -> list[str]:
    """The services whose clients `compare` needs. Raises ExpectationError for an unknown type or property."""
    return sorted({service for resource in resources for service in _type_of(resource).services})


def compare(resources: Sequence[Mapping[str, Any]], clients: Mapping[str, Any], *, default_remedy: str, settle_seconds: float = 0) -> Drift:
    """Read the resources in parallel and compare each expected property.

    A resource is a dict of `type`, `name`, `expected` and, optionally, `remedy`. Raises ExpectationError before any call is made
    for an unknown type or property; an error of AWS becomes a failed check. `settle_seconds` is how long a change takes to show.
    """
    required_services(resources)
    with ThreadPoolExecutor(max_workers=READERS_AT_ONCE) as readers:
        readings = list(readers.map(lambda resource: _read(resource, clients), resources))
    drift = Drift()
    for resource, reading in zip(resources, readings, strict=True):
        differing = len(drift.differences)
        _compare_one(drift, resource, reading, resource.get("remedy") or default_remedy, clients)
        changed = (reading.found or {}).get(LAST_CHANGE)
        if changed is not None and len(drift.differences) > differing and time.time() - changed < settle_seconds:
            drift.unsettled.append(resource["name"])
    return drift


def mend(resources: Sequence[Mapping[str, Any]], clients: Mapping[str, Any], clock: Clock, *, default_remedy: str) -> tuple[bool, Drift]:
    """Restore what differs, and read again until nothing differs, or only what cannot be restored, or MEND_SECONDS are over.

    Returns whether any call was made, and the last reading. Raises the error of AWS that refuses a call permanently.
    """
    called = False
    for left in polls(clock, MEND_SECONDS, longest=5.0):
        drift = compare(resources, clients, default_remedy=default_remedy)
        if len(drift.failed) == drift.lasting or not left:
            break
        for call in drift.menders:
            try:
                called |= call() is not False
            except AWS_ERRORS as error:
                if is_lasting(error) and error_code(error) not in PASSING_ERRORS:
                    raise
    return called, drift


def _type_of(resource: Mapping[str, Any]) -> ResourceType:
    kind = TYPES.get(resource["type"])
    if kind is None:
        raise ExpectationError(f"{resource['name']}: there is no type {resource['type']!r}. Types: {', '.join(TYPES)}.")
    unknown = sorted(set(resource.get("expected") or {}) - set(kind.properties))
    if unknown:
        raise ExpectationError(
            f"{resource['type']} {resource['name']}: there is no property {', '.join(unknown)}. Properties: {', '.join(kind.properties)}."
        )
    return kind


def _expected(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {**_type_of(resource).implied, **(resource.get("expected") or {})}


def _read(resource: Mapping[str, Any], clients: Mapping[str, Any]) -> _Reading:
    started = time.monotonic()
    found, error = None, ""
    try:
        found = _type_of(resource).read(clients, resource["name"], _expected(resource))
    except ClientError as refusal:
        details = refusal.response.get("Error", {})
        error = f"{details.get('Code', 'Error')}: {details.get('Message', '')}"
    except BotoCoreError as failure:
        error = f"{type(failure).__name__}: {failure}"
    return _Reading(found, error, round(time.monotonic() - started, 3))


def _compare_one(drift: Drift, resource: Mapping[str, Any], reading: _Reading, default: str, clients: Mapping[str, Any]) -> None:
    kind = _type_of(resource)
    label = f"{kind.label} {resource['name']}"
    expected = {name: kind.properties[name](value) for name, value in _expected(resource).items()}

    def check(name: str, wanted: str, found: str, passed: bool, seconds: float = 0.0, remedy: str = default, cause: bool = False) -> None:
        drift.checks.append(make_check(f"{label}: {name}", passed, wanted, found, seconds=seconds, remedy=remedy) | {"cause": cause})

    if reading.error:
        check("exists", "exists", reading.error, False, reading.seconds, UNREADABLE, "exists" in kind.stops)
        drift.lasting += 1
        drift.unreadable.append({"resource": label, "error": reading.error})
        return
    if reading.found is None:
        check("exists", "exists", "missing", False, reading.seconds, cause="exists" in kind.stops)
        drift.differences.append({"resource": label, "property": "exists", "expected": True, "found": False})
        drift.before[label] = {}
        drift.after[label] = expected
        if kind.put:
            drift.menders.append(partial(kind.put, clients, resource["name"], expected, {}))
        return
    check("exists", "exists", "exists", True, reading.seconds)
    canonical = reading.found | {name: _canonical(kind.properties[name], reading.found.get(name)) for name in kind.properties}
    for name, wanted in expected.items():
        found = canonical[name]
        own = kind.remedies[name](resource["name"], wanted, canonical) if found != wanted and name in kind.remedies else ""
        cause = found != wanted and name in kind.stops and kind.stops[name](wanted, found)
        check(name, as_text(wanted), as_text(found), found == wanted, remedy=own or default, cause=cause)
        if found != wanted:
            if own:
                drift.lasting += 1
            if name in kind.menders:
                drift.menders.append(partial(kind.menders[name], clients, resource["name"], wanted, canonical))
            drift.differences.append({"resource": label, "property": name, "expected": wanted, "found": found})
            drift.before.setdefault(label, {})[name] = found
            drift.after.setdefault(label, {})[name] = wanted
    if kind.put and label in drift.before:
        drift.menders.append(partial(kind.put, clients, resource["name"], expected, canonical))


def _canonical(canonical: Canonical, found: Any) -> Any:
    return [canonical(value) for value in found.values] if isinstance(found, Disagreement) else canonical(found)
