"""The outbox: each transaction is in SQLite on this host's disk before it is sent, and marked with its message id after.

One file, `outbox.sqlite3`, which is the ledger too. A committed transaction survives a kill and a power cut (WAL, synchronous=FULL).
Entries are ordered only by their sequence, never by a time. So a clock that jumps changes nothing except the times that are shown.
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

from outbox_error import OutboxError, raise_as_outbox_error
from outbox_records import Draft, Entry, LostPlace, Message, Position, Rejected, Usage, utc

FILE, LOCK = "outbox.sqlite3", "outbox.lock"
BUSY_SECONDS = 5.0  # to wait for another process that writes
APPLICATION_ID, SCHEMA_VERSION = 0x4F425831, 2  # "OBX1": which program made the file, and its schema
STEP_ROWS = 500  # at most in one transaction that settles or prunes, so that the service waits only some milliseconds
PRUNE_SHARE = 0.75  # of either limit: above it the oldest reconciled entries are removed

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


class Outbox:
    """The database in `directory`. Whoever sends from it opens it `exclusive`: a lock that ends with the process. Raises OutboxError."""

    def __init__(self, directory: str | Path, exclusive: bool = False, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.directory = Path(directory)
        self.path = self.directory / FILE
        self._now = now
        self._lock: int | None = None
        with self._errors():
            if exclusive:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock_exclusively()
            elif not self.path.exists():
                raise OutboxError("no outbox", str(self.path), "no file", "one that a producer made",
                                    "correct --state-directory (variable PRODUCER_STATE_DIRECTORY)")  # fmt: skip
            self._connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._prepare(exclusive)
            self._rows = self.number("SELECT count(*) FROM entry") if exclusive else 0
            self._rejected = self.count_rejected()
            self._page_size = self.number("PRAGMA page_size")
            self._version = self.number("PRAGMA data_version")

    def close(self) -> None:
        """Close the file, and release the lock."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- the service -------------------------------------------------------------------------------------------------

    def record_start(self, feed: str | None) -> None:
        """Commit that the service starts, and its feed. It shows that commits are possible."""
        with self._transaction():
            self._connection.execute("UPDATE ledger SET started_at = ?, feed = ?", (utc(self._now()), feed))

    def add(self, draft: Draft) -> list[Entry]:
        """Commit all of a draft or nothing: unsent transactions, and how far the feed was read, with its rejected lines and lost places."""
        with self._transaction():
            entries = [self._insert(message) for message in draft.messages]
            self._insert_rejected(draft.rejected)
            self._save_positions(draft.forgotten, draft.positions, draft.lost)
        self._rows += len(entries)
        self._rejected += len(draft.rejected)
        return entries

    def unsent(self, after: int) -> Generator[Entry, None, None]:
        """The unsent entries with a sequence above `after`, in order. They are read as the caller takes them."""
        query = "SELECT sequence, transaction_id, text FROM entry JOIN body USING (sequence) WHERE state = 'unsent' AND sequence > ?"
        with self._errors(), contextlib.closing(self._connection.execute(f"{query} ORDER BY sequence", (after,))) as rows:
            for sequence, transaction_id, text in rows:
                yield Entry(sequence, f"{self.host}/{sequence}", transaction_id, text)

    def mark(self, message_ids: Mapping[int, str]) -> None:
        """Commit that SQS took these entries (sequence: message id)."""
        at = utc(self._now())
        with self._transaction():
            for sequence, message_id in message_ids.items():
                self._mark_sent(sequence, message_id, at)

    def count_unsent(self) -> int:
        return self.number("SELECT count(*) FROM entry WHERE state = 'unsent'")

    def usage(self) -> Usage:
        """What the outbox holds now; cheap at any size. Only for the process that has it exclusively."""
        return Usage(self._rows, self.bytes_in_use(), self._rejected)

    def bytes_in_use(self) -> int:
        """Bytes of the file in use; pruning leaves free pages that are used again."""
        return (self.number("PRAGMA page_count") - self.number("PRAGMA freelist_count")) * self._page_size

    def changed(self) -> bool:
        """Whether another process has changed anything since the last call."""
        before, self._version = self._version, self.number("PRAGMA data_version")
        if self._version == before:
            return False
        self._rejected = self.count_rejected()
        return True

    def prune(self, maximum: Usage) -> int:
        """Remove the oldest reconciled entries, STEP_ROWS at most, if a limit's share is passed; return how many.

        Bodies are removed first; entries only when there are too many of them. Unsent entries, and sent ones that are not reconciled, stay.
        """
        found, pruned = self.usage(), 0
        settled = self.number("SELECT settled FROM ledger")
        oldest = "SELECT sequence FROM {} WHERE state = 'reconciled' AND sequence <= ? ORDER BY sequence LIMIT ?"
        if found.rows > PRUNE_SHARE * maximum.rows:
            pruned = self._delete(self.rows(oldest.format("entry"), settled, STEP_ROWS), "body", "entry")
            self._rows -= pruned
        elif found.bytes > PRUNE_SHARE * maximum.bytes:
            pruned = self._delete(self.rows(oldest.format("body JOIN entry USING (sequence)"), settled, STEP_ROWS), "body")
        return pruned

    def positions(self, feed: str) -> list[Position]:
        """How far the files of this feed were read, in the order in which they were found."""
        return [Position(*row) for row in self.rows(f"SELECT {', '.join(COLUMNS)} FROM feed_file WHERE feed = ? ORDER BY rowid", feed)]

    def count_rejected(self) -> int:
        return self.number("SELECT count(*) FROM rejected")

    # --- the commands ------------------------------------------------------------------------------------------------

    def pages(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a query that takes `sequence > ?` first and LIMIT last, and whose first column is that sequence.

        Each page is a transaction of its own: a slow reader must not keep SQLite from reusing its log.
        """
        after = 0
        while True:
            rows = self.rows(query, after, *values, STEP_ROWS)
            yield from rows
            if len(rows) < STEP_ROWS:
                return
            after = rows[-1][0]

    def resend(self, sequences: Sequence[int]) -> int:
        """Make these entries unsent again, in one transaction; return how many were changed. Raises OutboxError if a body was pruned."""
        with self._transaction():
            gone = [one for one in sequences if not self.number("SELECT sequence FROM body WHERE sequence = ?", one)]
            if gone:
                shown = ", ".join(f"{self.host}/{one}" for one in gone[:10]) + (f" and {len(gone) - 10} more" if len(gone) > 10 else "")
                raise OutboxError("no body to send any more", str(self.path), f"{len(gone)} pruned or unknown ({shown})",
                                    "a body of each",
                                    "take them out of the file, and have their source send them anew; nothing was changed")  # fmt: skip
            query = "UPDATE entry SET state = 'unsent' WHERE sequence = ? AND state <> 'unsent'"
            return self._connection.executemany(query, [(one,) for one in sequences]).rowcount

    def settle(self, through: int) -> int:
        """Make the sent entries up to that sequence reconciled, in steps of STEP_ROWS; return how many were changed."""
        first = self.number("SELECT min(sequence) FROM entry WHERE state = 'sent' AND sequence <= ?", through) or through + 1
        return sum(self._settle_step(low, min(low + STEP_ROWS - 1, through)) for low in range(first, through + 1, STEP_ROWS))

    def _settle_step(self, first: int, last: int) -> int:
        with self._transaction():
            self._connection.execute("UPDATE ledger SET settled = max(settled, ?)", (last,))
            return self._connection.execute(
                "UPDATE entry SET state = 'reconciled' WHERE sequence BETWEEN ? AND ? AND state = 'sent'", (first, last)
            ).rowcount

    def remove(self, table: str, through: int) -> int:
        """Remove the rows of `rejected` or `lost_place` up to that number; return how many."""
        with self._transaction():
            return self._connection.execute(f"DELETE FROM {table} WHERE number <= ?", (through,)).rowcount

    def number(self, query: str, *values: object) -> int:
        """The first column of the first row of a query, as a number; None counts as 0."""
        return int(self.value(query, *values) or 0)

    def value(self, query: str, *values: object) -> Any:
        """The first column of the first row of a query; None if there is no row."""
        rows = self.rows(query, *values)
        return rows[0][0] if rows else None

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._connection.execute(query, values).fetchall()

    def integrity_errors(self) -> list[str]:
        """The errors that SQLite's quick_check finds in the file."""
        try:
            return [text for (text,) in self.rows("PRAGMA quick_check(5)") if text != "ok"]
        except OutboxError as error:
            return [str(error)]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _lock_exclusively(self) -> None:
        self._lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 20).decode(errors="replace").strip()
            os.close(self._lock)
            raise OutboxError("outbox in use", str(self.path), f"process {holder} sends from it", "no other process",
                                "stop that one first, or give this one a --state-directory of its own") from None  # fmt: skip
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _prepare(self, exclusive: bool) -> None:
        found = (self.number("PRAGMA application_id"), self.number("PRAGMA user_version"))
        tables = self.number("SELECT count(*) FROM sqlite_master")
        older = found == (APPLICATION_ID, 1)
        if (tables or not exclusive) and not older and found != (APPLICATION_ID, SCHEMA_VERSION):
            raise OutboxError("not an outbox of this program", str(self.path), f"application {found[0]:#x}, version {found[1]}",
                                f"application {APPLICATION_ID:#x}, version {SCHEMA_VERSION}",
                                "correct --state-directory, or run the program that made it")  # fmt: skip
        for pragma, value, effect in (("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2)):
            self._connection.execute(f"PRAGMA {pragma} = {value}")
            shown = self._connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            if shown != effect:
                raise OutboxError("no durable commits", str(self.path), f"{pragma} {shown}", f"{pragma} {value}",
                                    "put the state directory on a local disk, not on a network share")  # fmt: skip
        if not tables:
            self._make()
        elif older:
            self._add_feed()
        (self.host,) = self._connection.execute("SELECT host FROM ledger").fetchone()

    def _make(self) -> None:
        """Make the tables and a unique ledger name: the host's and a random part, so that a new database never repeats an id."""
        name = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60] or "host"
        with self._transaction():
            self._execute_all(SCHEMA)
            self._connection.execute("INSERT INTO ledger VALUES (?, ?, NULL, 0)", (f"{name}-{secrets.token_hex(5)}", utc(self._now())))
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._execute_all(FEED_SCHEMA)
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for directory in (self.directory, self.directory.parent):  # the names of file and directory must be on the disk too
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _add_feed(self) -> None:
        """Upgrade a file of schema 1, which did not say how far a feed was read."""
        with self._transaction():
            if self.number("PRAGMA user_version") == 1:
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

    def _insert_rejected(self, rejected: Sequence[Rejected]) -> None:
        at = utc(self._now())
        self._connection.executemany(
            "INSERT INTO rejected (source, line, offset, length, reason, rejected_at, content) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(each.source, each.line, each.offset, each.length, each.reason, at, each.content) for each in rejected],
        )

    def _save_positions(self, forgotten: Sequence[Position], positions: Sequence[Position], lost: Sequence[LostPlace]) -> None:
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
        statement = "UPDATE entry SET state = 'sent', sent_at = ?, message_id = ?, sends = sends + 1 WHERE sequence = ?"
        self._connection.execute(statement, (at, message_id, sequence))

    def _delete(self, rows: Sequence[tuple[int, ...]], *tables: str) -> int:
        """Delete the rows of these sequences (each a tuple of one); return how many sequences there are."""
        with self._transaction():
            for table in tables:
                self._connection.executemany(f"DELETE FROM {table} WHERE sequence = ?", rows)
        return len(rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._commit()
            finally:
                if self._connection.in_transaction:  # it was not committed
                    self._connection.execute("ROLLBACK")

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return raise_as_outbox_error(self.path)
