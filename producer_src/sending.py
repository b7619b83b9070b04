"""Sends the outbox in batches: what is left from the last run first, and again what SQS did not take."""

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from feed import Feed
from feed_stdin import StdinFeed
from outbox import PRUNE_SHARE, Outbox
from outbox_error import OutboxError
from outbox_records import REJECTED_LINES, Entry, Usage
from producer_settings import EXIT_OK, EXIT_UNSENT, MAX_BYTES, Settings
from senders import Senders
from sqs_client import REQUEST_SECONDS, explain, plain
from synthetic_transactions import SyntheticSource

MAX_ENTRIES = 10  # of one SendMessageBatch (SQS quota)
SENDERS = 4  # requests under way at once
COMMIT_ENTRIES = SENDERS * MAX_ENTRIES  # of one commit
WINDOW_ENTRIES, WINDOW_BYTES = 1_000, 16 * MAX_BYTES  # unsent entries in memory; the others wait in the outbox
# After a stop and the request under way, for all that is unsent; together less than the 30 s that a service manager waits.
DRAIN_SECONDS = 20.0
BACKOFF_SECONDS, BACKOFF_LIMIT_SECONDS, DRAIN_BACKOFF_LIMIT_SECONDS = 0.2, 30.0, 2.0
LOOK_SECONDS = 2.0  # between looks for what other commands changed in the outbox
SAY_FULL_SECONDS = 60.0  # between lines that say that the outbox is full

T = TypeVar("T")
# Where transactions come from. `next_moment` is when to draw again (math.inf: never); `draw` returns what there is, `limit` at most.
# `path` is not None for a feed. A feed is asked also when there is no room for transactions, so that no change of its files is missed.
Source = SyntheticSource | StdinFeed | Feed


@dataclass
class Batch:
    """Entries for one request, at most MAX_ENTRIES and MAX_BYTES; `due` is when to send it, `attempts` how many failed.

    `started` is when its request began, None while there is none.
    """

    due: float
    entries: list[Entry] = field(default_factory=list)
    size: int = 0
    attempts: int = 0
    started: float | None = None

    def add(self, entry: Entry) -> bool:
        """Append the entry if it fits; return whether it did."""
        if len(self.entries) >= MAX_ENTRIES or self.size + entry.size > MAX_BYTES:
            return False
        self.entries.append(entry)
        self.size += entry.size
        return True


@dataclass
class Producer:
    """Takes in, commits, sends, marks: all in one thread, beside the requests.

    `connect` makes an SQS client, `log` writes log lines, `now` and `wait(event, seconds)` are its clock.
    """

    settings: Settings
    outbox: Outbox
    connect: Callable[[], Any]
    log: Callable[..., None]
    stop: threading.Event
    now: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], object] = threading.Event.wait
    source: Source | None = None  # None: synthetic transactions
    senders: Senders = field(default_factory=lambda: Senders(SENDERS))

    def __post_init__(self) -> None:
        self._client: Any = None
        self._open: Batch | None = None  # still filling
        self._ready: list[Batch] = []  # closed, in order; each is sent when it is due
        self._held: dict[int, int] = {}  # sequence: size of what is in these batches
        self._behind, self._cursor = True, 0  # whether the outbox has more unsent entries, and after which sequence
        self._drawn = self._sent = self._outage = 0  # _outage: requests that failed in a row
        self._failed = -math.inf  # when the last one did
        self._hold = -math.inf  # no request before this moment
        self._look = -math.inf  # when to look for changes by other processes
        self._wake, self._last_start = self.stop, math.inf  # no request starts after _last_start
        self._stopping = False
        self._backoff_limit = BACKOFF_LIMIT_SECONDS
        self._said_full = -math.inf
        self._prunable = True  # False after a step that prunes nothing, until another process settles something

    def run(self) -> int:
        """Work until the count or the source's end is reached or `stop` is set, and all is sent; return the exit code.

        Raises SendError if the very first request is refused, and OutboxError if the outbox cannot be used.
        """
        try:
            self._client = self.connect()  # before the first transaction, so that a lack of credentials shows at once
        except BotoCoreError as error:
            raise explain(error, self.settings) from error
        now = self.now()
        self._source = self.source or SyntheticSource(self.settings.rate, self.settings.seed, now)
        if self.settings.within is not None:
            self._end_by(now + self.settings.within)
        # A drain reads no feed, and what of the one before is not read is still asked for.
        feed = self._source.path if self.settings.within is None else self.outbox.value("SELECT feed FROM ledger")
        self._durably(lambda: self.outbox.record_start(feed))  # what cannot be marked must not be sent
        while (self._has_more(now) or self._held or self._behind) and (now <= self._last_start or self.senders.under_way):
            if self.stop.is_set() and not self._stopping:
                self._begin_stop(now)
            self._check_for_changes(now)
            self._fill(now)
            room = self._capacity(now)
            if self._may_draw(room, now) and self._source.next_moment(now) <= now and not self._sendable(now):
                self._take_in(now, room)
            if self._open and (self._open.due <= now or len(self._open.entries) == MAX_ENTRIES or not self._has_more(now)):
                self._close()
            if (due := self._sendable(now)) is not None:
                self._start(due, now)
            elif self.senders.under_way:
                self._note(self.senders.finished(self._next_moment(now, room) - now))
            elif self._held or self._has_more(now):
                self.wait(self._wake, self._next_moment(now, room) - now)
            now = self.now()
        return self._log_the_end()

    def _log_the_end(self) -> int:
        unsent = self.outbox.count_unsent()
        reason = "signal" if self.stop.is_set() else "drained" if self.settings.within else "end of source" if self.source else "count"
        self.log("stopped", sent=self._sent, unsent=unsent, reason=reason)
        if not unsent:
            return EXIT_OK
        what = f"{unsent} transactions are unsent and stay in the outbox {self.outbox.path}"
        self.log("error", error=what, unsent=unsent, what_to_do="fix what the lines before this one name; the next start sends them first")
        return EXIT_UNSENT

    def _begin_stop(self, now: float) -> None:
        """Take in nothing more, and send what is unsent, with shorter pauses between retries."""
        self._stopping, self._wake = True, threading.Event()
        self._end_by(now + DRAIN_SECONDS)
        self._hold, self._outage = now, 0
        for batch in self._ready:
            batch.due, batch.attempts = now, 0

    def _end_by(self, moment: float) -> None:
        self._last_start = min(self._last_start, moment - REQUEST_SECONDS)
        self._backoff_limit = DRAIN_BACKOFF_LIMIT_SECONDS

    def _has_more(self, now: float) -> bool:
        reached = self.settings.count is not None and self._drawn >= self.settings.count
        return not self.stop.is_set() and not reached and self._source.next_moment(now) < math.inf

    def _may_draw(self, room: int, now: float) -> bool:
        """Whether to ask the source now: a feed also when there is no room."""
        return room > 0 or (self._source.path is not None and self._has_more(now))

    def _capacity(self, now: float) -> int:
        """How many transactions may be taken in. Prunes one step if it is time; logs that there is no room."""
        if not self._has_more(now):
            return 0
        limit, found = Usage(self.settings.outbox_rows, self.settings.outbox_bytes), self.outbox.usage()
        if self._prunable and (found.rows > PRUNE_SHARE * limit.rows or found.bytes > PRUNE_SHARE * limit.bytes):
            pruned = self._durably(lambda: self.outbox.prune(limit))
            self._prunable = pruned > 0
            found = self.outbox.usage()
        room = min(COMMIT_ENTRIES, limit.rows - found.rows) if found.bytes < limit.bytes else 0
        if room > 0 and found.rejected < REJECTED_LINES:
            return room if self.settings.count is None else min(room, self.settings.count - self._drawn)
        if now >= self._said_full + SAY_FULL_SECONDS:
            self._said_full = now
            self._say_full(found, limit)
        return 0

    def _say_full(self, found: Usage, limit: Usage) -> None:
        advice = "reconcile, so that what has arrived can be pruned; or allow more rows or bytes"
        if found.rows < limit.rows and found.bytes < limit.bytes:
            advice = f"{REJECTED_LINES} rejected lines are kept: look at them (command rejected), and remove them"
        held = {"rows": found.rows, "rows_limit": limit.rows, "bytes": found.bytes, "bytes_limit": limit.bytes}
        self.log("full", unsent=self.outbox.count_unsent(), rejected=found.rejected, what_to_do=advice, **held)

    def _check_for_changes(self, now: float) -> None:
        """Check whether another process made entries unsent, or settled some."""
        if now >= self._look:
            self._look = now + LOOK_SECONDS
            if self.outbox.changed():
                self._behind, self._cursor, self._prunable = True, 0, True

    def _fill(self, now: float) -> None:
        """Take the unsent entries that are not held yet into batches, in order, as far as the window allows."""
        if not self._behind or len(self._held) > WINDOW_ENTRIES / 2:
            return
        with contextlib.closing(self.outbox.unsent(self._cursor)) as entries:
            for entry in entries:
                if not self._fits(entry):
                    return
                self._cursor = entry.sequence
                if entry.sequence not in self._held:
                    self._add(entry, now)
        self._behind = False

    def _fits(self, entry: Entry) -> bool:
        """Whether the window takes one more entry; an empty window takes any."""
        return not self._held or (len(self._held) < WINDOW_ENTRIES and sum(self._held.values()) + entry.size <= WINDOW_BYTES)

    def _take_in(self, now: float, room: int) -> None:
        """Commit what the source gives, then put it into batches."""
        draft = self._source.draw(now, room)
        if not draft:
            return
        entries = self._durably(lambda: self.outbox.add(draft))
        self._drawn += len(entries)
        for line in draft.rejected:
            self.log("rejected", source=line.source, line=line.line, offset=line.offset, length=line.length, reason=line.reason)
        for entry in entries:
            if self._behind or not self._fits(entry):
                self._behind = True  # it waits in the outbox
                return
            self._cursor = entry.sequence
            self._add(entry, now + self.settings.linger)

    def _add(self, entry: Entry, due: float) -> None:
        self._held[entry.sequence] = entry.size
        if not (self._open and self._open.add(entry)):
            self._close()
            self._open = Batch(due, [entry], entry.size)
        self._open.due = min(self._open.due, due)

    def _close(self) -> None:
        if self._open:
            self._open.due = -math.inf
            self._ready.append(self._open)
            self._open = None

    def _may_start(self, now: float) -> bool:
        """Whether one more request may begin: before the first success, and after one that failed, only one at a time."""
        return now <= self._last_start and self.senders.under_way < (self.senders.count if self._sent and not self._outage else 1)

    def _sendable(self, now: float) -> Batch | None:
        """The first batch that is due, if a request may begin."""
        if self._hold > now or not self._may_start(now):
            return None
        return next((batch for batch in self._ready if batch.started is None and batch.due <= now), None)

    def _next_moment(self, now: float, room: int) -> float:
        waiting = [batch for batch in self._ready if batch.started is None] if self._may_start(now) else []
        moments = [max(each.due, self._hold) for each in waiting] + ([self._open.due] if self._open else [])
        moments += [self._last_start + 0.001] if now <= self._last_start else []
        return min([*moments, self._source.next_moment(now) if self._may_draw(room, now) else math.inf, self._look])

    def _request(self, entries: list[dict[str, Any]]) -> Any:
        client = self._client = self._client or self.connect()
        return client.send_message_batch(QueueUrl=self.settings.queue_url, Entries=entries)

    def _start(self, batch: Batch, now: float) -> None:
        """Begin the request of a ready batch."""
        batch.started = now
        entries = [{"Id": str(n), "MessageBody": each.body, "MessageAttributes": each.attributes} for n, each in enumerate(batch.entries)]
        self.senders.start(batch, lambda: self._request(entries))

    def _note(self, finished: list[tuple[Batch, Any]]) -> None:
        """Mark in one commit the entries that SQS took. The others stay in their batch: all of them if the request failed."""
        answers = [(batch, answer) for batch, answer in finished if not isinstance(answer, Exception)]
        if done := {entry: message_id for batch, answer in answers for entry, message_id in self._taken(batch, answer).items()}:
            self._mark(done)
        for batch, answer in answers:
            self._outage = 0
            self._keep_what_is_left(batch, answer)
        for batch, error in finished:
            if isinstance(error, Exception):
                self._note_failure(batch, error)

    def _taken(self, batch: Batch, answer: Any) -> dict[Entry, str]:
        taken = {each["Id"]: each["MessageId"] for each in answer.get("Successful", [])}
        return {each: taken[str(n)] for n, each in enumerate(batch.entries) if str(n) in taken}

    def _keep_what_is_left(self, batch: Batch, answer: Any) -> None:
        """Let go of a batch that SQS took, or make it ready again with the entries that it did not take."""
        taken = self._taken(batch, answer)
        left = {str(n): each for n, each in enumerate(batch.entries) if each not in taken}
        if not left:
            self._ready.remove(batch)
            return
        batch.entries, batch.attempts, batch.started = list(left.values()), batch.attempts + 1, None
        batch.size = sum(each.size for each in batch.entries)
        reasons = {each["Id"]: each for each in answer.get("Failed", [])}
        whys = {n: {key: plain(value) for key, value in reasons.get(n, {"Code": "NoAnswer"}).items()} for n in left}
        failed = [{"transaction_id": each.transaction_id} | whys[n] for n, each in left.items()]
        advice = "if it lasts, see the code and message of each; for a SenderFault, check the queue's maximum message size"
        batch.due = self._retry(batch.attempts, batch, reason="FailedEntries", failed=failed, what_to_do=advice)

    def _note_failure(self, batch: Batch, error: Exception) -> None:
        """Hold all requests for a while. What was under way when one failed is of the same outage, unless a success has ended it."""
        if not isinstance(error, BotoCoreError | ClientError):
            raise error
        why = explain(error, self.settings)
        if why.refused and not self._sent:
            raise why from error
        self._client = None if why.refused else self._client  # to read the credentials again
        began, batch.started = batch.started or 0.0, None
        if not self._outage or began >= self._failed:
            self._outage, self._failed = self._outage + 1, self.now()
            self._hold = self._retry(self._outage, batch, reason=why.code, detail=why.detail, what_to_do=why.what_to_do)

    def _mark(self, done: dict[Entry, str]) -> None:
        self._durably(lambda: self.outbox.mark({each.sequence: message_id for each, message_id in done.items()}))
        for each in done:
            del self._held[each.sequence]
        self._sent += len(done)
        self.log("sent", count=len(done), transaction_ids=[each.transaction_id for each in done], total=self._sent)

    def _durably(self, work: Callable[[], T]) -> T:
        """Do something in the outbox. While it is locked or its disk is full, log it, wait and retry, as long as there is time."""
        attempt = 0
        while True:
            try:
                return work()
            except OutboxError as error:
                if not error.transient or self.now() > self._last_start:
                    raise
                attempt += 1
                delay = self._delay(attempt)
                self.log("waiting", reason=error.what, detail=str(error), what_to_do=error.what_to_do, delay_seconds=round(delay, 3))
            self.wait(self._wake, delay)
            if self.stop.is_set() and not self._stopping:
                self._begin_stop(self.now())

    def _retry(self, attempt: int, batch: Batch, **why: Any) -> float:
        """Log that a batch will be sent again, and return when."""
        delay = self._delay(attempt)
        self.log("retrying", count=len(batch.entries), attempt=attempt, delay_seconds=round(delay, 3), **why)
        return self.now() + delay

    def _delay(self, attempt: int) -> float:
        """Seconds before the next attempt: doubled up to a limit, with jitter."""
        return min(self._backoff_limit, BACKOFF_SECONDS * 2.0 ** min(attempt - 1, 16)) * random.uniform(0.5, 1)
