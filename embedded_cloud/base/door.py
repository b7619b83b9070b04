"""Who may make requests. This is checked on every path, before anything else reads the request.

The connection belongs to the user who runs the cloud, the host is this machine and this port, and no header is one that only a browser
sends. So neither a web page (even one whose own name resolves to 127.0.0.1) nor another user of this machine can reach anything.
"""

import re
import socket
import struct
from dataclasses import dataclass
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
# Family, state, two bytes, the connection's 48 bytes, three counters; then the user and the socket's inode.
_ANSWER = struct.Struct("=BB62xII")

Address = tuple[str, int]


def user_of(client: Address, server: Address) -> int | None:
    """The uid of the process at the other end of an IPv4 connection of this machine; None when there is none, or no longer. Raises OSError
    where the kernel does not answer."""
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ANY)
    wanted += struct.pack(">HH16s16s", client[1], server[1], socket.inet_aton(client[0]), socket.inet_aton(server[0]))
    wanted += struct.pack("=III", 0, _ANY, _ANY)  # the interface and the cookie
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


@dataclass(frozen=True)
class Door:
    """The outermost application: refuses a request, or passes it to `inside`, and removes from the answers what is meant for browsers.

    `port` is the cloud's; `user` is the one it answers. With `guests` it answers others too, except on the pages under `closed_to_guests`.
    """

    inside: Application
    port: int
    user: int
    guests: bool
    closed_to_guests: tuple[str, ...]

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.inside(scope, receive, send)
        elif scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif refused := self._refused_for(scope):
            await messages.send_response(send, messages.text(403, f"Forbidden: {refused}"))
        else:
            await self.inside(scope, receive, _without_cors(send))

    def _refused_for(self, scope: dict[str, Any]) -> str:
        """Why a request is not admitted; empty when it is."""
        hosts = [bytes(value).lower() for name, value in scope["headers"] if bytes(name).lower() == b"host"]
        if hosts not in [[f"{name}:{self.port}".encode()] for name in ("127.0.0.1", "localhost", "[::1]")]:
            return "the Host header must name this machine and this port, once"
        if scope["method"] == "OPTIONS" or any(_BROWSERS_HEADERS.fullmatch(bytes(name).lower()) for name, _value in scope["headers"]):
            return "this cloud does not answer browsers"
        if not bytes(scope["raw_path"]).startswith(b"/"):
            return "the request line must name a path, and no host"
        is_open = self.guests and not scope["path"].startswith(self.closed_to_guests)
        if not is_open and user_of(scope["client"], scope["server"]) != self.user:
            return f"this cloud answers the user who runs it, whose uid is {self.user}, and nobody else"
        return ""


def _without_cors(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [header for header in message.get("headers", ()) if not bytes(header[0]).lower().startswith(b"access-control-")]
            message = message | {"headers": kept}
        await send(message)

    return sent
