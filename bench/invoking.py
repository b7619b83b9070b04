"""Runs a handler as Lambda's runtime does, and prints what it took, as JSON:

    python -m bench.invoking <module> <size of a batch> <batches> [cgroup.procs]

`start` is the import of the module and the client that it needs first. The module `boto3` stands for importing boto3 and making a client.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import uuid
from importlib import import_module
from typing import Any

if len(sys.argv) > 4:
    with open(sys.argv[4], "w") as group:
        group.write(str(os.getpid()))


class Context:
    aws_request_id, function_name, memory_limit_in_mb, function_version = "request", "bench", 128, "1"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:bench"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 30_000


def event(size: int) -> dict[str, Any]:
    """A batch of good transactions, each under an id of its own."""
    records = []
    for number in range(size):
        body = {"transaction_id": str(uuid.uuid4()), "user_id": f"user-{number:05}", "currency": "EUR"}
        body |= {"timestamp": "2026-11-24T12:00:00Z", "merchant": "Corner Coffee"}
        record = {"messageId": str(uuid.uuid4()), "receiptHandle": "handle", "attributes": {"ApproximateReceiveCount": "1"}}
        outbox_id = {"stringValue": f"host:{number}", "dataType": "String", "stringListValues": [], "binaryListValues": []}
        record |= {"body": json.dumps(body)[:-1] + f', "amount": {number}.25}}', "messageAttributes": {"outbox_id": outbox_id}}
        records.append(
            record | {"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:q", "awsRegion": "us-east-1"}
        )
    return {"Records": records}


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory() -> float:
    """Most memory that was resident, in MB. Not ru_maxrss, which survives exec."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1000


def main() -> None:
    module, size, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    before = time.perf_counter()
    if module == "boto3":
        import boto3

        boto3.client("dynamodb")
        handler = None
    else:
        imported = import_module(module)
        if hasattr(imported, "client"):
            imported.client("dynamodb")  # which its first invocation makes
        handler = imported.lambda_handler
    told = {"start_ms": (time.perf_counter() - before) * 1000, "start_cpu_ms": cpu() * 1000, "memory_mb": memory()}
    if handler and batches:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        handler(event(size), Context)  # connects
        events = [event(size) for _ in range(batches)]
        began, used = time.perf_counter(), cpu()
        for one in events:
            handler(one, Context)
        told |= {"batch_ms": (time.perf_counter() - began) / batches * 1000, "record_cpu_us": (cpu() - used) / (batches * size) * 1e6}
        told |= {"memory_mb": memory()}
        sys.stdout = sys.__stdout__
    print(json.dumps(told))


if __name__ == "__main__":
    main()
