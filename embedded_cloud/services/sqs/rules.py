"""Queues: what SQS refuses and MiniStack accepts."""

import base64
import json
from typing import Any

from ministack.core import responses
from ministack.services import sqs

from embedded_cloud.base.calls import Call
from embedded_cloud.base.rules import Note, Refusal, Rule, RuleContext

REUSE_SECONDS = 60.0
LARGEST_BATCH = 1_048_576


def name_used_recently(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon SQS API Reference, DeleteQueue: "When you delete a queue, you must wait at least 60 seconds before creating a queue with the
    same name"; CreateQueue, QueueDeletedRecently."""
    if not context.times.is_within("queue deleted", _queue_key(call.value("QueueName")), REUSE_SECONDS):
        return None
    text = f"You must wait {REUSE_SECONDS:g} seconds after deleting a queue before you can create another with the same name."
    return Refusal("QueueDeletedRecently", text)


def message_too_long(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon SQS Developer Guide, "Amazon SQS message metadata": "The message attribute name, type, value, and the message body are all
    part of the message size restriction"; MaximumMessageSize of the queue."""
    largest = int(sqs._get_q(call.value("QueueUrl"))["attributes"]["MaximumMessageSize"])
    if message_size(call.parameters) <= largest:
        return None
    return Refusal("InvalidParameterValue", f"One or more parameters are invalid. Reason: Message must be shorter than {largest} bytes.")


def batch_too_long(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon SQS API Reference, SendMessageBatch: "the maximum total payload size (the sum of the individual lengths of all of the batched
    messages)" is 1 MiB; attributes count, as they do for each message."""
    total = sum(message_size(entry) for entry in call.parameters.get("Entries") or [])
    if total <= LARGEST_BATCH:
        return None
    return Refusal("BatchRequestTooLong", f"Batch requests cannot be longer than {LARGEST_BATCH} bytes. You have sent {total} bytes.")


def dead_letter_queue_not_allowed(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon SQS API Reference, SetQueueAttributes, RedriveAllowPolicy: "byQueue - Only queues specified by the sourceQueueArns parameter
    can specify this queue as the dead-letter queue"; "denyAll". AWS does not publish the text of its refusal."""
    asked = (call.parameters.get("Attributes") or {}).get("RedrivePolicy")
    target = json.loads(asked).get("deadLetterTargetArn", "") if asked else ""
    queue = sqs._queue_by_arn(target) or {"attributes": {}}
    allowed = json.loads(queue["attributes"].get("RedriveAllowPolicy") or "{}")
    source = target.rpartition(":")[0] + ":" + (call.value("QueueName") or call.value("QueueUrl").rpartition("/")[2])
    permission = allowed.get("redrivePermission", "allowAll")
    if permission == "allowAll" or (permission == "byQueue" and source in allowed.get("sourceQueueArns", [])):
        return None
    text = f"Value {asked} for parameter RedrivePolicy is invalid. Reason: {target} does not allow {source}."
    return Refusal("InvalidParameterValue", text)


def note_deleted(call: Call, answer: bytes, context: RuleContext) -> None:
    context.times.note("queue deleted", _queue_key(call.value("QueueUrl").rpartition("/")[2]))


def _queue_key(name: str) -> str:
    return f"{responses.get_region()}:{name}"


def message_size(message: dict[str, Any]) -> int:
    """Bytes of a message: its body, and the name, type and value of each of its attributes."""
    attributes = (message.get("MessageAttributes") or {}).items()
    return len((message.get("MessageBody") or "").encode()) + sum(_attribute_size(name, value) for name, value in attributes)


def _attribute_size(name: str, attribute: dict[str, Any]) -> int:
    binary = attribute.get("BinaryValue") or b""
    value = base64.b64decode(binary) if isinstance(binary, str) else binary
    return len(name.encode()) + len(attribute.get("DataType", "")) + len((attribute.get("StringValue") or "").encode()) + len(value)


RULES: dict[str, tuple[Rule, ...]] = {
    "sqs:CreateQueue": (name_used_recently, dead_letter_queue_not_allowed),
    "sqs:SetQueueAttributes": (dead_letter_queue_not_allowed,),
    "sqs:SendMessage": (message_too_long,),  # also of each message of a batch
    "sqs:SendMessageBatch": (batch_too_long,),
}
NOTES: dict[str, Note] = {"sqs:DeleteQueue": note_deleted}
