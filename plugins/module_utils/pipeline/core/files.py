"""Files for their owner alone that are whole or not there, and JSON lines in gzip whose last line, the closing line, proves them whole."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .bounded_json import decode

# What a killed process leaves of an unfinished file.
PART = ".part"


class DamagedFileError(ValueError):
    """A file that proves nothing: it is cut off, empty, or no such file. The message names the line and what is wrong with it."""


def make_directory(path: Path) -> None:
    """Makes a private directory and its parents. They are on the disk when this returns, and stay there after a power cut."""
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


def new_file(path: Path, mode: str = "wb", buffering: int = -1) -> IO[Any]:
    """An empty file, made anew, that only its owner may read: it names transactions."""
    make_directory(path.parent)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, mode, buffering, encoding=None if "b" in mode else "utf-8")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that replaces `path` once all of it is written and on the disk. Nothing of it is left when something fails before."""
    part = path.with_name(f".{path.name}{PART}")
    try:
        with new_file(part) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(path.parent)


def to_json(value: Any) -> str:
    """A value as JSON text, on one line; bytes become base64."""
    return json.dumps(value, default=_base64)


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


class JsonLinesWriter:
    """Takes the records of one file, compressed as they come; `count` is how many there are."""

    def __init__(self, zipped: gzip.GzipFile) -> None:
        self._zipped, self.count = zipped, 0

    def add(self, record: dict[str, Any]) -> None:
        self._zipped.write(to_json(record).encode() + b"\n")
        self.count += 1


@contextlib.contextmanager
def write_json_lines(path: Path, closing: Callable[[int], dict[str, Any]] | None = None) -> Iterator[JsonLinesWriter]:
    """An atomic file of JSON lines; `closing` makes its last line from the number of the others."""
    # Without a name and a time in the gzip: the same records make the same file.
    with atomic_file(path) as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped:
        lines = JsonLinesWriter(zipped)
        yield lines
        if closing:
            lines.add(closing(lines.count))


class ClosedLines:
    """Reads JSON lines that end with a closing line, which is the object with the member `mark`.

    Iterate over it for each other object with its line number; then `closing` is there, and `line` is the last line. With `counted`, that
    member of the closing line must be the number of the others. Raises DamagedFileError as soon as something is wrong, which may be at the
    very end: nothing of the file counts before that. Raises OSError for a file that cannot be opened.
    """

    def __init__(self, path: Path | str, mark: str, counted: str = "") -> None:
        self._path, self._mark, self._counted = path, mark, counted
        self.line = 0
        self.closing: dict[str, Any] = {}

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, text in self._lines():
            self.line = number
            if self.closing:
                raise self._error("there is more after the closing line")
            document = self._document(text)
            if self._mark in document:
                self.closing = document
            else:
                yield self.line, document
        if not self.closing:
            raise self._error("the closing line is missing: the file is cut off" if self.line else "it is empty")
        if self._counted and self.closing.get(self._counted) != self.line - 1:
            raise self._error(f"it closes with {self.closing.get(self._counted)!r} {self._counted}, but has {self.line - 1}")

    def _lines(self) -> Iterator[tuple[int, str]]:
        try:
            with gzip.open(self._path, "rt", encoding="utf-8") as lines:
                yield from enumerate(lines, start=1)
        except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
            self.line += 1
            what = "cut off or damaged" if isinstance(error, EOFError | zlib.error) else "no gzip of JSON lines"
            raise self._error(f"it is {what} ({error})") from error

    def _document(self, text: str) -> dict[str, Any]:
        try:
            document = decode(text)
        except ValueError:
            raise self._error(f"it is no JSON: {text[:80]!r}") from None
        if not isinstance(document, dict):
            raise self._error(f"it is no object: {text[:80]!r}")
        return document

    def _error(self, what: str) -> DamagedFileError:
        return DamagedFileError(f"line {self.line}: {what}")
