"""Reading the ledgers that producers export: JSON lines, gzip, with a closing line that proves the export whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..core.files import ClosedLines, DamagedFileError

STATES = ("unsent", "sent", "reconciled")
_OPTIONAL_TEXTS = ("transaction_id", "amount", "timestamp", "body", "sent_at")


class LedgerError(ValueError):
    """An export that proves nothing, as it is cut off, empty, or no export. The message says which, where, and what to do."""


@dataclass(frozen=True)
class Entry:
    """One entry of a ledger. `state` is one of STATES; `sent_at` is when it was last sent, in seconds since 1970, by its host's clock."""

    sequence: int
    transaction_id: str | None
    state: str
    amount: str | None
    timestamp: str | None
    sent_at: float | None
    body: str | None


@dataclass(frozen=True)
class Closing:
    """The last line: whose ledger it is, how many entries from which to which, and when it was exported, in seconds since 1970."""

    ledger: str
    entries: int
    first: int | None
    last: int | None
    exported_at: float


class LedgerExport:
    """An export: iterate over its entries, in order of their sequence; after the last one, `closing` is there.

    Raises LedgerError as soon as something is wrong, which may be at the very end: nothing of an export counts before that.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.closing: Closing | None = None

    def __iter__(self) -> Iterator[Entry]:
        lines = ClosedLines(self.path, "ledger")
        try:
            yield from self._entries(lines)
        except DamagedFileError as error:
            raise LedgerError(f"ledger export {self.path}, {error}. Nothing was compared; export the ledger again.") from error
        except OSError as error:
            raise LedgerError(f"ledger export {self.path} cannot be read: {error.strerror or error}") from error

    def _entries(self, lines: ClosedLines) -> Iterator[Entry]:
        ledger, first, last, count = "", None, None, 0
        for number, document in lines:
            name, entry = self._entry(number, document)
            if count and name != ledger:
                raise DamagedFileError(f"line {number}: an entry of ledger {name} is among those of {ledger}")
            if last is not None and entry.sequence <= last:
                raise DamagedFileError(f"line {number}: sequence {entry.sequence} follows {last}")
            ledger, last, count = name, entry.sequence, count + 1
            first = entry.sequence if first is None else first
            yield entry
        closing = self._closing(lines.line, lines.closing)
        found = Closing(ledger if count else closing.ledger, count, first, last, closing.exported_at)
        if found != closing:
            raise DamagedFileError(f"line {lines.line}: it closes with {_words(closing)}, but has {_words(found)}")
        self.closing = closing

    def _entry(self, number: int, document: dict[str, Any]) -> tuple[str, Entry]:
        try:
            name, _slash, sequence = document["outbox_id"].rpartition("/")
            values = {text: document[text] for text in _OPTIONAL_TEXTS}
            if not name or int(sequence) < 1 or document["state"] not in STATES:
                raise ValueError
            if not all(value is None or isinstance(value, str) for value in values.values()):
                raise TypeError
            sent_at = None if values["sent_at"] is None else _seconds(values["sent_at"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise DamagedFileError(f"line {number}: it is no entry of a ledger: {json.dumps(document)[:200]}") from None
        if values["body"] is None and document["state"] != "reconciled":
            raise DamagedFileError(f"line {number}: entry {document['outbox_id']} has no body; export with --bodies")
        del values["sent_at"]
        return name, Entry(sequence=int(sequence), state=document["state"], sent_at=sent_at, **values)

    def _closing(self, number: int, document: dict[str, Any]) -> Closing:
        try:
            first, last = document["first"], document["last"]
            if not isinstance(document["ledger"], str) or not document["ledger"] or not isinstance(document["entries"], int):
                raise TypeError
            return Closing(document["ledger"], document["entries"], first, last, _seconds(document["exported_at"]))
        except (KeyError, TypeError, ValueError):
            raise DamagedFileError(f"line {number}: it is no closing line: {json.dumps(document)[:200]}") from None


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.timestamp()


def _words(closing: Closing) -> str:
    return f"{closing.entries} entries of ledger {closing.ledger}, {closing.first} to {closing.last}"
