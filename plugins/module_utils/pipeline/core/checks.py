"""What the verifying modules share: the shape of a check, a clock to inject, bounded polling, and errors in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from .terminal import printable

Check = dict[str, Any]

AWS_ERRORS = (BotoCoreError, ClientError)
# Refusals of the moment, which AWS sends with status 400 like the lasting ones.
THROTTLES = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


@dataclass(frozen=True)
class Clock:
    """Time as the modules see it: `now` is an aware UTC datetime, `monotonic` and `wait` are in seconds."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    wait: Callable[[float], object]


def system_clock() -> Clock:
    """The machine's own clock."""
    return Clock(now=lambda: datetime.now(UTC), monotonic=time.monotonic, wait=threading.Event().wait)


def make_check(
    name: str, passed: bool, expected: str, found: str, *, seconds: float = 0.0, remedy: str = "", unchecked: bool = False
) -> Check:
    """One finding, printable. `seconds` is the time spent on this check alone, so that a sum over checks is honest.

    `unchecked`: it could not be known in time, which is no fault; `passed` is true then.
    """
    texts = {"check": name, "expected": expected, "found": found, "remedy": remedy}
    check: Check = {part: printable(text) for part, text in texts.items()} | {"passed": passed, "seconds": round(seconds, 3)}
    return check | {"passed": True, "unchecked": True} if unchecked else check


def polls(clock: Clock, seconds: float, first: float = 0.2, longest: float = 2.0) -> Iterator[float]:
    """Yield the seconds left: at once, after pauses that grow from `first` to `longest`, and a last time when they have run out."""
    end = clock.monotonic() + seconds
    pause = first
    while True:
        yield max(end - clock.monotonic(), 0.0)
        left = end - clock.monotonic()
        if left <= 0:
            return
        clock.wait(min(pause, left))
        pause = min(pause * 1.5, longest)


def explain(error: Exception) -> str:
    """An AWS error as "Code (operation): message"; any other as "Type: message"."""
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        return f"{details.get('Code', 'unknown error')} ({error.operation_name}): {details.get('Message', 'no message')}"
    return f"{type(error).__name__}: {error}"


def is_lasting(error: Exception) -> bool:
    """Whether asking again is pointless (no permission, no such thing), unlike a throttle, a lost connection or a server error."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        return status < 500 and error.response.get("Error", {}).get("Code") not in THROTTLES
    return isinstance(error, BotoCoreError) and not isinstance(error, (ConnectionError, HTTPClientError))


def in_chunks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The values in lists of at most `size`."""
    everything = list(values)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]
