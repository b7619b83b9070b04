"""Archives of the quarantine on this machine: the format of an archived dead-letter message, written and read.

An archive is a file of JSON lines: one for each message, then a closing line {"archive": <queue>, "messages": <how many>, …}. It holds
whatever the messages held, so only its owner may read it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage
from ..core.files import PART, ClosedLines, JsonLinesWriter, write_json_lines

# Of a QuarantinedMessage, what is text or a number.
NAMES = ("message_id", "transaction_id", "outbox_id", "source_message_id", "reason", "detail", "receive_count")


class BusyError(Exception):
    """Another process works on the same directory."""


class ArchiveError(ValueError):
    """An archive that is not whole. The message says which, and what to do."""


@dataclass(frozen=True)
class Purged:
    """A message that was deleted from the quarantine because an archive has it; `at`, in seconds since 1970, is when that run began."""

    message_id: str
    outbox_id: str
    at: float


def iso_time(value: datetime) -> str:
    """A time as every file here has it: UTC, ISO 8601, milliseconds."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def names_of(message: QuarantinedMessage) -> dict[str, Any]:
    """A message by all its names, without its content."""
    return {name: getattr(message, name) for name in NAMES} | {"sent_at": iso_time(message.sent_at)}


def archived(message: QuarantinedMessage) -> dict[str, Any]:
    """A whole message, as an archive and an export have it. Its receipt handle is worth nothing later."""
    return names_of(message) | {"attributes": message.attributes, "body": message.body}


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Holds the directory's lock, which ends with this process, and removes unfinished files of a killed one. Raises BusyError."""
    with os.fdopen(os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another run works on {directory}") from None
        for left in directory.glob(f"*{PART}"):
            left.unlink()
        yield


def write_archive(path: Path, queue: str, now: datetime, purged: bool) -> contextlib.AbstractContextManager[JsonLinesWriter]:
    """An archive to which `archived` messages are added; on leaving, it is whole and on the disk under its name, or not there.

    `purged` says that the quarantine's messages will be deleted next; `now` is before the first of them was received.
    """
    closing = {"archive": queue, "archived_at": iso_time(now), "purged": purged}
    return write_json_lines(path, lambda count: closing | {"messages": count})


def purged(directory: Path) -> Iterator[Purged]:
    """The messages that were deleted because an archive in this directory has them. Raises ArchiveError."""
    for path in sorted(directory.glob("*.jsonl.gz")):
        lines = ClosedLines(path, "archive", counted="messages")
        try:
            ids = [(record["message_id"], record["outbox_id"]) for _line, record in lines]  # of 100,000 messages at most
            at = datetime.fromisoformat(lines.closing["archived_at"]).timestamp()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"archive {path} is not whole: {error}. Move it elsewhere, also if it is no archive.") from error
        if lines.closing.get("purged") is True:
            yield from (Purged(message_id, outbox_id, at) for message_id, outbox_id in ids if outbox_id is not None)
