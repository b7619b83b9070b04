"""Queues behave as on AWS where MiniStack differs: permissions of batches, and encryption."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import make_queue, unique
from users import User

BATCH_CALLS = {
    "sqs:SendMessage": lambda sqs, url: sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "0", "MessageBody": "x"}]),
    "sqs:DeleteMessage": lambda sqs, url: sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": "unknown"}]),
    "sqs:ChangeMessageVisibility": lambda sqs, url: sqs.change_message_visibility_batch(
        QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": "unknown", "VisibilityTimeout": 0}]
    ),
}


@pytest.mark.parametrize("action", BATCH_CALLS)
def test_a_batch_call_needs_the_permission_of_the_single_call(embedded_cloud: Any, action: str):
    url, arn = make_queue(embedded_cloud)
    allowed = User(embedded_cloud, {"Action": action, "Resource": arn}).client("sqs")
    BATCH_CALLS[action](allowed, url)

    denied = User(embedded_cloud, {"Action": "sqs:ReceiveMessage", "Resource": arn}).client("sqs")
    with pytest.raises(ClientError, match="AccessDenied"):
        BATCH_CALLS[action](denied, url)


@pytest.mark.parametrize(
    ("asked", "found"),
    [({}, "true"), ({"SqsManagedSseEnabled": "false"}, "false"), ({"KmsMasterKeyId": "alias/aws/sqs"}, "false")],
    ids=["by-default", "turned-off", "with-kms"],
)
def test_a_new_queue_has_sse_sqs_unless_told_otherwise(embedded_cloud: Any, asked: dict[str, Any], found: str):
    sqs = embedded_cloud.client("sqs")
    url = sqs.create_queue(QueueName=unique("queue"), Attributes=asked)["QueueUrl"]
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["SqsManagedSseEnabled"] == found


def test_making_a_queue_again_leaves_its_encryption_alone(embedded_cloud: Any):
    sqs, name = embedded_cloud.client("sqs"), unique("queue")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"SqsManagedSseEnabled": "false"})
    sqs.create_queue(QueueName=name)
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["SqsManagedSseEnabled"] == "false"
