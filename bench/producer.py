"""The producer, its outbox on a disk, beside raw calls of SQS from as many threads."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.measuring import ROOT, WORK, interleaved, spreads
from bench.services import Services

# What a SendMessageBatch takes from an instance in the same region: "tens of milliseconds" at most (SQS FAQ); half of that.
SERVICE_MILLISECONDS = 10.0
SENDERS = 4  # requests that the producer has under way at once (SENDERS of producer_src/sending.py)


def run(services: Services, command: list[str], count: int) -> dict[str, float]:
    """Transactions a second and CPU seconds per 1,000 of a command that sends so many."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "QUEUE_URL": f"{services.url}/000000000000/FinancialTransactionQueue",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": services.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{services.url}/imds",
    }
    state = Path(tempfile.mkdtemp(dir=WORK))
    before, used = services.counts(), resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    try:
        subprocess.run(command, env=environment | {"PRODUCER_STATE_DIRECTORY": str(state)}, stdout=subprocess.DEVNULL, check=True)
        took = time.perf_counter() - began
    finally:
        shutil.rmtree(state)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    calls = sum(services.counts().values()) - sum(before.values())
    return {"per_second": count / took, "cpu_s_per_1000": cpu / count * 1000, "calls_per_1000": calls / count * 1000}


def fsyncs_a_second(count: int = 200) -> float:
    """How many small appends a second this disk makes durable."""
    with tempfile.NamedTemporaryFile(dir=WORK) as file:
        began = time.perf_counter()
        for _ in range(count):
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
        return count / (time.perf_counter() - began)


def measure(rounds: int, small: bool) -> dict[str, Any]:
    count = 200 if small else 5000
    raw = [sys.executable, "-m", "bench.raw_sender"]
    with Services(SERVICE_MILLISECONDS) as services:
        ours = [sys.executable, str(ROOT / "producer_src"), "--rate", "10000", "--count", str(count)]
        works = {
            "ours": partial(run, services, ours, count),
            "raw send_message_batch": partial(run, services, [*raw, "batch", str(SENDERS), str(count)], count),
            "one send per message": partial(run, services, [*raw, "single", "1", str(count // 10)], count // 10),
        }
        found = interleaved(rounds, works)
    return {"fsyncs_a_second": fsyncs_a_second(), "figures": {name: spreads(values) for name, values in found.items()}}
