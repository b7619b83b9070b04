"""Reconciling: sent = stored + quarantined + in flight, id by id; and removing altered items so that they can be sent again.

The order of reading is what makes it right. A message goes from the producer to the queue, from there to the table or the quarantine, and
from the quarantine back to the queue. Ledgers are read first, then the table, then the quarantine; what was found nowhere may have moved on
meanwhile, so it is lost only when it is still nowhere after the queue has been at rest for long enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import sweep
from ..aws.queue_idle import Rest
from ..aws.table import BYTES_BESIDE_BODY, Plan, TableReader
from ..core.clock import Clock, polls
from ..core.content import KEY, Item, differing, plain, read_body, shown
from ..core.errors import AWS_ERRORS, explain
from ..quarantine.outcomes import purged, replayed
from .artifacts import Progress, read_lines, write_lines
from .matching import Altered, Book, Named

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
    """What to reconcile and how; see the module's documentation. Times are in seconds, `rate` in read units a second, None for no limit.

    `repaired` lists, for `resend --lost`, what a repair has deleted, or was about to, and is not stored yet.
    """

    ledgers: list[str]
    kept_ledgers: list[str]
    missing_ledgers: list[str]
    quarantine_directory: Path | None
    repaired: Path
    settle_seconds: float
    timeout: float
    rate: float | None
    queue_retention: float
    await_unsent: bool
    others_allowed: bool


@dataclass
class Reading:
    """How reading the quarantine went: whether all was read, about how many messages it had then, and why not all, if so.

    It also is `complete` when the counters said that there is nothing, as long as nothing is looked for.
    """

    complete: bool = False
    counted: int = 0
    error: str = ""


class Reconciliation:
    """One run. After `run`, `book` has the verdicts, and `error` is why there are none, if so."""

    def __init__(
        self, sqs: Any, dynamodb: Any, table: str, queue_url: str, quarantine_url: str, options: Options, clock: Clock, progress: Progress
    ) -> None:
        self.book = Book()
        self.options, self.clock, self.progress = options, clock, progress
        self.reader = TableReader(dynamodb, table, clock, options.rate)
        self.rest = Rest(sqs, queue_url, quarantine_url, clock)
        self._sqs, self._quarantine_url = sqs, quarantine_url
        self.quarantine = Reading()
        self.plan: Plan = {}
        self.conflicts: list[dict[str, Any]] = []
        self.error = ""
        self._started = clock.now().timestamp()

    def run(self) -> None:
        """Raises LedgerError or ArchiveError for a file that proves nothing; what AWS refuses ends in `error`."""
        self._load()
        try:
            self._read_table()
            self._look_for_the_rest()
            self._name_conflicts()
        except AWS_ERRORS as error:
            self.error = explain(error)
            self.progress.say(f"gave up: {self.error}")
            return
        self.book.conclude()
        self.progress.say(f"done, {self.reader.pace.units:,.0f} read units")

    def _load(self) -> None:
        for path in self.options.ledgers + self.options.kept_ledgers:
            for count in self.book.load(path, kept=path in self.options.kept_ledgers):
                self.progress.count(f"{count:,} entries of ledgers read")
        self.book.close_ledgers()
        if self.options.quarantine_directory:
            self._load_quarantine(self.options.quarantine_directory)
        for line in read_lines(self.options.repaired):
            self.book.met_deletion(line["outbox_id"])
        self.progress.say(f"{self.book.entries:,} entries of {len(self.book.ledgers)} ledgers read")

    def _load_quarantine(self, directory: Path) -> None:
        replays = replayed(directory)
        for replay in replays:
            self.book.met_replay(replay.outbox_id, replay.transaction_id, replay.at)
        sent_back = {replay.message_id for replay in replays}
        for purge in purged(directory):
            if purge.message_id not in sent_back:
                self.book.met_purge(purge.outbox_id, purge.at)

    def _read_table(self) -> None:
        bytes_sent = self.book.body_bytes() + BYTES_BESIDE_BODY * self.book.entries
        self.plan = self.reader.plan(self.book.entries, bytes_sent)
        units = self.plan[f"{self.plan['method']}_units"]
        self.progress.say(f"reading the table by {self.plan['method']}, about {units:,} read units")
        scanned = self.plan["method"] == "scan"
        pages = self.reader.scan(bytes_sent / max(self.book.entries, 1)) if scanned else self.reader.get(self.book.keys())
        count = 0
        for items in pages:
            self.book.met_items(items, self._is_no_finding)
            count += len(items)
            self.progress.count(f"{count:,} items read, {self.reader.pace.units:,.0f} of about {units:,} read units")
        self.progress.say(f"{count:,} items read, {self.reader.pace.units:,.0f} read units")

    def _is_no_finding(self, item: Item) -> bool:
        """Whether an item may be in no ledger: it is the probe's, or so new that its entry may be younger than the exports."""
        if PROBE_ID.fullmatch(item[KEY]["S"]):
            return True
        try:
            return datetime.fromisoformat(item[PROCESSED_AT]["S"]).timestamp() > self.ledgers_as_of
        except (KeyError, ValueError):
            return False

    @property
    def ledgers_as_of(self) -> float:
        """What is younger may be in a ledger though not in its export; in seconds since 1970."""
        exported = (ledger.exported_at for number, ledger in enumerate(self.book.ledgers) if number not in self.book.kept)
        return min(exported, default=self._started) - SKEW_SECONDS

    def _look_for_the_rest(self) -> None:
        """Looks again for what was sent and found nowhere, until it is found, or the queue has come to rest, or the time is up."""
        options, book = self.options, self.book
        counters = self.rest.look()
        if counters.quarantined:
            self._read_quarantine()
        self.quarantine.complete = self.quarantine.complete or not counters.quarantined
        longest = min(max(options.settle_seconds / 20, 2), 15)
        for _left in polls(self.clock, options.timeout, first=0.3, longest=longest):
            missing = book.missing(options.await_unsent)
            if not missing:
                break
            counters = self.rest.look()
            self.progress.count(f"{missing:,} looked for, {counters.queued:,} messages in the queue, at rest for {self.rest.seconds:.0f} s")
            if self.rest.seconds >= options.settle_seconds and book.missing():
                self._decide()
                continue
            if counters.queued < missing:
                self._read_again()
            if counters.quarantined != self.quarantine.counted:
                self._read_quarantine()
        self._expire()

    def _decide(self) -> None:
        """The queue is at rest: what is neither in the quarantine nor in the table now, read in this order, is lost."""
        self._read_quarantine()
        self._read_again()
        if self.quarantine.complete and not self.rest.look().queued:
            self.book.lose()

    def _expire(self) -> None:
        """What was sent longer ago than the queue keeps a message is not in the queue, whatever comes and goes there."""
        cut = {
            number: (self._started if number in self.book.kept else ledger.exported_at) - self.options.queue_retention
            for number, ledger in enumerate(self.book.ledgers)
        }
        if self.book.missing_before(cut):
            self._read_quarantine()
            self._read_again()
            if self.quarantine.complete:
                self.book.lose(cut)

    def _read_again(self) -> None:
        for items in self.reader.get(self.book.missing_keys(self.options.await_unsent)):
            self.book.met_items(items, self._is_no_finding)

    def _read_quarantine(self) -> None:
        seconds = min(max(self.options.timeout, 5), QUARANTINE_SECONDS)
        count = 0
        with sweep(self._sqs, self._quarantine_url, self.clock, seconds, bodies=False) as found:
            for message in found.arrivals():
                count += 1
                body = message.body if message.reason == "conflict" else None
                self.book.met_letter(
                    message.message_id, message.outbox_id, message.transaction_id, message.reason, message.sent_at.timestamp(), body
                )
                self.progress.count(f"{count:,} quarantined messages read")
        error = found.error or f"{count:,} messages were met in {seconds:.0f} s, and there are more"
        if found.unseen and not found.error:
            error = f"about {found.unseen:,} of its messages are hidden by someone else"
        self.quarantine = Reading(found.complete, self.rest.last.quarantined, "" if found.complete else error)

    def _name_conflicts(self) -> None:
        """Both versions of each conflict that waits in the quarantine: what the table holds, and what was refused for it."""
        letters = [letter for letter, _ in zip(self.book.conflicts(), range(CONFLICTS_NAMED), strict=False)]
        held: dict[str, Item] = {}
        for items in self.reader.get(dict.fromkeys(key for _id, _outbox, key, _body in letters if key is not None)):
            held |= {item[KEY]["S"]: item for item in items}
        for message_id, outbox_id, key, text in letters:
            body, item = read_body(text) or {}, held.get(key or "", {})
            stored = plain(item)
            fields = [
                {"field": name, "stored": shown(stored, name), "quarantined": shown(body, name)} for name in differing(body, item) if item
            ]
            self.conflicts.append({"message_id": message_id, "outbox_id": outbox_id, "transaction_id": key, "fields": fields})

    # --- Repair

    def repair(self, delete: bool) -> int:
        """Deletes altered items whose producer has the body, so that they can be sent again; returns how many.

        An id is in the file `repaired`, on disk and with its body, before its item is deleted, and leaves it only when it is stored, waits
        in the quarantine, or its item is there as before. An item is deleted only while it still is what it was compared as. Without
        `delete` nothing is deleted, nor written.
        """
        altered = {one.named.outbox_id: one for one in self.book.altered() if one.named.resendable}
        if not delete:
            return len(altered)
        path = self.options.repaired
        lines = {line["outbox_id"]: line for line in read_lines(path) if not self.book.is_safe(line["outbox_id"])}
        lines |= {outbox_id: one.named.ids | {"body": self.book.body_of(one.named)} for outbox_id, one in altered.items()}
        write_lines(path, lines.values())
        deleted = 0
        try:
            for one in altered.values():
                deleted += self.reader.delete(one.item, _absent(one))
                self.progress.count(f"{deleted:,} of {len(altered):,} altered items deleted")
        except AWS_ERRORS as error:
            self.error = explain(error)
        # An error, or the answer to a call that was made again, proves not that an item is there: its deletion's answer may be lost.
        try:
            keys = [one.named.transaction_id or "" for one in altered.values()]
            there = {item[KEY]["S"] for items in self.reader.get(keys) for item in items}
        except AWS_ERRORS as error:
            self.error = explain(error)
            return deleted
        write_lines(path, (line for outbox_id, line in lines.items() if outbox_id not in altered or line["transaction_id"] not in there))
        return deleted

    def altered_to_resend(self) -> Iterator[Named]:
        return (one.named for one in self.book.altered() if one.named.resendable)


def _absent(altered: Altered) -> list[str]:
    return [field["field"] for field in altered.fields if field["field"] not in altered.item]
