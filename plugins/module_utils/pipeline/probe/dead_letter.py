"""Find the probe's own message in a dead-letter queue that others use, and leave theirs as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage, sweep
from ..core.clock import Clock, polls
from ..core.errors import AWS_ERRORS, explain, is_lasting

# The longest sweep. What a killed process hid, or a lost answer, becomes visible soon enough for a later sweep.
SWEEP_SECONDS = 15


class QuarantineReader:
    """Reads a dead-letter queue until it receives its own message.

    `ours` are the own messages received, first the wanted one (a send that was repeated because its answer was lost makes copies), `others`
    counts the other messages of the longest sweep, `unreleased` those of them that stay hidden for up to a minute because the release was
    refused, `error` says why reading stopped early, if it did.
    """

    def __init__(
        self,
        client: Any,
        url: str,
        is_ours: Callable[[QuarantinedMessage], bool],
        is_wanted: Callable[[QuarantinedMessage], bool],
        clock: Clock,
    ) -> None:
        self._client, self._url, self._clock = client, url, clock
        self._is_ours, self._is_wanted = is_ours, is_wanted
        self.ours: list[QuarantinedMessage] = []
        self.others = 0
        self.unreleased = 0
        self.error = ""
        self.seconds = 0.0

    def find(self, seconds: float) -> None:
        """Sweep until the wanted message is received or the time is over; at least once."""
        started = self._clock.monotonic()
        for left in polls(self._clock, seconds, first=0.5, longest=5.0):
            with sweep(self._client, self._url, self._clock, min(max(left, 2.0), SWEEP_SECONDS)) as found:
                for message in found.arrivals():
                    if self._is_wanted(message):
                        break
                own = [message for message in found.messages if self._is_ours(message)]
                found.keep(own)
                self.ours = sorted([*self.ours, *own], key=self._is_wanted, reverse=True)
                self.others = max(self.others, len(found.messages))
            self.unreleased += found.unreleased
            self.error = found.error
            if any(map(self._is_wanted, self.ours)) or (found.failure and is_lasting(found.failure)):
                break
        self.seconds += self._clock.monotonic() - started

    def delete_ours(self) -> str:
        """Delete the own messages that were received; returns what went wrong, or nothing."""
        try:
            while self.ours:
                self._client.delete_message(QueueUrl=self._url, ReceiptHandle=self.ours[-1].receipt_handle)
                self.ours.pop()
        except AWS_ERRORS as error:
            return explain(error)
        return ""
