"""Event source mappings between one SQS queue and one Lambda function: read, compare, converge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from ..aws.paging import pages, unless_missing
from ..core.clock import Clock, polls
from ..core.errors import error_code

# States in which AWS answers ResourceInUseException to every change. Source: EventSourceMappingConfiguration, Lambda API reference.
MOVING_STATES = frozenset({"Creating", "Enabling", "Disabling", "Updating"})
BUSY_ERRORS = frozenset({"ResourceInUseException", "ResourceConflictException"})

# Lambda sees a new role's policy after some seconds, but a wrong one never: so this wait is shorter than wait_timeout.
PERMISSION_PATIENCE_SECONDS = 60.0
PERMISSION_NOT_SEEN_YET = re.compile(r"does not have permissions? to call \w+ on SQS", re.IGNORECASE)

# What AWS allows. Source: CreateEventSourceMapping, Lambda API reference.
LIMITS = {"batch_size": (1, 10_000), "maximum_batching_window": (0, 300), "maximum_concurrency": (2, 1_000)}
BATCH_WITHOUT_WINDOW = 10

FUNCTION_ARN = re.compile(r"arn:[\w-]+:lambda:[\w-]+:\d{12}:function:[\w-]+(:[\w$-]+)?")
QUEUE_ARN = re.compile(r"arn:[\w-]+:sqs:[\w-]+:\d{12}:[\w.-]+")


class MappingError(Exception):
    """A setting that AWS would refuse, or a state that was not reached in time. The text says what to do next."""


@dataclass(frozen=True)
class MappingSettings:
    """Every managed property of a mapping. `filters` are filter patterns, always none; `maximum_batching_window` is in seconds."""

    batch_size: int = 10
    maximum_batching_window: int = 0
    function_response_types: list[str] = field(default_factory=lambda: ["ReportBatchItemFailures"])
    maximum_concurrency: int | None = None
    enabled: bool = True
    filters: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> MappingSettings:
        """From the options of the module lambda_event_source_mapping."""
        return cls(**{name: options[name] for name in (*LIMITS, "function_response_types")})

    def check(self) -> None:
        """Raise MappingError for the first setting out of AWS's limits."""
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise MappingError(f"{name} is {value}, but AWS takes {least} to {most}: choose a value in that range.")
        if self.batch_size > BATCH_WITHOUT_WINDOW and self.maximum_batching_window < 1:
            raise MappingError(
                f"batch_size is {self.batch_size} with maximum_batching_window {self.maximum_batching_window}: AWS refuses a "
                f"batch over {BATCH_WITHOUT_WINDOW} without a window. Set maximum_batching_window to 1 or more, or a smaller batch_size."
            )


@dataclass
class Outcome:
    """What one run did, or would do in check mode. `before` and `after` hold only what differs."""

    changed: bool = False
    mapping: dict[str, Any] | None = None
    foreign_mappings: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def managed_properties(mapping: dict[str, Any]) -> dict[str, Any]:
    """The managed properties of a mapping as Lambda describes it, under the names of MappingSettings."""
    filters = [entry.get("Pattern", "") for entry in (mapping.get("FilterCriteria") or {}).get("Filters") or []]
    if mapping.get("FilterCriteriaError"):
        filters.append(f"unreadable: {mapping['FilterCriteriaError'].get('Message', '')}")
    return {
        "batch_size": mapping.get("BatchSize"),
        "maximum_batching_window": mapping.get("MaximumBatchingWindowInSeconds") or 0,
        "function_response_types": sorted(mapping.get("FunctionResponseTypes") or []),
        "maximum_concurrency": (mapping.get("ScalingConfig") or {}).get("MaximumConcurrency"),
        "enabled": mapping.get("State") in ("Enabled", "Enabling", "Creating"),
        "filters": filters,
    }


def list_mappings(client: Any, **by: str) -> list[dict[str, Any]]:
    """Every mapping that ListEventSourceMappings gives for `EventSourceArn` or `FunctionName`; none when that does not exist."""
    return unless_missing(lambda: pages(client, "list_event_source_mappings", "EventSourceMappings", **by)) or []


def describe(mapping: dict[str, Any]) -> dict[str, Any]:
    """A mapping as the module returns it: identity, state and managed properties."""
    identity = {"uuid": "UUID", "function_arn": "FunctionArn", "event_source_arn": "EventSourceArn", "state": "State"}
    return {name: mapping.get(key) for name, key in identity.items()} | managed_properties(mapping)


def _differing(mapping: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    found = managed_properties(mapping)
    return [name for name, value in wanted.items() if found[name] != value]


def _unqualified(function_arn: str) -> str:
    return ":".join(function_arn.split(":")[:7])


class MappingManager:
    """Converges the mappings between one queue and one function. With `check_mode` it only reads."""

    def __init__(
        self, client: Any, function_arn: str, event_source_arn: str, clock: Clock, wait_timeout: float = 300, check_mode: bool = False
    ) -> None:
        if not FUNCTION_ARN.fullmatch(function_arn):
            raise MappingError(
                f"function_arn is {function_arn!r}, not the ARN of a Lambda function (arn:aws:lambda:REGION:ACCOUNT:function:NAME)."
            )
        if not QUEUE_ARN.fullmatch(event_source_arn):
            raise MappingError(f"event_source_arn is {event_source_arn!r}, not the ARN of an SQS queue (arn:aws:sqs:REGION:ACCOUNT:NAME).")
        self.client, self.function_arn, self.event_source_arn = client, function_arn, event_source_arn
        self.clock, self.wait_timeout, self.check_mode = clock, wait_timeout, check_mode

    def present(self, settings: MappingSettings) -> Outcome:
        """Leave exactly one mapping of the pair, with these settings.

        Raises MappingError if AWS would refuse the settings or a state is not reached within wait_timeout seconds, and ClientError for
        every error of Lambda that a retry cannot solve.
        """
        settings.check()
        wanted = asdict(settings)
        ours, foreign = self._settled()
        live = [mapping for mapping in ours if mapping["State"] != "Deleting"]
        exact = [mapping for mapping in live if mapping["FunctionArn"] == self.function_arn]
        # The one that differs least stays; the UUID decides between equals.
        kept = min(exact, key=lambda mapping: (len(_differing(mapping, wanted)), mapping["UUID"])) if exact else None
        extra = [mapping for mapping in live if mapping is not kept]

        outcome = Outcome(foreign_mappings=[describe(mapping) for mapping in foreign], deleted=[m["UUID"] for m in extra])
        found = managed_properties(kept) if kept else {}
        differing = _differing(kept, wanted) if kept else list(wanted)
        outcome.before = {name: found[name] for name in differing if kept} | ({"extra_mappings": outcome.deleted} if extra else {})
        outcome.after = {name: wanted[name] for name in differing} | ({"extra_mappings": []} if extra else {})
        outcome.changed = bool(differing or extra)

        if outcome.changed and not self.check_mode:
            self._delete(extra if kept else ours)
            if not kept:
                kept = self._create(wanted)
            elif differing:
                kept = self._update(kept["UUID"], wanted, differing)
        outcome.mapping = describe(kept) if kept else None
        return outcome

    def absent(self) -> Outcome:
        """Delete every mapping of the pair and wait until Lambda no longer knows them. A missing function or queue is fine."""
        ours, foreign = self._pair()
        live = [mapping for mapping in ours if mapping["State"] != "Deleting"]
        outcome = Outcome(changed=bool(live), foreign_mappings=[describe(m) for m in foreign], deleted=[m["UUID"] for m in live])
        if live:
            outcome.before = {"mappings": [{"uuid": mapping["UUID"], **managed_properties(mapping)} for mapping in live]}
            outcome.after = {"mappings": []}
        if not self.check_mode:
            self._delete(ours)
        return outcome

    def _pair(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The queue's mappings: those of our function, under any alias or version, and those of other functions."""
        ours, foreign = list[dict[str, Any]](), list[dict[str, Any]]()
        for mapping in list_mappings(self.client, EventSourceArn=self.event_source_arn):
            same = _unqualified(mapping.get("FunctionArn", "")) == _unqualified(self.function_arn)
            if same or mapping["State"] != "Deleting":
                (ours if same else foreign).append(mapping)
        return ours, foreign

    def _settled(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The pair once no change of our mappings is in progress: until then they can be read, but not changed."""
        for _ in self._attempts("the mapping to finish another change"):
            ours, foreign = self._pair()
            if not any(mapping["State"] in MOVING_STATES for mapping in ours):
                return ours, foreign
        raise AssertionError("unreachable: _attempts raises when time is up")

    def _create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        request = self._request(wanted, [name for name, value in wanted.items() if value not in (None, [])])
        pair = {"EventSourceArn": self.event_source_arn, "FunctionName": self.function_arn}
        try:
            created = self._persist(self.client.create_event_source_mapping, self._appeared, **pair, **request)
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                raise MappingError(f"Function {self.function_arn} does not exist: deploy it before its mapping.") from error
            if PERMISSION_NOT_SEEN_YET.search(str(error)):
                raise MappingError(
                    f"Lambda may not read queue {self.event_source_arn} after {PERMISSION_PATIENCE_SECONDS:g} seconds: "
                    f"{error.response['Error']['Message']} Allow the function's role sqs:ReceiveMessage, sqs:DeleteMessage and "
                    "sqs:GetQueueAttributes on the queue."
                ) from error
            raise
        mapping = self._settled_mapping(created["UUID"])
        # A mapping from a request whose answer was lost may have other settings.
        differing = _differing(mapping, wanted)
        return self._update(mapping["UUID"], wanted, differing) if differing else mapping

    def _appeared(self) -> dict[str, Any] | None:
        ours, _ = self._pair()
        return next((mapping for mapping in ours if mapping["FunctionArn"] == self.function_arn and mapping["State"] != "Deleting"), None)

    def _update(self, uuid: str, wanted: dict[str, Any], differing: list[str]) -> dict[str, Any]:
        # AWS checks the two against each other, so neither is sent without the other.
        together = {"batch_size", "maximum_batching_window"}
        names = {*differing, *(together if together & set(differing) else ())}
        self._persist(self.client.update_event_source_mapping, UUID=uuid, **self._request(wanted, sorted(names)))
        return self._settled_mapping(uuid, wanted)

    def _delete(self, mappings: list[dict[str, Any]]) -> None:
        for mapping in mappings:
            if mapping["State"] != "Deleting":
                unless_missing(partial(self._persist, self.client.delete_event_source_mapping), UUID=mapping["UUID"])
        for mapping in mappings:
            for _ in self._attempts(f"mapping {mapping['UUID']} to be gone"):
                if self._get(mapping["UUID"]) is None:
                    break

    @staticmethod
    def _request(wanted: dict[str, Any], names: list[str]) -> dict[str, Any]:
        concurrency = wanted["maximum_concurrency"]
        # An empty object removes the setting on AWS; leaving the key out would keep it.
        spelling = {
            "batch_size": ("BatchSize", wanted["batch_size"]),
            "maximum_batching_window": ("MaximumBatchingWindowInSeconds", wanted["maximum_batching_window"]),
            "function_response_types": ("FunctionResponseTypes", wanted["function_response_types"]),
            "maximum_concurrency": ("ScalingConfig", {} if concurrency is None else {"MaximumConcurrency": concurrency}),
            "enabled": ("Enabled", wanted["enabled"]),
            "filters": ("FilterCriteria", {}),
        }
        return dict(spelling[name] for name in names)

    def _get(self, uuid: str) -> dict[str, Any] | None:
        return unless_missing(self.client.get_event_source_mapping, UUID=uuid)

    def _settled_mapping(self, uuid: str, wanted: dict[str, Any] | None = None) -> dict[str, Any]:
        """The mapping once it is at rest and as wanted, if given: a read right after a change may still show the old settings."""
        for _ in self._attempts(f"mapping {uuid} to be at rest with its new settings"):
            mapping = self._get(uuid)
            if mapping and mapping["State"] not in MOVING_STATES and not (wanted and _differing(mapping, wanted)):
                return mapping
        raise AssertionError("unreachable: _attempts raises when time is up")

    def _persist(
        self, call: Callable[..., dict[str, Any]], until: Callable[[], dict[str, Any] | None] = lambda: None, **request: Any
    ) -> dict[str, Any]:
        """Make one call, again while Lambda is busy (unless `until` gives an answer) or does not see the role's permission yet."""
        started = self.clock.monotonic()
        for _ in self._attempts("Lambda to accept the change (it answers that the mapping is in use)"):
            try:
                return call(**request)
            except ClientError as error:
                busy = error_code(error) in BUSY_ERRORS
                unseen = error_code(error) == "InvalidParameterValueException" and PERMISSION_NOT_SEEN_YET.search(str(error))
                if not busy and not (unseen and self.clock.monotonic() - started < PERMISSION_PATIENCE_SECONDS):
                    raise
                answer = until() if busy else None
            if answer is not None:
                return answer
        raise AssertionError("unreachable: _attempts raises when time is up")

    def _attempts(self, awaited: str) -> Iterator[float]:
        """Yield until the caller leaves the loop, pausing longer each time; raise MappingError after wait_timeout seconds."""
        yield from polls(self.clock, self.wait_timeout, longest=5.0)
        raise MappingError(
            f"Waited {self.wait_timeout:g} seconds for {awaited}, queue {self.event_source_arn}, function {self.function_arn}. "
            "Run again when it has settled."
        )
