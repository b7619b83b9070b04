"""Faults on request: throttling, server errors, lost connections, refused entries and latency, at a chosen rate. The default is none.

The requests are the operator's, signed with a long-term key of root or a user: they show whether the plays cope. With `roles` they are
those with a session token, of the function and the producer. Instance metadata and the pages under /_embedded_cloud/ are never faulted.

For one seed the n-th request of an action always gets the same fault, however actions interleave when hosts run side by side. So a run can
be repeated.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from ministack.core import iam_actions

from embedded_cloud.base import entry_faults, messages
from embedded_cloud.base.messages import Message, Request, Send
from embedded_cloud.faults.settings import settings_from
from embedded_cloud.iam import authorization

# All equally likely. A closed connection lost the request ("before") or the answer, and the call took effect ("after").
KINDS = ("throttling", "error_500", "error_503", "closed_before", "closed_after")
# Only when named: every other entry of a SendMessageBatch, or statement of a BatchExecuteStatement, is refused, from the first; other calls
# are answered as usual.
ENTRIES = "entries"
# Only when named: the session's credentials are refused as expired.
EXPIRED = "expired"

# Code, status and text by the signature's service. Sources: "Error codes for the Amazon EC2 API"; TooManyRequestsException (Lambda API
# reference); RequestThrottled (SQS; its status from botocore's retry rules); "Common error types" for the others, which are
# `Throttling` in the query protocol and `ThrottlingException` in JSON.
_THROTTLING = {
    "ec2": ("RequestLimitExceeded", 503, "Request limit exceeded."),
    "lambda": ("TooManyRequestsException", 429, "Rate exceeded"),
    "sqs": ("RequestThrottled", 403, "Request is throttled."),
    **dict.fromkeys(("iam", "sts", "monitoring"), ("Throttling", 400, "Rate exceeded")),
}
_JSON_THROTTLING = ("ThrottlingException", 400, "Rate exceeded")
# Source: "Common error types", which every service shares.
_SERVER_ERRORS = {
    "error_500": ("InternalFailure", 500, "The request processing has failed because of an unknown error, exception or failure."),
    "error_503": ("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server."),
}


@dataclass(frozen=True)
class FaultSettings:
    """`rate` is the share of requests that get a fault, 0 to 1; `seed` chooses which; `latency_ms` is added to every request. `actions` (as
    in a policy: "sqs:SendMessage") limits them to some actions, `queue` to the queue of this name, `kinds` to some kinds of faults. Empty
    means all."""

    rate: float = 0.0
    seed: int = 0
    latency_ms: int = 0
    roles: bool = False
    actions: tuple[str, ...] = ()
    queue: str = ""
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"the rate of faults is {self.rate}; it must be from 0 to 1")
        if not 0 <= self.latency_ms <= 60_000:
            raise ValueError(f"the latency is {self.latency_ms} ms; it must be from 0 to 60000")
        if not set(self.kinds) <= {*KINDS, ENTRIES, EXPIRED}:
            raise ValueError(f"the kinds are {', '.join(self.kinds)}; known are {', '.join((*KINDS, ENTRIES, EXPIRED))}")


class FaultInjector:
    """Decides which request gets which fault, and counts. With several settings, the first that matches a request decides."""

    def __init__(self, settings: FaultSettings) -> None:
        self._active = [_ActiveSettings(settings)]

    def start_anew_from(self, document: Any) -> None:
        """Use the settings of a JSON object, or of a list of them, and count from zero. Raises ValueError that says what is wrong."""
        documents = document if isinstance(document, list) and document else [document]
        self._active = [_ActiveSettings(settings_from(FaultSettings, one)) for one in documents]

    @property
    def settings(self) -> Any:
        """Rate, seed, latency and whatever else is set; a list when there are several settings."""
        return self._active[0].shown if len(self._active) == 1 else [active.shown for active in self._active]

    @property
    def counts(self) -> Any:
        """The settings, how many requests matched them, and how many got each kind of fault."""
        return self._active[0].counts if len(self._active) == 1 else [active.counts for active in self._active]

    async def handle(self, request: Request, service: str, send: Send, answer: Callable[[Send], Awaitable[None]]) -> None:
        """Let `answer` handle the signed request, or make a fault of it."""
        asked = request.method, request.path, request.headers, request.body, request.query
        action = iam_actions.extract_iam_action(service, *asked) or service
        active = next((each for each in self._active if each.matches(request, action)), None)
        fault = active.next_fault(action) if active else None
        if active:
            await asyncio.sleep(active.settings.latency_ms / 1000)
        entry_faults.half_refused.set(fault == ENTRIES)
        if fault in (None, ENTRIES):
            await answer(send)
        elif fault == "closed_before":
            await _close(send)
        elif fault == "closed_after":
            await answer(_discard)
            await _close(send)
        elif fault == EXPIRED:
            await messages.send_response(send, authorization.expired_token(request, service))
        else:
            code, status, message = _SERVER_ERRORS.get(fault) or _THROTTLING.get(service, _JSON_THROTTLING)
            await messages.send_response(send, authorization.error(request.headers, service, code, message, status))


class _ActiveSettings:
    def __init__(self, settings: FaultSettings) -> None:
        self.settings = settings
        self._requests: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()

    @property
    def shown(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self.settings).items() if name in ("rate", "seed", "latency_ms") or value}

    @property
    def counts(self) -> dict[str, Any]:
        kinds = self.settings.kinds or KINDS
        return self.shown | {"requests": self._requests.total(), "faults": {kind: self._faults[kind] for kind in kinds}}

    def matches(self, request: Request, action: str) -> bool:
        if self.settings == FaultSettings():
            return False
        from_role = "x-amz-security-token" in request.headers or "X-Amz-Security-Token" in request.query
        if from_role != self.settings.roles or (self.settings.actions and action not in self.settings.actions):
            return False
        queue = self.settings.queue  # which SQS's JSON protocol names
        return not queue or str(messages.json_object(request.body).get("QueueUrl")).rpartition("/")[2] == queue

    def next_fault(self, action: str) -> str | None:
        self._requests[action] += 1
        drawn = random.Random(f"{self.settings.seed} {action} {self._requests[action]}").random()
        if drawn >= self.settings.rate:
            return None
        kinds = self.settings.kinds or KINDS
        fault = kinds[int(drawn / self.settings.rate * len(kinds))]
        self._faults[fault] += 1
        return fault


async def _discard(message: Message) -> None:
    """Lose an answer."""


async def _close(send: Send) -> None:
    """Promise a body and send none: the server then closes the connection, and the client has no answer."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
