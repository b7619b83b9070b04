"""MiniStack, in this process: its ASGI application, and answers in its own form."""

from collections.abc import Callable
from typing import Any

from ministack.app import app
from ministack.core import responses

from embedded_cloud.base.messages import Application, Message, Receive, Send

# What a handler of MiniStack returns: status, headers, body.
Answer = tuple[int, dict[str, str], bytes]

application: Application = app
json_answer: Callable[..., Answer] = responses.json_response
json_error: Callable[..., Answer] = responses.error_response_json

_READY_PAGE = {"type": "http", "method": "GET", "path": "/_ministack/ready", "query_string": b"", "headers": [], "http_version": "1.1"}


async def handle(scope: dict[str, Any], body: bytes, receive: Receive, send: Send) -> None:
    """Send MiniStack's answer to a request whose body was read already.

    Loopback counts as TLS unless the request says otherwise: the first header of this name decides aws:SecureTransport. No client signs it.
    """
    secure = scope | {"headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_body_first() -> Message:
        return pending.pop() if pending else await receive()

    await application(secure, receive_body_first, send)


async def is_ready() -> bool:
    statuses: list[int | None] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        statuses.append(message.get("status"))

    await application(_READY_PAGE, receive, send)
    return 200 in statuses
