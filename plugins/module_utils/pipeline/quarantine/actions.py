"""The four actions on the quarantine: list, archive, replay, purge. Each reads the messages one by one and keeps no bodies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage, Sweep, sweep, without_content
from ..core.clock import Clock
from ..core.files import make_directory
from ..core.terminal import printable
from .archive import archived, exclusive, names_of, write_archive
from .journal import FILE_NAME, Journal
from .listing import Listing, listing_lines
from .replay import Replay, Request

SHOWN = 20  # messages that the lines name, of each kind; the result has up to NAMED
NAMED = 1000
NOTHING_DONE = "Nothing was done: that takes -e quarantine_confirm=true, and no --check."


@dataclass
class Report:
    """The result of an action: `lines` for people, `facts` for other tasks, `errors` if it has to be run again."""

    changed: bool = False
    lines: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


class Quarantine:
    """One action on one quarantine. Raises BusyError, OSError for the directory, and AWS's errors for the queues' attributes."""

    def __init__(self, sqs: Any, dynamodb: Any, clock: Clock, request: Request) -> None:
        self._sqs, self._dynamodb, self._clock, self._request = sqs, dynamodb, clock, request

    def act(self) -> Report:
        actions: dict[str, Callable[[Sweep, Report], object]]
        actions = {"list": self._list, "archive": self._archive, "replay": self._replay, "purge": self._purge}
        request, report = self._request, Report()
        with contextlib.ExitStack() as stack:
            if request.writes:
                make_directory(request.directory)
                stack.enter_context(exclusive(request.directory))
            held = stack.enter_context(sweep(self._sqs, request.dead_letter_queue_url, self._clock, request.seconds, bodies=False))
            actions[request.action](held, report)
        # All messages that were not deleted are visible again from here on.
        if held.unseen:
            hidden = f"About {held.unseen} more are hidden by somebody else, or since a run was killed, until their time is up"
            report.lines.append(f"{hidden}: run this again.")
        if held.unreleased:
            report.lines.append(f"{held.unreleased} that were looked at stay hidden for up to {request.seconds:g} s.")
        report.errors += [held.error] if held.error else []
        report.lines, report.errors = [printable(line) for line in report.lines], [printable(error) for error in report.errors]
        report.facts |= {"complete": held.complete, "unseen": held.unseen}
        return report

    def _attribute(self, url: str, name: str) -> int:
        return int(self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def _list(self, held: Sweep, report: Report) -> None:
        request = self._request
        retention = self._attribute(request.dead_letter_queue_url, "MessageRetentionPeriod")
        listing, others = Listing(request.samples), Listing(0)
        for message in held.arrivals():
            (listing if request.selection.matches(message) else others).add(message)
        reasons = listing.report(self._clock, retention, self._dynamodb, request.table)
        report.facts |= {"total": listing.total, "others": others.total, "reasons": reasons}
        report.lines += [f"{request.quarantine}: {listing.total:,} messages", *listing_lines(reasons)]
        if others.total:
            kinds = ", ".join(f"{group.count:,} {reason}" for reason, group in sorted(others.groups.items()))
            report.lines.append(f"{others.total:,} others, which are not selected: {kinds}")

    def _archive(self, held: Sweep, report: Report, purged: bool = False) -> list[QuarantinedMessage]:
        """Archives what is selected; returns the messages that are now in an archive on the disk, without bodies."""
        request = self._request
        now, chosen, archive = self._clock.now(), list[QuarantinedMessage](), None
        path = request.directory / f"{request.quarantine}-{now:%Y%m%dT%H%M%SZ}-{request.run}.jsonl.gz"
        with contextlib.ExitStack() as stack:
            for message in islice(filter(request.selection.matches, held.arrivals()), request.limit or None):
                if request.writes:
                    archive = archive or stack.enter_context(write_archive(path, request.quarantine, now, purged))
                    archive.add(archived(message))
                chosen.append(without_content(message))
        report.changed = request.changes and bool(chosen)
        report.facts |= {"archived": len(chosen) if archive else 0, "archive_file": str(path) if archive else None}
        became = f"are in {path}" if archive else "would be archived" if chosen else "are selected"
        report.lines.append(f"{len(chosen):,} messages {became}")
        return chosen if archive else []

    def _purge(self, held: Sweep, report: Report) -> None:
        kept = self._archive(held, report, purged=True)
        problems = held.delete(kept)
        with self._journal() as journal:
            if journal and self._request.writes:
                journal.removed(message.message_id for message in kept if message.message_id not in problems)
        report.facts["purged"] = len(kept) - len(problems)
        report.lines.append(f"{report.facts['purged']:,} messages were deleted." if self._request.writes else NOTHING_DONE)
        self._tell(report, "problems", [(one, problems[one.message_id]) for one in kept if one.message_id in problems], "not deleted")
        if problems:
            report.errors.append(f"{len(problems)} messages, which the archive has, could not be deleted")

    def _replay(self, held: Sweep, report: Report) -> None:
        room = self._attribute(self._request.queue_url, "MaximumMessageSize")
        with self._journal() as journal:
            result = Replay(self._sqs, held, self._request, room, self._clock, journal).run()
        writes = self._request.writes
        done = "sent" if writes else "would be sent"
        total = result.sent.total()
        kinds = ", ".join(f"{count:,} {reason}" for reason, count in result.sent.most_common())
        report.changed = self._request.changes and bool(total or result.resumed or result.finished)
        report.lines.append(f"{total:,} messages {done}{f': {kinds}' if kinds else ''}")
        told = {
            "resumed": f"that an interrupted run had begun {done}, as they were begun",
            "finished": f"that an interrupted run had sent {'are' if writes else 'would be'} removed",
            "gone": f"that an interrupted run had begun are not here; {FILE_NAME} has their content",
            "came_back": "of those came back: the function quarantined them again",
        }
        counts = {name: getattr(result, name) for name in told}
        report.lines += [f"{counts[name]:,} {what}" for name, what in told.items() if counts[name]]
        report.facts |= {"sent": total, "sent_by_reason": dict(result.sent), **counts}
        self._tell(report, "left", result.left, "left where it is")
        self._tell(report, "problems", result.problems, "run this again")
        if not writes:
            report.lines += [f"    {message.message_id}, {message.transaction_id}: {change}" for message, change in result.parsed]
            report.lines.append(NOTHING_DONE)
        report.errors += [result.error] if result.error else []
        if result.problems:
            report.errors.append(f"{len(result.problems)} messages could not be moved whole; the next replay finishes them")

    def _tell(self, report: Report, name: str, messages: list[tuple[QuarantinedMessage, str]], what: str) -> None:
        report.facts |= {name: [names_of(message) | {"why": why} for message, why in messages[:NAMED]], f"{name}_count": len(messages)}
        for message, why in messages[:SHOWN]:
            report.lines.append(f"    {what}: {message.message_id}, {message.transaction_id or 'no transaction_id'}: {why}")
        if len(messages) > SHOWN:
            report.lines.append(f"    {what}: {len(messages) - SHOWN:,} more")

    def _journal(self) -> contextlib.AbstractContextManager[Journal | None]:
        """The journal of all replays; None where there is none yet and this run must not write one."""
        request = self._request
        if (request.writes and request.action == "replay") or (request.directory / FILE_NAME).exists():
            return contextlib.closing(Journal(request.directory))
        return contextlib.nullcontext()
