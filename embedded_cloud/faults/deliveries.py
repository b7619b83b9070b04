"""Faults between a queue and its function, on request. The default is none.

Amazon SQS Developer Guide, "At-least-once delivery": a message may be delivered again, also after it was deleted; "Best-effort ordering":
and in another order. AWS Lambda Developer Guide, "Understanding the Lambda execution environment lifecycle": an invocation may be killed or
time out at any point. Here that is after its work and before its answer, where the most is done that nobody learns of.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ministack.services import lambda_svc, sqs

from embedded_cloud.base.patching import Patch, wrap
from embedded_cloud.faults.settings import settings_from

# AWS's error type and text for an invocation that ended like this.
_ENDS = {
    "killed": ("Runtime.ExitError", "RequestId: {id} Error: Runtime exited with error: signal: killed"),
    "timed_out": ("Sandbox.Timedout", "RequestId: {id} Error: Task timed out after {seconds}.00 seconds"),
}
_EVENTS = ("twice", "shuffled", *_ENDS)


@dataclass(frozen=True)
class DeliverySettings:
    """Shares from 0 to 1: of messages that are delivered once more (`twice`), of batches taken from anywhere in the queue (`shuffled`), of
    invocations that end without an answer (`killed`, `timed_out`). `seed` chooses which.

    A message is delivered once more within `twice_seconds`, even if it was deleted meanwhile.
    """

    twice: float = 0.0
    shuffled: float = 0.0
    killed: float = 0.0
    timed_out: float = 0.0
    twice_seconds: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _EVENTS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share must be from 0 to 1")


class Deliveries:
    """Decides which delivery gets which fault, and counts."""

    def __init__(self) -> None:
        self.start_anew(DeliverySettings())

    def start_anew_from(self, document: Any) -> None:
        """The same from a JSON object. Raises ValueError that says what is wrong."""
        self.start_anew(settings_from(DeliverySettings, document))

    def start_anew(self, settings: DeliverySettings) -> None:
        """Use these settings from now on, and count from zero."""
        self._settings = settings
        self._random = random.Random(settings.seed)
        self._counted: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, Any]:
        """The settings, and how often each fault happened."""
        return asdict(self._settings) | {"met": {name: self._counted[name] for name in _EVENTS}}

    def patches(self) -> list[Patch]:
        return [
            wrap(sqs, "_receive_messages_for_esm", self._receive),
            wrap(lambda_svc, "_execute_function_dispatch", self._execute),
        ]

    def _receive(self, original: Callable[..., list[dict[str, Any]]], queue_url: str, most: int) -> list[dict[str, Any]]:
        if self._happens("shuffled"):
            with sqs._queues_lock:
                self._random.shuffle(sqs._get_q(queue_url)["messages"])
        received = original(queue_url, most)
        again = [self._again(message) for message in received if self._happens("twice")]
        if again:
            with sqs._queues_lock:
                sqs._get_q(queue_url)["messages"] += again
        return received

    def _again(self, message: dict[str, Any]) -> dict[str, Any]:
        """The same message as another server has it: no deletion reaches it before it shows."""
        return message | {"receipt_handle": None, "visible_at": time.time() + self._random.uniform(0, self._settings.twice_seconds)}

    def _execute(
        self, original: Callable[..., dict[str, Any]], function: Any, config: dict[str, Any], event: Any, request_id: str, started: float
    ) -> dict[str, Any]:
        result = original(function, config, event, request_id, started)
        end = next((name for name in _ENDS if self._happens(name)), None)
        if end is None:
            return result
        kind, text = _ENDS[end]
        message = text.format(id=request_id, seconds=config.get("Timeout"))
        return {"error": True, "body": {"errorType": kind, "errorMessage": message}, "log": result.get("log", "")}

    def _happens(self, name: str) -> bool:
        share = getattr(self._settings, name)
        if not share or self._random.random() >= share:
            return False
        self._counted[name] += 1
        return True
