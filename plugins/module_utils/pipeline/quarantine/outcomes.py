"""What became of quarantined messages, by what the quarantine left on this machine: which were purged to an archive, which replayed."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..core.bounded_json import decode
from .journal import FILE_NAME, Journal


class ArchiveError(ValueError):
    """An archive that is not whole. The message says which, and what to do."""


@dataclass(frozen=True)
class Purged:
    """A message that was deleted from the quarantine because an archive has it; `at`, in seconds since 1970, is when that run began."""

    message_id: str
    outbox_id: str
    at: float


@dataclass(frozen=True)
class Replayed:
    """A message that was sent back to the queue, or may have been; `at` is when that began, in seconds since 1970."""

    message_id: str
    outbox_id: str | None
    transaction_id: str | None
    at: float


def purged(directory: Path) -> Iterator[Purged]:
    """What the archives in a directory were made to delete; one that deleted nothing proves nothing. Raises ArchiveError."""
    for path in sorted(directory.glob("*.jsonl.gz")):
        yield from _purged(path)


def _purged(path: Path) -> list[Purged]:
    """Of an archive, gzip of JSON lines with a last one that proves it whole. It has 100,000 messages at most."""
    count, closing, found = 0, None, []
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                document = decode(line)
                if "archive" in document:
                    closing = document
                    continue
                count += 1
                if document["outbox_id"] is not None:
                    found.append((document["message_id"], document["outbox_id"]))
        messages, is_purge, at = None, False, 0.0
        if closing is not None:
            messages, is_purge = closing["messages"], closing.get("purged") is True
            at = datetime.fromisoformat(closing["archived_at"]).timestamp()
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"archive {path} cannot be read: {error}. Move it elsewhere if it is none.") from error
    if messages != count:
        raise ArchiveError(f"archive {path} is not whole: it has {count} messages, and closes with {messages}. Move it elsewhere.")
    return [Purged(message_id, outbox_id, at) for message_id, outbox_id in found] if is_purge else []


def replayed(directory: Path) -> list[Replayed]:
    """What the journal in a directory has; nothing where there is none."""
    if not (directory / FILE_NAME).exists():
        return []
    with contextlib.closing(Journal(directory)) as journal:
        return [Replayed(message, outbox, transaction, at.timestamp()) for message, outbox, transaction, at in journal.replays()]
