"""What was sent back from the quarantine, or may have been: written to disk before it is sent.

A message is `begun` before its content goes to the transaction queue, `sent` once the queue has said that it has it, and `removed` once the
quarantine has it no more. Whatever ends the process, its next run reads here what was begun, and sends that again to the letter, whatever
repair it is told of meanwhile: the table takes equal content twice without a word, and only other content would be a conflict. What is sent
or removed and shows in the quarantine after all is only removed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage
from .archive import portable, sync_directory, unportable

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
    """One message on its way: the one in the quarantine, what is sent for it, and whether a former run began that."""

    message: QuarantinedMessage
    body: str
    attributes: dict[str, dict[str, Any]]
    resumed: bool = False


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

    def replays(self) -> Iterator[tuple[str, str | None, str | None, datetime]]:
        """Of everything that was replayed, or may have been: its id in the quarantine, outbox id, transaction id, and when that began."""
        for *ids, begun_at in self._database.execute("SELECT message_id, outbox_id, transaction_id, begun_at FROM replays"):
            yield *ids, datetime.fromisoformat(begun_at)

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
        return Outgoing(message, content["body"], unportable(content["attributes"]), resumed=True)

    def begin(self, outgoing: Iterable[Outgoing], repairs: list[str], run: str, at: str) -> None:
        """Returns when all these are on the disk; those that were begun before stay as they are."""
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
                json.dumps({"body": one.body, "attributes": portable(one.attributes)}),
            )
            for one in outgoing
        ]
        self._write("INSERT INTO replays VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING", rows)

    def sent(self, message_ids: Mapping[str, str]) -> None:
        """The queue has these: by id in the quarantine, the id it gave."""
        rows = [(SENT, sent, message_id) for message_id, sent in message_ids.items()]
        self._write("UPDATE replays SET state = ?, sent_message_id = ?, content = NULL WHERE message_id = ?", rows)

    def removed(self, message_ids: Iterable[str]) -> None:
        """The quarantine has these no more."""
        self._write("UPDATE replays SET state = ? WHERE message_id = ?", [(REMOVED, one) for one in message_ids])

    def settle(self, present: Iterable[str]) -> int:
        """The quarantine was met whole, and these are left in it: whatever else was sent is removed, then.

        Returns how many were begun and are gone: somebody else moved them, or they expired. Their content stays here.
        """
        gone = dict(self._database.execute("SELECT message_id, state FROM replays WHERE state != ?", (REMOVED,)))
        for message_id in present:
            gone.pop(message_id, None)
        sent = [message_id for message_id, state in gone.items() if state == SENT]
        if sent:
            self.removed(sent)
        return len(gone) - len(sent)

    def refused(self, message_ids: Iterable[str]) -> None:
        """The queue said of these that it does not have them: as if they had never been begun."""
        self._write("DELETE FROM replays WHERE message_id = ? AND state = ?", [(one, BEGUN) for one in message_ids])

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(statement, rows)
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
