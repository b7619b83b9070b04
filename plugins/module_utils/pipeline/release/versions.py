"""Versions of a Lambda function behind one alias: publish, move to, move back and prune.

Every call is idempotent, because an answer may be lost after the call took effect: PublishVersion makes nothing new if nothing changed
since the last version, the alias is changed only from the revision that was read, and a state that is already as wanted counts as done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from ..aws.paging import pages, unless_missing
from ..core.canonical import structure, text_map
from ..core.clock import Clock, polls
from ..core.errors import error_code

LATEST = "$LATEST"
# What a version keeps of the function's configuration: "Manage Lambda function versions", Lambda developer guide. Tags and reserved
# concurrency are the function's own.
SETTINGS = (
    "Architectures",
    "CodeSha256",
    "DeadLetterConfig",
    "EphemeralStorage",
    "FileSystemConfigs",
    "Handler",
    "KMSKeyArn",
    "LoggingConfig",
    "MemorySize",
    "PackageType",
    "Role",
    "Runtime",
    "Timeout",
    "TracingConfig",
    "VpcConfig",
)


class ReleaseError(Exception):
    """A state that needs a decision of the operator, or that was not reached in time. The text says what to do next."""


@dataclass(frozen=True)
class Note:
    """What an alias's description says of the version it was moved to. A move by hand keeps the description, so `version` shows it.

    `checked`: records that came through the queue were right. `previous`: the version that was live before. `withdrawn`: the last version
    that a rollback by hand moved away from, which must not go live again by itself.
    """

    version: str = ""
    checked: bool = False
    previous: str = ""
    withdrawn: str = ""

    @classmethod
    def of(cls, alias: dict[str, Any] | None) -> Note:
        """The alias's note; an empty one if there is none, or if somebody else wrote the description."""
        words = dict(word.partition("=")[::2] for word in str((alias or {}).get("Description", "")).split())
        known = {name: words.get(name, "") for name in ("version", "previous", "withdrawn")}
        return cls(checked=words.get("checked") == "yes", **{name: value if value.isdecimal() else "" for name, value in known.items()})

    def __str__(self) -> str:
        checked = "yes" if self.checked else "no"
        return f"version={self.version} checked={checked} previous={self.previous or 'none'} withdrawn={self.withdrawn or 'none'}"


def content(configuration: dict[str, Any]) -> dict[str, Any]:
    """What makes two versions the same: code and configuration, compared by meaning."""
    kept = {name: structure(configuration.get(name)) for name in SETTINGS}
    kept["Environment"] = text_map((configuration.get("Environment") or {}).get("Variables"))
    kept["Layers"] = [layer["Arn"] for layer in configuration.get("Layers") or []]
    return kept


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of the settings in which two configurations differ, as Lambda calls them."""
    first, second = content(one), content(other)
    return sorted(name for name in first if first[name] != second[name])


def weights(alias: dict[str, Any] | None) -> dict[str, float]:
    """The versions that share the alias's invocations, with their weights: none, for an alias of one version."""
    return dict(((alias or {}).get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {})


def is_checked(alias: dict[str, Any]) -> bool:
    """Whether the version that the alias points to was found right behind it."""
    note = Note.of(alias)
    return note.checked and note.version == alias["FunctionVersion"]


class Releases:
    """The versions of one function and its alias. `wait_timeout` is the longest wait for one state, in seconds."""

    def __init__(self, client: Any, function: str, alias: str, clock: Clock, wait_timeout: float = 300) -> None:
        self._client, self.function, self.name = client, function, alias
        self._clock, self._wait_timeout = clock, wait_timeout

    def configuration(self, qualifier: str) -> dict[str, Any] | None:
        """The function as one version or alias has it, None when there is none."""
        return unless_missing(self._client.get_function_configuration, FunctionName=self.function, Qualifier=qualifier)

    def alias(self) -> dict[str, Any] | None:
        return unless_missing(self._client.get_alias, FunctionName=self.function, Name=self.name)

    def versions(self) -> list[str]:
        """The numbers of the published versions, the newest last."""
        found = pages(self._client, "list_versions_by_function", "Versions", FunctionName=self.function)
        return sorted((one["Version"] for one in found if one["Version"] != LATEST), key=int)

    def at_rest(self, qualifier: str = LATEST) -> dict[str, Any]:
        """The configuration once no change is in progress. Raises ReleaseError if there is none, it failed, or the time is over."""
        for _ in self._attempts(f"{self.function} ({qualifier}) to be active"):
            found = self.configuration(qualifier)
            if found is None:
                raise ReleaseError(f"Function {self.function} has no {qualifier}: deploy it first (site.yml).")
            if "Failed" in (found.get("State"), found.get("LastUpdateStatus")):
                reason = found.get("StateReason") or found.get("LastUpdateStatusReason") or "Lambda gives no reason"
                raise ReleaseError(f"Function {self.function} ({qualifier}) failed: {reason}. Fix that, then run site.yml again.")
            if found.get("State", "Active") == "Active" and found.get("LastUpdateStatus", "Successful") == "Successful":
                return found
        raise AssertionError("unreachable: _attempts raises when time is up")

    def publish(self, latest: dict[str, Any]) -> str:
        """The version that holds what `latest` holds, once it is active; makes one unless the newest does.

        Raises ReleaseError when somebody else changes the function meanwhile.
        """
        existing = self.versions()
        newest = self.configuration(existing[-1]) if existing else None
        if newest is None or differing(newest, latest):
            newest = self._persist(self._client.publish_version, FunctionName=self.function, CodeSha256=latest["CodeSha256"])
        strange = differing(newest, latest)
        if strange:
            raise ReleaseError(
                f"Version {newest['Version']} of {self.function} differs from what was deployed in {', '.join(strange)}: somebody else "
                "changes the function. It is not live. Run site.yml again when they are done."
            )
        self.at_rest(newest["Version"])
        return str(newest["Version"])

    def move(self, alias: dict[str, Any] | None, version: str, note: Note) -> dict[str, Any]:
        """Point the alias, as it was read, at one version alone; makes it where there is none.

        Raises ReleaseError when somebody else changed it since.
        """
        description = str(replace(note, version=version))
        wanted = {"FunctionName": self.function, "Name": self.name, "FunctionVersion": version, "Description": description}
        try:
            if alias is None:
                return self._persist(self._client.create_alias, **wanted)
            routing: dict[str, Any] = {"RoutingConfig": {"AdditionalVersionWeights": {}}, "RevisionId": alias["RevisionId"]}
            return self._persist(self._client.update_alias, **wanted, **routing)
        except ClientError as error:
            if error_code(error) not in ("PreconditionFailedException", "ResourceConflictException"):
                raise
        # The answer to an earlier attempt was lost, or somebody else was faster.
        found = self.alias()
        if found and found["FunctionVersion"] == version and found.get("Description") == description and not weights(found):
            return found
        raise ReleaseError(
            f"Alias {self.function}:{self.name} was changed by somebody else meanwhile: it points to version "
            f"{found['FunctionVersion'] if found else 'none'}, not to {version}. Run again when they are done."
        )

    def prune(self, kept: int) -> list[str]:
        """Delete all but the newest `kept` versions, 1 or more; never one that is live, was live before, was withdrawn or has an alias."""
        alias = self.alias()
        note = Note.of(alias)
        spared = {(alias or {}).get("FunctionVersion"), note.previous, note.withdrawn, *weights(alias)}
        deleted = []
        for version in self.versions()[:-kept]:
            # Without a version, DeleteFunction deletes the function.
            if version in spared or not version.isdecimal():
                continue
            try:
                unless_missing(partial(self._persist, self._client.delete_function), FunctionName=self.function, Qualifier=version)
                deleted.append(version)
            except ClientError as error:
                if error_code(error) != "ResourceConflictException":
                    raise
        return deleted

    def _persist(self, call: Callable[..., dict[str, Any]], **request: Any) -> dict[str, Any]:
        """The answer of a call, made again while an update of the function is in progress."""
        for _ in self._attempts(f"Lambda to finish another change of {self.function}"):
            try:
                return call(**request)
            except ClientError as error:
                if error_code(error) != "ResourceConflictException" or "cannot be performed at this time" not in str(error):
                    raise
        raise AssertionError("unreachable: _attempts raises when time is up")

    def _attempts(self, awaited: str) -> Iterator[float]:
        yield from polls(self._clock, self._wait_timeout, first=0.1)
        raise ReleaseError(f"Waited {self._wait_timeout:g} seconds for {awaited}. Run site.yml again when it has settled.")
