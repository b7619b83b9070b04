"""Sends transactions as a program without an outbox does: python -m bench.raw_sender <batch|single> <threads> <count>."""

from __future__ import annotations

import json
import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3


def body(number: int) -> str:
    fields = {"transaction_id": str(uuid.uuid4()), "user_id": f"user-{number:05}", "amount": number / 4, "currency": "EUR"}
    return json.dumps(fields | {"timestamp": "2026-11-24T12:00:00Z", "merchant": "Corner Coffee"})


def send(sqs: Any, way: str, numbers: range) -> None:
    url = os.environ["QUEUE_URL"]
    attributes = {"outbox_id": {"DataType": "String", "StringValue": "host:1"}}
    if way == "single":
        for number in numbers:
            sqs.send_message(QueueUrl=url, MessageBody=body(number), MessageAttributes=attributes)
    else:
        for first in range(0, len(numbers), 10):
            entries = [{"Id": str(n), "MessageBody": body(n), "MessageAttributes": attributes} for n in numbers[first : first + 10]]
            sqs.send_message_batch(QueueUrl=url, Entries=entries)


def main() -> None:
    way, threads, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sqs = boto3.client("sqs", os.environ["AWS_REGION"])
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: send(sqs, way, range(part, count, threads)), range(threads)))


if __name__ == "__main__":
    main()
