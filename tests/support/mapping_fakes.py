"""A Lambda service as the mapping module meets it, with a clock of its own: AWS's states and refusals, which no emulator has."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.pipeline.core.clock import Clock
from botocore.exceptions import ClientError

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:ProcessFinancialStream"
OTHER_FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:SomebodyElses"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:FinancialTransactionQueue"


class Time:
    """Time that passes only while somebody waits on its `clock`, and a record of the pauses in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: self.now, wait=self._wait)

    def _wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def refusal(code: str, message: str = "", operation: str = "Operation") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class Lambda:
    """Lambda's mappings as AWS runs them: a change takes some calls to settle, and one that moves refuses to be changed."""

    def __init__(self, *mappings: dict[str, Any], calls_to_settle: int = 2) -> None:
        self.mappings = {mapping["UUID"]: mapping for mapping in mappings}
        self.calls_to_settle = calls_to_settle
        self.moving: dict[str, tuple[int, str]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refusals: dict[str, list[ClientError]] = {}
        self.names = (f"created-{number}" for number in itertools.count(1))
        for mapping in mappings:
            target = {"Creating": "Enabled", "Enabling": "Enabled", "Updating": "Enabled", "Disabling": "Disabled", "Deleting": ""}
            if mapping["State"] in target:
                self.moving[mapping["UUID"]] = (calls_to_settle, target[mapping["State"]])

    def writes(self) -> list[str]:
        return [name for name, _ in self.calls]

    def request(self, name: str) -> dict[str, Any]:
        return next(request for called, request in self.calls if called == name)

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_event_source_mappings"
        return self

    def paginate(self, EventSourceArn: str) -> Any:
        for uuid in list(self.mappings):
            self._pass(uuid)
        for mapping in [dict(mapping) for mapping in self.mappings.values() if mapping["EventSourceArn"] == EventSourceArn]:
            yield {"EventSourceMappings": [mapping]}

    def get_event_source_mapping(self, UUID: str) -> dict[str, Any]:
        self._pass(UUID)
        return dict(self._known(UUID))

    def create_event_source_mapping(self, **request: Any) -> dict[str, Any]:
        self._record("create", request)
        name = next(self.names)
        settings = {key: value for key, value in request.items() if key not in ("FunctionName", "Enabled")}
        self.mappings[name] = {"UUID": name, "FunctionArn": request["FunctionName"], "State": "Creating", **settings}
        self.moving[name] = (self.calls_to_settle, "Enabled" if request["Enabled"] else "Disabled")
        return dict(self.mappings[name])

    def update_event_source_mapping(self, UUID: str, **request: Any) -> dict[str, Any]:
        self._record("update", {"UUID": UUID, **request})
        mapping = self._at_rest(UUID)
        was = mapping["State"]
        enabled = request.pop("Enabled", was == "Enabled")
        mapping |= request | {"State": "Updating"}
        self.moving[UUID] = (self.calls_to_settle, "Enabled" if enabled else "Disabled")
        return dict(mapping)

    def delete_event_source_mapping(self, UUID: str) -> dict[str, Any]:
        self._record("delete", {"UUID": UUID})
        self._at_rest(UUID)["State"] = "Deleting"
        self.moving[UUID] = (self.calls_to_settle, "")
        return dict(self.mappings[UUID])

    def _record(self, name: str, request: dict[str, Any]) -> None:
        self.calls.append((name, request))
        if self.refusals.get(name):
            raise self.refusals[name].pop(0)

    def _known(self, uuid: str) -> dict[str, Any]:
        if uuid not in self.mappings:
            raise refusal("ResourceNotFoundException")
        return self.mappings[uuid]

    def _at_rest(self, uuid: str) -> dict[str, Any]:
        if uuid in self.moving:
            self._pass(uuid)
            raise refusal("ResourceInUseException", "Cannot update the event source mapping because it is in use.")
        return self._known(uuid)

    def _pass(self, uuid: str) -> None:
        if uuid not in self.moving:
            return
        left, target = self.moving[uuid]
        if left > 0:
            self.moving[uuid] = (left - 1, target)
            return
        del self.moving[uuid]
        if target:
            self.mappings[uuid]["State"] = target
        else:
            del self.mappings[uuid]


def mapping(uuid: str = "one", **changes: Any) -> dict[str, Any]:
    """A mapping as AWS describes one with the default settings."""
    return {
        "UUID": uuid,
        "FunctionArn": FUNCTION,
        "EventSourceArn": QUEUE,
        "State": "Enabled",
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    } | changes
