"""Lambda's versions and aliases as AWS keeps them, for the tests of releases: its refusals, and answers that are lost after the effect."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.pipeline.core.checks import Check, make_check
from ansible.module_utils.pipeline.core.clock import Clock
from ansible.module_utils.pipeline.release.run import Outcome, ReleaseRun
from ansible.module_utils.pipeline.release.version_records import Written
from ansible.module_utils.pipeline.release.versions import Releases
from botocore.exceptions import ClientError

BUSY = "The operation cannot be performed at this time. An update is in progress for resource: arn"


def refuse(code: str, message: str = "refused") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "Operation")


class Lambda:
    """One function. `lose` holds the operations whose next answer is lost: the SDK makes the call again, and this is what it hears."""

    def __init__(self, code: str = "one") -> None:
        self.latest: dict[str, Any] = {"CodeSha256": code, "MemorySize": 256, "State": "Active", "LastUpdateStatus": "Successful"}
        self.versions: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, dict[str, Any]] = {}
        self.revision, self.published_from = 1, 0
        self.lose: list[str] = []
        self.refuse: dict[str, list[ClientError]] = {}
        self.calls: list[str] = []
        self._numbers = itertools.count(1)
        self._revisions = (f"r{number}" for number in itertools.count(1))

    def change(self, **settings: Any) -> None:
        """Whatever was changed is a change, though it were changed back: AWS does not say whether it counts for PublishVersion."""
        self.latest = self.latest | settings
        self.revision += 1

    def get_function_configuration(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        qualifier = self.aliases[Qualifier]["FunctionVersion"] if Qualifier in self.aliases else Qualifier
        found = self.latest if qualifier == "$LATEST" else self.versions.get(qualifier)
        if found is None:
            raise refuse("ResourceNotFoundException")
        if found.get("pending"):
            found["pending"] -= 1
            return found | {"State": "Pending"}
        return dict(found)

    def get_alias(self, FunctionName: str, Name: str) -> dict[str, Any]:
        if Name not in self.aliases:
            raise refuse("ResourceNotFoundException")
        return dict(self.aliases[Name])

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_versions_by_function"
        return self

    def paginate(self, FunctionName: str) -> Any:
        """A page for each version, as AWS may page as it likes."""
        yield {"Versions": [{"Version": "$LATEST"}]}
        for number in self.versions:
            yield {"Versions": [{"Version": number}]}

    def publish_version(self, FunctionName: str, CodeSha256: str) -> dict[str, Any]:
        return self._answer("publish_version", lambda: self._publish(CodeSha256))

    def _publish(self, code: str) -> dict[str, Any]:
        if code != self.latest["CodeSha256"]:
            raise refuse("InvalidParameterValueException", "CodeSHA256 is different")
        if self.published_from != self.revision:
            number = str(next(self._numbers))
            self.versions[number] = self.latest | {"Version": number, "pending": 2}
            self.published_from = self.revision
        return dict(self.versions[max(self.versions, key=int)])

    def create_alias(self, FunctionName: str, Name: str, FunctionVersion: str, Description: str) -> dict[str, Any]:
        def create() -> dict[str, Any]:
            if Name in self.aliases:
                raise refuse("ResourceConflictException", f"Alias already exists: {Name}")
            return self._set(Name, FunctionVersion, Description)

        return self._answer("create_alias", create)

    def update_alias(self, FunctionName: str, Name: str, RevisionId: str, RoutingConfig: Any, **wanted: str) -> dict[str, Any]:
        def update() -> dict[str, Any]:
            if self.aliases[Name]["RevisionId"] != RevisionId:
                raise refuse("PreconditionFailedException")
            return self._set(Name, wanted["FunctionVersion"], wanted["Description"])

        return self._answer("update_alias", update)

    def delete_function(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        def delete() -> dict[str, Any]:
            if any(alias["FunctionVersion"] == Qualifier for alias in self.aliases.values()):
                raise refuse("ResourceConflictException", "Unable to delete version because the following aliases reference it: [other]")
            if Qualifier not in self.versions:
                raise refuse("ResourceNotFoundException")
            del self.versions[Qualifier]
            return {}

        return self._answer("delete_function", delete)

    def move_by_hand(self, version: str, **more: Any) -> None:
        self.aliases["live"] |= {"FunctionVersion": version, "RevisionId": next(self._revisions)} | more

    def _set(self, name: str, version: str, description: str) -> dict[str, Any]:
        self.aliases[name] = {"Name": name, "FunctionVersion": version, "Description": description, "RevisionId": next(self._revisions)}
        return dict(self.aliases[name])

    def _answer(self, operation: str, act: Any) -> dict[str, Any]:
        self.calls.append(operation)
        if self.refuse.get(operation):
            raise self.refuse[operation].pop()
        answer = act()
        if operation in self.lose:
            self.lose.remove(operation)
            return self._answer(operation, act)
        return answer


class World:
    """A function that is released, with probes whose verdicts are chosen: the names of the checks that fail."""

    def __init__(self) -> None:
        self.lambda_ = Lambda()
        self.direct: list[str] = []
        self.behind: list[str] = []
        self.probed: list[tuple[str, str]] = []
        self.passed = 0.0

    def releases(self) -> Releases:
        clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: self.passed, wait=self._wait)
        return Releases(self.lambda_, "f", "live", clock, wait_timeout=60)

    def run(self, kept: int = 5, check_mode: bool = False) -> ReleaseRun:
        return ReleaseRun(self.releases(), kept, check_mode)

    def release(self, **options: Any) -> Outcome:
        return self.run(**options).release(lambda version: self._probe("direct", version, self.direct))

    def confirm(self, **options: Any) -> Outcome:
        return self.run(**options).confirm(
            lambda version: self._probe("behind", version, self.behind),
            lambda version: Written(version, "/records", 2, ["a", "b"], 7.5, complete=True),
        )

    def deploy(self, code: str, kept: int = 5) -> Outcome:
        self.lambda_.change(CodeSha256=code)
        self.release(kept=kept)
        return self.confirm(kept=kept)

    @property
    def live(self) -> str:
        return str(self.lambda_.aliases["live"]["FunctionVersion"])

    def _wait(self, seconds: float) -> None:
        self.passed += seconds

    def _probe(self, way: str, version: str, wrong: list[str]) -> list[Check]:
        assert not self.lambda_.versions[version].get("pending"), f"version {version} was probed before it was active"
        self.probed.append((way, version))
        return [make_check("probe: all else", True, "right", "right")] + [make_check(name, False, "right", "wrong") for name in wrong]
