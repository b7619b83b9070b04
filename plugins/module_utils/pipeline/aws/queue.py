"""How many messages a queue has, and since when it has none: SQS only tells approximate numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.clock import Clock, polls
from .paging import unless_missing

COUNTERS = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


def read_counters(client: Any, url: str) -> dict[str, int]:
    """The queue's approximate numbers of messages: `visible`, `in_flight`, `delayed`. AWS errors are raised."""
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTERS.values()))["Attributes"]
    return {name: int(attributes[attribute]) for name, attribute in COUNTERS.items()}


def count_messages(client: Any, queue: str) -> dict[str, Any]:
    """The queue's `name`, `state`, and approximate numbers `visible`, `in_flight`, `delayed`; other AWS errors are raised."""
    counters = unless_missing(lambda: read_counters(client, client.get_queue_url(QueueName=queue)["QueueUrl"]))
    return {"name": queue, "state": "present" if counters else "absent", **(counters or dict.fromkeys(COUNTERS, 0))}


def total_of(queue: dict[str, Any]) -> int:
    """All messages of one queue, by what `count_messages` or `read_counters` returned."""
    return int(sum(queue[name] for name in COUNTERS))


def queue_line(queue: dict[str, Any]) -> str:
    """One queue in words, by what `count_messages` returned."""
    if queue["state"] == "absent":
        return f"queue {queue['name']}: absent"
    total = total_of(queue)
    parts = ", ".join(f"{queue[name]:,} {name.replace('_', ' ')}" for name in ("in_flight", "delayed") if queue[name])
    counted = f"{'about ' if total else ''}{total:,} message{'' if total == 1 else 's'}"
    return f"queue {queue['name']}: {counted}{f' ({parts})' if parts else ''}"


@dataclass(frozen=True)
class PipelineCounts:
    """About how many messages are in the queue, in the quarantine, and in the quarantine but hidden."""

    queued: int
    quarantined: int
    quarantine_hidden: int

    @property
    def idle(self) -> bool:
        """Whether no message is on its way: a hidden message of the quarantine may be on its way back to the queue."""
        return not self.queued and not self.quarantine_hidden


def count_pipeline(client: Any, queue_url: str, quarantine_url: str) -> PipelineCounts:
    """AWS errors are raised."""
    queue, quarantine = read_counters(client, queue_url), read_counters(client, quarantine_url)
    return PipelineCounts(total_of(queue), total_of(quarantine), quarantine["in_flight"] + quarantine["delayed"])


class QueueIdleMonitor:
    """Tells for how long queues have been idle. One look proves nothing, as the counters are approximate: they must stay at zero.

    A message that waits is there all the time. So if every look found zero, an entry that was sent before the first look is not in the
    queue, whatever came and went between two looks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """For how long every look has found the queues idle; 0.0 when the last look did not."""
        return 0.0 if self._since is None else self._clock.monotonic() - self._since

    def note(self, idle: bool) -> None:
        """Notes what a look found."""
        if not idle:
            self._since = None
        elif self._since is None:
            self._since = self._clock.monotonic()


def wait_until_empty(client: Any, queue: str, clock: Clock, seconds: float, quiet: float) -> dict[str, Any]:
    """The last count of the queue (see count_messages), and whether it is `empty`: all its counters at zero for `quiet` seconds.

    An absent queue is empty. AWS errors are raised.
    """
    monitor, counted = QueueIdleMonitor(clock), dict[str, Any]()
    for _left in polls(clock, seconds):
        counted = count_messages(client, queue)
        idle = total_of(counted) == 0
        monitor.note(idle)
        counted["empty"] = counted["state"] == "absent" or (idle and monitor.seconds >= quiet)
        if counted["empty"]:
            break
    return counted
