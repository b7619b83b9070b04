"""Exporting what a pipeline holds: the table, the quarantine and the ledgers, each as gzipped JSON lines."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import sweep
from ..aws.table import TableReader
from ..core.clock import Clock
from ..core.files import ClosedLines, DamagedFileError, JsonLinesWriter, atomic_file, make_directory, sync_directory, write_json_lines
from ..quarantine.archive import archived


class ExportError(Exception):
    """Something could not be exported whole; the message says what, and how much of it is known."""


@contextlib.contextmanager
def export(directory: Path, stamp: str, environment: str) -> Iterator[Export]:
    """An export into `directory`/`stamp`, for its owner alone. Nothing of it is left when it does not succeed."""
    partial = directory / f".{stamp}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    make_directory(partial)
    made = Export(partial)
    try:
        yield made
        manifest = {"environment": environment, "exported_at": stamp, "files": made.files}
        with atomic_file(partial / "export.json") as file:
            file.write(json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n")
        made.directory = _renamed(partial, directory / stamp)
        sync_directory(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Export:
    """The files of one export; `directory` is where they are.

    `files` has of each its `name`, what it has (`source`), how many `records`, its size in `bytes`, and its `sha256`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.files = directory, list[dict[str, Any]]()

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

    @property
    def lines(self) -> list[str]:
        """A sentence for each file."""
        return [f"{file['source']}: {file['records']:,} in {file['name']} ({file['bytes']:,} bytes)" for file in self.files]

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
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.files.append({"name": path.name, "source": source, "records": records, "bytes": path.stat().st_size, "sha256": digest})


def whole_ledger(path: Path) -> int:
    """How many entries a ledger has. Raises ExportError unless its last line says the same."""
    try:
        return sum(1 for _entry in ClosedLines(path, "ledger", counted="entries"))
    except (OSError, DamagedFileError) as error:
        raise ExportError(f"ledger {path} is not whole: {error}") from error


def _renamed(partial: Path, wanted: Path) -> Path:
    """Where a finished export went: two of the same second are told apart by a number."""
    names = chain([wanted.name], (f"{wanted.name}-{number}" for number in count(2)))
    return partial.rename(next(path for path in map(wanted.with_name, names) if not path.exists()))
