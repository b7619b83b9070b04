"""A writer of a feed that does what writers, rotations and operators do to files; and a reader that is killed at will.

Every generation of a file knows its lines and the places where they start, so that a line that is missing can be held against lost places.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feed import Feed
from outbox import Outbox
from outbox_records import LostPlace
from producer_fakes import in_memory, wanted

QUIET = 5.0
SUFFIXES = (".1", "-20261124", ".2026-11-24_10", ".old", "~", "_x.jsonl")


@dataclass
class Generation:
    """What one file held: `lines` are ids and where they start. `seen`: the reader has committed that it knows this much of it."""

    path: Path
    names: set[str]
    lines: list[tuple[str, int]] = field(default_factory=list)
    seen: bool = False
    backed_up: bool = False

    @property
    def missing_would_be_known(self) -> bool:
        return self.seen or not self.lines


class Writer:
    """Writes to `directory`/feed; `generations` are the files that are there, the feed last, and `past` what is gone or was overwritten."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp())  # on a disk that gives the inode of a removed file to the next one
        self.path = self.directory / "feed"
        self.count = self.names = 0
        self.held: list[tuple[Generation, int]] = []
        self.past: list[Generation] = []
        self.generations: list[Generation] = []
        self.rest = b""
        self.unfinished: Callable[[], object] = lambda: None
        self.create()

    def do(self, name: str, n: int) -> None:
        """One of WRITES."""
        self.unfinished()
        self.unfinished = lambda: None
        getattr(self, name)(n)

    def create(self) -> None:
        self.current = Generation(self.path, {str(self.path)})
        self.generations.append(self.current)
        self.handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def line(self, length: int = 0) -> tuple[str, bytes]:
        self.count += 1
        name = f"{self.count:04d}"
        text = json.dumps({"transaction_id": name})
        return name, (text[:-1] + " " * max(0, length - len(text) - 1) + "}\n").encode()

    def put(self, generation: Generation, handle: int, length: int = 0) -> None:
        name, text = self.line(length)
        generation.lines.append((name, os.fstat(handle).st_size))
        generation.seen = generation.seen and not generation.backed_up  # a copy must not be taken for all that there was
        os.write(handle, text)

    # What may happen. `n` is any number: which, or how many.

    def append(self, n: int) -> None:
        self.end_line(n)
        for _ in range(n % 12 + 1):
            self.put(self.current, self.handle, length=(n % 7) * 700)

    def begin_line(self, n: int) -> None:
        if not self.rest:
            name, text = self.line()
            cut = 1 + n % (len(text) - 1)
            self.rest, self.begun = text[cut:], (name, os.fstat(self.handle).st_size)
            os.write(self.handle, text[:cut])

    def end_line(self, _n: int) -> None:
        if self.rest:
            os.write(self.handle, self.rest)
            self.current.lines.append(self.begun)
            self.current.seen = self.current.seen and not self.current.backed_up
            self.rest = b""

    def rotate(self, n: int) -> None:
        """Rename it and make a new one; the writer of the old one may hold it for a while."""
        self.rename(self.current, n)
        if n % 2:
            self.end_line(n)
            self.held.append((self.current, self.handle))
        else:
            self.rest = b""
            os.close(self.handle)
        self.create()

    def rename(self, generation: Generation, n: int) -> None:
        self.names += 1
        new = self.directory / f"feed{SUFFIXES[n % len(SUFFIXES)]}{self.names}{'.gz' if generation.path.suffix == '.gz' else ''}"
        generation.path.rename(new)
        generation.path = new
        generation.names.add(str(new))

    def append_to_a_held_one(self, n: int) -> None:
        if self.held:
            generation, handle = self.held[n % len(self.held)]
            self.put(generation, handle)
            generation.seen = False

    def _old(self, n: int) -> Generation | None:
        old = [each for each in self.generations if each is not self.current and each.missing_would_be_known]
        return old[n % len(old)] if old else None

    def _let_go(self, generation: Generation) -> None:
        for each in [each for each in self.held if each[0] is generation]:
            os.close(each[1])
            self.held.remove(each)

    def shift(self, n: int) -> None:
        if old := self._old(n):
            self.rename(old, n)

    def remove(self, n: int) -> None:
        if old := self._old(n):
            self._let_go(old)
            old.path.unlink()
            self.generations.remove(old)
            self.past.append(old)

    def compress(self, n: int) -> None:
        old = self._old(n)
        if old and old.path.suffix != ".gz":
            self._let_go(old)
            content = old.path.read_bytes()
            packed = old.path.with_name(f"{old.path.name}.gz")
            packed.write_bytes(gzip.compress(content))
            old.path.unlink()
            old.path = packed
            old.names.add(str(packed))

    def copy_and_truncate(self, n: int) -> None:
        self.end_line(n)
        if self.current.backed_up and not self.current.seen:
            return
        self.names += 1
        copy = self.directory / f"feed{SUFFIXES[n % len(SUFFIXES)]}{self.names}"
        shutil.copy(self.path, copy)
        os.ftruncate(self.handle, 0)
        old = Generation(copy, {str(self.path), str(copy)}, self.current.lines, self.current.seen, self.current.backed_up)
        self.generations.insert(-1, old)
        self._anew()

    def back_up(self, n: int) -> None:
        """Somebody makes a copy beside it, which may take a while."""
        generation = self.generations[n % len(self.generations)]
        size = generation.path.stat().st_size
        if generation.seen and generation.path.suffix != ".gz" and size:
            self.names += 1
            content, copy = generation.path.read_bytes(), self.directory / f"feed.copy{self.names}"
            copy.write_bytes(content[: size // 2 + 1])
            generation.backed_up = True

            def finish() -> None:
                copy.write_bytes(content)
                generation.seen = False  # until a look has seen that the copy is one

            self.unfinished = finish

    def overwrite(self, n: int) -> None:
        """Write other lines over it in place: shorter, as long, longer; with the file cut to nothing first, or not."""
        self.end_line(n)
        if not (self.current.seen and self.current.lines):
            return
        size = os.fstat(self.handle).st_size
        self.past.append(self.current)
        self.generations.remove(self.current)
        self._anew(at_end=True)
        wanted_size = (size // 2, size, size + 400)[n % 3]
        texts = []
        while sum(map(len, texts)) < wanted_size or not texts:
            name, text = self.line()
            left = wanted_size - sum(map(len, texts)) - len(text)
            if 0 < left < len(text) + 8 or n % 5 == 0:
                text = text[:-2] + b" " * max(left, 0) + text[-2:]
            self.current.lines.append((name, sum(map(len, texts))))
            texts.append(text)
        if n % 2:
            os.ftruncate(self.handle, 0)
        handle = os.open(self.path, os.O_WRONLY)
        os.write(handle, b"".join(texts))
        os.ftruncate(handle, sum(map(len, texts)))
        os.close(handle)

    def empty(self, n: int) -> None:
        """Cut it to nothing, without a copy."""
        self.end_line(n)
        if self.current.seen and self.current.lines:
            self.past.append(self.current)
            self.generations.remove(self.current)
            self._anew(at_end=True)
            os.ftruncate(self.handle, 0)

    def replace(self, n: int) -> None:
        """Write other lines to a file beside it, and rename that over it, as editors do."""
        self.end_line(n)
        if self.current.seen and self.current.lines:
            beside, (name, text) = self.directory / f"feed{SUFFIXES[n % len(SUFFIXES)]}.new", self.line()
            beside.write_bytes(text)
            beside.rename(self.path)
            self.past.append(self.current)
            self.generations.remove(self.current)
            os.close(self.handle)
            self.create()
            self.current.lines.append((name, 0))

    def _anew(self, at_end: bool = False) -> None:
        if not at_end:
            self.generations.remove(self.current)
        self.current = Generation(self.path, {str(self.path)})
        self.generations.append(self.current)

    def set_clock(self, n: int) -> None:
        """What was changed last has a time long ago, or the same as all others."""
        os.utime(self.generations[n % len(self.generations)].path, (1_000, 1_000 + n % 2))

    def close(self) -> None:
        for _, handle in self.held:
            os.close(handle)
        os.close(self.handle)
        shutil.rmtree(self.directory)


WRITES = [
    *["append", "begin_line", "end_line", "append", "rotate", "append_to_a_held_one", "shift", "remove", "compress", "copy_and_truncate"],
    *["back_up", "overwrite", "empty", "replace", "set_clock"],
]


class Reader:
    """Reads the feed of a writer into a real outbox, and is killed between or before its commits."""

    def __init__(self, writer: Writer) -> None:
        self.writer, self.now = writer, 0.0
        self.state = in_memory()
        self.outbox = Outbox(self.state, exclusive=True)
        self.log: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        settings = wanted(source=str(self.writer.path), source_quiet=QUIET, state_directory=str(self.state))
        self.feed = Feed(settings, self.outbox.positions, lambda event, **fields: self.log.append({"event": event} | fields))

    def draw(self, limit: int, seconds: float = 1.0, commit: bool = True) -> bool:
        looks = self.now >= self.feed._look_at
        draft = self.feed.draw(self.now, limit)
        self.now += seconds
        if commit:
            self.outbox.add(draft)
            for each in self.writer.generations:
                each.seen = each.seen or (looks and bool(each.lines))
        return bool(draft)

    def read(self, n: int) -> None:
        """Some commits, with room for one or ten lines each."""
        for _ in range(n % 5 + 1):
            self.draw(10 if n % 3 else 1)

    def read_within_a_look(self, n: int) -> None:
        """A commit after which the next one comes so soon that the directory is not looked at between them, whatever happens to it."""
        self.draw(n % 4, seconds=0.001)

    def be_full(self, _n: int) -> None:
        self.draw(0)

    def rest(self, _n: int) -> None:
        self.now += QUIET

    def kill(self, n: int) -> None:
        if n % 2:
            self.draw(10, commit=False)
        for file in self.feed._open.values():
            file.close()
        self.now = float(n)  # another process's clock
        self.start()

    def read_all(self) -> None:
        quiet = 0
        while quiet < 4:
            quiet = 0 if self.draw(10) else quiet + 1
            if quiet:
                self.now += QUIET

    def ids(self) -> list[str]:
        return [name for _, name in self.outbox.pages("SELECT sequence, transaction_id FROM entry WHERE sequence > ? ORDER BY 1 LIMIT ?")]

    def lost(self) -> list[LostPlace]:
        return [LostPlace(*row) for row in self.outbox.rows("SELECT feed, file, offset, line, reason FROM lost_place")]

    def close(self) -> None:
        for file in self.feed._open.values():
            file.close()
        self.outbox.close()
        shutil.rmtree(self.state)


READS = ["read", "read", "read", "read_within_a_look", "be_full", "rest", "kill"]
