"""When a queue has come to rest: SQS cannot be asked whether it holds a message, only about how many it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.clock import Clock
from .dead_letter_queue import COUNTERS


@dataclass(frozen=True)
class Counters:
    """About how many messages are in the queue (visible, in flight, delayed), in the quarantine, and there not to be received now."""

    queued: int
    quarantined: int
    quarantine_hidden: int

    @property
    def at_rest(self) -> bool:
        """Whether nothing is on its way: a message that nobody sees in the quarantine may be on its way back to the queue."""
        return not self.queued and not self.quarantine_hidden


class Rest:
    """Watches the counters. They are approximate, so that one look proves nothing: only zero all along does, for long enough.

    A message that waits is there all the time. So a counter that was zero at every look says the same of an entry that was sent before the
    first look, whatever came and went between two of them.
    """

    def __init__(self, sqs: Any, queue_url: str, quarantine_url: str, clock: Clock) -> None:
        self._sqs, self._queue_url, self._quarantine_url, self._clock = sqs, queue_url, quarantine_url, clock
        self._since: float | None = None
        self.last = Counters(0, 0, 0)

    @property
    def seconds(self) -> float:
        """How long every look has found zero; 0.0 when the last one did not."""
        return 0.0 if self._since is None else self._clock.monotonic() - self._since

    def look(self) -> Counters:
        """Asks for the counters; AWS errors are raised."""
        queue, quarantine = self._ask(self._queue_url), self._ask(self._quarantine_url)
        self.last = Counters(sum(queue), sum(quarantine), quarantine[1] + quarantine[2])
        if not self.last.at_rest:
            self._since = None
        elif self._since is None:
            self._since = self._clock.monotonic()
        return self.last

    def _ask(self, url: str) -> list[int]:
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTERS))["Attributes"]
        return [int(attributes[name]) for name in COUNTERS]
