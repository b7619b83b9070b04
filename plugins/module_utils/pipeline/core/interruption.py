"""Clean up when a signal ends a module."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption(BaseException):
    """A signal asks this process to end. It is not an Exception, so that only the clean-up handles it."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first signal into Interruption, and ignore further ones during the clean-up."""

    def interrupt(number: int, _frame: Any) -> None:
        for one in SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        raise Interruption(signal.Signals(number).name)

    before = {one: signal.signal(one, interrupt) for one in SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
