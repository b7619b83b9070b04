"""What the readers of a service family have in common: the description of a resource type and of what a reader finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.canonical import Canonical

# (clients by service, name, expected properties) -> found properties, or None when the resource is missing. Of the expected
# values a reader uses only those that say where to look; their names say which calls it needs to make.
# Beside the properties a reader may return this: when the resource was last changed, in seconds since 1970.
LAST_CHANGE = "last_change"
Reader = Callable[[Mapping[str, Any], str, Mapping[str, Any]], dict[str, Any] | None]
# (clients by service, name, wanted value, found properties) makes the calls that bring one property back; both in canonical form.
Mender = Callable[[Mapping[str, Any], str, Any, Mapping[str, Any]], object]
# (name, wanted value, found properties) -> the command or page that brings one property back; empty where site.yml does.
Remedy = Callable[[str, Any, Mapping[str, Any]], str]

# (wanted value, found value), which differ -> whether no transaction can come through while it is so.
Stop = Callable[[Any, Any], bool]


@dataclass(frozen=True)
class ResourceType:
    """A kind of resource: how results call it, what reads it, and how each of its properties is compared.

    `implied` holds expectations that hold unless the playbook names others. `menders` bring back what no other task of site.yml does,
    `remedies` say what to do about what site.yml cannot bring back. `stops` tell the causes, which explain other failed checks:
    of properties, and of `exists` by its name alone.
    """

    label: str
    services: tuple[str, ...]
    read: Reader
    properties: Mapping[str, Canonical]
    implied: Mapping[str, Any] = field(default_factory=dict)
    menders: Mapping[str, Mender] = field(default_factory=dict)
    remedies: Mapping[str, Remedy] = field(default_factory=dict)
    stops: Mapping[str, Stop] = field(default_factory=dict)


@dataclass(frozen=True)
class Disagreement:
    """Values of one property where several resources were found and differ among themselves: equal to no expected value."""

    values: tuple[Any, ...]


def always(*_: Any) -> bool:
    """What stops all, whatever is found."""
    return True


def lacks(wanted: Any, found: Any) -> bool:
    """Whether a set or a policy document misses something that is wanted, or has a Deny that is not."""
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


# What is found of an id that something keeps, as long as what has the name still has that id.
CURRENT = "current"


def kept_id(kept: str | None, now: str | None) -> str:
    """CURRENT, or both ids: what was deleted and made again has its name and its ARN, and is another one."""
    return CURRENT if kept and kept == now else f"{kept or 'none'}, and it is {now or 'none'} now"


def tag_dict(tags: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """AWS's list of Key and Value as a dict."""
    return {tag["Key"]: tag["Value"] for tag in tags or []}
