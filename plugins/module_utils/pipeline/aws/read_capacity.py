"""Keeping to the read units that a DynamoDB table can give."""

from __future__ import annotations

from ..core.clock import Clock

# "Burst and adaptive capacity" of the DynamoDB developer guide: a table keeps 300 seconds of units that nobody used.
BURST_SECONDS = 300


class ReadCapacity:
    """Keeps to `rate` read units a second on average; no limit for 0 or None. `used` counts what was taken.

    What was not taken is saved up for `burst_seconds`; at the beginning all of that is there.
    """

    def __init__(self, clock: Clock, rate: float | None, burst_seconds: float = 0.0) -> None:
        self.rate, self.used = rate or 0.0, 0.0
        self._clock, self._most = clock, self.rate * burst_seconds
        self._left, self._counted_at = self._most, clock.monotonic()

    def take(self, units: float) -> None:
        """Counts units that a read took, and waits until the table could give them."""
        self.used += units
        if not self.rate:
            return
        now = self._clock.monotonic()
        self._left = min(self._most, self._left + self.rate * (now - self._counted_at)) - units
        self._counted_at = now
        if self._left < 0:
            self._clock.wait(-self._left / self.rate)
