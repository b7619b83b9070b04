"""HTTP requests and responses as values, and their conversion from and to ASGI."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True)
class Request:
    """A complete request. `headers` has lower-case names, and repeated headers joined by a comma; `raw_headers` is unchanged."""

    method: str
    path: str
    raw_path: str
    query_string: str
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes
    client: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string, keep_blank_values=True)


@dataclass(frozen=True)
class Response:
    """A complete response; `headers` in the order in which they are sent."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def text(status: int, body: str, **headers: str) -> Response:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Response(status, body.encode(), (("content-type", "text/plain"), *named))


def as_json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value, sort_keys=True).encode(), (("content-type", "application/json"),))


def joined_headers(raw_headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


async def read_request(scope: dict[str, Any], receive: Receive) -> Request | None:
    """The request with its whole body, or None when the client closed the connection before that."""
    chunks = []
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    raw_headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
    return Request(
        method=scope["method"],
        path=scope["path"],
        raw_path=raw_path.decode("latin-1"),
        query_string=scope.get("query_string", b"").decode("latin-1"),
        raw_headers=raw_headers,
        body=b"".join(chunks),
        client=(scope.get("client") or ("127.0.0.1",))[0],
        headers=joined_headers(raw_headers),
    )


def receive_again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body again that was read already, and then what the connection sends."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_body_first() -> Message:
        return pending.pop() if pending else await receive()

    return receive_body_first


async def send_response(send: Send, response: Response) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    headers = [header for header in headers if header[0] != b"content-length"]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


def json_object(body: bytes) -> dict[str, Any]:
    """The object in a JSON body; empty when there is none, which the service itself reports."""
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
