"""What the producer's tests share: settings, a clock that jumps, and a queue whose answers are planned."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from fakes import FakeClock
from outbox import Outbox
from outbox_records import Message
from producer_settings import Settings
from senders import Senders
from sending import SENDERS, Producer, Source
from synthetic_transactions import SyntheticSource

URL = "http://127.0.0.1:4566/000000000000/FinancialTransactionQueue"


def wanted(**changes: Any) -> Settings:
    chosen = {"queue_url": URL, "region": "us-east-1", "state_directory": "unused", "seed": 1}
    return Settings(**(chosen | changes))


def in_memory() -> Path:
    """A new directory where a commit waits for no disk, if the machine has such a place."""
    return Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))


def message(name: str, **changes: Any) -> Message:
    return Message(**({"transaction_id": name, "body": json.dumps({"transaction_id": name})} | changes))


class OneByOne(Senders):
    """Makes each request at once, so that it takes its time of a clock that jumps."""

    def __init__(self) -> None:
        super().__init__(1)

    def start(self, key: Any, request: Callable[[], Any]) -> None:
        self.under_way += 1
        self._make(key, request)


class SideBySide(Senders):
    """Requests under way at once, in the time of a clock that jumps: each takes the next of `durations`, in seconds.

    `spans` are the requests that have come back: when each began and ended, its entries and its answer. `asked` is how often it was asked
    for some.
    """

    def __init__(self, clock: FakeClock, durations: Iterator[float], count: int = SENDERS) -> None:
        super().__init__(count)
        self.clock, self.durations, self.asked = clock, durations, 0
        self.pending: list[tuple[float, float, Any, Any]] = []
        self.spans: list[tuple[float, float, list[int], Any]] = []

    def start(self, key: Any, request: Callable[[], Any]) -> None:
        self.under_way += 1
        self._make(key, request)
        began = self.clock.monotonic()
        self.pending.append((began + next(self.durations), began, *self._finished.get()))

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        self.asked += 1
        moment = min([self.clock.monotonic() + max(seconds, 0.0), *(end for end, *_ in self.pending)])
        self.clock.wait(max(moment - self.clock.monotonic(), 0.0))
        done = sorted((each for each in self.pending if each[0] <= self.clock.monotonic() + 1e-9), key=lambda each: each[0])
        for each in done:
            self.pending.remove(each)
            self.spans.append((each[1], each[0], [entry.sequence for entry in each[2].entries], each[3]))
        self.under_way -= len(done)
        return [(key, answer) for _, _, key, answer in done]


class World:
    """A clock that jumps to whatever is waited for, a queue that answers as `plan` says (then takes all), an outbox, and the log."""

    def __init__(self, *plan: Callable[[list[dict]], dict] | Exception, stop_at: float | None = None, latency: float = 0.0) -> None:
        self.plan, self.stop_at, self.latency = list(plan), stop_at, latency
        self.clock = FakeClock(on_wait=self._stop_in_time)
        self.stop = threading.Event()
        self.log: list[dict[str, Any]] = []
        self.requests: list[tuple[float, list[str]]] = []
        self.clients = 0
        self.directory = in_memory()
        weakref.finalize(self, shutil.rmtree, self.directory)

    def now(self) -> float:
        return self.clock.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> None:
        if not event.is_set():
            self.clock.wait(max(seconds, 0.0))

    def _stop_in_time(self) -> None:
        if self.stop_at is not None and self.clock.passed >= self.stop_at and not self.stop.is_set():
            self.clock.passed = self.stop_at
            self.stop.set()

    def connect(self) -> World:
        self.clients += 1
        return self

    def send_message_batch(self, QueueUrl: str, Entries: list[dict]) -> dict:
        assert QueueUrl == URL
        self.requests.append((self.now(), [json.loads(entry["MessageBody"])["transaction_id"] for entry in Entries]))
        self.clock.wait(self.latency)
        step = self.plan.pop(0) if self.plan else take_all
        if isinstance(step, Exception):
            raise step
        return step(Entries)

    def say(self, event: str, **fields: Any) -> None:
        self.log.append({"event": event, "at": self.now()} | fields)

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]

    def sent(self) -> list[str]:
        return [each for line in self.lines("sent") for each in line["transaction_ids"]]

    def run(self, **changes: Any) -> int:
        return self.run_from(None, **changes)

    def run_from(self, source: Source | None, client: Any = None, senders: Senders | None = None, **changes: Any) -> int:
        """One life of the producer; the outbox stays for the next one. Without `senders`, each request takes the time of the clock."""
        outbox = Outbox(self.directory, exclusive=True)
        try:
            link = (lambda: client) if client else self.connect
            return Producer(wanted(**changes), outbox, link, self.say, self.stop, self.now, self.wait, source, senders or OneByOne()).run()
        finally:
            outbox.close()

    def outbox(self) -> Outbox:
        """The outbox as the commands see it."""
        return Outbox(self.directory)

    def states(self) -> dict[int, str]:
        """The state of every entry, by sequence."""
        outbox = self.outbox()
        try:
            return dict(outbox.pages("SELECT sequence, state FROM entry WHERE sequence > ? LIMIT ?"))
        finally:
            outbox.close()


def take_all(entries: list[dict]) -> dict:
    return {"Successful": [{"Id": entry["Id"], "MessageId": f"m-{entry['Id']}"} for entry in entries]}


def fail(*ids: str, fault: bool = False) -> Callable[[list[dict]], dict]:
    def answer(entries: list[dict]) -> dict:
        failed = [{"Id": each, "Code": "InternalError", "Message": "try again", "SenderFault": fault} for each in ids]
        return take_all([entry for entry in entries if entry["Id"] not in ids]) | {"Failed": failed}

    return answer


def stream_of(count: int, seed: int = 1, rate: float = 1.0) -> list[dict[str, Any]]:
    drawn = SyntheticSource(rate, seed, 0.0).draw(math.inf, count).messages
    return [json.loads(each.body, parse_float=Decimal) for each in drawn]
