"""What the readers of all services share: the description of a resource type and of what a reader finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from ..core.canonical import Canonical

# (clients by service, name, expected properties) -> found properties, or None when the resource is missing. Of the expected
# values a reader uses only those that say where to look; their names tell which calls it must make.
# A reader may also return when the resource was last changed, in seconds since 1970.
LAST_CHANGE = "last_change"
Reader = Callable[[Mapping[str, Any], str, Mapping[str, Any]], dict[str, Any] | None]
# (clients by service, name, wanted value, found properties) makes the calls that restore one property, or all; both in canonical form.
# Returns False where there is nothing to call.
Mender = Callable[[Mapping[str, Any], str, Any, Mapping[str, Any]], object]
# (name, wanted value, found properties) -> the command or page that restores one property; empty if site.yml does.
Remedy = Callable[[str, Any, Mapping[str, Any]], str]
# property -> what makes its canonical form, and where AWS's answer has it: names joined by dots, or "" where the reader finds it otherwise.
Properties = Mapping[str, tuple[Canonical, str]]
# (wanted value, found value), which differ -> whether this stops every transaction.
Stop = Callable[[Any, Any], bool]


@dataclass(frozen=True)
class ResourceType:
    """A kind of resource: its label in results, its reader, and how each of its properties is compared.

    `implied` are expectations that hold unless the playbook names others. `menders` restore what no other task of site.yml restores;
    `put` creates a missing resource and brings all its properties at once, where no other task does. `remedies` say what to do about what
    site.yml cannot restore. `stops` tell the causes, which explain other failed checks: of properties, and of `exists` by its name alone.
    """

    label: str
    services: tuple[str, ...]
    read: Reader
    properties: Mapping[str, Canonical]
    implied: Mapping[str, Any] = field(default_factory=dict)
    menders: Mapping[str, Mender] = field(default_factory=dict)
    put: Mender | None = None
    remedies: Mapping[str, Remedy] = field(default_factory=dict)
    stops: Mapping[str, Stop] = field(default_factory=dict)


@dataclass(frozen=True)
class Disagreement:
    """The different values that several resources found have of one property: equal to no expected value."""

    values: tuple[Any, ...]


def canonicals(properties: Properties) -> dict[str, Canonical]:
    """What makes the canonical form of each property."""
    return {name: canonical for name, (canonical, _) in properties.items()}


def found_in(answer: Any, properties: Properties) -> dict[str, Any]:
    """The properties that an answer of AWS has at their own places; None for one that is not there."""
    return {
        name: reduce(lambda part, key: (part or {}).get(key), path.split("."), answer) for name, (_, path) in properties.items() if path
    }


def put_or_delete(service: str, named: str, valued: str, put: str, delete: str) -> Mender:
    """The mender that puts a setting by one call of a service, or deletes it by another where none is wanted."""

    def mend(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
        call = getattr(clients[service], delete if wanted is None else put)
        call(**{named: name}, **({} if wanted is None else {valued: wanted}))

    return mend


def always(*_: Any) -> bool:
    """A difference that always stops every transaction."""
    return True


def lacks(wanted: Any, found: Any) -> bool:
    """Whether a set or a policy document lacks something wanted, or has a Deny that is not wanted."""
    if isinstance(wanted, dict):
        wanted, found = wanted["Statement"], found.get("Statement", []) if isinstance(found, dict) else []
    missing = [one for one in wanted or [] if one not in (found or []) and not _denies(one)]
    return bool(missing) or any(_denies(one) for one in found or [] if one not in (wanted or []))


def _denies(statement: Any) -> bool:
    return isinstance(statement, dict) and statement.get("Effect") == "Deny"


def page(heading: str) -> Remedy:
    """The remedy that is a section of docs/replacing.md."""
    return lambda *_: f"It can only be replaced: docs/replacing.md#{heading}"


def agreed(values: Iterable[Any]) -> Any:
    """The one value that all share, or their Disagreement."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct[0] if len(distinct) == 1 else Disagreement(tuple(distinct))


def kept_id(kept: str | None, now: str | None) -> str:
    """`current`, or both ids: a resource that was deleted and made again has the same name and ARN, but not the id that was kept."""
    return "current" if kept and kept == now else f"{kept or 'none'}, and it is {now or 'none'} now"


def tag_dict(tags: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """AWS's list of Key and Value as a dict."""
    return {tag["Key"]: tag["Value"] for tag in tags or []}
