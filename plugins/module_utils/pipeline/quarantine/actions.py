"""The four actions on the quarantine: list, archive, replay, purge. Each reads the messages one by one and keeps no bodies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage, Sweep, sweep, without_content
from ..core.clock import Clock
from ..core.files import make_directory
from ..core.terminal import printable
from .archive import archive_path, archived, exclusive, names_of, write_archive
from .journal import FILE_NAME, Journal
from .listing import Listing, Selection, listing_lines
from .repairs import Repair, Rules
from .replay import Plan, Replay, Result

SHOWN = 20  # messages that the lines name, of each kind; the result has up to NAMED
NAMED = 1000
NOTHING_DONE = "Nothing was done: that takes -e quarantine_confirm=true, and no --check."


@dataclass(frozen=True)
class Request:
    """What to do. Unless it is `confirmed`, replay and purge only say what they would do; `write` is false in check mode."""

    action: str
    queue_url: str
    dead_letter_queue_url: str
    table: str
    rules: Rules
    directory: Path
    selection: Selection
    limit: int
    repairs: list[Repair]
    rate: float
    seconds: float
    samples: int
    confirmed: bool
    write: bool
    run: str

    @property
    def quarantine(self) -> str:
        """The queue's name."""
        return self.dead_letter_queue_url.rsplit("/", 1)[-1]


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
        """Does it."""
        actions: dict[str, Callable[[Sweep, Report], object]]
        actions = {"list": self._list, "archive": self._archive, "replay": self._replay, "purge": self._purge}
        request, report = self._request, Report()
        with contextlib.ExitStack() as stack:
            if self._writes:
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

    @property
    def _writes(self) -> bool:
        request = self._request
        return request.write and (request.action == "archive" or (request.action in ("replay", "purge") and request.confirmed))

    def _attribute(self, url: str, name: str) -> int:
        return int(self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def _list(self, held: Sweep, report: Report) -> None:
        request = self._request
        retention = self._attribute(request.dead_letter_queue_url, "MessageRetentionPeriod")
        listing, others = Listing(request.samples), Listing(0)
        for message in held.arrivals():
            (listing if request.selection.matches(message) else others).add(message)
        reasons = listing.report(self._clock, retention, request.rules, self._dynamodb, request.table)
        report.facts |= {"total": listing.total, "others": others.total, "reasons": reasons}
        report.lines += [f"{request.quarantine}: {listing.total:,} messages", *listing_lines(reasons)]
        if others.total:
            kinds = ", ".join(f"{group.count:,} {reason}" for reason, group in sorted(others.groups.items()))
            report.lines.append(f"{others.total:,} others, which are not selected: {kinds}")

    def _archive(self, held: Sweep, report: Report, purged: bool = False) -> list[QuarantinedMessage]:
        """Archives what is selected; returns the messages that are now in an archive on the disk, without bodies."""
        request = self._request
        now, chosen, archive = self._clock.now(), list[QuarantinedMessage](), None
        path = archive_path(request.directory, request.quarantine, now, request.run)
        with contextlib.ExitStack() as stack:
            for message in self._chosen(held):
                if self._writes:
                    archive = archive or stack.enter_context(write_archive(path, request.quarantine, now, purged))
                    archive.add(archived(message))
                chosen.append(without_content(message))
        report.changed = bool(chosen)
        report.facts |= {"archived": len(chosen) if archive else 0, "archive_file": str(path) if archive else None}
        report.lines.append(
            f"{len(chosen):,} messages {f'are in {path}' if archive else 'would be archived' if chosen else 'are selected'}"
        )
        return chosen if archive else []

    def _purge(self, held: Sweep, report: Report) -> None:
        kept = self._archive(held, report, purged=True)
        problems = held.delete(kept)
        with self._journal() as journal:
            if journal and self._writes:
                journal.removed(message.message_id for message in kept if message.message_id not in problems)
        report.facts["purged"] = len(kept) - len(problems)
        report.lines.append(f"{report.facts['purged']:,} messages were deleted." if self._writes else NOTHING_DONE)
        self._tell(report, "problems", [(one, problems[one.message_id]) for one in kept if one.message_id in problems], "not deleted")
        if problems:
            report.errors.append(f"{len(problems)} messages, which the archive has, could not be deleted")

    def _replay(self, held: Sweep, report: Report) -> None:
        request = self._request
        room = self._attribute(request.queue_url, "MaximumMessageSize")
        wanted = request.selection.matches
        plan = Plan(wanted, request.repairs, request.rules, request.limit, request.rate, room, request.run, confirmed=self._writes)
        with self._journal() as journal:
            result = Replay(self._sqs, request.queue_url, held, plan, self._clock, journal).run()
        self._tell_replay(result, report)

    def _tell_replay(self, result: Result, report: Report) -> None:
        done = "sent" if self._writes else "would be sent"
        total = sum(result.sent.values())
        kinds = ", ".join(f"{count:,} {reason}" for reason, count in result.sent.most_common())
        report.changed = bool(total or result.resumed or result.finished)
        report.lines.append(f"{total:,} messages {done}{f': {kinds}' if kinds else ''}")
        if result.resumed:
            report.lines.append(f"{result.resumed:,} that an interrupted run had begun {done}, as they were begun")
        if result.finished:
            report.lines.append(f"{result.finished:,} that an interrupted run had sent {'are' if self._writes else 'would be'} removed")
        if result.gone:
            report.lines.append(f"{result.gone:,} that an interrupted run had begun are not here; {FILE_NAME} has their content")
        if result.came_back:
            report.lines.append(f"{result.came_back:,} of those came back: the function quarantined them again")
        report.facts |= {"sent": total, "sent_by_reason": dict(result.sent), "resumed": result.resumed}
        report.facts |= {"finished": result.finished, "gone": result.gone, "came_back": result.came_back}
        self._tell(report, "left", result.left, "left where it is")
        self._tell(report, "problems", result.problems, "run this again")
        if not self._writes:
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

    def _chosen(self, held: Sweep) -> Iterator[QuarantinedMessage]:
        """The selected messages, with their content, up to the limit."""
        count = 0
        for message in held.arrivals():
            if self._request.selection.matches(message):
                yield message
                count += 1
                if count == self._request.limit:
                    return

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """The journal of all replays; None where there is none yet and this run must not write one."""
        if not (self._writes and self._request.action == "replay") and not (self._request.directory / FILE_NAME).exists():
            yield None
            return
        with contextlib.closing(Journal(self._request.directory)) as journal:
            yield journal
