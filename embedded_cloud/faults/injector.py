"""Faults on request: throttling, server errors, lost connections, refused entries and latency, at a chosen rate. The default is none.

By default only the operator's requests are faulted, those signed with a long-term key of root or a user: they show whether the plays cope.
With `roles` it is the requests with a session token instead, which the function and the producer make. Instance metadata and the pages
under /_embedded_cloud/ are never faulted.

For one seed, the n-th request of an action always gets the same fault, however the requests of different actions interleave when hosts run
side by side. So a run can be repeated.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from ministack.core import iam_actions

from embedded_cloud.base import entry_faults, messages
from embedded_cloud.base.messages import Message, Request, Response, Send
from embedded_cloud.faults.settings import settings_from
from embedded_cloud.iam import authorization

# All equally likely. A closed connection lost the request ("before") or the answer, and the call took effect ("after").
KINDS = ("throttling", "error_500", "error_503", "closed_before", "closed_after")
# Only when named. Every other entry of a SendMessageBatch, or statement of a BatchExecuteStatement, is refused, from the first; other calls
# are answered as usual.
ENTRIES = "entries"
# Only when named. The session's credentials are refused as expired.
EXPIRED = "expired"

# Code, status and text by the signature's service. Sources: "Error codes for the Amazon EC2 API"; TooManyRequestsException (Lambda API
# reference); RequestThrottled (SQS; its status from botocore's retry rules); "Common error types" for the others, which are
# `Throttling` in the query protocol and `ThrottlingException` in JSON.
_THROTTLING = {
    "ec2": ("RequestLimitExceeded", 503, "Request limit exceeded."),
    "lambda": ("TooManyRequestsException", 429, "Rate exceeded"),
    "sqs": ("RequestThrottled", 403, "Request is throttled."),
    "iam": ("Throttling", 400, "Rate exceeded"),
    "sts": ("Throttling", 400, "Rate exceeded"),
    "monitoring": ("Throttling", 400, "Rate exceeded"),
}
_JSON_THROTTLING = ("ThrottlingException", 400, "Rate exceeded")
# Source: "Common error types", which every service shares.
_SERVER_ERRORS = {
    "error_500": ("InternalFailure", 500, "The request processing has failed because of an unknown error, exception or failure."),
    "error_503": ("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server."),
}


@dataclass(frozen=True)
class FaultSettings:
    """`rate` is the share of requests that get a fault, 0 to 1; `seed` chooses which; `latency_ms` is added to every request.

    With `roles` these are the requests of roles instead of the operator's. `actions` (as in a policy: "sqs:SendMessage") limits them to
    some actions, `queue` to the queue of this name; `kinds` limits the kinds of faults. Empty means all.
    """

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

    def __init__(self, *settings: FaultSettings) -> None:
        self.start_anew(*settings)

    def start_anew(self, *settings: FaultSettings) -> None:
        """Use these settings from now on, and count from zero."""
        self._active = [_ActiveSettings(each) for each in settings]

    def start_anew_from(self, document: Any) -> None:
        """The same from a JSON object, or from a list of them. Raises ValueError that says what is wrong."""
        documents = document if isinstance(document, list) and document else [document]
        self.start_anew(*(settings_from(FaultSettings, one) for one in documents))

    @property
    def settings(self) -> Any:
        """Rate, seed, latency and whatever else is set; a list when there are several settings."""
        found = [active.shown for active in self._active]
        return found[0] if len(found) == 1 else found

    @property
    def counts(self) -> Any:
        """The settings, how many requests matched them, and how many got each kind of fault."""
        found = [active.counts for active in self._active]
        return found[0] if len(found) == 1 else found

    async def handle(self, request: Request, service: str, send: Send, answer: Callable[[Send], Awaitable[None]]) -> None:
        """Let `answer` handle the signed request, or make a fault of it."""
        action = _action(request, service)
        active = next((each for each in self._active if each.matches(request, action)), None)
        if active is None:
            await answer(send)
            return
        fault = active.next_fault(action)
        await asyncio.sleep(active.settings.latency_ms / 1000)
        if fault is None:
            await answer(send)
        elif fault == ENTRIES:
            with entry_faults.half_refused():
                await answer(send)
        elif fault == "closed_before":
            await _close(send)
        elif fault == "closed_after":
            await answer(_discard)
            await _close(send)
        elif fault == EXPIRED:
            await messages.send_response(send, authorization.expired_token(request, service))
        else:
            await messages.send_response(send, _refusal(request, service, fault))


class _ActiveSettings:
    """Makes the faults of one setting."""

    def __init__(self, settings: FaultSettings) -> None:
        self.settings = settings
        self._requests: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()

    @property
    def shown(self) -> dict[str, Any]:
        found = asdict(self.settings)
        return {name: value for name, value in found.items() if name in ("rate", "seed", "latency_ms") or value}

    @property
    def counts(self) -> dict[str, Any]:
        kinds = self.settings.kinds or KINDS
        return self.shown | {"requests": self._requests.total(), "faults": {kind: self._faults[kind] for kind in kinds}}

    def matches(self, request: Request, action: str) -> bool:
        if self.settings == FaultSettings():
            return False
        from_role = "x-amz-security-token" in request.headers or "X-Amz-Security-Token" in request.query
        is_asked_for = not self.settings.actions or action in self.settings.actions
        return from_role == self.settings.roles and is_asked_for and (not self.settings.queue or _queue(request) == self.settings.queue)

    def next_fault(self, action: str) -> str | None:
        self._requests[action] += 1
        drawn = random.Random(f"{self.settings.seed} {action} {self._requests[action]}").random()
        if drawn >= self.settings.rate:
            return None
        kinds = self.settings.kinds or KINDS
        fault = kinds[int(drawn / self.settings.rate * len(kinds))]
        self._faults[fault] += 1
        return fault


def _action(request: Request, service: str) -> str:
    action = iam_actions.extract_iam_action(service, request.method, request.path, request.headers, request.body, request.query)
    return action or service


def _queue(request: Request) -> str:
    """The name of the queue that a request is about, in SQS's JSON protocol; else empty."""
    return str(messages.json_object(request.body).get("QueueUrl", "")).rpartition("/")[2]


def _refusal(request: Request, service: str, fault: str) -> Response:
    code, status, message = _THROTTLING.get(service, _JSON_THROTTLING) if fault == "throttling" else _SERVER_ERRORS[fault]
    return authorization.error_response(request, service, code, message, status)


async def _discard(message: Message) -> None:
    """Lose an answer."""


async def _close(send: Send) -> None:
    """Promise a body and send none: the server then closes the connection, and the client has no answer."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
