"""The processor, under the CPU share of a 128 MB function, beside a plain handler and one on Powertools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench.measuring import MEBIBYTES_A_CPU, ROOT, cpu_quota, interleaved, spreads
from bench.services import Services

HANDLERS = {"ours": "lambda_function", "plain handler": "plain_handler", "Powertools": "powertools_handler"}
MEBIBYTES = 128
# What a small DynamoDB request takes at least: "single-digit millisecond" (DynamoDB developer guide).
SERVICE_MILLISECONDS = 5.0
RECORDS = 2000  # of one measurement, in batches of each size


def invoke(services: Services, module: str, size: int, batches: int, group: Path | None) -> dict[str, float]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{ROOT / 'lambda_src'}:{ROOT / 'bench' / 'peers'}",
        "TABLE_NAME": "RealTimeTransactions",
        "DEAD_LETTER_QUEUE_URL": f"{services.url}/000000000000/q",
        "HIGH_VALUE_THRESHOLD": "10000",
        "MEDIUM_VALUE_THRESHOLD": "1000",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_ENDPOINT_URL": services.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }
    before = services.counts()
    command = [sys.executable, "-m", "bench.invoking", module, str(size), str(batches), *([str(group)] if group else [])]
    told = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)
    if batches:
        calls = sum(services.counts().values()) - sum(before.values())
        told["calls_a_record"] = calls / ((batches + 1) * size)
        if group is None:  # what the quota would make of it: the CPU time stretched, the waits as they are
            used = told["record_cpu_us"] * size / 1000
            told["batch_ms"] += used * (MEBIBYTES_A_CPU / MEBIBYTES - 1)
    return told


def measure(rounds: int, small: bool) -> dict[str, Any]:
    """By size of a batch and handler: milliseconds billed for a batch, CPU and calls for a record, memory; and the cold start."""
    sizes = [10] if small else [1, 10, 100, 1000]
    with Services(SERVICE_MILLISECONDS) as services, cpu_quota(MEBIBYTES) as group:
        works = {
            f"{name}, batches of {size}": partial(
                invoke, services, module, size, max(2, min(50, RECORDS // size // (20 if small else 1))), group
            )
            for size in sizes
            for name, module in HANDLERS.items()
        }
        works |= {
            f"{name}, start": partial(invoke, services, module, 1, 0, group)
            for name, module in {"boto3 and one client": "boto3", **HANDLERS}.items()
        }
        found = interleaved(rounds, works)
        return {"quota": "control group" if group else "computed", "figures": {name: spreads(values) for name, values in found.items()}}
