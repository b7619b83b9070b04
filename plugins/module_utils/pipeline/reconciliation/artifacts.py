"""What a reconciliation leaves on this machine: its progress, lists of entries to send again, and the report."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..core.clock import Clock
from ..quarantine.archive import make_directory, sync_directory

PROGRESS_SECONDS = 5


class Progress:
    """A file that says how far a long run is, a line every five seconds at most; begun anew with each run."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock, self._started, self._said = clock, clock.monotonic(), 0.0
        self._file = _opened(path, buffering=1)

    def say(self, text: str) -> None:
        self._said = self._clock.monotonic()
        print(f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ} {self._said - self._started:7.1f} s  {text}", file=self._file)

    def count(self, text: str) -> None:
        """Says it unless something was said in the last seconds."""
        if self._clock.monotonic() - self._said >= PROGRESS_SECONDS:
            self.say(text)

    def close(self) -> None:
        self._file.close()


def write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Writes what a producer's `resend --lost` takes, a line an entry; the file is whole and on disk when this returns."""
    with _whole(path) as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of such a file; none if there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def write_report(path: Path, summary: dict[str, Any], lists: dict[str, Iterator[dict[str, Any]]]) -> None:
    """One JSON object: the summary's members, then each list, an element a line, so that a million do not have to be in memory."""
    with _whole(path) as file:
        file.write(json.dumps(summary, indent=2)[:-2])
        for name, elements in lists.items():
            file.write(f",\n  {json.dumps(name)}: [")
            for number, element in enumerate(elements):
                file.write(f"{',' if number else ''}\n    {json.dumps(element)}")
            file.write("\n  ]")
        file.write("\n}\n")


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` when all was written and is on disk, and not at all when something fails before."""
    new = path.with_name(f".{path.name}.new")
    with _opened(new) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def _opened(path: Path, buffering: int = -1) -> TextIO:
    """An empty text file, made anew, that only its owner may read: transactions are named in it."""
    make_directory(path.parent)
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", buffering, encoding="utf-8")
