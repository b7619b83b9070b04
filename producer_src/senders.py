"""Requests in threads, several under way at once."""

import contextlib
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Senders:
    """At most `count` requests at once. Their answers, or the exceptions that they raised, are given to the thread that asks for them."""

    def __init__(self, count: int) -> None:
        self.count, self.under_way = count, 0
        self._threads = ThreadPoolExecutor(count)
        self._finished: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()

    def start(self, key: Any, request: Callable[[], Any]) -> None:
        """Make a request, which `finished` returns with this key."""
        self.under_way += 1
        self._threads.submit(self._make, key, request)

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        """The requests that have come back, with their answers or exceptions. Waits for the first, so many seconds at most."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self._finished.get(timeout=max(seconds, 0.0)))
            while True:
                found.append(self._finished.get_nowait())
        self.under_way -= len(found)
        return found

    def _make(self, key: Any, request: Callable[[], Any]) -> None:
        try:
            answer = request()
        except Exception as error:
            answer = error
        self._finished.put((key, answer))
