"""The producer as a process of its own, and what it talks to on the loopback: a metadata service and a queue that can be told to fail."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from producer_fakes import in_memory

ROOT = Path(__file__).resolve().parents[2]
PROGRAM, KILLING = ROOT / "producer_src", ROOT / "tests" / "support" / "killing_producer.py"
ROLE = "/latest/meta-data/iam/security-credentials/"
SECRET, TOKEN = "s3cr3t" * 7, "t0k3n" * 30


class Handler(BaseHTTPRequestHandler):
    """Paths under /imds are the metadata service, POST / is SQS."""

    server: Cloud

    def do_PUT(self) -> None:
        self.reply(200 if self.server.imds == "v2" else 403, "metadata-token")

    def do_GET(self) -> None:
        self.server.metadata_reads.append((self.path, self.headers.get("x-aws-ec2-metadata-token")))
        if self.server.imds == "no role":
            self.reply(404, "")
        elif self.path == f"/imds{ROLE}":
            self.reply(200, "EC2-SQS-Role")
        else:
            self.server.sessions += 1
            expiry = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
            keys = {"AccessKeyId": f"ASIA{self.server.sessions}", "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": expiry}
            self.reply(200, json.dumps({"Code": "Success"} | keys))

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["X-Amz-Target"] == "AmazonSQS.SendMessageBatch"
        key = re.search(r"Credential=(\w+)/\d+/([\w-]+)/sqs/", self.headers["Authorization"])
        assert key and self.headers["X-Amz-Security-Token"] == TOKEN
        self.server.keys.append(f"{key[1]} {key[2]}")
        trouble = self.server.troubles.pop(0) if self.server.troubles else None
        if trouble == "hang up":
            self.close_connection = True
        elif trouble:
            self.reply(400, json.dumps({"__type": f"com.amazonaws.sqs#{trouble}", "message": f"{trouble} for {TOKEN}"}))
        else:
            done = []
            with self.server.one_at_a_time:
                for entry in request["Entries"]:
                    self.server.received.append(json.loads(entry["MessageBody"])["transaction_id"])
                    self.server.bodies.append(entry["MessageBody"])
                    self.server.outbox_ids.append(entry["MessageAttributes"]["outbox_id"]["StringValue"])
                    done.append({"Id": entry["Id"], "MessageId": f"m-{next(self.server.numbers)}", "MD5OfMessageBody": "d"})
            self.reply(200, json.dumps({"Successful": done, "Failed": []}))

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Quiet: the tests look at what was received."""


class Cloud(ThreadingHTTPServer):
    """`imds` is "v2", "no role" or "v1 only"; `troubles` are what the queue answers first; the rest is what was asked of it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.imds, self.sessions = "v2", 0
        self.troubles: list[str | None] = []
        self.metadata_reads: list[tuple[str, str | None]] = []
        self.keys: list[str] = []
        self.received: list[str] = []
        self.bodies: list[str] = []
        self.outbox_ids: list[str] = []
        self.numbers = itertools.count(1)
        self.one_at_a_time = threading.Lock()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving() -> Iterator[Cloud]:
    """A cloud that runs meanwhile."""
    server = Cloud()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Program:
    """The producer, started; `finish` gives its exit code and its lines on stdout and stderr, which never hold a secret.

    `state` is the directory of its outbox, one of its own if there is none; `kill` is the step at which it kills itself.
    """

    def __init__(self, cloud: Cloud, *arguments: str, state: Path | None = None, kill: str = "", **environment: str) -> None:
        self.state = state or in_memory()
        if state is None:
            weakref.finalize(self, shutil.rmtree, self.state, ignore_errors=True)
        plain = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{cloud.origin}/imds"}
        plain |= {"QUEUE_URL": f"{cloud.origin}/000000000000/FinancialTransactionQueue", "AWS_REGION": "us-east-1"}
        plain |= {"PRODUCER_STATE_DIRECTORY": str(self.state)}
        command = [sys.executable, str(KILLING), kill] if kill else [sys.executable, str(PROGRAM)]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([*command, *arguments], env=plain | environment, text=True, **streams)

    def finish(self) -> tuple[int, list[dict], list[dict]]:
        try:
            out, err = self.process.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        assert SECRET not in out + err and TOKEN[:40] not in out + err
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], [json.loads(line) for line in err.splitlines()]

    def stop_when(self, ready: Callable[[], object], signum: signal.Signals = signal.SIGTERM) -> tuple[float, int, list[dict], list[dict]]:
        """Send the signal once `ready`, and give how many seconds it took from there, beside what `finish` gives."""
        deadline = time.monotonic() + 30
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.02)
        in_time, begin = ready(), time.monotonic()
        self.process.send_signal(signum)
        code, out, err = self.finish()
        assert in_time, (out, err)
        return time.monotonic() - begin, code, out, err


def logged(lines: list[dict]) -> list[str]:
    return [each for line in lines if line["event"] == "sent" for each in line["transaction_ids"]]
