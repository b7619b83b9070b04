"""Writing what a pipeline holds to files that outlive it: the table, the quarantine and the ledgers, gzipped JSON lines each."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from ..aws.dead_letter_queue import QuarantinedMessage, sweep
from ..core.bounded_json import decode
from ..core.clock import Clock, polls
from ..core.errors import THROTTLES
from .data_info import ABSENT

MANIFEST = "export.json"
FILE_MODE, DIRECTORY_MODE = 0o600, 0o700
# "Burst and adaptive capacity" of the DynamoDB developer guide: a table keeps 300 seconds of units that nobody used.
BURST_SECONDS = 300
# A page that is throttled is asked for anew so long, beside the SDK's own attempts.
THROTTLED_SECONDS = 120.0


class ExportError(Exception):
    """Something could not be exported whole; the message says what, and how much of it is known."""


@dataclass(frozen=True)
class File:
    """One file of an export: what it has (`source`), how many records, its size in bytes, and its SHA-256."""

    name: str
    source: str
    records: int
    bytes: int
    sha256: str


class Lines:
    """Takes the records of one file, compressed as they come; nothing is kept."""

    def __init__(self, raw: BinaryIO) -> None:
        # Without a name and a time: the same records make the same file.
        self._zipped = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
        self.records = 0

    def add(self, record: dict[str, Any]) -> None:
        self._zipped.write(json.dumps(record, default=_base64).encode() + b"\n")
        self.records += 1

    def close(self) -> None:
        self._zipped.close()


@contextlib.contextmanager
def export(directory: Path, stamp: str, environment: str) -> Iterator[Export]:
    """An export into `directory`/`stamp`, of which nothing is left when it does not succeed; readable by its owner alone."""
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    partial = directory / f".{stamp}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=DIRECTORY_MODE)
    made = Export(partial, environment, stamp)
    try:
        yield made
        made.finish()
        made.directory = _renamed(partial, directory / stamp)
        _sync(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Export:
    """The files of one export; `directory` is where they are."""

    def __init__(self, directory: Path, environment: str, stamp: str) -> None:
        self.directory, self.files = directory, list[File]()
        self._environment, self._stamp = environment, stamp

    def table(self, client: Any, name: str, units: ReadUnits) -> None:
        """Every item, as {"Item": ...} in DynamoDB's own JSON, which keeps every digit and which ImportTable reads."""
        with self._file("table.jsonl.gz", f"table {name}") as lines:
            for item in _items(client, name, units):
                lines.add({"Item": item})

    def quarantine(self, client: Any, url: str, clock: Clock, seconds: float) -> None:
        """Every message of the dead-letter queue, which is left as it was. Raises ExportError when not all of them were met."""
        source = f"quarantine {url.rpartition('/')[2]}"
        with self._file("quarantine.jsonl.gz", source) as lines:
            with sweep(client, url, clock, seconds, bodies=False) as found:
                for message in found.arrivals():
                    lines.add(_as_record(message))
            if not found.complete:
                why = found.error or f"about {found.unseen:,} more are hidden by somebody else"
                raise ExportError(f"{source}: {lines.records:,} messages were read within {seconds:g} s, and {why}")

    def ledger(self, path: Path) -> None:
        """A ledger as a producer exported it, byte by byte. Raises ExportError for one that is not whole."""
        self._copy(path, f"ledger-{path.name}", f"ledger of {path.name.removesuffix('.jsonl.gz')}", whole_ledger(path))

    def rejected(self, path: Path) -> None:
        """The rejected lines of a feed as a producer listed them, byte by byte. Raises ExportError for a list that is cut off."""
        try:
            with gzip.open(path, "rb") as lines:
                records = sum(1 for _line in lines)
        except (OSError, EOFError) as error:
            raise ExportError(f"rejected lines {path} are not whole: {type(error).__name__}: {error}") from error
        host = path.name.removesuffix(".rejected.jsonl.gz")
        self._copy(path, f"rejected-{host}.jsonl.gz", f"rejected lines of {host}", records)

    def finish(self) -> None:
        """Write the list of the files."""
        made = {"environment": self._environment, "exported_at": self._stamp, "files": [asdict(file) for file in self.files]}
        with _owned(self.directory / MANIFEST) as raw:
            raw.write(json.dumps(made, indent=2, ensure_ascii=False).encode() + b"\n")

    @property
    def lines(self) -> list[str]:
        """A sentence for each file."""
        return [f"{file.source}: {file.records:,} in {file.name} ({file.bytes:,} bytes)" for file in self.files]

    @contextlib.contextmanager
    def _file(self, name: str, source: str) -> Iterator[Lines]:
        with _owned(self.directory / name) as raw:
            lines = Lines(raw)
            yield lines
            lines.close()
        self._note(self.directory / name, source, lines.records)

    def _copy(self, path: Path, name: str, what: str, records: int) -> None:
        with _owned(self.directory / name) as raw, path.open("rb") as source:
            shutil.copyfileobj(source, raw)
        self._note(self.directory / name, what, records)

    def _note(self, path: Path, source: str, records: int) -> None:
        with path.open("rb") as file:
            self.files.append(File(path.name, source, records, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()))


class ReadUnits:
    """The read units of a table: what it saved up at once, then its capacity. `used` is how many were taken."""

    def __init__(self, capacity: float, clock: Clock) -> None:
        self._capacity, self._clock = capacity, clock
        self._left, self._counted, self.used = capacity * BURST_SECONDS, clock.monotonic(), 0.0

    def spend(self, units: float) -> None:
        """Waits until the table can give so many; no wait for a table on demand, whose capacity is 0."""
        self.used += units
        if not self._capacity:
            return
        now = self._clock.monotonic()
        self._left = min(self._capacity * BURST_SECONDS, self._left + self._capacity * (now - self._counted)) - units
        self._counted = now
        if self._left < 0:
            self._clock.wait(-self._left / self._capacity)

    def throttled(self, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `ask` gives, which is asked anew while the table is too busy; raises its last error when the time is up."""
        for left in polls(self._clock, THROTTLED_SECONDS):
            try:
                return ask()
            except ClientError as error:
                if error.response["Error"]["Code"] not in THROTTLES or not left:
                    raise
        raise AssertionError("polls ends with nothing left")


def is_there(ask: Callable[..., Any], **arguments: Any) -> bool:
    """Whether a table or queue exists, by a call that reads it; other AWS errors are raised."""
    try:
        ask(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            return False
        raise
    return True


def whole_ledger(path: Path) -> int:
    """How many entries a ledger has. Raises ExportError unless its last line says the same."""
    entries, last = -1, b""
    try:
        with gzip.open(path, "rb") as lines:
            for line in lines:
                entries, last = entries + 1, line
        said = decode(last.decode())["entries"]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"ledger {path} is not whole: {type(error).__name__}: {error}") from error
    if said != entries:
        raise ExportError(f"ledger {path} has {entries:,} entries, and its last line says {said!r}")
    return entries


def _items(client: Any, table: str, units: ReadUnits) -> Iterator[dict[str, Any]]:
    arguments: dict[str, Any] = {"TableName": table, "ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
    while True:
        page = units.throttled(lambda: client.scan(**arguments))
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        units.spend(page.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0))
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _as_record(message: QuarantinedMessage) -> dict[str, Any]:
    """The message without what is worth nothing once its queue is gone."""
    record = asdict(message)
    del record["receipt_handle"]
    return record | {"sent_at": message.sent_at.isoformat().replace("+00:00", "Z")}


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in a file of JSON lines")


@contextlib.contextmanager
def _owned(path: Path) -> Iterator[BinaryIO]:
    """A new file for its owner alone, on the disk when it is closed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as raw:
        yield raw
        raw.flush()
        os.fsync(raw.fileno())


def _renamed(partial: Path, wanted: Path) -> Path:
    """Where a finished export went: two of the same second are told apart by a number."""
    _sync(partial)
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if not path.exists():
            return partial.rename(path)
        number += 1


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
