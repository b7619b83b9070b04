"""Reconciling: sent = stored + quarantined + in flight, id by id; and removing altered items so that they can be sent again.

The order of reading makes it right. A message goes from the producer to the queue, from there to the table or the quarantine, and from the
quarantine back to the queue. Ledgers are read first, then the table, then the quarantine. A transaction that was found nowhere may have
moved on meanwhile, so it is lost only if it is still nowhere after the queue was idle for long enough.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import sweep
from ..aws.queue import PipelineCounts, QueueIdleMonitor, count_pipeline
from ..aws.read_capacity import ReadCapacity
from ..aws.table import BYTES_BESIDE_BODY, Plan, TableReader
from ..core.clock import Clock, polls
from ..core.content import KEY, Item, differing, plain, read_body, shown
from ..core.errors import AWS_ERRORS, explain
from ..quarantine.archive import purged
from ..quarantine.journal import replayed
from .artifacts import Progress, read_lines, write_lines
from .entry_store import missing_condition
from .matching import Matcher

# Ids of the end-to-end probe, which removes its own records.
PROBE_ID = re.compile(r"verify-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PROCESSED_AT = "processed_at_utc"
# How far the clocks of producers, function and this machine may be apart.
SKEW_SECONDS = 10
# The most seconds that one reading of the quarantine lasts, and so hides what it has read, should this process be killed.
QUARANTINE_SECONDS = 300
# Conflicts whose both versions are named.
CONFLICTS_NAMED = 100


@dataclass(frozen=True)
class Options:
    """What to reconcile and how; see the module's documentation. Times are in seconds, `rate` in read units a second, 0 for no limit.

    `repaired` lists, for `resend --lost`, what a repair has deleted, or was about to, and is not stored yet.
    """

    ledgers: list[str]
    kept_ledgers: list[str]
    missing_ledgers: list[str]
    quarantine_directory: Path | None
    repaired: Path
    settle_seconds: float
    timeout: float
    rate: float
    queue_retention: float
    overdue_seconds: float
    quarantine_age: float
    await_unsent: bool
    others_allowed: bool


@dataclass
class Reading:
    """How reading the quarantine went: whether all was read, about how many messages it had then, and why some were not read.

    It is also `complete` when the counters were zero, as long as nothing is looked for.
    """

    complete: bool = False
    counted: int = 0
    error: str = ""


class Reconciliation:
    """One run. After `run`, `matcher` has the verdicts; if there are none, `error` says why."""

    def __init__(
        self, sqs: Any, dynamodb: Any, table: str, queue_url: str, quarantine_url: str, options: Options, clock: Clock, progress: Progress
    ) -> None:
        self.matcher = Matcher()
        self.options, self.clock, self.progress = options, clock, progress
        self.reader = TableReader(dynamodb, table, clock, ReadCapacity(clock, options.rate))
        self._sqs, self._queue_url, self._quarantine_url = sqs, queue_url, quarantine_url
        self._idle_monitor = QueueIdleMonitor(clock)
        self.quarantine = Reading()
        self.plan: Plan = {}
        self.conflicts: list[dict[str, Any]] = []
        self.error = ""
        self._started = clock.now().timestamp()

    def run(self) -> None:
        """Raises LedgerError or ArchiveError for a file that proves nothing; errors of AWS end in `error`."""
        self._load()
        try:
            self._read_table()
            self._look_for_the_missing()
            self._name_conflicts()
        except AWS_ERRORS as error:
            self.error = explain(error)
            self.progress.say(f"gave up: {self.error}")
            return
        self.matcher.classify()
        self.progress.say(f"done, {self.reader.capacity.used:,.0f} read units")

    def _load(self) -> None:
        for path in self.options.ledgers + self.options.kept_ledgers:
            for count in self.matcher.load(path, kept=path in self.options.kept_ledgers):
                self.progress.count(f"{count:,} entries of ledgers read")
        self.matcher.close_ledgers()
        if directory := self.options.quarantine_directory:
            replays = replayed(directory)
            for replay in replays:
                self.matcher.add_replay(replay.outbox_id, replay.transaction_id, replay.at)
            sent_back = {replay.message_id for replay in replays}
            for purge in purged(directory):
                if purge.message_id not in sent_back:
                    self.matcher.add_purge(purge.outbox_id, purge.at)
        for line in read_lines(self.options.repaired):
            self.matcher.add_deletion(line["outbox_id"])
        self.progress.say(f"{self.matcher.entries:,} entries of {len(self.matcher.ledgers)} ledgers read")

    def _read_table(self) -> None:
        bytes_sent = self.matcher.body_bytes() + BYTES_BESIDE_BODY * self.matcher.entries
        self.plan = self.reader.plan(self.matcher.entries, bytes_sent)
        units = self.plan[f"{self.plan['method']}_units"]
        self.progress.say(f"reading the table by {self.plan['method']}, about {units:,} read units")
        scanned = self.plan["method"] == "scan"
        pages = self.reader.scan(bytes_sent / max(self.matcher.entries, 1)) if scanned else self.reader.get(self.matcher.keys())
        count = 0
        for items in pages:
            self.matcher.match_items(items, self._is_no_finding)
            count += len(items)
            self.progress.count(f"{count:,} items read, {self.reader.capacity.used:,.0f} of about {units:,} read units")
        self.progress.say(f"{count:,} items read, {self.reader.capacity.used:,.0f} read units")

    def _is_no_finding(self, item: Item) -> bool:
        """Whether an item needs no ledger entry: it is the probe's, or so new that its entry may be younger than the exports."""
        if PROBE_ID.fullmatch(item[KEY]["S"]):
            return True
        try:
            return datetime.fromisoformat(item[PROCESSED_AT]["S"]).timestamp() > self.ledgers_as_of
        except (KeyError, ValueError):
            return False

    @property
    def ledgers_as_of(self) -> float:
        """A younger entry may be in a ledger but not yet in its export; in seconds since 1970."""
        exported = (ledger.exported_at for number, ledger in enumerate(self.matcher.ledgers) if number not in self.matcher.kept)
        return min(exported, default=self._started) - SKEW_SECONDS

    def _look_for_the_missing(self) -> None:
        """Looks again for what was sent and found nowhere, until it is found, or the queue was idle for long enough, or the time is up."""
        options, matcher = self.options, self.matcher
        counts = self._count()
        if counts.quarantined:
            self._read_quarantine(counts)
        self.quarantine.complete = self.quarantine.complete or not counts.quarantined
        longest = min(max(options.settle_seconds / 20, 2), 15)
        for _left in polls(self.clock, options.timeout, first=0.3, longest=longest):
            missing = matcher.missing(options.await_unsent)
            if not missing:
                break
            counts, idle = self._count(), self._idle_monitor.seconds
            self.progress.count(f"{missing:,} looked for, {counts.queued:,} messages in the queue, idle for {idle:.0f} s")
            if idle >= options.settle_seconds and matcher.missing():
                self._decide(counts)
                continue
            if counts.queued < missing:
                self._read_again()
            if counts.quarantined != self.quarantine.counted:
                self._read_quarantine(counts)
        self._expire(counts)

    def _count(self) -> PipelineCounts:
        counts = count_pipeline(self._sqs, self._queue_url, self._quarantine_url)
        self._idle_monitor.note(counts.idle)
        return counts

    def _decide(self, counts: PipelineCounts) -> None:
        """The queue is idle: what is neither in the quarantine nor in the table now, read in this order, is lost."""
        self._read_quarantine(counts)
        self._read_again()
        if self.quarantine.complete and not self._count().queued:
            self.matcher.mark_lost()

    def _expire(self, counts: PipelineCounts) -> None:
        """What was sent longer ago than the queue keeps a message cannot be in the queue, whatever its counters say."""
        cut = {
            number: (self._started if number in self.matcher.kept else ledger.exported_at) - self.options.queue_retention
            for number, ledger in enumerate(self.matcher.ledgers)
        }
        if self.matcher.missing_before(cut):
            self._read_quarantine(counts)
            self._read_again()
            if self.quarantine.complete:
                self.matcher.mark_lost(cut)

    def _read_again(self) -> None:
        for items in self.reader.get(self.matcher.keys(missing_condition(self.options.await_unsent))):
            self.matcher.match_items(items, self._is_no_finding)

    def _read_quarantine(self, counts: PipelineCounts) -> None:
        seconds = min(max(self.options.timeout, 5), QUARANTINE_SECONDS)
        count = 0
        with sweep(self._sqs, self._quarantine_url, self.clock, seconds, bodies=False) as found:
            for message in found.arrivals():
                count += 1
                self.matcher.add_quarantined(message)
                self.progress.count(f"{count:,} quarantined messages read")
        error = found.error or f"{count:,} messages were met in {seconds:.0f} s, and there are more"
        if found.unseen and not found.error:
            error = f"about {found.unseen:,} of its messages are hidden by someone else"
        self.quarantine = Reading(found.complete, counts.quarantined, "" if found.complete else error)

    def _name_conflicts(self) -> None:
        """Notes both versions of each conflict in the quarantine: the stored one, and the one that was refused because of it."""
        conflicts = list(islice(self.matcher.conflicts(), CONFLICTS_NAMED))
        keys = dict.fromkeys(key for _id, _outbox, key, _body in conflicts if key is not None)
        held = {item[KEY]["S"]: item for items in self.reader.get(keys) for item in items}
        for message_id, outbox_id, key, text in conflicts:
            body, item = read_body(text) or {}, held.get(key or "", {})
            stored = plain(item)
            fields = [
                {"field": name, "stored": shown(stored, name), "quarantined": shown(body, name)} for name in differing(body, item) if item
            ]
            self.conflicts.append({"message_id": message_id, "outbox_id": outbox_id, "transaction_id": key, "fields": fields})

    # --- Repair

    def repair(self, delete: bool) -> int:
        """Deletes altered items whose producer has the body, so that they can be sent again; returns how many.

        Before an item is deleted, its id and body are in the file `repaired`, on disk. They leave it only when the id is stored, waits in
        the quarantine, or its item is there as before. An item is deleted only if it is still as it was when it was compared. Without
        `delete` nothing is deleted or written.
        """
        altered = {one.named.outbox_id: one for one in self.matcher.altered() if one.named.resendable}
        if not delete:
            return len(altered)
        path = self.options.repaired
        lines = {line["outbox_id"]: line for line in read_lines(path) if not self.matcher.is_safe(line["outbox_id"])}
        lines |= {outbox_id: one.named.ids | {"body": self.matcher.body_of(one.named)} for outbox_id, one in altered.items()}
        write_lines(path, lines.values())
        deleted = 0
        try:
            for one in altered.values():
                names = (field["field"] for field in one.fields)
                deleted += self.reader.delete(one.item, [name for name in names if name not in one.item])
                self.progress.count(f"{deleted:,} of {len(altered):,} altered items deleted")
        except AWS_ERRORS as error:
            self.error = explain(error)
        # An error, or the answer to a call that was repeated, does not prove that an item is there: the first answer may be lost.
        try:
            keys = [one.named.transaction_id or "" for one in altered.values()]
            there = {item[KEY]["S"] for items in self.reader.get(keys) for item in items}
        except AWS_ERRORS as error:
            self.error = explain(error)
            return deleted
        write_lines(path, (line for outbox_id, line in lines.items() if outbox_id not in altered or line["transaction_id"] not in there))
        return deleted
