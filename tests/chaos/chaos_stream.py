"""The steady stream: a feed of transactions that the suite itself knows, so that what arrived can be held against what was sent."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

# Of a hundred lines so many are sent again as they were, have a known id with another amount, or can never be stored.
REPEATED, CONFLICTING, INVALID = 4, 8, 8


@dataclass(frozen=True)
class Line:
    """One line of the feed. `invalid`: the pipeline must refuse it, for its amount is negative."""

    transaction_id: str
    text: str
    invalid: bool

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.text, parse_float=Decimal, parse_int=Decimal)


class Stream:
    """Appends lines to a file, `rate` a second, while it flows; `lines` has all of them in order."""

    def __init__(self, path: Path, rate: float, seed: int = 1) -> None:
        self.path, self.rate, self.lines = path, rate, list[Line]()
        self._random = random.Random(seed)
        self._plain: list[Line] = []
        self._flowing, self._ended = threading.Event(), threading.Event()
        self._new = threading.Condition()
        path.touch()
        self._thread = threading.Thread(target=self._flow, daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Flow, and repeat or contradict nothing that was sent before."""
        self._plain.clear()
        self._flowing.set()

    def pause(self) -> None:
        self._flowing.clear()

    def end(self) -> None:
        self._ended.set()
        self._flowing.set()
        self._thread.join(10)

    def pass_by(self, seconds: float) -> int:
        """Return when the stream has gone on for so long, by its own count; how many lines there are then."""
        wanted = len(self.lines) + max(1, round(seconds * self.rate))
        with self._new:
            assert self._new.wait_for(lambda: len(self.lines) >= wanted, timeout=10 * seconds + 30), "the stream does not flow"
        return len(self.lines)

    def _flow(self) -> None:
        due = time.monotonic()
        with self.path.open("a", encoding="utf-8") as feed:
            while self._flowing.wait() and not self._ended.wait(max(0.0, due - time.monotonic())):
                # By the clock, not by the pauses: a second of the stream is a second. What a pause of it missed is not made up for.
                due = max(due, time.monotonic() - 1) + 1 / self.rate
                line = self._next()
                # Known before it is in the feed: nothing can arrive that was not sent.
                with self._new:
                    self.lines.append(line)
                    self._new.notify_all()
                feed.write(line.text + "\n")
                feed.flush()

    def _next(self) -> Line:
        kind = self._random.randrange(100)
        if kind < REPEATED and self._plain:
            return self._random.choice(self._plain[-50:])
        if kind < REPEATED + CONFLICTING and self._plain:
            # Once for each: a second one could not be told from the first.
            first = self._plain.pop(self._random.randrange(max(0, len(self._plain) - 50), len(self._plain)))
            return self._line(first.transaction_id, invalid=False)
        line = self._line(str(uuid.UUID(int=self._random.getrandbits(128), version=4)), invalid=kind >= 100 - INVALID)
        if not line.invalid:
            self._plain.append(line)
        return line

    def _line(self, transaction_id: str, invalid: bool) -> Line:
        amount = Decimal(self._random.randint(1, 2_000_000)).scaleb(-2) * (-1 if invalid else 1)
        record = {"transaction_id": transaction_id, "user_id": f"user-{self._random.randint(1, 99):05d}", "currency": "EUR"}
        text = json.dumps(record | {"merchant": "Café Zoë", "timestamp": "2026-01-02T03:04:05.678Z"}, ensure_ascii=False)
        return Line(transaction_id, f'{text[:-1]}, "amount": {amount}}}', invalid)
