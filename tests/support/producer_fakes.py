"""What the producer's tests share: settings, a clock that jumps, and a queue whose answers are planned."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from fakes import FakeClock
from outbox import Outbox
from outbox_records import Message
from producer_settings import Settings
from sending import Producer, Source
from synthetic_transactions import SyntheticTransactions

URL = "http://127.0.0.1:4566/000000000000/FinancialTransactionQueue"


def wanted(**changes: Any) -> Settings:
    chosen = {"queue_url": URL, "region": "us-east-1", "state_directory": "unused", "seed": 1}
    return Settings(**(chosen | changes))


def in_memory() -> Path:
    """A new directory where a commit waits for no disk, if the machine has such a place."""
    return Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))


def message(name: str, **changes: Any) -> Message:
    return Message(**({"transaction_id": name, "body": json.dumps({"transaction_id": name})} | changes))


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

    def run_from(self, source: Source | None, client: Any = None, **changes: Any) -> int:
        """One life of the producer; the outbox stays for the next one."""
        outbox = Outbox(self.directory, exclusive=True)
        try:
            link = (lambda: client) if client else self.connect
            return Producer(wanted(**changes), outbox, link, self.say, self.stop, self.now, self.wait, source).run()
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
    stream = SyntheticTransactions(rate, seed)
    return [json.loads(stream.draw().body, parse_float=Decimal) for _ in range(count) if stream.gap() >= 0]
