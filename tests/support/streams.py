"""Makes bodies of every kind, sends them to the queue of a deployed pipeline, and reads what it stored."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from plays import Pipeline

TABLE = "RealTimeTransactions"

MEBIBYTE = 1024 * 1024


def new_id() -> str:
    return str(uuid.uuid4())


def body(**fields: Any) -> str:
    """A transaction as text, in which a str amount is written as a number, so that it never passes through a float."""
    amount = fields.pop("amount", "12.34")
    record = json.dumps({"transaction_id": new_id(), "user_id": "user-1", "currency": "EUR", "merchant": "Café Zoë"} | fields)
    return f'{record[:-1]}, "amount": {amount}}}'


def without(text: str, field: str) -> str:
    record = json.loads(text)
    del record[field]
    return json.dumps(record)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# Makers of bodies that can never succeed, by the reason in their dead-letter message.
BAD: dict[str, list[Any]] = {
    "not_json": [lambda: f"not json {new_id()}", lambda: body(extra=new_id())[:-1]],
    "not_an_object": [lambda: json.dumps([new_id()]), lambda: f'"{new_id()}"'],
    "duplicate_key": [lambda: body()[:-1] + ', "amount": 1}', lambda: body(nested={})[:-1] + ', "more": {"a": 1, "a": 2}}'],
    "lone_surrogate": [lambda: body()[:-1] + r', "note": "\ud800"}'],
    "id_missing": [lambda: without(body(), "transaction_id")],
    "id_empty": [lambda: body(transaction_id="")],
    "id_not_a_string": [lambda: body(transaction_id=17), lambda: body(transaction_id=None)],
    "id_too_long": [lambda: body(transaction_id="é" * 1025)],
    "amount_missing": [lambda: without(body(), "amount")],
    "amount_not_a_number": [partial(body, amount=found) for found in ("null", "true", '"12.34"')],
    "amount_negative": [lambda: body(amount="-0.01")],
    "amount_not_finite": [partial(body, amount=found) for found in ("NaN", "Infinity", "-Infinity")],
    "number_out_of_range": [
        lambda: body(amount="1" * 39),
        lambda: body(amount="1e126"),
        lambda: body()[:-1] + ', "rate": 1e-131}',
    ],
    "nesting_too_deep": [lambda: body(deep=nested(33))],
    "item_too_large": [lambda: body(large="x" * (400 * 1024))],
    "reserved_field": [
        lambda: body(transaction_category="standard"),
        lambda: body(processed_at_utc="2026-01-01T00:00:00Z"),
        lambda: body(processor_version="1"),
    ],
}

# Records that look odd but are valid: stored completely, to the digit.
ODD = [
    lambda: body(amount="1e3"),
    lambda: body(amount="0.07"),
    lambda: body(amount="1234567.89"),
    lambda: body(amount="99999999999999999999999999999999999.99"),
    lambda: body(amount="1" + "0" * 50),
    lambda: body(amount="-0"),
    lambda: body(deep=nested(31)),
    lambda: body(**{"odd name 'quoted' \"too\"": {"a": [1, None, True, "ü"]}}),
    lambda: body(large="y" * 200_000),
    lambda: body(empty="", none=None, flag=False, mapping={}, listing=[]),
]


def send(pipeline: Pipeline, messages: list[tuple[str, str]]) -> None:
    """Send all messages in order, in calls of at most ten entries and 900 kB."""
    client = pipeline.client("sqs")
    for batch in batches(messages):
        entries = [
            {"Id": str(n), "MessageBody": text, "MessageAttributes": {"outbox_id": {"DataType": "String", "StringValue": outbox_id}}}
            for n, (outbox_id, text) in enumerate(batch)
        ]
        assert not client.send_message_batch(QueueUrl=pipeline.queue_url(), Entries=entries).get("Failed")


def waiting(pipeline: Pipeline) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    counts = pipeline.client("sqs").get_queue_attributes(QueueUrl=pipeline.queue_url(), AttributeNames=names)["Attributes"]
    return sum(int(count) for count in counts.values())


def stored(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    client, deserialize = pipeline.client("dynamodb"), ExactDeserializer().deserialize
    items: dict[str, dict[str, Any]] = {}
    for page in client.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True):
        for item in page["Items"]:
            record = {name: deserialize(value) for name, value in item.items()}
            assert record["transaction_id"] not in items
            items[record["transaction_id"]] = record
    return items


def batches(messages: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    size = 0
    for message in messages:
        length = len(message[1].encode()) + 200
        if batch and (len(batch) == 10 or size + length > 900_000):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    yield batch


class ExactDeserializer(TypeDeserializer):
    """boto3's own deserializer refuses zeros after the 38 digits of a number."""

    def _deserialize_n(self, value: str) -> Decimal:
        return Decimal(value)
