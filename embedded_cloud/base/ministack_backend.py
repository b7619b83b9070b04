"""MiniStack, in this process: its ASGI application, and answers in its own form."""

from typing import Any

from ministack.app import app
from ministack.core import responses

from embedded_cloud.base import messages
from embedded_cloud.base.messages import Application, Message, Receive, Send

# What a handler of MiniStack returns: status, headers, body.
Answer = tuple[int, dict[str, str], bytes]

application: Application = app

_READY_PAGE = {"type": "http", "method": "GET", "path": "/_ministack/ready", "query_string": b"", "headers": [], "http_version": "1.1"}


def json_answer(value: Any, status: int = 200) -> Answer:
    answer: Answer = responses.json_response(value, status)
    return answer


def json_error(code: str, message: str, status: int = 400) -> Answer:
    answer: Answer = responses.error_response_json(code, message, status)
    return answer


async def handle(scope: dict[str, Any], body: bytes, receive: Receive, send: Send) -> None:
    """Send MiniStack's answer to a request whose body was read already."""
    await application(scope, messages.receive_again(body, receive), send)


async def collect(scope: dict[str, Any], body: bytes, receive: Receive) -> tuple[int, list[Message]]:
    """The status of MiniStack's answer (0 when it gave none) and the answer itself, which nobody was sent yet."""
    answer: list[Message] = []

    async def keep(message: Message) -> None:
        answer.append(message)

    await handle(scope, body, receive, keep)
    return next((message["status"] for message in answer if message["type"] == "http.response.start"), 0), answer


async def is_ready() -> bool:
    async def nothing_more() -> Message:
        return {"type": "http.disconnect"}

    status, _answer = await collect(_READY_PAGE, b"", nothing_more)
    return status == 200


def secure(scope: dict[str, Any]) -> dict[str, Any]:
    """The scope of a request over loopback, declared to be as private as TLS unless the request itself says otherwise.

    MiniStack evaluates aws:SecureTransport by the first header of this name; no client signs it.
    """
    return scope | {"headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
