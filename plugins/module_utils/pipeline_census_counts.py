"""Counting what tables and queues hold."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

ABSENT = frozenset({"ResourceNotFoundException", "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
COUNTS = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


def count_items(client: Any, table: str, max_items: int) -> dict[str, Any]:
    """The table's `name`, `state`, `item_count` (at most max_items) and whether that is `complete`; other AWS errors are raised."""
    result: dict[str, Any] = {"name": table, "state": "present", "item_count": 0, "complete": True}
    arguments: dict[str, Any] = {"TableName": table, "Select": "COUNT", "ConsistentRead": True}
    try:
        while True:
            page = client.scan(**arguments)
            result["item_count"] += page["Count"]
            last = page.get("LastEvaluatedKey")
            if result["item_count"] > max_items:
                return result | {"item_count": max_items, "complete": False}
            if not last:
                return result
            arguments["ExclusiveStartKey"] = last
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            return result | {"state": "absent", "item_count": 0}
        raise


def count_messages(client: Any, queue: str) -> dict[str, Any]:
    """The queue's `name`, `state`, and approximate numbers `visible`, `in_flight`, `delayed`; other AWS errors are raised."""
    result: dict[str, Any] = {"name": queue, "state": "present", **dict.fromkeys(COUNTS, 0)}
    try:
        url = client.get_queue_url(QueueName=queue)["QueueUrl"]
        attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTS.values()))["Attributes"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            return result | {"state": "absent"}
        raise
    return result | {name: int(attributes.get(attribute, 0)) for name, attribute in COUNTS.items()}


def table_line(table: dict[str, Any]) -> str:
    """One table in words."""
    if table["state"] == "absent":
        return f"table {table['name']}: absent"
    return f"table {table['name']}: {'' if table['complete'] else 'at least '}{_number(table['item_count'], 'item')}"


def queue_line(queue: dict[str, Any]) -> str:
    """One queue in words. The numbers are SQS's own approximations."""
    if queue["state"] == "absent":
        return f"queue {queue['name']}: absent"
    parts = [f"{queue[name]:,} {word}" for name, word in (("in_flight", "in flight"), ("delayed", "delayed")) if queue[name]]
    total = total_of(queue)
    return f"queue {queue['name']}: {'about ' if total else ''}{_number(total, 'message')}" + (f" ({', '.join(parts)})" if parts else "")


def total_of(queue: dict[str, Any]) -> int:
    """All messages of one queue."""
    return int(sum(queue[name] for name in COUNTS))


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
