"""A feed from stdin. It ends where stdin ends, and cannot be continued after a restart."""

import math
import os
import select
from collections.abc import Iterator

from feed_files import CHUNK_BYTES, KEPT_BYTES, POLL_SECONDS, Line
from outbox_error import OutboxError
from outbox_records import Draft

STDIN = 0


class StdinFeed:
    """The lines of stdin; it never waits for them. `message_bytes`: the largest message that the queue takes."""

    path = "-"

    def __init__(self, message_bytes: int) -> None:
        self._limit = message_bytes
        self._buffer, self._cut, self._ended = bytearray(), b"", False
        self._offset = self._read = self._line = 0
        self._moment = -math.inf

    def next_moment(self, now: float) -> float:
        """When to look again; never (math.inf) after the end."""
        return self._moment

    def draw(self, now: float, limit: int) -> Draft:
        """The next lines, `limit` at most. Raises OutboxError if stdin cannot be read."""
        draft = Draft()
        try:
            for line in self._lines():
                draft.take(line.parsed("-", self._limit))
                if draft.size >= limit:
                    break
        except OSError as error:
            raise OutboxError("source not readable", "stdin", str(error), "a pipe or a file", "see who writes to it") from error
        if not draft.size:
            self._moment = math.inf if self._ended and not self._buffer else now + POLL_SECONDS
        return draft

    def _lines(self) -> Iterator[Line]:
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                yield self._take(end, 1)
                continue
            if len(self._buffer) > KEPT_BYTES + CHUNK_BYTES:  # its middle is not kept
                self._cut = self._cut or bytes(self._buffer[:KEPT_BYTES])
                self._buffer.clear()
            if not self._ended and not select.select([STDIN], [], [], 0)[0]:
                return
            chunk = os.read(STDIN, CHUNK_BYTES)
            self._ended = not chunk
            self._buffer += chunk
            self._read += len(chunk)
            if self._ended:
                if self._read > self._offset:
                    yield self._take(len(self._buffer), 0)
                return

    def _take(self, end: int, ending: int) -> Line:
        content = self._cut or bytes(self._buffer[:end])
        after = self._read - len(self._buffer) + end + ending
        line = Line(self._line + 1, self._offset, after - ending - self._offset, content[:KEPT_BYTES], after)
        del self._buffer[: end + ending]
        self._cut, self._offset, self._line = b"", after, self._line + 1
        return line
