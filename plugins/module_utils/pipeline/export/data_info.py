"""Counting what tables, queues and instances hold, and what keeps them from being removed."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from ..aws.instances import living_instances
from ..aws.paging import pages

ABSENT = frozenset({"ResourceNotFoundException", "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
COUNTS = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


def count_items(client: Any, table: str) -> dict[str, Any]:
    """The table's `name`, `state`, `item_count` and whether it is `protected` from deletion; other AWS errors are raised.

    The count is DescribeTable's own, which costs no read units and is up to six hours old.
    """
    result: dict[str, Any] = {"name": table, "state": "present", "item_count": 0, "protected": False}
    try:
        described = client.describe_table(TableName=table)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ABSENT:
            return result | {"state": "absent"}
        raise
    return result | {"item_count": described.get("ItemCount", 0), "protected": described.get("DeletionProtectionEnabled", False)}


def find_instances(client: Any, name: str) -> list[dict[str, str]]:
    """Every instance with that Name tag that still is one: `id`, `name`, `state`, and a `line` in words."""
    instances = living_instances(client, name)
    found = [{"id": instance["InstanceId"], "name": name, "state": instance["State"]["Name"]} for instance in instances]
    return [one | {"line": f"instance {one['id']}: {one['state']}"} for one in sorted(found, key=lambda one: one["id"])]


def users_of_group(client: Any, name: str, instances: list[dict[str, str]]) -> list[str]:
    """What uses a security group of that name beside these instances, in words: AWS does not delete it as long as something does."""
    ours, found = {instance["id"] for instance in instances}, []
    groups = pages(client, "describe_security_groups", "SecurityGroups", Filters=[{"Name": "group-name", "Values": [name]}])
    for group in (group["GroupId"] for group in groups):
        interfaces = pages(client, "describe_network_interfaces", "NetworkInterfaces", Filters=[{"Name": "group-id", "Values": [group]}])
        found += [one["NetworkInterfaceId"] for one in interfaces if one.get("Attachment", {}).get("InstanceId") not in ours]
        for rules in ("ip-permission", "egress.ip-permission"):
            filters = [{"Name": f"{rules}.group-id", "Values": [group]}]
            others = pages(client, "describe_security_groups", "SecurityGroups", Filters=filters)
            found += [f"a rule of {one['GroupId']}" for one in others if one["GroupId"] != group]
    return sorted(set(found))


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
    return f"table {table['name']}: about {_number(table['item_count'], 'item')}"


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
