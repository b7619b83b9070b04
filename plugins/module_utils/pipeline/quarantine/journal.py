"""The journal of replays: what was sent back from the quarantine, or may have been. It is on the disk before a message is sent.

A message is `begun` before its content goes to the transaction queue, `sent` when the queue has confirmed it, and `removed` when it is no
longer in the quarantine. If the process ends at any point, the next run reads here what was begun, and sends exactly the same content
again, whatever repair it is given: the table accepts equal content twice, and only different content would be a conflict. A message that
was sent or removed and is in the quarantine after all is only removed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage
from ..core.files import sync_directory, to_json

FILE_NAME = "replays.sqlite3"
BEGUN, SENT, REMOVED = "begun", "sent", "removed"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replays (
    message_id TEXT PRIMARY KEY,   -- in the quarantine
    state TEXT NOT NULL,           -- begun, sent or removed
    reason TEXT NOT NULL,
    transaction_id TEXT,
    outbox_id TEXT,
    repairs TEXT NOT NULL,         -- a JSON list
    run TEXT NOT NULL,             -- the one that began it
    begun_at TEXT NOT NULL,
    content TEXT,                  -- body and attributes that are sent, JSON; none once sent
    sent_message_id TEXT           -- in the transaction queue
) STRICT
"""


@dataclass(frozen=True)
class Outgoing:
    """One message that is sent back: the one in the quarantine, what is sent for it, and whether an earlier run began that."""

    message: QuarantinedMessage
    body: str
    attributes: dict[str, dict[str, Any]]
    resumed: bool = False


@dataclass(frozen=True)
class Replayed:
    """A message that was sent back to the queue, or may have been; `at` is when that began, in seconds since 1970."""

    message_id: str
    outbox_id: str | None
    transaction_id: str | None
    at: float


class Journal:
    """The journal of one directory, for one process at a time."""

    def __init__(self, directory: Path) -> None:
        path = directory / FILE_NAME
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._database = sqlite3.connect(path, isolation_level=None)
        (mode,) = self._database.execute("PRAGMA journal_mode = WAL").fetchone()
        self._database.execute("PRAGMA synchronous = FULL")
        (synchronous,) = self._database.execute("PRAGMA synchronous").fetchone()
        if (mode, synchronous) != ("wal", 2):
            raise OSError(f"{path} cannot be written safely: journal_mode {mode}, synchronous {synchronous}; expected wal, 2")
        self._database.execute(_SCHEMA)
        sync_directory(directory)

    def close(self) -> None:
        self._database.close()

    def replays(self) -> Iterator[Replayed]:
        """Everything that was replayed, or may have been."""
        rows = self._database.execute("SELECT message_id, outbox_id, transaction_id, begun_at FROM replays")
        for message_id, outbox_id, transaction_id, begun_at in rows:
            yield Replayed(message_id, outbox_id, transaction_id, datetime.fromisoformat(begun_at).timestamp())

    def unfinished(self) -> int:
        """How many were begun or sent and, as far as is known, are still in the quarantine."""
        (count,) = self._database.execute("SELECT count(*) FROM replays WHERE state != ?", (REMOVED,)).fetchone()
        return int(count)

    def state(self, message_id: str) -> str:
        """begun, sent or removed; "" when it was never replayed from here."""
        row = self._database.execute("SELECT state FROM replays WHERE message_id = ?", (message_id,)).fetchone()
        return str(row[0]) if row else ""

    def begun(self, message: QuarantinedMessage) -> Outgoing:
        """What is to be sent for a message that was begun."""
        (text,) = self._database.execute("SELECT content FROM replays WHERE message_id = ?", (message.message_id,)).fetchone()
        content = json.loads(text)
        for attribute in content["attributes"].values():
            if "BinaryValue" in attribute:
                attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
        return Outgoing(message, content["body"], content["attributes"], resumed=True)

    def begin(self, outgoing: Iterable[Outgoing], repairs: list[str], run: str, at: str) -> None:
        """Returns when all these are on the disk. Of those that were begun before, only the time changes: they are sent again now."""
        rows = [
            (
                one.message.message_id,
                BEGUN,
                one.message.reason,
                one.message.transaction_id,
                one.message.outbox_id,
                json.dumps(repairs),
                run,
                at,
                to_json({"body": one.body, "attributes": one.attributes}),
            )
            for one in outgoing
        ]
        again = "ON CONFLICT (message_id) DO UPDATE SET begun_at = excluded.begun_at"
        self._write(f"INSERT INTO replays VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL) {again}", rows)

    def sent(self, message_ids: Mapping[str, str]) -> None:
        """The queue has these; by id in the quarantine, the id that the queue gave."""
        rows = [(SENT, sent, message_id) for message_id, sent in message_ids.items()]
        self._write("UPDATE replays SET state = ?, sent_message_id = ?, content = NULL WHERE message_id = ?", rows)

    def removed(self, message_ids: Iterable[str]) -> None:
        """These are no longer in the quarantine."""
        self._write("UPDATE replays SET state = ? WHERE message_id = ?", [(REMOVED, one) for one in message_ids])

    def settle(self, present: Iterable[str]) -> int:
        """The whole quarantine was read, and these are still in it: so everything else that was sent is removed.

        Returns how many were begun and are gone, because somebody else moved them or they expired. Their content stays here.
        """
        gone = dict(self._database.execute("SELECT message_id, state FROM replays WHERE state != ?", (REMOVED,)))
        for message_id in present:
            gone.pop(message_id, None)
        sent = [message_id for message_id, state in gone.items() if state == SENT]
        if sent:
            self.removed(sent)
        return len(gone) - len(sent)

    def refused(self, message_ids: Iterable[str]) -> None:
        """The queue refused these: forgets that they were begun."""
        self._write("DELETE FROM replays WHERE message_id = ? AND state = ?", [(one, BEGUN) for one in message_ids])

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        with self._database:  # commits, or rolls back what failed
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(statement, rows)


def replayed(directory: Path) -> list[Replayed]:
    """What the journal in a directory has; nothing where there is none."""
    if not (directory / FILE_NAME).exists():
        return []
    with contextlib.closing(Journal(directory)) as journal:
        return list(journal.replays())
