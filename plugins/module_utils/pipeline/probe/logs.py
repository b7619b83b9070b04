"""Find what the function logged about given transactions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..core.clock import Clock, polls
from ..core.content import read_body
from ..core.errors import AWS_ERRORS, explain, is_lasting

# FilterLogEvents returns no more events in one call.
EVENTS_PER_CALL = 10_000
# Outcomes after which the function logs no more about a record; "retried" is followed by another line.
FINAL = frozenset({"quarantined", "redrive"})


@dataclass
class LogFindings:
    """What the log says: ids named as processed, the invalid record's line if any, and why reading stopped early if it did."""

    named: set[str] = field(default_factory=set)
    invalid: dict[str, Any] | None = None
    lines: int = 0
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """What to look for: ids, and the record known by its message id or its outbox id."""

    transaction_ids: frozenset[str]
    source_message_id: str
    outbox_id: str

    def is_invalid(self, line: dict[str, Any]) -> bool:
        return line.get("message") == "Record failed" and (
            line.get("source_message_id") == self.source_message_id or line.get("outbox_id") == self.outbox_id
        )

    def is_final(self, line: dict[str, Any]) -> bool:
        """Whether the invalid record's line is the last one, and not about a copy that was sent because an answer was lost."""
        return line.get("outcome") in FINAL and line.get("source_message_id") == self.source_message_id


def wait_for_lines(client: Any, group: str, since: datetime, wanted: Wanted, clock: Clock, seconds: float) -> LogFindings:
    """Read the group's lines since then until all wanted lines are there, the time is over, or the group cannot be read at all."""
    started = clock.monotonic()
    findings = LogFindings()
    for left in polls(clock, seconds, first=0.3, longest=5.0):
        end = clock.monotonic() + max(left, 1.0)
        findings.lines, findings.error = 0, ""
        try:
            for line in _lines(client, group, since):
                _note(line, wanted, findings)
                if _complete(wanted, findings) or clock.monotonic() > end:
                    break
        except AWS_ERRORS as error:
            findings.error = explain(error)
            if is_lasting(error):
                break
        if _complete(wanted, findings):
            break
    findings.seconds = clock.monotonic() - started
    return findings


def _complete(wanted: Wanted, findings: LogFindings) -> bool:
    invalid = findings.invalid
    return wanted.transaction_ids <= findings.named and invalid is not None and wanted.is_final(invalid)


def _note(line: dict[str, Any], wanted: Wanted, findings: LogFindings) -> None:
    findings.lines += 1
    ids = line.get("transaction_ids")
    if line.get("message") == "Successfully processed" and isinstance(ids, list):
        findings.named |= wanted.transaction_ids.intersection(one for one in ids if isinstance(one, str))
    elif wanted.is_invalid(line) and not (findings.invalid and wanted.is_final(findings.invalid)):
        findings.invalid = line


def _lines(client: Any, group: str, since: datetime) -> Iterator[dict[str, Any]]:
    """The JSON object of every line, an empty one if it has none. No filter pattern: clouds differ in what one means."""
    start = int(since.timestamp() * 1000)
    arguments: dict[str, Any] = {"logGroupName": group, "startTime": start, "limit": EVENTS_PER_CALL}
    while True:
        response = client.filter_log_events(**arguments)
        events = response.get("events", [])
        for event in events:
            yield read_body("{" + event["message"].partition("{")[2]) or {}
        token = response.get("nextToken")
        if token:
            arguments["nextToken"] = token
        elif len(events) >= EVENTS_PER_CALL and events[-1]["timestamp"] > arguments["startTime"]:
            # A full page without a token (emulators stop there): continue from its last moment.
            arguments["startTime"] = events[-1]["timestamp"]
            arguments.pop("nextToken", None)
        else:
            return
