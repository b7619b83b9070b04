"""Exporting what a pipeline holds: the table, the quarantine and the ledgers, each as gzipped JSON lines."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import sweep
from ..aws.table import TableReader
from ..core.clock import Clock
from ..core.files import ClosedLines, DamagedFileError, JsonLinesWriter, atomic_file, make_directory, sync_directory, write_json_lines
from ..quarantine.archive import archived

MANIFEST = "export.json"


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


@contextlib.contextmanager
def export(directory: Path, stamp: str, environment: str) -> Iterator[Export]:
    """An export into `directory`/`stamp`, for its owner alone. Nothing of it is left when it does not succeed."""
    partial = directory / f".{stamp}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    make_directory(partial)
    made = Export(partial, environment, stamp)
    try:
        yield made
        made.finish()
        made.directory = _renamed(partial, directory / stamp)
        sync_directory(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Export:
    """The files of one export; `directory` is where they are."""

    def __init__(self, directory: Path, environment: str, stamp: str) -> None:
        self.directory, self.files = directory, list[File]()
        self._environment, self._stamp = environment, stamp

    def table(self, reader: TableReader, name: str) -> None:
        """Every item, as {"Item": ...} in DynamoDB's own JSON, which keeps every digit and which ImportTable reads."""
        with self._file("table.jsonl.gz", f"table {name}") as lines:
            for page in reader.pages():
                for item in page["Items"]:
                    lines.add({"Item": item})

    def quarantine(self, client: Any, url: str, clock: Clock, seconds: float) -> None:
        """Every message of the dead-letter queue, which is left as it was. Raises ExportError if some could not be read."""
        source = f"quarantine {url.rpartition('/')[2]}"
        with self._file("quarantine.jsonl.gz", source) as lines:
            with sweep(client, url, clock, seconds, bodies=False) as found:
                for message in found.arrivals():
                    lines.add(archived(message))
            if not found.complete:
                why = found.error or f"about {found.unseen:,} more are hidden by somebody else"
                raise ExportError(f"{source}: {lines.count:,} messages were read within {seconds:g} s, and {why}")

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
        with atomic_file(self.directory / MANIFEST) as file:
            file.write(json.dumps(made, indent=2, ensure_ascii=False).encode() + b"\n")

    @property
    def lines(self) -> list[str]:
        """A sentence for each file."""
        return [f"{file.source}: {file.records:,} in {file.name} ({file.bytes:,} bytes)" for file in self.files]

    @contextlib.contextmanager
    def _file(self, name: str, source: str) -> Iterator[JsonLinesWriter]:
        with write_json_lines(self.directory / name) as lines:
            yield lines
        self._note(self.directory / name, source, lines.count)

    def _copy(self, path: Path, name: str, what: str, records: int) -> None:
        with atomic_file(self.directory / name) as file, path.open("rb") as source:
            shutil.copyfileobj(source, file)
        self._note(self.directory / name, what, records)

    def _note(self, path: Path, source: str, records: int) -> None:
        with path.open("rb") as file:
            self.files.append(File(path.name, source, records, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()))


def whole_ledger(path: Path) -> int:
    """How many entries a ledger has. Raises ExportError unless its last line says the same."""
    try:
        return sum(1 for _entry in ClosedLines(path, "ledger", counted="entries"))
    except (OSError, DamagedFileError) as error:
        raise ExportError(f"ledger {path} is not whole: {error}") from error


def _renamed(partial: Path, wanted: Path) -> Path:
    """Where a finished export went: two of the same second are told apart by a number."""
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if not path.exists():
            return partial.rename(path)
        number += 1
