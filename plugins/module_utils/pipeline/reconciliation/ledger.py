"""Reading the ledgers that producers export: JSON lines, gzip, with a closing line that proves the export whole."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..core.bounded_json import decode

STATES = ("unsent", "sent", "reconciled")
_OPTIONAL_TEXTS = ("transaction_id", "amount", "timestamp", "body", "sent_at")


class LedgerError(ValueError):
    """An export that proves nothing: cut off, empty, not what an export is. The message says which, where and what to do."""


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
        number, ledger, first, last, count = 0, "", None, None, 0
        for number, line in self._lines():
            if self.closing is not None:
                raise self._error(number, "there is more after the closing line")
            document = self._document(number, line)
            if "ledger" in document:
                self.closing = self._closing(number, document)
                continue
            name, entry = self._entry(number, document)
            if count and name != ledger:
                raise self._error(number, f"an entry of ledger {name} is among those of {ledger}")
            if last is not None and entry.sequence <= last:
                raise self._error(number, f"sequence {entry.sequence} follows {last}")
            ledger, last, count = name, entry.sequence, count + 1
            first = entry.sequence if first is None else first
            yield entry
        if self.closing is None:
            raise self._error(number, "the closing line is missing: the export is cut off" if number else "it is empty")
        found = Closing(ledger if count else self.closing.ledger, count, first, last, self.closing.exported_at)
        if found != self.closing:
            raise self._error(number, f"it closes with {_words(self.closing)}, but has {_words(found)}")

    def _lines(self) -> Iterator[tuple[int, str]]:
        number = 0
        try:
            with gzip.open(self.path, "rt", encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    yield number, line
        except (EOFError, zlib.error) as error:
            raise self._error(number + 1, f"it is cut off or damaged ({error})") from error
        except (gzip.BadGzipFile, UnicodeDecodeError) as error:
            raise self._error(number + 1, f"it is no gzip of JSON lines ({error})") from error
        except OSError as error:
            raise LedgerError(f"ledger export {self.path} cannot be read: {error.strerror or error}") from error

    def _document(self, number: int, line: str) -> dict[str, Any]:
        try:
            document = decode(line)
        except ValueError:
            raise self._error(number, f"it is no JSON: {line[:80]!r}") from None
        if not isinstance(document, dict):
            raise self._error(number, f"it is no object: {line[:80]!r}")
        return document

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
            raise self._error(number, f"it is no entry of a ledger: {json.dumps(document)[:200]}") from None
        if values["body"] is None and document["state"] != "reconciled":
            raise self._error(number, f"entry {document['outbox_id']} has no body; export with --bodies")
        del values["sent_at"]
        return name, Entry(sequence=int(sequence), state=document["state"], sent_at=sent_at, **values)

    def _closing(self, number: int, document: dict[str, Any]) -> Closing:
        try:
            first, last = document["first"], document["last"]
            if not isinstance(document["ledger"], str) or not document["ledger"] or not isinstance(document["entries"], int):
                raise TypeError
            return Closing(document["ledger"], document["entries"], first, last, _seconds(document["exported_at"]))
        except (KeyError, TypeError, ValueError):
            raise self._error(number, f"it is no closing line: {json.dumps(document)[:200]}") from None

    def _error(self, number: int, what: str) -> LedgerError:
        return LedgerError(f"ledger export {self.path}, line {number}: {what}. Nothing was compared; export the ledger again.")


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.timestamp()


def _words(closing: Closing) -> str:
    return f"{closing.entries} entries of ledger {closing.ledger}, {closing.first} to {closing.last}"
