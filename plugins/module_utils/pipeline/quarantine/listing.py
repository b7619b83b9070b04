"""Selecting and listing quarantined messages: by reason, with ages and samples, and with both versions of a conflict."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage
from ..aws.table import TableReader
from ..core.clock import Clock
from ..core.content import KEY
from ..core.errors import AWS_ERRORS, explain
from .archive import iso_time, names_of
from .repairs import Rules

CONFLICT = "conflict"
FIELDS, CHARACTERS = 8, 60  # of a conflict: differing fields shown, and characters of each value


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
        return cls(
            frozenset(reason.strip() for reason in reasons),
            frozenset(one.strip() for one in ids),
            _time("since", since),
            _time("until", until),
        )

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

    def report(self, clock: Clock, retention: int, rules: Rules, dynamodb: Any, table: str) -> list[dict[str, Any]]:
        """One entry for each reason, the largest first. `retention` is in seconds; the queue deletes every message that is older."""
        now = clock.now()
        conflicts = self.groups[CONFLICT].samples if CONFLICT in self.groups else []
        versions = _versions(conflicts, rules, dynamodb, table, clock)
        return [
            {
                "reason": reason,
                "count": group.count,
                "oldest": iso_time(group.oldest),
                "newest": iso_time(group.newest),
                "oldest_age_seconds": round((now - group.oldest).total_seconds()),
                "expires_in_seconds": round(retention - (now - group.oldest).total_seconds()),
                "samples": [names_of(message) | versions.get(message.message_id, {}) for message in group.samples],
            }
            for reason, group in sorted(self.groups.items(), key=lambda entry: (-entry[1].count, entry[0]))
        ]


def _versions(conflicts: list[QuarantinedMessage], rules: Rules, dynamodb: Any, table: str, clock: Clock) -> dict[str, dict[str, Any]]:
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
        item = stored.get(str(message.transaction_id))
        if item is None or rules.refusal(message.body):
            found[message.message_id] = {"versions": problem or "the table has no such item now"}
            continue
        differing = rules.differences(message.body, item)
        found[message.message_id] = {
            "stored_at": _plain(item.get("processed_at_utc")),
            "differing": len(differing),
            "versions": {
                name: {"quarantined": _plain(one), "stored": _plain(other)} for name, (one, other) in sorted(differing.items())[:FIELDS]
            },
        }
    return found


def _plain(value: dict[str, Any] | None) -> str | None:
    """A DynamoDB value as JSON has it, cut; None for a field that is not there."""
    if value is None:
        return None
    ((kind, content),) = value.items()
    text = content if kind == "N" else "null" if kind == "NULL" else json.dumps(content)
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"


def listing_lines(groups: list[dict[str, Any]]) -> list[str]:
    """A report in words."""
    lines = []
    for group in groups:
        oldest, left = timedelta(seconds=group["oldest_age_seconds"]), timedelta(seconds=max(group["expires_in_seconds"], 0))
        lines.append(f"{group['count']:,} {group['reason']}, the oldest {oldest} old, deleted by the queue in {left}")
        for sample in group["samples"]:
            names = [sample["message_id"], sample["transaction_id"] or "no transaction_id", sample["outbox_id"] or "no outbox_id"]
            lines.append("    " + ", ".join([*names, *([sample["detail"]] if sample["detail"] else [])]))
            versions = sample.get("versions", {})
            if isinstance(versions, str):
                lines.append(f"        {versions}")
                continue
            for name, both in versions.items():
                lines.append(f"        {name}: quarantined {both['quarantined']}, stored {both['stored']}")
    return lines
