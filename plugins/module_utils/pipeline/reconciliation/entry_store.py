"""Every ledger entry and where it was found, in a temporary SQLite database, so that memory stays bounded.

Reconciliation counts transactions: an id and a content. Entries with the same id and content, in one ledger or in several, are copies; the
first of them, the leader, stands for all. Entries with the same id and different content are different transactions, of which the table can
hold one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..core.content import fingerprint, read_body, remembered
from .ledger import Closing, LedgerError, LedgerExport

ROWS_AT_ONCE = 1000
# Of the database in memory, in KiB; the rest is on disk.
CACHE_KIB = 16 * 1024

_SCHEMA = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, ledger INTEGER, sequence INTEGER, key BLOB, state TEXT, sent_at REAL, amount TEXT, timestamp TEXT, body BLOB,
    leader INTEGER, awaited INTEGER, found INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE altered (entry INTEGER PRIMARY KEY, fields BLOB, item BLOB);
CREATE TABLE doubled (entry INTEGER, other BLOB, place TEXT, PRIMARY KEY (entry, other));
CREATE TABLE unknown (key BLOB PRIMARY KEY, content BLOB);
CREATE TABLE archived (entry INTEGER PRIMARY KEY);
CREATE TABLE dead_letter_messages (
    message_id TEXT PRIMARY KEY, outbox_id BLOB, key BLOB, reason TEXT, sent_at REAL, body BLOB, entry INTEGER
);
"""


@dataclass(frozen=True)
class Named:
    """A transaction as reports name it. `sent_at`, in seconds since 1970, is when the producer or a replay sent it last.

    `resendable` is whether a producer that still exists has the body.
    """

    entry: int
    outbox_id: str
    transaction_id: str | None
    sent_at: float | None
    resendable: bool

    @property
    def ids(self) -> dict[str, Any]:
        """Its ids as files name them."""
        return {"outbox_id": self.outbox_id, "transaction_id": self.transaction_id}


def to_blob(text: str | None) -> bytes | None:
    """Text as bytes, since SQLite refuses text with lone surrogates."""
    return None if text is None else text.encode("utf-8", "surrogatepass")


def to_text(blob: bytes | None) -> str | None:
    return None if blob is None else blob.decode("utf-8", "surrogatepass")


class Entries:
    """Fill it with `load`, then `close_ledgers`."""

    def __init__(self) -> None:
        # A database without a name is in memory up to the cache's size, then in a file that nobody sees and no kill leaves behind.
        self._db = sqlite3.connect("", isolation_level=None)
        for pragma in (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")  # never committed: every commit would write pages that the next statement changes again
        self.ledgers: list[Closing] = []
        self._names: dict[str, int] = {}
        self.kept: set[int] = set()  # by their place in `ledgers`
        self._count = 0

    def close(self) -> None:
        self._db.close()

    def load(self, path: str, kept: bool = False) -> Iterator[int]:
        """Loads one export; yields from time to time how many entries were loaded so far. Raises LedgerError.

        `kept`: its producer no longer exists. The copy that was loaded first stands for all copies, so load kept ledgers last.
        """
        export, number = LedgerExport(path), len(self.ledgers)
        rows: list[tuple[Any, ...]] = []
        insert = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"
        for entry in export:
            self._count += 1
            text = (to_blob(entry.transaction_id), entry.state, entry.sent_at, entry.amount, entry.timestamp, to_blob(entry.body))
            rows.append((self._count, number, entry.sequence, *text, self._count, entry.state != "unsent"))
            if len(rows) == ROWS_AT_ONCE:
                self._db.executemany(insert, rows)
                rows.clear()
                yield self._count
        self._db.executemany(insert, rows)
        assert export.closing is not None  # or LedgerError was raised
        if export.closing.ledger in self._names:
            raise LedgerError(
                f"ledger export {path}: ledger {export.closing.ledger} was given before. Give each ledger once, its newest export."
            )
        self._names[export.closing.ledger] = number
        if kept:
            self.kept.add(number)
        self.ledgers.append(export.closing)

    def close_ledgers(self) -> None:
        """All exports are loaded: finds the copies."""
        self._db.execute("CREATE INDEX by_key ON entries (key)")
        self._db.execute("CREATE INDEX by_sequence ON entries (ledger, sequence)")
        repeated = "SELECT key FROM entries WHERE key IS NOT NULL GROUP BY key HAVING COUNT(*) > 1"
        rows = self._db.execute(
            f"SELECT key, id, body, amount, timestamp, sent_at, awaited FROM entries WHERE key IN ({repeated}) ORDER BY key, id"
        )
        for _key, group in groupby(rows, key=lambda row: row[0]):
            self._find_copies(group)
        self._db.execute("CREATE INDEX not_found ON entries (id) WHERE found = 0 AND leader = id")

    def _find_copies(self, group: Iterable[tuple[Any, ...]]) -> None:
        leaders: dict[bytes, list[Any]] = {}
        for _key, entry, body, amount, timestamp, sent_at, awaited in group:
            content = read_body(to_text(body) or "") if body is not None else None
            # A body that is no object is identified by its text, a pruned one by what the ledger still knows.
            mark = fingerprint(content if content is not None else {"text": to_text(body), **remembered(amount, timestamp)})
            leader = leaders.setdefault(mark, [entry, sent_at, awaited])
            if leader[0] != entry:
                leader[1:] = [max((one for one in (leader[1], sent_at) if one is not None), default=None), leader[2] or awaited]
                self._db.execute("UPDATE entries SET leader = ? WHERE id = ?", (leader[0], entry))
                self._db.execute("UPDATE entries SET sent_at = ?, awaited = ? WHERE id = ?", (leader[1], leader[2], leader[0]))

    def entry_of(self, outbox_id: str | None, key: bytes | None) -> int | None:
        if outbox_id is not None:
            name, _slash, sequence = outbox_id.rpartition("/")
            if name not in self._names or not sequence.isdecimal() or len(sequence) > 18:
                return None
            row = self._db.execute(
                "SELECT leader FROM entries WHERE ledger = ? AND sequence = ?", (self._names[name], int(sequence))
            ).fetchone()
        else:
            row = self._db.execute("SELECT id FROM entries WHERE key = ? AND leader = id ORDER BY found, id", (key,)).fetchone()
        return None if row is None else int(row[0])

    def missing(self, unsent: bool = False) -> int:
        """How many transactions were sent and found nowhere; with `unsent`, also those that were not sent yet."""
        return int(self._db.execute(f"SELECT COUNT(*) FROM entries WHERE {missing_condition(unsent)}").fetchone()[0])

    def missing_keys(self, unsent: bool = False) -> Iterator[str]:
        """Their ids, each once; those that have none are left out."""
        return self._keys(f"AND {missing_condition(unsent)}")

    def keys(self) -> Iterator[str]:
        """All ids, each once."""
        return self._keys("")

    def _keys(self, condition: str) -> Iterator[str]:
        """In portions, since what is found of one changes what is missing."""
        last = b""
        while rows := self._db.execute(
            f"SELECT DISTINCT key FROM entries WHERE key > ? {condition} ORDER BY key LIMIT ?", (last, ROWS_AT_ONCE)
        ).fetchall():
            for (last,) in rows:
                yield to_text(last) or ""

    def missing_before(self, sent_before: dict[int, float]) -> int:
        """How many of the missing were last sent before then: by a ledger's place in `ledgers`, seconds since 1970."""
        wanted = f"SELECT COUNT(*) FROM entries WHERE {missing_condition(False)} AND ledger = ? AND sent_at < ?"
        return sum(int(self._db.execute(wanted, pair).fetchone()[0]) for pair in sent_before.items())

    def body_of(self, named: Named) -> str | None:
        (blob,) = self._db.execute("SELECT body FROM entries WHERE id = ?", (named.entry,)).fetchone()
        return to_text(blob)

    def body_bytes(self) -> int:
        """Bytes of all bodies of what was sent; for a pruned one, the mean."""
        total, known, number = self._db.execute(
            "SELECT COALESCE(SUM(LENGTH(body)), 0), COUNT(body), COUNT(*) FROM entries WHERE state <> 'unsent'"
        ).fetchone()
        return int(total / known * number) if known else 250 * int(number)

    @property
    def entries(self) -> int:
        return self._count

    def select(self, which: str, order: str = "id") -> Iterator[Named]:
        wanted = f"SELECT id, ledger, sequence, key, sent_at, body IS NOT NULL FROM entries WHERE {which} ORDER BY {order}"
        for entry, ledger, sequence, key, sent_at, resendable in self._db.execute(wanted):
            named = f"{self.ledgers[ledger].ledger}/{sequence}"
            yield Named(entry, named, to_text(key), sent_at, bool(resendable) and ledger not in self.kept)


def missing_condition(unsent: bool) -> str:
    return f"found = 0 AND leader = id{'' if unsent else ' AND awaited'}"
