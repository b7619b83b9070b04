"""The outbox: each transaction is in SQLite on this host's disk before it is sent, and marked with its message id after.

One file, `outbox.sqlite3`, which is the ledger too. A committed transaction survives a kill and a power cut (WAL, synchronous=FULL).
Entries are ordered by their sequence alone, never by a time, so a clock that jumps changes nothing but the times that are shown.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
import secrets
import socket
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outbox_records import Draft, Entry, LostPlace, Position, Rejected, Room
from outbox_trouble import OutboxTrouble, read_as_trouble
from transaction_stream import Message, utc

FILE, LOCK = "outbox.sqlite3", "outbox.lock"
BUSY_SECONDS = 5.0  # how long to wait for another process that writes
APPLICATION_ID, SCHEMA_VERSION = 0x4F425831, 2  # "OBX1": whose file it is, and of which make
STEP_ROWS = 500  # of one transaction that settles or prunes, so that the service waits some milliseconds at most
PRUNE_SHARE = 0.75  # of either limit: below it what is reconciled stays, above it the oldest of it goes

SCHEMA = """
CREATE TABLE ledger (host TEXT NOT NULL, made_at TEXT NOT NULL, started_at TEXT, settled INTEGER NOT NULL) STRICT;
CREATE TABLE entry (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, transaction_id TEXT NOT NULL, amount TEXT, timestamp TEXT,
  state TEXT NOT NULL CHECK (state IN ('unsent', 'sent', 'reconciled')), recorded_at TEXT NOT NULL,
  sent_at TEXT, message_id TEXT, sends INTEGER NOT NULL
) STRICT;
CREATE INDEX unsent ON entry (sequence) WHERE state = 'unsent';
CREATE TABLE body (sequence INTEGER PRIMARY KEY REFERENCES entry, text TEXT NOT NULL) STRICT;
CREATE TABLE rejected (
  number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, line INTEGER NOT NULL, offset INTEGER NOT NULL,
  length INTEGER NOT NULL, reason TEXT NOT NULL, rejected_at TEXT NOT NULL, content BLOB NOT NULL
) STRICT;
"""
FEED_SCHEMA = """
ALTER TABLE ledger ADD COLUMN feed TEXT;
CREATE TABLE feed_file (
  feed TEXT NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL, name TEXT NOT NULL, offset INTEGER NOT NULL, line INTEGER NOT NULL,
  mark INTEGER NOT NULL, fingerprint TEXT NOT NULL, stamp TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'done', 'passed', 'copy')),
  waiting INTEGER NOT NULL, seen INTEGER NOT NULL, UNIQUE (feed, device, inode)
) STRICT;
CREATE TABLE lost_place (
  number INTEGER PRIMARY KEY AUTOINCREMENT, feed TEXT NOT NULL, file TEXT NOT NULL, offset INTEGER NOT NULL, line INTEGER NOT NULL,
  reason TEXT NOT NULL, found_at TEXT NOT NULL
) STRICT;
"""
COLUMNS = [each.name for each in dataclasses.fields(Position)]  # of feed_file


def utc_now() -> datetime:
    """What time it is."""
    return datetime.now(UTC)


class Outbox:
    """The database in `directory`. Whoever sends from it takes it `alone`: a lock that ends with the process. Errors are OutboxTrouble."""

    def __init__(self, directory: str | os.PathLike[str], alone: bool = False, now: Callable[[], datetime] = utc_now) -> None:
        self.directory = Path(directory)
        self.path = self.directory / FILE
        self._now = now
        self._lock: int | None = None
        with self._reading_trouble():
            if alone:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._take_alone()
            elif not self.path.exists():
                raise OutboxTrouble("no outbox", str(self.path), "no file", "one that a producer made",
                                    "correct --state-directory (variable PRODUCER_STATE_DIRECTORY)")  # fmt: skip
            self._connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._prepare(alone)
            self._rows = self._number("SELECT count(*) FROM entry") if alone else 0
            self._rejected = self.count_rejected()
            self._page_size = self._number("PRAGMA page_size")
            self._version = self._number("PRAGMA data_version")

    def close(self) -> None:
        """Close the file, and let another process have it."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- the service -------------------------------------------------------------------------------------------------

    def record_start(self, feed: str | None = None) -> None:
        """Commit that the service starts, and with which feed: it shows that commits are possible."""
        with self._transaction():
            self._connection.execute("UPDATE ledger SET started_at = ?, feed = ?", (utc(self._now()), feed))

    def add(self, draft: Draft) -> list[Entry]:
        """Commit transactions as unsent, with what of the feed was rejected or lost, and how far it was read: all of it, or nothing."""
        with self._transaction():
            entries = [self._insert(message) for message in draft.messages]
            self._keep_aside(draft.rejected)
            self._write_places(draft.forgotten, draft.positions, draft.lost)
        self._rows += len(entries)
        self._rejected += len(draft.rejected)
        return entries

    def unsent(self, after: int) -> Generator[Entry, None, None]:
        """The unsent entries of a sequence above `after`, in order. They are read as they are asked for."""
        query = "SELECT sequence, transaction_id, text FROM entry JOIN body USING (sequence) WHERE state = 'unsent' AND sequence > ?"
        with self._reading_trouble(), contextlib.closing(self._connection.execute(f"{query} ORDER BY sequence", (after,))) as rows:
            for sequence, transaction_id, text in rows:
                yield Entry(sequence, f"{self.host}/{sequence}", transaction_id, text)

    def mark(self, message_ids: Mapping[int, str]) -> None:
        """Commit that SQS took these entries (sequence: message id)."""
        at = utc(self._now())
        with self._transaction():
            for sequence, message_id in message_ids.items():
                self._mark_sent(sequence, message_id, at)

    def count_unsent(self) -> int:
        """How many entries are unsent."""
        return self._number("SELECT count(*) FROM entry WHERE state = 'unsent'")

    def room(self) -> Room:
        """What it holds now; cheap, whatever that is. Of the process that has it alone only."""
        return Room(self._rows, self.bytes_in_use(), self._rejected)

    def bytes_in_use(self) -> int:
        """How much of the file holds something; what was pruned leaves pages that are used again."""
        return (self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")) * self._page_size

    def changed(self) -> bool:
        """Whether another process has changed something since this was asked last."""
        before, self._version = self._version, self._number("PRAGMA data_version")
        if self._version == before:
            return False
        self._rejected = self.count_rejected()
        return True

    def prune(self, maximum: Room) -> int:
        """One step, of STEP_ROWS at most: past a limit's share, remove the oldest of what is reconciled; gives how much that was.

        First bodies go; entries only when there are too many of them. Nothing that is unsent, or sent and not reconciled, is touched.
        """
        found, pruned = self.room(), 0
        settled = self._number("SELECT settled FROM ledger")
        oldest = "SELECT sequence FROM {} WHERE state = 'reconciled' AND sequence <= ? ORDER BY sequence LIMIT ?"
        if found.rows > PRUNE_SHARE * maximum.rows:
            doomed = self._numbers(oldest.format("entry"), settled, STEP_ROWS)
            self._delete(doomed, "body", "entry")
            self._rows -= len(doomed)
            pruned = len(doomed)
        elif found.bytes > PRUNE_SHARE * maximum.bytes:
            doomed = self._numbers(oldest.format("body JOIN entry USING (sequence)"), settled, STEP_ROWS)
            self._delete(doomed, "body")
            pruned = len(doomed)
        return pruned

    def positions(self, feed: str) -> list[Position]:
        """How far the files of the feed of this path were read, in the order in which they were found."""
        return [Position(*row) for row in self.rows(f"SELECT {', '.join(COLUMNS)} FROM feed_file WHERE feed = ? ORDER BY rowid", feed)]

    def count_rejected(self) -> int:
        """How many rejected lines are kept aside."""
        return self._number("SELECT count(*) FROM rejected")

    # --- the commands ------------------------------------------------------------------------------------------------

    def pages(self, query: str, *values: object, after: int = 0) -> Iterator[tuple]:
        """The rows of a query that takes `sequence > ?` first and LIMIT last, and whose first column is that sequence.

        Each page is a transaction of its own: a reader that is slow to take them must not keep SQLite from reusing its log.
        """
        while True:
            with self._reading_trouble():
                rows = self._connection.execute(query, (after, *values, STEP_ROWS)).fetchall()
            yield from rows
            if len(rows) < STEP_ROWS:
                return
            after = rows[-1][0]

    def resend(self, sequences: Sequence[int]) -> int:
        """Make these entries unsent again, in one transaction; gives how many were not. OutboxTrouble: some have no body any more."""
        with self._transaction():
            gone = [one for one in sequences if not self._numbers("SELECT sequence FROM body WHERE sequence = ?", one)]
            if gone:
                shown = ", ".join(f"{self.host}/{one}" for one in gone[:10]) + (f" and {len(gone) - 10} more" if len(gone) > 10 else "")
                raise OutboxTrouble("no body to send any more", str(self.path), f"{len(gone)} pruned or unknown ({shown})",
                                    "a body of each",
                                    "take them out of the file, and have their source send them anew; nothing was changed")  # fmt: skip
            query = "UPDATE entry SET state = 'unsent' WHERE sequence = ? AND state <> 'unsent'"
            return self._connection.executemany(query, [(one,) for one in sequences]).rowcount

    def settle(self, through: int) -> int:
        """Make the sent entries up to that sequence reconciled, in steps of STEP_ROWS; gives how many were not."""
        first = self._number("SELECT min(sequence) FROM entry WHERE state = 'sent' AND sequence <= ?", through)
        return (
            sum(self._settle_step(low, min(low + STEP_ROWS - 1, through)) for low in range(first, through + 1, STEP_ROWS)) if first else 0
        )

    def _settle_step(self, first: int, last: int) -> int:
        with self._transaction():
            self._connection.execute("UPDATE ledger SET settled = max(settled, ?)", (last,))
            return self._connection.execute(
                "UPDATE entry SET state = 'reconciled' WHERE sequence BETWEEN ? AND ? AND state = 'sent'", (first, last)
            ).rowcount

    def remove(self, table: str, through: int) -> int:
        """Remove what `rejected` or `lost_place` has up to that number; gives how many."""
        with self._transaction():
            return self._connection.execute(f"DELETE FROM {table} WHERE number <= ?", (through,)).rowcount

    def number(self, query: str, *values: object) -> int:
        """The one number that a query gives; None counts as 0."""
        return self._number(query, *values)

    def value(self, query: str, *values: object) -> Any:
        """The first column of the first row that a query gives; None, if there is none."""
        with self._reading_trouble():
            row = self._connection.execute(query, values).fetchone()
        return row[0] if row else None

    def rows(self, query: str, *values: object) -> list[tuple]:
        """All rows that a query gives."""
        with self._reading_trouble():
            return self._connection.execute(query, values).fetchall()

    def only_read(self) -> None:
        """Refuse to change anything from here on."""
        self._connection.execute("PRAGMA query_only = ON")

    def complaints(self) -> list[str]:
        """What SQLite finds wrong with the file (its quick_check); nothing, if it is healthy."""
        try:
            with self._reading_trouble():
                return [text for (text,) in self._connection.execute("PRAGMA quick_check(5)") if text != "ok"]
        except OutboxTrouble as trouble:
            return [str(trouble)]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _take_alone(self) -> None:
        self._lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 20).decode(errors="replace").strip()
            os.close(self._lock)
            raise OutboxTrouble("outbox in use", str(self.path), f"process {holder} sends from it", "no other process",
                                "stop that one first, or give this one a --state-directory of its own") from None  # fmt: skip
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _prepare(self, alone: bool) -> None:
        found = (self._number("PRAGMA application_id"), self._number("PRAGMA user_version"))
        tables = self._number("SELECT count(*) FROM sqlite_master")
        older = found == (APPLICATION_ID, 1)
        if (tables or not alone) and not older and found != (APPLICATION_ID, SCHEMA_VERSION):
            raise OutboxTrouble("not an outbox of this program", str(self.path), f"application {found[0]:#x}, version {found[1]}",
                                f"application {APPLICATION_ID:#x}, version {SCHEMA_VERSION}",
                                "correct --state-directory, or run the program that made it")  # fmt: skip
        for pragma, value, effect in (("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2)):
            self._connection.execute(f"PRAGMA {pragma} = {value}")
            shown = self._connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            if shown != effect:
                raise OutboxTrouble("no durable commits", str(self.path), f"{pragma} {shown}", f"{pragma} {value}",
                                    "put the state directory on a local disk, not on a network share")  # fmt: skip
        if not tables:
            self._make()
        elif older:
            self._add_feed()
        (self.host,) = self._connection.execute("SELECT host FROM ledger").fetchone()

    def _make(self) -> None:
        """A name for the ledger that no other has: the host's, and a random part, so that a new database never repeats an old id."""
        name = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60] or "host"
        with self._transaction():
            self._execute_all(SCHEMA)
            self._connection.execute("INSERT INTO ledger VALUES (?, ?, NULL, 0)", (f"{name}-{secrets.token_hex(5)}", utc(self._now())))
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._execute_all(FEED_SCHEMA)
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for directory in (self.directory, self.directory.parent):  # the names of file and directory, not just what is in them
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _add_feed(self) -> None:
        """Bring a file of the first make up to date: how far it had read a feed is not taken over."""
        with self._transaction():
            if self._number("PRAGMA user_version") == 1:
                self._execute_all(FEED_SCHEMA)
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _execute_all(self, statements: str) -> None:
        for statement in statements.split(";\n"):
            self._connection.execute(statement)

    def _insert(self, message: Message) -> Entry:
        cursor = self._connection.execute(
            "INSERT INTO entry (transaction_id, amount, timestamp, state, recorded_at, sends) VALUES (?, ?, ?, 'unsent', ?, 0)",
            (message.transaction_id, message.amount, message.timestamp, utc(self._now())),
        )
        sequence = cursor.lastrowid or 0
        self._connection.execute("INSERT INTO body VALUES (?, ?)", (sequence, message.body))
        return Entry(sequence, f"{self.host}/{sequence}", message.transaction_id, message.body)

    def _keep_aside(self, rejected: Sequence[Rejected]) -> None:
        at = utc(self._now())
        self._connection.executemany(
            "INSERT INTO rejected (source, line, offset, length, reason, rejected_at, content) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(each.source, each.line, each.offset, each.length, each.reason, at, each.content) for each in rejected],
        )

    def _write_places(self, forgotten: Sequence[Position], positions: Sequence[Position], lost: Sequence[LostPlace]) -> None:
        execute = self._connection.executemany
        execute("DELETE FROM feed_file WHERE feed = ? AND device = ? AND inode = ?", [(each.feed, *each.key) for each in forgotten])
        changes = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
        statement = f"INSERT INTO feed_file ({', '.join(COLUMNS)}) VALUES ({', '.join('?' for _ in COLUMNS)})"
        execute(f"{statement} ON CONFLICT DO UPDATE SET {changes}", [dataclasses.astuple(each) for each in positions])
        execute(
            "INSERT INTO lost_place (feed, file, offset, line, reason, found_at) VALUES (?, ?, ?, ?, ?, ?)",
            [(*dataclasses.astuple(each), utc(self._now())) for each in lost],
        )

    def _mark_sent(self, sequence: int, message_id: str, at: str) -> None:
        self._connection.execute(
            "UPDATE entry SET state = 'sent', sent_at = ?, message_id = ?, sends = sends + 1 WHERE sequence = ?", (at, message_id, sequence)
        )

    def _delete(self, sequences: Sequence[int], *tables: str) -> None:
        with self._transaction():
            for table in tables:
                self._connection.executemany(f"DELETE FROM {table} WHERE sequence = ?", [(each,) for each in sequences])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._reading_trouble():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._commit()
            finally:
                if self._connection.in_transaction:  # only when it was not committed
                    self._connection.execute("ROLLBACK")

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    def _reading_trouble(self) -> contextlib.AbstractContextManager[None]:
        return read_as_trouble(self.path)

    def _number(self, query: str, *values: object) -> int:
        with self._reading_trouble():
            (found,) = self._connection.execute(query, values).fetchone()
        return int(found or 0)

    def _numbers(self, query: str, *values: object) -> list[int]:
        with self._reading_trouble():
            return [number for (number,) in self._connection.execute(query, values)]
