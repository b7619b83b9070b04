"""A server on the loopback that answers as SQS, DynamoDB and an instance's metadata service do, after a given time, and does nothing else.

A process of its own, so that its work is not counted with that of the program that is measured:

    python -m bench.services <milliseconds>

prints its port, and serves until its standard input is closed. `GET /counts` gives how many requests of each operation there were.
"""

from __future__ import annotations

import asyncio
import collections
import json
import re
import subprocess
import sys
import urllib.request
from types import TracebackType
from typing import Any, ClassVar

HEADERS = re.compile(rb"(?i)\r\n(x-amz-target|content-length): *([^\r\n]*)")


def answer(operation: str, request: dict[str, Any]) -> dict[str, Any]:
    if operation == "BatchExecuteStatement":
        return {"Responses": [{} for _ in request["Statements"]]}
    if operation == "SendMessageBatch":
        sent = [{"Id": entry["Id"], "MessageId": f"m-{entry['Id']}", "MD5OfMessageBody": "d"} for entry in request["Entries"]]
        return {"Successful": sent, "Failed": []}
    if operation == "SendMessage":
        return {"MessageId": "m", "MD5OfMessageBody": "d"}
    return {}


def metadata(path: str) -> str:
    """What an instance's metadata service answers: a token, the name of a role, or its credentials."""
    if not path.endswith("/role"):
        return "role"  # or a token, which may be any text
    return json.dumps(
        {"Code": "Success", "AccessKeyId": "key", "SecretAccessKey": "secret", "Token": "token", "Expiration": "2099-01-01T00:00:00Z"}
    )


class Service(asyncio.Protocol):
    counts: ClassVar[collections.Counter[str]] = collections.Counter()
    delay = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            path = self.data[:end].split(b" ", 2)[1].decode()
            headers = {name.lower(): value for name, value in HEADERS.findall(self.data[:end])}
            whole = end + 4 + int(headers.get(b"content-length", b"0"))
            if len(self.data) < whole:
                return
            body, self.data = self.data[end + 4 : whole], self.data[whole:]
            operation = headers.get(b"x-amz-target", b"").decode().rpartition(".")[2]
            if operation:
                self.counts[operation] += 1
                reply = json.dumps(answer(operation, json.loads(body))).encode()
                asyncio.get_running_loop().call_later(self.delay, self.reply, reply)
            else:
                self.reply(json.dumps(self.counts).encode() if path == "/counts" else metadata(path).encode())

    def reply(self, body: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )


class Services:
    """The server, running. `url` is its address."""

    def __init__(self, milliseconds: float) -> None:
        command = [sys.executable, "-m", "bench.services", str(milliseconds)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def counts(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/counts") as response:
            return json.load(response)

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.process.communicate()


async def serve(milliseconds: float) -> None:
    Service.delay = milliseconds / 1000
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Service, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
