"""A clock that tests can replace, and bounded polling by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    """Time as the modules see it: `now` is an aware UTC datetime, `monotonic` and `wait` are in seconds."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    wait: Callable[[float], object]


def system_clock() -> Clock:
    """The machine's own clock."""
    return Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic, wait=threading.Event().wait)


def polls(clock: Clock, seconds: float, first: float = 0.2, longest: float = 2.0) -> Iterator[float]:
    """Yield the seconds left: at once, then after pauses that grow from `first` to `longest`, and once more when no time is left."""
    end = clock.monotonic() + seconds
    pause = first
    while True:
        yield max(end - clock.monotonic(), 0.0)
        left = end - clock.monotonic()
        if left <= 0:
            return
        clock.wait(min(pause, left))
        pause = min(pause * 1.5, longest)
