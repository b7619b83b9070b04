"""Queues and messages that SQS refuses, and those it takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from refusals import in_time, make_queue, refusal, root, unique

MEBIBYTE = 1024 * 1024
# Name, type and value: 4 + 6 + 90 bytes.
ATTRIBUTES = {"name": {"DataType": "String", "StringValue": "x" * 90}}
TOO_LONG = "One or more parameters are invalid. Reason: Message must be shorter than {} bytes."


def test_a_name_is_free_again_only_a_while_after_its_queue_was_deleted(fast_cloud: Any):
    sqs, name = root(fast_cloud, "sqs"), unique("queue")
    sqs.delete_queue(QueueUrl=sqs.create_queue(QueueName=name)["QueueUrl"])

    code, text = refusal(lambda: sqs.create_queue(QueueName=name))

    assert code == "AWS.SimpleQueueService.QueueDeletedRecently"
    assert text == "You must wait 60 seconds after deleting a queue before you can create another with the same name."
    assert sqs.create_queue(QueueName=f"{name}-other")["QueueUrl"]
    assert in_time(lambda: sqs.create_queue(QueueName=name), code)["QueueUrl"].endswith(f"/{name}")


@pytest.mark.parametrize("attributes", [ATTRIBUTES, {"name": {"DataType": "Binary", "BinaryValue": b"x" * 90}}], ids=["text", "binary"])
def test_a_messages_attributes_count_towards_its_size(embedded_cloud: Any, attributes: dict[str, Any]):
    url, _arn = make_queue(embedded_cloud, MaximumMessageSize="2048")
    sqs = root(embedded_cloud, "sqs")
    message = {"QueueUrl": url, "MessageAttributes": attributes}
    assert refusal(lambda: sqs.send_message(**message, MessageBody="y" * 1949)) == ("InvalidParameterValue", TOO_LONG.format(2048))
    assert sqs.send_message(**message, MessageBody="y" * 1948)["MessageId"]


def test_one_message_of_a_batch_that_is_too_long_is_refused_alone(embedded_cloud: Any):
    url, _arn = make_queue(embedded_cloud, MaximumMessageSize="2048")
    entries = [{"Id": str(size), "MessageBody": "y" * size, "MessageAttributes": ATTRIBUTES} for size in (1948, 1949)]
    answer = root(embedded_cloud, "sqs").send_message_batch(QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["1948"]
    assert [(entry["Id"], entry["Code"], entry["SenderFault"]) for entry in answer["Failed"]] == [("1949", "InvalidParameterValue", True)]


def test_a_batch_over_a_mebibyte_with_its_attributes_is_refused_as_a_whole(embedded_cloud: Any):
    url, _arn = make_queue(embedded_cloud)
    sqs, half = root(embedded_cloud, "sqs"), MEBIBYTE // 2 - 100
    entries = [{"Id": name, "MessageBody": "y" * half, "MessageAttributes": ATTRIBUTES} for name in "ab"]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 2
    entries[1]["MessageBody"] += "y"
    assert refusal(lambda: sqs.send_message_batch(QueueUrl=url, Entries=entries)) == (
        "AWS.SimpleQueueService.BatchRequestTooLong",
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.",
    )


@pytest.mark.parametrize("way", ["made", "changed"])
@pytest.mark.parametrize("allowed", ["anything", "allowAll", "byQueue", "another", "denyAll"])
def test_a_queue_sends_its_dead_letter_messages_only_where_it_may(embedded_cloud: Any, allowed: str, way: str):
    sqs, name = root(embedded_cloud, "sqs"), unique("queue")
    url, arn = make_queue(embedded_cloud)
    source = arn.rpartition(":")[0] + ":" + ("other" if allowed == "another" else name)
    if allowed in ("byQueue", "another"):
        policy = {"redrivePermission": "byQueue", "sourceQueueArns": [source]}
    else:
        policy = {"redrivePermission": allowed}
    if allowed != "anything":
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedriveAllowPolicy": json.dumps(policy)})
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})}

    def point() -> Any:
        if way == "made":
            return sqs.create_queue(QueueName=name, Attributes=redrive)
        return sqs.set_queue_attributes(QueueUrl=sqs.create_queue(QueueName=name)["QueueUrl"], Attributes=redrive)

    if allowed in ("another", "denyAll"):
        code, text = refusal(point)
        assert (code, arn in text) == ("InvalidParameterValue", True)
    else:
        point()
