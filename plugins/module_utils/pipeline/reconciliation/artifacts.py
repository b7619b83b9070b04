"""What a reconciliation leaves on this machine: its progress, lists of entries to send again, and the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core.clock import Clock
from ..core.files import atomic_file, new_file, to_json

PROGRESS_SECONDS = 5


class Progress:
    """A file that says how far a long run is, one line in five seconds at most. Each run begins a new one."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock, self._started, self._said = clock, clock.monotonic(), 0.0
        self._file = new_file(path, "w", buffering=1)

    def say(self, text: str) -> None:
        self._said = self._clock.monotonic()
        print(f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ} {self._said - self._started:7.1f} s  {text}", file=self._file)

    def count(self, text: str) -> None:
        """Says it, unless something was said in the last five seconds."""
        if self._clock.monotonic() - self._said >= PROGRESS_SECONDS:
            self.say(text)

    def close(self) -> None:
        self._file.close()


def write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Writes what a producer's `resend --lost` takes, a line an entry; the file is whole and on disk when this returns."""
    with atomic_file(path) as file:
        file.writelines(f"{to_json(entry)}\n".encode() for entry in entries)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of such a file; none if there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def write_report(path: Path, summary: dict[str, Any], lists: dict[str, Iterator[dict[str, Any]]]) -> None:
    """One JSON object: the summary's members, then each list, an element a line, so that a million do not have to be in memory."""
    with atomic_file(path) as file:
        file.write(json.dumps(summary, indent=2)[:-2].encode())
        for name, elements in lists.items():
            file.write(f",\n  {to_json(name)}: [".encode())
            file.writelines(f"{',' if number else ''}\n    {to_json(element)}".encode() for number, element in enumerate(elements))
            file.write(b"\n  ]")
        file.write(b"\n}\n")
