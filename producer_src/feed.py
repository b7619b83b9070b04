"""A real feed: a file of JSON lines, which is read on from where it was left, or stdin. Lines are sent as they are, to the byte.

The place in the file is committed with the transactions read up to there. When it is not sure that a file is the one that was read, it is
read from its start: what is sent twice is stored once.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import select
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from outbox_records import ATTRIBUTE_BYTES, Checkpoint, Draft, Rejected
from outbox_trouble import OutboxTrouble
from producer_settings import MAX_BYTES, Settings
from transaction_stream import Message

POLL_SECONDS = 0.2  # between looks for more
CHUNK_BYTES = 65_536  # of one read
KEPT_BYTES = MAX_BYTES  # of a longer line no more is kept aside
HASHED_BYTES = 4_096  # of a line that tells one file from another
ROTATED = re.compile(r"[.-][0-9][0-9.-]*")  # what a rotation appends to a name: .1, -20261124
UNSENDABLE = re.compile("[\ufffe\uffff]")  # characters of JSON that SQS refuses (SendMessage)


class Number(str):
    """A number of JSON, as it is written."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def judge(line: bytes, message_bytes: int) -> Message | str:
    """The transaction of a line, or the reason why it is none."""
    if len(line) + ATTRIBUTE_BYTES > message_bytes:
        return "too_large"
    try:
        text = line.decode()
        found = json.loads(text, parse_float=Number, parse_int=Number, parse_constant=_refuse)
    except UnicodeDecodeError:
        return "not_utf8"
    except (ValueError, RecursionError):
        return "not_json"
    if not isinstance(found, dict):
        return "not_an_object"
    identity = found.get("transaction_id")
    if identity is None:
        return "id_missing"
    if not isinstance(identity, str) or isinstance(identity, Number):
        return "id_not_a_string"
    if not identity:
        return "id_empty"
    if UNSENDABLE.search(text):
        return "character_not_allowed"
    if not _is_utf8(identity):
        return "lone_surrogate"
    amount, moment = found.get("amount"), found.get("timestamp")
    timestamp = moment if isinstance(moment, str) and not isinstance(moment, Number) and len(moment) <= 64 and _is_utf8(moment) else None
    return Message(identity, text, str(amount) if isinstance(amount, Number) else None, timestamp)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hash(line: bytes) -> str:
    return hashlib.sha256(line[:HASHED_BYTES]).hexdigest()


class Feed:
    """The lines of `settings.source`. `checkpoint_of(path)` says how far a file was read; `log` takes log lines."""

    def __init__(self, settings: Settings, checkpoint_of: Callable[[str], Checkpoint | None], log: Callable[..., None]) -> None:
        assert settings.source
        self._stdin = settings.source == "-"
        self._follow = settings.follow and not self._stdin
        self._limit, self._log = settings.message_bytes, log
        self._path = Path(settings.source).absolute()
        self._name = "-" if self._stdin else str(self._path)
        self._file: int | None = 0 if self._stdin else None
        self._next: list[Path] = []  # files to read after this one
        self._moment = -math.inf  # when to look again
        self._said = ""
        self._left = False  # whether another file has this one's name, and it was read once more since
        self._start_over()
        if not self._stdin:
            self._resume(checkpoint_of(self._name))

    def next_moment(self, now: float) -> float:
        """When to look again; never (math.inf) after the end."""
        return self._moment

    def draw(self, now: float, limit: int) -> Draft:
        """The next lines, `limit` at most; an empty draft when there are none now. Raises OutboxTrouble if they cannot be read."""
        try:
            return self._draw(now, limit)
        except OSError as error:
            raise OutboxTrouble("source not readable", self._name, str(error), "a file that this user may read",
                                "see the kernel's log (dmesg), and the permissions of the file and its directory") from error  # fmt: skip

    def _draw(self, now: float, limit: int) -> Draft:
        draft, before = Draft(), (self._inode, self._offset)
        while len(draft.messages) + len(draft.rejected) < limit:
            line = self._line_of_file(go_on=(self._inode, self._offset) == before)  # a commit has one checkpoint
            if line is None:
                break
            start, content, length = line
            found = judge(content, self._limit) if length == len(content) else "too_large"
            if isinstance(found, Message):
                draft.messages.append(found)
            elif content.strip():
                draft.rejected.append(Rejected(self._name, self._line, start, length, found, content))
        if self._offset == 0 or (self._inode, self._offset) == before:
            self._moment = max(self._moment, now + POLL_SECONDS)
            return draft
        checkpoint = Checkpoint(self._name, self._inode, self._first, self._offset, self._line, self._last_start, self._last)
        return Draft(draft.messages, draft.rejected, None if self._stdin else checkpoint)

    # --- lines -------------------------------------------------------------------------------------------------------

    def _start_over(self, offset: int = 0, line: int = 0, first: str = "") -> None:
        """Be at that place of the file that is open."""
        self._offset, self._line, self._first = offset, line, first
        self._last_start, self._last = 0, ""
        self._buffer, self._read, self._cut = bytearray(), offset, b""
        self._inode = os.fstat(self._file).st_ino if self._file is not None else 0
        if self._file is not None and not self._stdin:
            os.lseek(self._file, offset, os.SEEK_SET)

    def _line_of_file(self, go_on: bool) -> tuple[int, bytes, int] | None:
        """The next line: where it starts, the line without its end (KEPT_BYTES at most), and its length; None when there is none now.

        It may be the first of the next file only if told to `go_on`.
        """
        while self._file is not None or self._open_next():
            end = self._buffer.find(b"\n")
            if end >= 0:
                return self._take(end, 1)
            if len(self._buffer) > KEPT_BYTES + CHUNK_BYTES:  # its middle is of no use
                self._cut = self._cut or bytes(self._buffer[:KEPT_BYTES])
                self._buffer.clear()
            chunk = self._more()
            if chunk:
                self._buffer += chunk
                self._read += len(chunk)
            elif chunk is None or not self._is_over():
                return None
            elif self._read > self._offset:
                return self._take(len(self._buffer), 0)  # the last line of a file may have no end
            elif not go_on or not self._open_next():
                return None
        return None

    def _take(self, end: int, ending: int) -> tuple[int, bytes, int]:
        """Take the line that ends at `end` of the buffer, with as many bytes of ending."""
        content = self._cut or bytes(self._buffer[:end])
        after = self._read - len(self._buffer) + end + ending
        length = after - ending - self._offset
        del self._buffer[: end + ending]
        self._cut = b""
        if self._line == 0:
            self._first = _hash(content)
        self._last_start, self._last = self._offset, _hash(content)
        self._offset, self._line = after, self._line + 1
        if length == len(content) and content.endswith(b"\r"):
            content, length = content[:-1], length - 1
        return self._last_start, content[:KEPT_BYTES], length

    def _more(self) -> bytes | None:
        """The next bytes; b"" at the end, None when stdin has none now."""
        assert self._file is not None
        if self._stdin and not select.select([self._file], [], [], 0)[0]:
            return None
        return os.read(self._file, CHUNK_BYTES)

    def _is_over(self) -> bool:
        """At the end of what there is: whether nothing more can come to this file."""
        if not self._follow or self._next:
            return True
        assert self._file is not None
        mine = os.fstat(self._file)
        if mine.st_size < self._read:
            self._log("source", source=self._name, reason="truncated", found=mine.st_size, expected=self._read,
                      what_to_do="rotate the file by renaming it: what was cut off before it was read is gone")  # fmt: skip
            self._start_over()
            return False
        try:
            other = os.stat(self._path).st_ino != mine.st_ino
        except FileNotFoundError:
            return False  # it was renamed, and its successor is not there yet
        if other and self._left:
            self._next = self._successors(mine)
        seen, self._left = self._left, other
        return other and seen

    # --- files -------------------------------------------------------------------------------------------------------

    def _resume(self, checkpoint: Checkpoint | None) -> None:
        """Go to where the file was left: it may have been renamed since, and others may have come after it."""
        if checkpoint is None:
            self._next = [self._path]
            return
        for path in [self._path, *(path for _, _, path in self._siblings())]:
            try:
                self._open(path)
            except FileNotFoundError:
                continue
            assert self._file is not None
            if self._is_read_so_far(checkpoint):
                self._start_over(checkpoint.offset, checkpoint.line, checkpoint.first_line)
                self._last_start, self._last = checkpoint.last_start, checkpoint.last_line
                self._next = [] if path == self._path else self._successors(os.fstat(self._file))
                self._log("source", source=self._name, reason="resumed", file=str(path), offset=self._offset, line=self._line)
                return
            os.close(self._file)
            self._file = None
        self._log("source", source=self._name, reason="another file", offset=checkpoint.offset, line=checkpoint.line,
                  what_to_do="if the file that was read is elsewhere and had more lines, give them to --source - by hand")  # fmt: skip
        self._next = [self._path]

    def _is_read_so_far(self, checkpoint: Checkpoint) -> bool:
        """Whether the open file begins with what was read, as far as its first and last line tell."""
        assert self._file is not None
        if os.fstat(self._file).st_size < checkpoint.offset:
            return False
        first = os.pread(self._file, HASHED_BYTES, 0).partition(b"\n")[0]
        last = os.pread(self._file, min(HASHED_BYTES, checkpoint.offset - checkpoint.last_start), checkpoint.last_start).partition(b"\n")[0]
        return (_hash(first), _hash(last)) == (checkpoint.first_line, checkpoint.last_line)

    def _siblings(self) -> list[tuple[int, int, Path]]:
        """What rotations have made of this file: time of the last change, inode and path, the oldest first."""
        found, length = [], len(self._path.name)
        with os.scandir(self._path.parent) as entries:
            for each in entries:
                if each.name.startswith(self._path.name) and ROTATED.fullmatch(each.name[length:]):
                    with contextlib.suppress(FileNotFoundError):  # it was renamed once more
                        its = os.stat(each.path)
                        found.append((its.st_mtime_ns, its.st_ino, Path(each.path)))
        return sorted(found)

    def _successors(self, mine: os.stat_result) -> list[Path]:
        """The files that came after this one: those that were rotated later, and the one that has the name now."""
        later = [path for changed, inode, path in self._siblings() if changed > mine.st_mtime_ns and inode != mine.st_ino]
        return [*later, self._path]

    def _open(self, path: Path) -> None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutboxTrouble("source not readable", str(path), str(error), "a file that this user may read",
                                "correct --source (variable PRODUCER_SOURCE), or the file's permissions") from error  # fmt: skip
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OutboxTrouble("source not usable", str(path), "no regular file", "a file of JSON lines",
                                "correct --source (variable PRODUCER_SOURCE); a pipe goes to stdin, with --source -")  # fmt: skip
        self._file = handle

    def _open_next(self) -> bool:
        """Go on to the next file; False when there is none, or none yet."""
        if not self._next:
            self._moment = math.inf
            return False
        old, path = self._file, self._next[0]
        try:
            self._open(path)
        except FileNotFoundError:
            if old is not None and path != self._path:
                self._next = self._successors(os.fstat(old))  # it was renamed once more
            if self._follow:
                self._say_once("waiting for the file", file=str(path))
                return False
            raise OutboxTrouble("no source", str(path), "no file", "a file of JSON lines",
                                "correct --source (variable PRODUCER_SOURCE)") from None  # fmt: skip
        if old is not None:
            os.close(old)
        del self._next[0]
        self._left = False
        self._start_over()
        self._say_once("opened", file=str(path))
        return True

    def _say_once(self, reason: str, **fields: object) -> None:
        if self._said != reason:
            self._said = reason
            self._log("source", source=self._name, reason=reason, **fields)
