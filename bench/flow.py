"""From the queue to the table, through the whole embedded cloud: how long 10,000 messages take, and how long one takes at a steady rate."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3

from bench.deploy import Cloud, own_package, run
from bench.measuring import ROOT, interleaved, packed, percentile, say, spread, wait_until

QUEUE, TABLE, FUNCTION = "FinancialTransactionQueue", "RealTimeTransactions", "ProcessFinancialStream"
UNITS = 10_000  # of the table, so that it is not what is measured
WAIT_SECONDS = 300.0  # the longest wait for anything
LOOK_SECONDS = 0.02  # between looks for what is stored


class Flow:
    """A queue, a function and a table; the function is what `package` has."""

    def __init__(self, cloud: Cloud, package: Path) -> None:
        self.clients = {
            name: boto3.client(name, "us-east-1", endpoint_url=cloud.endpoint, **cloud.keys) for name in ("sqs", "dynamodb", "lambda")
        }
        keys = {name.upper(): value for name, value in cloud.keys.items()}
        environment = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": cloud.endpoint, "AWS_DEFAULT_REGION": "us-east-1"} | keys
        script = str(ROOT / "bench" / "peers" / "boto3_deploy.py")
        run([sys.executable, script, "create", str(package), str(UNITS)], environment)
        self.url = self.clients["sqs"].get_queue_url(QueueName=QUEUE)["QueueUrl"]
        (mapping,) = self.clients["lambda"].list_event_source_mappings(FunctionName=f"{FUNCTION}:live")["EventSourceMappings"]
        self.mapping = mapping["UUID"]

    def map(self, enabled: bool) -> None:
        state = "Enabled" if enabled else "Disabled"
        self.clients["lambda"].update_event_source_mapping(UUID=self.mapping, Enabled=enabled)
        read = self.clients["lambda"].get_event_source_mapping
        wait_until(lambda: read(UUID=self.mapping)["State"] == state, WAIT_SECONDS, f"a mapping that is {state}")

    def send(self, count: int) -> list[str]:
        """Send so many transactions; their ids."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        for first in range(0, count, 10):
            entries = [{"Id": str(n), "MessageBody": body(one)} for n, one in enumerate(ids[first : first + 10])]
            self.clients["sqs"].send_message_batch(QueueUrl=self.url, Entries=entries)
        return ids

    def stored(self, ids: list[str]) -> set[str]:
        found: set[str] = set()
        for first in range(0, len(ids), 100):
            keys = [{"transaction_id": {"S": one}} for one in ids[first : first + 100]]
            request = {TABLE: {"Keys": keys, "ConsistentRead": True, "ProjectionExpression": "transaction_id"}}
            answer = self.clients["dynamodb"].batch_get_item(RequestItems=request)
            if answer["UnprocessedKeys"]:
                raise RuntimeError("the table did not answer for all keys")
            found |= {item["transaction_id"]["S"] for item in answer["Responses"].get(TABLE, [])}
        return found

    def drain(self, count: int) -> dict[str, float]:
        """Messages a second, of a full queue, until the last is stored."""
        self.map(False)
        ids = self.send(count)
        began = time.perf_counter()
        self.map(True)
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        read = partial(self.clients["sqs"].get_queue_attributes, QueueUrl=self.url, AttributeNames=names)
        wait_until(lambda: not sum(map(int, read()["Attributes"].values())), WAIT_SECONDS, "an empty queue", LOOK_SECONDS)
        took = time.perf_counter() - began
        if missing := set(ids) - self.stored(ids):
            raise RuntimeError(f"{len(missing)} of {count} transactions are not stored")
        return {"per_second": count / took}

    def delays(self, rate: float, seconds: float) -> list[float]:
        """Seconds from the call that sends a transaction until the table has it, at this rate."""
        sent: dict[str, float] = {}
        found: list[float] = []
        began, due = time.perf_counter(), 0.0
        while due < seconds or sent:
            now = time.perf_counter() - began
            if now > seconds + WAIT_SECONDS:
                raise TimeoutError(f"{len(sent)} transactions were not stored within {WAIT_SECONDS:.0f} s")
            while due < seconds and due <= now:
                (one,) = self.send(1)
                sent[one] = began + due
                due += 1 / rate
            stored, seen = self.stored(list(sent)), time.perf_counter()
            found += [seen - sent.pop(one) for one in stored]
            time.sleep(LOOK_SECONDS)
        return found


def body(identity: str) -> str:
    fields = {"transaction_id": identity, "user_id": "user-00001", "amount": 12.5, "currency": "EUR"}
    return json.dumps(fields | {"timestamp": "2026-11-24T12:00:00Z", "merchant": "Corner Coffee"})


@contextmanager
def flowing(package: Path) -> Iterator[Flow]:
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with Cloud(directory, 0, 0.0) as cloud:
            yield Flow(cloud, package)
    finally:
        shutil.rmtree(directory)


def measure(rounds: int, small: bool) -> dict[str, Any]:
    count, seconds, rates = (200, 3.0, [10]) if small else (10_000, 30.0, [1, 10, 100])
    plain_package = packed("plain", ROOT / "bench" / "peers" / "plain_handler.py")
    with flowing(own_package()) as ours, flowing(plain_package) as plain:
        works = {"ours": partial(ours.drain, count), "plain handler": partial(plain.drain, count)}
        drained = interleaved(rounds, works)
        found = {"count": count, "drain": {name: spread([one["per_second"] for one in values]) for name, values in drained.items()}}
        found["delay"] = {}
        for rate in rates:
            delays = ours.delays(rate, seconds)
            found["delay"][str(rate)] = {f"p{share}": percentile(delays, share / 100) for share in (50, 95, 99)} | {"n": len(delays)}
            say(f"delay at {rate} a second: {found['delay'][str(rate)]}")
    return found
