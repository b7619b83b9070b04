"""What can go wrong between a queue and its function, on request, and none unless asked for.

Amazon SQS Developer Guide, "At-least-once delivery": a message may be delivered again, also after it was deleted; "Best-effort ordering":
and in another order. AWS Lambda Developer Guide, "Understanding the Lambda execution environment lifecycle": an invocation may be killed or
time out at any point; here after its work and before its answer, where most has happened that nobody hears of.

A function at its reserved concurrency is polled for all the same, as on AWS ("Configuring scaling behavior for SQS event source mappings":
what was received and then throttled shows again when its visibility timeout is over). MiniStack polls no further, and so would hide that a
throttled invocation counts as a receive; of a version, which shares the reserve of its function ("Configuring reserved concurrency"), it
knows no reserve at all.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ministack.services import lambda_svc, sqs

# What AWS says of an invocation that ended so.
_ENDS = {
    "killed": ("Runtime.ExitError", "RequestId: {id} Error: Runtime exited with error: signal: killed"),
    "timed_out": ("Sandbox.Timedout", "RequestId: {id} Error: Task timed out after {seconds}.00 seconds"),
}


@dataclass(frozen=True)
class DeliverySettings:
    """Shares from 0 to 1: of messages that are delivered once more (`twice`), of batches taken from anywhere in the queue (`shuffled`), of
    invocations that end without an answer (`killed`, `timed_out`); `seed` chooses which.

    A message is delivered once more within `twice_seconds`, also if it was deleted meanwhile.
    """

    twice: float = 0.0
    shuffled: float = 0.0
    killed: float = 0.0
    timed_out: float = 0.0
    twice_seconds: float = 5.0
    seed: int = 0

    @classmethod
    def from_document(cls, document: Any) -> "DeliverySettings":
        """From a JSON object of these names, all of them optional. Raises ValueError that says what is wrong."""
        if not isinstance(document, dict) or document.keys() - cls.__dataclass_fields__.keys():
            raise ValueError(f"expected an object of {', '.join(cls.__dataclass_fields__)}; found {document!r}")
        for name, value in document.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or (name not in ("seed", "twice_seconds") and not 0 <= value <= 1):
                raise ValueError(f"{name} is {value!r}; it must be a number, and a share must be from 0 to 1")
        return cls(**document)


class Deliveries:
    """Decides what becomes of each delivery, and counts."""

    def __init__(self) -> None:
        self.start_anew(DeliverySettings())

    def start_anew(self, settings: DeliverySettings) -> None:
        """Take these settings, and count from zero."""
        self._settings = settings
        self._random = random.Random(settings.seed)
        self._met: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, Any]:
        """The settings, and how often each mishap happened."""
        return asdict(self._settings) | {"met": {name: self._met[name] for name in ("twice", "shuffled", *_ENDS)}}

    def install(self) -> None:
        """Replace what MiniStack looks up at each poll and each invocation."""
        sqs._receive_messages_for_esm = self._received(sqs._receive_messages_for_esm)
        lambda_svc._execute_function_dispatch = self._executed(lambda_svc._execute_function_dispatch)
        lambda_svc._sqs_esm_concurrency = _without_reserve(lambda_svc._sqs_esm_concurrency)
        lambda_svc._reserved_concurrency = _of_the_function

    def _received(self, original: Callable[[str, int], list[dict[str, Any]]]) -> Callable[[str, int], list[dict[str, Any]]]:
        def receive(queue_url: str, most: int) -> list[dict[str, Any]]:
            if self._happens("shuffled"):
                with sqs._queues_lock:
                    self._random.shuffle(sqs._get_q(queue_url)["messages"])
            received = original(queue_url, most)
            again = [self._again(message) for message in received if self._happens("twice")]
            if again:
                with sqs._queues_lock:
                    sqs._get_q(queue_url)["messages"] += again
            return received

        return receive

    def _again(self, message: dict[str, Any]) -> dict[str, Any]:
        """The same message as another server has it: no deletion reaches it before it shows."""
        return message | {"receipt_handle": None, "visible_at": time.time() + self._random.uniform(0, self._settings.twice_seconds)}

    def _executed(self, original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def execute(function: dict[str, Any], config: dict[str, Any], event: Any, request_id: str, started: float) -> dict[str, Any]:
            result = original(function, config, event, request_id, started)
            end = next((name for name in _ENDS if self._happens(name)), None)
            if end is None:
                return result
            kind, text = _ENDS[end]
            message = text.format(id=request_id, seconds=config.get("Timeout"))
            return {"error": True, "body": {"errorType": kind, "errorMessage": message}, "log": result.get("log", "")}

        return execute

    def _happens(self, name: str) -> bool:
        share = getattr(self._settings, name)
        if not share or self._random.random() >= share:
            return False
        self._met[name] += 1
        return True


def _without_reserve(original: Callable[..., int]) -> Callable[..., int]:
    def concurrency(mapping: dict[str, Any], _function: Any, _config: Any, queue: dict[str, Any] | None = None) -> int:
        return original(mapping, {}, {}, queue)  # of function and configuration it asks for the reserve alone

    return concurrency


def _of_the_function(function: dict[str, Any], config: dict[str, Any]) -> int | None:
    """The reserved concurrency of the function that this is, or is a version of."""
    found = (lambda_svc._functions.get(config.get("FunctionName", "")) or {}).get("concurrency")
    return None if found is None else int(found)
