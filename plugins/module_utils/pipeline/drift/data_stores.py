"""Readers of DynamoDB tables and SQS queues."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict, snake_dict_to_camel_dict

from ..aws.paging import pages, unless_missing
from ..core.canonical import boolean, document, number, structure, text, text_map, text_set
from .resource_type import LAST_CHANGE, Mender, ResourceType, always, canonicals, found_in, lacks, page, tag_dict

TABLE = {
    "status": (text, "TableStatus"),
    "key_schema": (text_map, ""),
    "attributes": (text_map, ""),
    "billing_mode": (text, ""),
    "read_capacity": (number, "ProvisionedThroughput.ReadCapacityUnits"),
    "write_capacity": (number, "ProvisionedThroughput.WriteCapacityUnits"),
    "global_indexes": (text_set, ""),
    "local_indexes": (text_set, ""),
    "stream_enabled": (boolean, "StreamSpecification.StreamEnabled"),
    "deletion_protection": (boolean, "DeletionProtectionEnabled"),
    "tags": (text_map, ""),
}
QUEUE = {
    "visibility_timeout": (number, "VisibilityTimeout"),
    "message_retention_period": (number, "MessageRetentionPeriod"),
    "maximum_message_size": (number, "MaximumMessageSize"),
    "receive_message_wait_time": (number, "ReceiveMessageWaitTimeSeconds"),
    "delay_seconds": (number, "DelaySeconds"),
    "sse": (text, ""),
    "policy": (document, "Policy"),
    "redrive_policy": (structure, ""),
    "redrive_allow_policy": (structure, ""),
    "fifo": (boolean, "FifoQueue"),
    "tags": (text_map, ""),
}


def read_table(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    dynamodb = clients["dynamodb"]
    answer = unless_missing(dynamodb.describe_table, TableName=name)
    if answer is None:
        return None
    table = answer["Table"]
    found = found_in(table, TABLE) | {
        "key_schema": {key["AttributeName"]: key["KeyType"] for key in table.get("KeySchema") or []},
        "attributes": {entry["AttributeName"]: entry["AttributeType"] for entry in table.get("AttributeDefinitions") or []},
        # AWS leaves the summary out of a table that never was on demand.
        "billing_mode": (table.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED"),
        "global_indexes": [index["IndexName"] for index in table.get("GlobalSecondaryIndexes") or []],
        "local_indexes": [index["IndexName"] for index in table.get("LocalSecondaryIndexes") or []],
    }
    if "tags" in expected:
        found["tags"] = tag_dict(pages(dynamodb, "list_tags_of_resource", "Tags", ResourceArn=table["TableArn"]))
    return found


def read_queue(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    sqs = clients["sqs"]
    queue = unless_missing(sqs.get_queue_url, QueueName=name)
    # A queue may go between the two calls.
    answer = queue and unless_missing(sqs.get_queue_attributes, QueueUrl=queue["QueueUrl"], AttributeNames=["All"])
    if not queue or not answer:
        return None
    attributes = answer.get("Attributes") or {}
    found = found_in(attributes, QUEUE) | {
        "sse": "KMS" if attributes.get("KmsMasterKeyId") else "SQS" if boolean(attributes.get("SqsManagedSseEnabled")) is True else "none",
        "redrive_policy": _json_setting(attributes.get("RedrivePolicy")),
        "redrive_allow_policy": _json_setting(attributes.get("RedriveAllowPolicy")),
        LAST_CHANGE: number(attributes.get("LastModifiedTimestamp")),
    }
    if "tags" in expected:
        found["tags"] = sqs.list_queue_tags(QueueUrl=queue["QueueUrl"]).get("Tags") or {}
    return found


def _json_setting(value: str | None) -> Any:
    """A JSON attribute with its keys in snake case."""
    return camel_dict_to_snake_dict(json.loads(value)) if value else None


def update_table(request: Callable[[Any], dict[str, Any]]) -> Mender:
    """The mender that sends UpdateTable with what `request` makes of the wanted value."""
    return lambda clients, name, wanted, found: clients["dynamodb"].update_table(TableName=name, **request(wanted))


def delete_index(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
    """Delete one unexpected index: DynamoDB deletes one at a time."""
    for index in sorted(set(found["global_indexes"]) - set(wanted))[:1]:
        clients["dynamodb"].update_table(TableName=name, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": index}}])


def set_attributes(attributes: Callable[[Any], dict[str, str]]) -> Mender:
    """The mender that sets those attributes of a queue."""

    def mend(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
        url = clients["sqs"].get_queue_url(QueueName=name)["QueueUrl"]
        clients["sqs"].set_queue_attributes(QueueUrl=url, Attributes=attributes(wanted))

    return mend


def _as_setting(wanted: dict[str, Any] | None) -> str:
    """The JSON text of a setting in snake case; empty for none."""
    return json.dumps(snake_dict_to_camel_dict(wanted)) if wanted else ""


TYPES = {
    "dynamodb_table": ResourceType(
        label="table",
        services=("dynamodb",),
        read=read_table,
        properties=canonicals(TABLE),
        menders={
            "global_indexes": delete_index,
            "stream_enabled": update_table(lambda wanted: {"StreamSpecification": {"StreamEnabled": wanted}}),
            "deletion_protection": update_table(lambda wanted: {"DeletionProtectionEnabled": wanted}),
        },
        remedies={
            "key_schema": page("the-table"),
            "local_indexes": page("the-table"),
            # Those of an index go with it.
            "attributes": lambda name, wanted, found: "" if found["global_indexes"] else page("the-table")(name, wanted, found),
        },
        stops={"exists": always, "key_schema": always},
    ),
    "sqs_queue": ResourceType(
        label="queue",
        services=("sqs",),
        read=read_queue,
        properties=canonicals(QUEUE),
        menders={
            "sse": set_attributes(lambda wanted: {"KmsMasterKeyId": "", "SqsManagedSseEnabled": str(wanted == "SQS").lower()}),
            "redrive_policy": set_attributes(lambda wanted: {"RedrivePolicy": _as_setting(wanted)}),
            "redrive_allow_policy": set_attributes(lambda wanted: {"RedriveAllowPolicy": _as_setting(wanted)}),
        },
        remedies={"fifo": page("a-queue")},
        stops={"exists": always, "policy": lacks},
    ),
}
