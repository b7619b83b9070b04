"""Where quarantined messages are kept on this machine: a private directory, and archives in it that are whole or not there.

An archive is gzip of JSON lines: one for each message, then one that proves it whole, {"archive": <queue>, "messages": <how many>, …}. What
somebody reads in it holds whatever the messages held, so only the owner may.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage

PART = ".part"


class BusyError(Exception):
    """Another process works on the same directory."""


def moment(value: datetime) -> str:
    """A time as every file here has it: UTC, ISO 8601, milliseconds."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def portable(attributes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Message attributes as JSON can hold them: bytes in base64."""
    return {
        name: {key: base64.b64encode(value).decode() if isinstance(value, bytes) else value for key, value in attribute.items()}
        for name, attribute in attributes.items()
    }


def unportable(attributes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The reverse of `portable`."""
    return {
        name: {key: base64.b64decode(value) if key == "BinaryValue" else value for key, value in attribute.items()}
        for name, attribute in attributes.items()
    }


def make_directory(path: Path) -> None:
    """Makes a private directory and what it lies in, each so that it outlasts a power cut."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=0o700)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Returns when the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Holds the directory's lock, which ends with this process, and clears away what a killed one left unfinished. Raises BusyError."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another run works on {directory}") from None
        for left in directory.glob(f"*{PART}"):
            left.unlink()
        yield
    finally:
        os.close(descriptor)


class Archive:
    """An archive being written; `path` is where it is once it was finished. Unfinished, it leaves nothing.

    `purged` says that the quarantine's messages are to be deleted now; `now` is before the first of them was received.
    """

    def __init__(self, directory: Path, queue: str, now: datetime, run: str, purged: bool) -> None:
        self.path = directory / f"{queue}-{now:%Y%m%dT%H%M%SZ}-{run}.jsonl.gz"
        self.messages = 0
        self._queue, self._now, self._purged = queue, now, purged
        self._part = self.path.with_name(self.path.name + PART)

    def __enter__(self) -> Archive:
        self._file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._lines = gzip.GzipFile(filename="", fileobj=self._file, mode="wb", mtime=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def add(self, message: QuarantinedMessage) -> None:
        """Writes one message, whole."""
        self._write(
            {
                "message_id": message.message_id,
                "reason": message.reason,
                "transaction_id": message.transaction_id,
                "outbox_id": message.outbox_id,
                "sent_at": moment(message.sent_at),
                "receive_count": message.receive_count,
                "attributes": portable(message.attributes),
                "body": message.body,
            }
        )
        self.messages += 1

    def finish(self) -> Path:
        """Returns when the archive is on the disk under its name, proved whole by its last line."""
        closing = {"archive": self._queue, "messages": self.messages, "archived_at": moment(self._now), "purged": self._purged}
        self._write(closing)
        self._lines.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        os.rename(self._part, self.path)
        sync_directory(self.path.parent)
        return self.path

    def _write(self, line: dict[str, Any]) -> None:
        self._lines.write(json.dumps(line).encode() + b"\n")
