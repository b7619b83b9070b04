"""An open file of a feed: its lines from a place on, and the fingerprint that identifies it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from feed_lines import parse_line
from outbox_records import Message, Position, Rejected
from producer_settings import MAX_BYTES

POLL_SECONDS = 0.2  # between looks for more
CHUNK_BYTES = 65_536  # of one read
KEPT_BYTES = MAX_BYTES  # of a longer rejected line no more is kept
HASHED_BYTES = 4_096  # at the start and at the end of what was read: their hashes identify the file
BOM = b"\xef\xbb\xbf"
ZSTD = b"\x28\xb5\x2f\xfd"
PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}  # by the first bytes of a file


@dataclass(frozen=True)
class Line:
    """Line `number` of a file: `length` bytes from `start` on without its end; `content` has the first KEPT_BYTES of them.

    The next line starts at `after`.
    """

    number: int
    start: int
    length: int
    content: bytes
    after: int

    @property
    def ended(self) -> bool:
        """Whether it has a line end."""
        return self.after > self.start + self.length

    def parsed(self, source: str, message_bytes: int) -> Message | Rejected | None:
        """The transaction, or the line with the reason why it is not one; None for a blank line."""
        content, length = self.content, self.length
        if self.start == 0 and content.startswith(BOM):
            content, length = content[len(BOM) :], length - len(BOM)
        if length == len(content) and content.endswith(b"\r"):
            content, length = content[:-1], length - 1
        found = parse_line(content, message_bytes) if length == len(content) else "too_large"
        if isinstance(found, Message):
            return found
        return Rejected(source, self.number, self.start, length, found, content) if content.strip() else None


class Cutter:
    """Cuts what is read into lines, from one that begins at `start`, with `lines` before it. `line` is the one that has no end yet."""

    def __init__(self, start: int = 0, lines: int = 0) -> None:
        self.line = Line(lines + 1, start, 0, b"", start)

    def cut(self, chunk: bytes) -> Iterator[Line]:
        """The lines that end in the next bytes."""
        *parts, rest = chunk.split(b"\n")
        for part in parts:
            line = self._longer(part, 1)
            self.line = Line(line.number + 1, line.after, 0, b"", line.after)
            yield line
        self.line = self._longer(rest, 0)

    def _longer(self, part: bytes, ending: int) -> Line:
        line = self.line
        content = line.content + part[: KEPT_BYTES - len(line.content)]
        return Line(line.number, line.start, line.length + len(part), content, line.after + len(part) + ending)


class Unreadable(Exception):
    """A compressed file that is incomplete, or of an unknown kind."""


class FeedFile:
    """One file, at `position`. `handle` has its lines; if the file is `packed`, that is another file with the unpacked content."""

    def __init__(self, handle: int, position: Position, packed: bool = False) -> None:
        self.handle, self.position, self.packed = handle, position, packed
        self.stamp = ""  # its size and time when it was opened
        self.changed = 0.0  # when it last changed, by the feed's clock
        self.away = False  # whether it is no longer in the directory
        self.left_behind = False  # whether another file has the feed's name, or it is away
        self.stuck = False  # whether its unread part has no line end
        self._cutter = Cutter()

    def close(self) -> None:
        os.close(self.handle)

    def unpacked(self, directory: str) -> FeedFile:
        """This file; or, if it is compressed, its content as a nameless file in `directory`. Raises Unreadable and closes this file."""
        start = os.pread(self.handle, 6, 0)
        opener = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), None)
        if not opener and not start.startswith(ZSTD):
            return self
        try:
            if not opener:
                raise Unreadable("compressed with zstd, expected gzip, bzip2 or xz")
            with tempfile.TemporaryFile(dir=directory) as plain, os.fdopen(os.dup(self.handle), "rb") as raw, opener(raw) as packed:
                shutil.copyfileobj(packed, plain, CHUNK_BYTES)
                plain.flush()
                return FeedFile(os.dup(plain.fileno()), self.position, packed=True)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if getattr(error, "errno", None) is not None:  # the disk's; gzip and bz2 raise an OSError without errno for bad data
                raise
            raise Unreadable(f"not whole: {error}") from error
        finally:
            self.close()

    def count_lines(self, size: int, start: int = 0) -> tuple[int, int]:
        """Where the last complete line from `start` up to `size` bytes ends, and how many there are."""
        at, end, lines = start, start, 0
        while chunk := os.pread(self.handle, min(CHUNK_BYTES, size - at), at):
            lines += chunk.count(b"\n")
            end = at + chunk.rfind(b"\n") + 1 if b"\n" in chunk else end
            at += len(chunk)
        return end, lines

    @property
    def size(self) -> int:
        """Its size now, uncompressed."""
        return os.fstat(self.handle).st_size

    @property
    def unread(self) -> int:
        """Bytes after its place."""
        return max(0, self.size - self.position.offset)

    def print_of(self, size: int) -> str:
        """A fingerprint of its first `size` bytes: a hash of the first and the last HASHED_BYTES of them."""
        head = os.pread(self.handle, min(HASHED_BYTES, size), 0)
        tail = os.pread(self.handle, min(HASHED_BYTES, size), max(0, size - HASHED_BYTES))
        return hashlib.sha256(head).hexdigest() + hashlib.sha256(tail).hexdigest()

    def begins_as(self, position: Position) -> bool:
        """Whether it begins with the content that a position has marked."""
        return self.size >= position.mark and self.print_of(position.mark) == position.fingerprint

    def same_start(self, other: FeedFile) -> bool:
        """Whether the two are the same as far as both have bytes, and both have some."""
        size = min(self.size, other.size)
        chunks = ((min(CHUNK_BYTES, size - at), at) for at in range(0, size, CHUNK_BYTES))
        return size > 0 and all(os.pread(self.handle, *chunk) == os.pread(other.handle, *chunk) for chunk in chunks)

    def go_to(self, offset: int, line: int) -> None:
        """Go to that place, and mark the content before it; at the start mark what is there, to recognise the file before it is read."""
        size = self.size
        mark = offset or min(HASHED_BYTES, size)
        place = {"offset": offset, "line": line, "mark": mark, "fingerprint": self.print_of(mark), "seen": max(size, offset)}
        self.position = replace(self.position, **place, state="open", waiting=0)  # type: ignore[arg-type]
        self._cutter = Cutter(offset, line)

    def lines(self) -> Iterator[Line]:
        """The lines after its place; the last one may have no end."""
        line = self._cutter.line
        if line.start != self.position.offset or line.length <= KEPT_BYTES:  # a longer one is not read again each time
            self._cutter = Cutter(self.position.offset, self.position.line)
        while chunk := os.pread(self.handle, CHUNK_BYTES, self._cutter.line.after):
            yield from self._cutter.cut(chunk)
        if self._cutter.line.length:
            yield self._cutter.line
