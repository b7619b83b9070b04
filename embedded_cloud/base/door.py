"""Who may make requests. This is checked on every path, before anything else reads the request.

A request is admitted when its connection belongs to the user who runs the cloud, when it names this machine and this port as its host, and
when it has no header that only a browser sends. So neither a web page (even one whose own name resolves to 127.0.0.1) nor another user of
this machine can reach anything, and no answer allows a browser to show it to a page.
"""

import re
import socket
import struct
from typing import Any

from embedded_cloud.base import messages
from embedded_cloud.base.messages import Application, Message, Receive, Send

# No AWS client sends these. A browser sends at least one of them with every request that a page makes.
_BROWSERS_HEADERS = re.compile(rb"origin|referer|cookie|sec-.*|access-control-.*")

# sock_diag(7), <linux/sock_diag.h>, <linux/inet_diag.h>, <linux/netlink.h>
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_TCP_ESTABLISHED = 1
_ANY = 0xFFFFFFFF
_MESSAGE_HEADER = struct.Struct("=IHHII")
_REQUEST_HEAD = struct.Struct("=BBBBI")
_INTERFACE_AND_COOKIE = struct.Struct("=III")
# Family, state, two bytes, the connection's 48 bytes, three counters; then the user and the socket's inode.
_ANSWER = struct.Struct("=BB62xII")

Address = tuple[str, int]


def user_of(client: Address, server: Address) -> int | None:
    """The uid of the process at the other end of an IPv4 connection of this machine; None when there is none, or no longer.

    Raises OSError where the kernel does not answer.
    """
    ports_and_addresses = struct.pack(">HH16s16s", client[1], server[1], socket.inet_aton(client[0]), socket.inet_aton(server[0]))
    wanted = (
        _REQUEST_HEAD.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ANY) + ports_and_addresses + _INTERFACE_AND_COOKIE.pack(0, _ANY, _ANY)
    )
    head = _MESSAGE_HEADER.pack(_MESSAGE_HEADER.size + len(wanted), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(5)
        kernel.send(head + wanted)
        answer = kernel.recv(4096)
    if _MESSAGE_HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    _family, state, uid, inode = _ANSWER.unpack_from(answer, _MESSAGE_HEADER.size)
    # A connection whose process has closed it belongs to nobody, which the kernel writes as root.
    return uid if state == _TCP_ESTABLISHED and inode else None


class Door:
    """The outermost application: refuses a request, or passes it to `inside`, and removes from the answers what is meant for browsers.

    `port` is the cloud's; `user` is the one it answers. With `guests` it answers others too, except on the pages under `closed_to_guests`.
    """

    def __init__(self, inside: Application, port: int, user: int, guests: bool, closed_to_guests: tuple[str, ...]) -> None:
        self._inside = inside
        self._hosts = {f"{name}:{port}".encode() for name in messages.LOOPBACK_HOSTS}
        self._user = user
        self._guests = guests
        self._closed_to_guests = closed_to_guests

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inside(scope, receive, send)
        elif scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif refused := self._refused_for(scope):
            await messages.send_response(send, messages.text(403, f"Forbidden: {refused}"))
        else:
            await self._inside(scope, receive, _without_cors(send))

    def _refused_for(self, scope: dict[str, Any]) -> str:
        """Why a request is not admitted; empty when it is."""
        names = [bytes(name).lower() for name, _value in scope["headers"]]
        hosts = [bytes(value).lower() for name, value in scope["headers"] if bytes(name).lower() == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "the Host header must name this machine and this port, once"
        if any(_BROWSERS_HEADERS.fullmatch(name) for name in names) or scope["method"] == "OPTIONS":
            return "this cloud does not answer browsers"
        if not bytes(scope["raw_path"]).startswith(b"/"):
            return "the request line must name a path, and no host"
        if not self._is_admitted(scope):
            return f"this cloud answers the user who runs it, whose uid is {self._user}, and nobody else"
        return ""

    def _is_admitted(self, scope: dict[str, Any]) -> bool:
        if self._guests and not scope["path"].startswith(self._closed_to_guests):
            return True
        return user_of(scope["client"], scope["server"]) == self._user


def _without_cors(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [header for header in message.get("headers", ()) if not bytes(header[0]).lower().startswith(b"access-control-")]
            message = message | {"headers": kept}
        await send(message)

    return sent
