"""Waiting until a queue is empty."""

from __future__ import annotations

from typing import Any

from ..core.clock import Clock, polls
from ..export.data_info import count_messages, total_of


def wait_until_empty(client: Any, queue: str, clock: Clock, seconds: float, quiet: float) -> dict[str, Any]:
    """The last count of the queue (see count_messages), and whether it is `empty`: all its counters at zero for `quiet` seconds.

    An absent queue is empty. AWS errors are raised.
    """
    empty_since: float | None = None
    counted: dict[str, Any] = {}
    for _left in polls(clock, seconds):
        counted = count_messages(client, queue)
        if counted["state"] == "absent":
            return counted | {"empty": True}
        now = clock.monotonic()
        empty_since = (empty_since if empty_since is not None else now) if total_of(counted) == 0 else None
        if empty_since is not None and now - empty_since >= quiet:
            return counted | {"empty": True}
    return counted | {"empty": False}
