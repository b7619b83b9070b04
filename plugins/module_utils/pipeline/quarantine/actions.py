"""The four actions on the quarantine: list, archive, replay, purge. Each meets the messages one by one and keeps no bodies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import Held, QuarantinedMessage, sweep, without_content
from ..core.clock import Clock
from ..core.terminal import printable
from .archive import Archive, alone, make_directory
from .journal import FILE_NAME, Journal
from .listing import Listing, Selection, listing_lines, named
from .repairs import Repair, Rules
from .replay import Plan, Replay, Result

SHOWN = 20  # messages that the lines name, of each kind; the result has up to NAMED
NAMED = 1000
NOTHING_DONE = "Nothing was done: that takes -e quarantine_confirm=true, and no --check."


@dataclass(frozen=True)
class Request:
    """What is asked for. Unless it is `confirmed`, replay and purge only say what they would do; `write` is false in check mode."""

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
    """What an action came to: `lines` say it, `facts` are for other tasks, `errors` mean that it has to be run again."""

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
        actions: dict[str, Callable[[Held, Report], object]]
        actions = {"list": self._list, "archive": self._archive, "replay": self._replay, "purge": self._purge}
        request, report = self._request, Report()
        with contextlib.ExitStack() as stack:
            if self._writes:
                make_directory(request.directory)
                stack.enter_context(alone(request.directory))
            held = stack.enter_context(sweep(self._sqs, request.dead_letter_queue_url, self._clock, request.seconds, bodies=False))
            actions[request.action](held, report)
        # What is held was released by now.
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

    def _list(self, held: Held, report: Report) -> None:
        request = self._request
        retention = self._attribute(request.dead_letter_queue_url, "MessageRetentionPeriod")
        listing, others = Listing(request.samples), Listing(0)
        for message in held.arrivals():
            (listing if request.selection.matches(message) else others).add(message)
        reasons = listing.report(self._clock.now(), retention, request.rules, self._dynamodb, request.table)
        report.facts |= {"total": listing.total, "others": others.total, "reasons": reasons}
        report.lines += [f"{request.quarantine}: {listing.total:,} messages", *listing_lines(reasons)]
        if others.total:
            kinds = ", ".join(f"{group.count:,} {reason}" for reason, group in sorted(others.groups.items()))
            report.lines.append(f"{others.total:,} others, which are not selected: {kinds}")

    def _archive(self, held: Held, report: Report, purged: bool = False) -> list[QuarantinedMessage]:
        """The messages that are now in an archive on the disk; without bodies."""
        request = self._request
        chosen: list[QuarantinedMessage] = []
        path = None
        with contextlib.ExitStack() as stack:
            archive = None
            if self._writes:
                archive = stack.enter_context(Archive(request.directory, request.quarantine, self._clock.now(), request.run, purged))
            for message in self._chosen(held):
                if archive:
                    archive.add(message)
                chosen.append(without_content(message))
            if archive and chosen:
                path = str(archive.finish())
        report.changed = bool(chosen)
        report.facts |= {"archived": len(chosen) if path else 0, "archive_file": path}
        report.lines.append(f"{len(chosen):,} messages {f'are in {path}' if path else 'would be archived' if chosen else 'are selected'}")
        return chosen if path else []

    def _purge(self, held: Held, report: Report) -> None:
        archived = self._archive(held, report, purged=True)
        problems = held.delete(archived)
        with self._journal() as journal:
            if journal and self._writes:
                journal.removed(message.message_id for message in archived if message.message_id not in problems)
        report.facts["purged"] = len(archived) - len(problems)
        report.lines.append(f"{report.facts['purged']:,} messages were deleted." if self._writes else NOTHING_DONE)
        self._tell(report, "problems", [(one, problems[one.message_id]) for one in archived if one.message_id in problems], "not deleted")
        if problems:
            report.errors.append(f"{len(problems)} messages, which the archive has, could not be deleted")

    def _replay(self, held: Held, report: Report) -> None:
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
        report.facts |= {name: [named(message) | {"why": why} for message, why in messages[:NAMED]], f"{name}_count": len(messages)}
        for message, why in messages[:SHOWN]:
            report.lines.append(f"    {what}: {message.message_id}, {message.transaction_id or 'no transaction_id'}: {why}")
        if len(messages) > SHOWN:
            report.lines.append(f"    {what}: {len(messages) - SHOWN:,} more")

    def _chosen(self, held: Held) -> Iterator[QuarantinedMessage]:
        """What is selected, whole, up to the limit."""
        count = 0
        for message in held.arrivals():
            if self._request.selection.matches(message):
                yield message
                count += 1
                if count == self._request.limit:
                    return

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """The journal of former replays and this one; none where there is none and this is not to write one."""
        if not (self._writes and self._request.action == "replay") and not (self._request.directory / FILE_NAME).exists():
            yield None
            return
        with contextlib.closing(Journal(self._request.directory)) as journal:
            yield journal
