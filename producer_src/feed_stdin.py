"""A feed from stdin. It ends where stdin ends, and cannot be continued after a restart."""

import math
import os
import select
from collections import deque

from feed_files import CHUNK_BYTES, POLL_SECONDS, Cutter, Line
from outbox_error import OutboxError
from outbox_records import Draft

STDIN = 0


class StdinFeed:
    """The lines of stdin; it never waits for them. `message_bytes`: the largest message that the queue takes."""

    path = "-"

    def __init__(self, message_bytes: int) -> None:
        self._limit = message_bytes
        self._cutter, self._ended = Cutter(), False
        self._lines: deque[Line] = deque()  # that were read and not drawn
        self._moment = -math.inf

    def next_moment(self, now: float) -> float:
        return self._moment

    def draw(self, now: float, limit: int) -> Draft:
        """The next lines, `limit` at most. Raises OutboxError if stdin cannot be read."""
        draft = Draft()
        while draft.size < limit and (self._lines or self._read()):
            if self._lines:
                draft.take(self._lines.popleft().parsed("-", self._limit))
        if not draft.size:
            self._moment = math.inf if self._ended and not self._lines else now + POLL_SECONDS
        return draft

    def _read(self) -> bool:
        """Read on; False if there is nothing now, or after the end."""
        try:
            if self._ended or not select.select([STDIN], [], [], 0)[0]:
                return False
            chunk = os.read(STDIN, CHUNK_BYTES)
        except OSError as error:
            raise OutboxError("source not readable", "stdin", str(error), "a pipe or a file", "see who writes to it") from error
        self._ended = not chunk
        self._lines.extend(self._cutter.cut(chunk))
        if self._ended and self._cutter.line.length:
            self._lines.append(self._cutter.line)
        return True
