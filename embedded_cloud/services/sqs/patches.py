"""Queues as SQS has them, where MiniStack differs: how batch calls are authorised, encryption by default, batches refused in part."""

from collections.abc import Callable
from typing import Any

from ministack.core import iam_actions
from ministack.services import sqs

from embedded_cloud.base import entry_faults
from embedded_cloud.base.patching import wrap

_BATCHES = {f"sqs:{action}Batch": f"sqs:{action}" for action in ("SendMessage", "DeleteMessage", "ChangeMessageVisibility")}
_FAULT = {"SenderFault": False, "Code": "InternalError", "Message": "We encountered an internal error. Please try again."}


def authorise_batches_as_single_calls(original: Callable[..., str | None], *arguments: Any, **options: Any) -> str | None:
    """AWS authorises SendMessageBatch, DeleteMessageBatch and ChangeMessageVisibilityBatch by the permission of the single call: "Actions,
    resources, and condition keys for Amazon SQS" lists no batch action. MiniStack asks for actions that IAM does not know."""
    action = original(*arguments, **options)
    return _BATCHES.get(action, action) if action else action


def encrypt_by_default(original: Callable[..., dict[str, Any]], call: dict[str, Any], url: str) -> dict[str, Any]:
    """A new queue has SSE-SQS unless told otherwise (API_CreateQueue, SqsManagedSseEnabled); MiniStack's has none."""
    answer = original(call, url)
    attributes = sqs._queues[answer["QueueUrl"]]["attributes"]
    attributes.setdefault("SqsManagedSseEnabled", "false" if attributes.get("KmsMasterKeyId") else "true")
    return answer


def refuse_entries(original: Callable[..., dict[str, Any]], call: dict[str, Any], url: str) -> dict[str, Any]:
    """API_SendMessageBatch: "the result of sending each message is reported individually"; a BatchResultErrorEntry for each that failed."""
    entries = call.get("Entries") or []
    refused = [entry for number, entry in enumerate(entries) if entry_faults.is_refused(number)]
    if not refused:
        return original(call, url)
    taken = [entry for number, entry in enumerate(entries) if not entry_faults.is_refused(number)]
    answer = original(call | {"Entries": taken}, url) if taken else {"Successful": []}
    return answer | {"Failed": [*answer.get("Failed", []), *({"Id": entry["Id"]} | _FAULT for entry in refused)]}


PATCHES = (
    wrap(sqs._HANDLERS, "SendMessageBatch", refuse_entries),
    wrap(iam_actions, "extract_iam_action", authorise_batches_as_single_calls),
    wrap(sqs._HANDLERS, "CreateQueue", encrypt_by_default),
)
