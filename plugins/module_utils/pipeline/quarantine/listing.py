"""Selecting and listing quarantined messages: by reason, with ages and samples, and with both versions of a conflict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage
from ..aws.table import TableReader
from ..core.clock import Clock
from ..core.content import KEY, differing, plain, read_body, shown
from ..core.errors import AWS_ERRORS, explain
from .archive import iso_time, names_of

FIELDS = 8  # of a conflict: differing fields shown


@dataclass(frozen=True)
class Selection:
    """Which messages are selected: those that meet every condition that is given."""

    reasons: frozenset[str]
    ids: frozenset[str]  # of the transaction, of the outbox, or of the message
    since: datetime | None
    until: datetime | None  # not included

    @classmethod
    def read(cls, reasons: Iterable[str], ids: Iterable[str], since: str, until: str) -> Selection:
        """Times in ISO 8601, UTC where they name no zone, "" for none. Raises ValueError."""
        chosen = frozenset(reason.strip() for reason in reasons), frozenset(one.strip() for one in ids)
        return cls(*chosen, _time("since", since), _time("until", until))

    def matches(self, message: QuarantinedMessage) -> bool:
        return (
            (not self.reasons or message.reason in self.reasons)
            and (not self.ids or bool(self.ids & {message.transaction_id, message.outbox_id, message.message_id}))
            and (self.since is None or message.sent_at >= self.since)
            and (self.until is None or message.sent_at < self.until)
        )


def _time(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, expected a time such as 2026-01-31T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@dataclass
class ReasonGroup:
    """The messages with one reason: how many, since when, and whole ones as samples."""

    oldest: datetime
    newest: datetime
    count: int = 0
    samples: list[QuarantinedMessage] = field(default_factory=list)


class Listing:
    """What was read of the quarantine, by reason, with at most `samples` of each."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.groups: dict[str, ReasonGroup] = {}

    @property
    def total(self) -> int:
        return sum(group.count for group in self.groups.values())

    def add(self, message: QuarantinedMessage) -> None:
        group = self.groups.setdefault(message.reason, ReasonGroup(message.sent_at, message.sent_at))
        group.count += 1
        group.oldest, group.newest = min(group.oldest, message.sent_at), max(group.newest, message.sent_at)
        if len(group.samples) < self._samples:
            group.samples.append(message)

    def report(self, clock: Clock, retention: int, dynamodb: Any, table: str) -> list[dict[str, Any]]:
        """One entry for each reason, the largest first. `retention` is in seconds; the queue deletes every message that is older."""
        now, found = clock.now(), []
        conflicts = self.groups["conflict"].samples if "conflict" in self.groups else []
        versions = _versions(conflicts, dynamodb, table, clock)
        for reason, group in sorted(self.groups.items(), key=lambda entry: (-entry[1].count, entry[0])):
            age = (now - group.oldest).total_seconds()
            counted = {"reason": reason, "count": group.count, "oldest": iso_time(group.oldest), "newest": iso_time(group.newest)}
            samples = [names_of(message) | versions.get(message.message_id, {}) for message in group.samples]
            found.append(counted | {"oldest_age_seconds": round(age), "expires_in_seconds": round(retention - age), "samples": samples})
        return found


def _versions(conflicts: list[QuarantinedMessage], dynamodb: Any, table: str, clock: Clock) -> dict[str, dict[str, Any]]:
    """By message id, both versions of each conflict: the fields in which they differ, as far as the table can be read."""
    ids = dict.fromkeys(message.transaction_id for message in conflicts if message.transaction_id)
    stored: dict[str, dict[str, Any]] = {}
    problem = ""
    try:
        for items in TableReader(dynamodb, table, clock, patience=0).get(ids):
            stored |= {item[KEY]["S"]: item for item in items}
    except AWS_ERRORS as error:
        problem = explain(error)
    found: dict[str, dict[str, Any]] = {}
    for message in conflicts:
        body, item = read_body(message.body), stored.get(message.transaction_id or "")
        if item is None or body is None:
            found[message.message_id] = {"versions": problem or "the table has no such item now"}
            continue
        fields, held = differing(body, item), plain(item)
        versions = {name: {"quarantined": shown(body, name), "stored": shown(held, name)} for name in fields[:FIELDS]}
        stored_at = item.get("processed_at_utc", {}).get("S")
        found[message.message_id] = {"stored_at": stored_at, "differing": len(fields), "versions": versions}
    return found


def listing_lines(groups: list[dict[str, Any]]) -> list[str]:
    """A report in words."""
    lines = []
    for group in groups:
        oldest, left = timedelta(seconds=group["oldest_age_seconds"]), timedelta(seconds=max(group["expires_in_seconds"], 0))
        lines.append(f"{group['count']:,} {group['reason']}, the oldest {oldest} old, deleted by the queue in {left}")
        for sample in group["samples"]:
            names = [sample["message_id"], sample["transaction_id"] or "no transaction_id", sample["outbox_id"] or "no outbox_id"]
            lines.append("    " + ", ".join(filter(None, [*names, sample["detail"]])))
            versions = sample.get("versions", {})
            if isinstance(versions, str):
                lines.append(f"        {versions}")
            else:
                lines += [f"        {name}: quarantined {both['quarantined']}, stored {both['stored']}" for name, both in versions.items()]
    return lines
