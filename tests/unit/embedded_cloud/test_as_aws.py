"""Where MiniStack differs from AWS and the embedded cloud does as AWS does."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import make_queue, policy, unique
from users import User

BATCH_CALLS = {
    "sqs:SendMessage": lambda sqs, url: sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "0", "MessageBody": "x"}]),
    "sqs:DeleteMessage": lambda sqs, url: sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": "unknown"}]),
    "sqs:ChangeMessageVisibility": lambda sqs, url: sqs.change_message_visibility_batch(
        QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": "unknown", "VisibilityTimeout": 0}]
    ),
}


def allow(action: str) -> str:
    return policy({"Action": action, "Resource": "*"})


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


def test_an_older_policy_version_can_be_made_the_default_and_decides(embedded_cloud: Any):
    iam = embedded_cloud.client("iam")
    arn = iam.create_policy(PolicyName=unique("policy"), PolicyDocument=allow("sqs:SendMessage"))["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=allow("sqs:ReceiveMessage"), SetAsDefault=True)

    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")

    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v1"
    defaults = [version["VersionId"] for version in iam.list_policy_versions(PolicyArn=arn)["Versions"] if version["IsDefaultVersion"]]
    assert defaults == ["v1"]


def test_a_policy_version_that_does_not_exist_cannot_be_the_default(embedded_cloud: Any):
    iam = embedded_cloud.client("iam")
    arn = iam.create_policy(PolicyName=unique("policy"), PolicyDocument=allow("sqs:SendMessage"))["Policy"]["Arn"]
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.set_default_policy_version(PolicyArn=arn, VersionId="v9")
