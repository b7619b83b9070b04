"""HTTP requests and responses as values, and their conversion from and to ASGI."""

import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """A complete request."""

    method: str
    path: str
    raw_path: str
    query_string: str
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes
    client: str

    @functools.cached_property
    def headers(self) -> dict[str, str]:
        """By lower-case name; repeated headers are joined by a comma."""
        joined: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined

    @functools.cached_property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string, keep_blank_values=True)


class Response(NamedTuple):
    """A complete response, in the form of MiniStack's handlers."""

    status: int
    headers: dict[str, str]
    body: bytes


def text(status: int, body: str, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {"content-type": "text/plain"} | named, body.encode())


def as_json(status: int, value: object) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(value, sort_keys=True).encode())


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
    return Request(
        method=scope["method"],
        path=scope["path"],
        raw_path=scope["raw_path"].decode("latin-1"),
        query_string=scope["query_string"].decode("latin-1"),
        raw_headers=[(bytes(name), bytes(value)) for name, value in scope["headers"]],
        body=b"".join(chunks),
        client=scope["client"][0],
    )


async def send_response(send: Send, response: Response) -> None:
    named = {name.lower(): value for name, value in response.headers.items()} | {"content-length": str(len(response.body))}
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


def json_object(body: bytes) -> dict[str, Any]:
    """The object in a JSON body; empty when there is none, which the service itself reports."""
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
