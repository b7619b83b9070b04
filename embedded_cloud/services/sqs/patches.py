"""Queues as AWS has them where MiniStack differs: how batch calls are authorised, and encryption by default.

AWS authorises SendMessageBatch, DeleteMessageBatch and ChangeMessageVisibilityBatch by the permission of the single call ("Actions,
resources, and condition keys for Amazon SQS" lists no batch action); MiniStack asks for actions that IAM does not know. A queue that is
made has SSE-SQS unless told otherwise (API_CreateQueue, SqsManagedSseEnabled); MiniStack's has none.
"""

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ministack.core import iam_actions
from ministack.services import sqs

_BATCHES = {f"sqs:{action}Batch": f"sqs:{action}" for action in ("SendMessage", "DeleteMessage", "ChangeMessageVisibility")}

_half_refused = contextvars.ContextVar("half_refused", default=False)


@contextmanager
def half_refused() -> Iterator[None]:
    """A fault: of the SendMessageBatch or BatchExecuteStatement handled meanwhile, every other entry is refused, from the first."""
    token = _half_refused.set(True)
    try:
        yield
    finally:
        _half_refused.reset(token)


def is_refused(number: int) -> bool:
    """Whether that fault refuses the entry of this number, from 0."""
    return _half_refused.get() and number % 2 == 0


def install() -> None:
    """Replace what MiniStack looks up at each call."""
    sqs._HANDLERS["SendMessageBatch"] = _refusing_entries(sqs._HANDLERS["SendMessageBatch"])
    iam_actions.extract_iam_action = _with_single_actions(iam_actions.extract_iam_action)
    sqs._HANDLERS["CreateQueue"] = _encrypted_by_default(sqs._HANDLERS["CreateQueue"])


def _with_single_actions(original: Callable[..., str | None]) -> Callable[..., str | None]:
    def extract_iam_action(*arguments: Any, **options: Any) -> str | None:
        action = original(*arguments, **options)
        return _BATCHES.get(action, action) if action else action

    return extract_iam_action


def _encrypted_by_default(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def create_queue(call: dict[str, Any], url: str) -> dict[str, Any]:
        answer = original(call, url)
        attributes = sqs._queues[answer["QueueUrl"]]["attributes"]
        attributes.setdefault("SqsManagedSseEnabled", "false" if attributes.get("KmsMasterKeyId") else "true")
        return answer

    return create_queue


def _refusing_entries(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """API_SendMessageBatch: "the result of sending each message is reported individually"; a BatchResultErrorEntry for each that failed."""

    def send_message_batch(call: dict[str, Any], url: str) -> dict[str, Any]:
        if not _half_refused.get():
            return original(call, url)
        taken, refused = call["Entries"][1::2], call["Entries"][::2]
        answer = original(call | {"Entries": taken}, url) if taken else {"Successful": []}
        fault = {"SenderFault": False, "Code": "InternalError", "Message": "We encountered an internal error. Please try again."}
        return answer | {"Failed": [*answer.get("Failed", []), *({"Id": entry["Id"]} | fault for entry in refused)]}

    return send_message_batch
