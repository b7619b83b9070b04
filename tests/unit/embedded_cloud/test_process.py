"""The process: what it listens on, what its functions see, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from refusals import make_function, make_role, package

ROOT = Path(__file__).resolve().parents[3]

FUNCTION = """
import os
import boto3

def handler(event, context):
    if "busy" in event:
        import pathlib, time
        pathlib.Path(event["busy"]).touch()
        time.sleep(20)
    return {"pid": os.getpid(), "environment": dict(os.environ), "caller": boto3.client("sts").get_caller_identity()["Arn"]}
"""


def create_function(cloud, name: str) -> None:
    options = {"Timeout": 30, "Environment": {"Variables": {"TABLE_NAME": "its own"}}}
    code = {"ZipFile": package(source=FUNCTION)}
    make_function(cloud, make_role(cloud, name=name), FunctionName=name, Code=code, **options)


def invoke(cloud, name: str, **event) -> dict:
    return json.load(cloud.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))["Payload"])


@pytest.fixture(scope="module")
def seen_by_a_function(embedded_cloud) -> dict:
    create_function(embedded_cloud, "process-seen")
    return invoke(embedded_cloud, "process-seen")


def test_a_function_reaches_the_cloud_as_its_own_role(seen_by_a_function):
    assert seen_by_a_function["caller"] == "arn:aws:sts::000000000000:assumed-role/process-seen/process-seen"


def test_a_function_is_pointed_at_the_port_of_its_cloud(embedded_cloud, seen_by_a_function):
    assert seen_by_a_function["environment"]["AWS_ENDPOINT_URL"] == embedded_cloud.endpoint


def test_a_function_has_its_own_settings(seen_by_a_function):
    assert seen_by_a_function["environment"]["TABLE_NAME"] == "its own"


@pytest.mark.parametrize("name", ["OPERATORS_SECRET", "AWS_PROFILE", "HTTP_PROXY", "HOME", "PYTHONPATH", "VIRTUAL_ENV"])
def test_a_function_sees_nothing_of_the_operators(seen_by_a_function, name):
    assert name not in seen_by_a_function["environment"]


def sockets_of(pid: int) -> list[str]:
    """Local address:port of every TCP socket a process listens on."""
    inodes = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, port = fields[1].split(":")
                found.append(f"{address}:{int(port, 16)}")
    return found


def test_it_listens_on_127_0_0_1_and_one_port_only(embedded_cloud, seen_by_a_function):
    loopback = f"{socket.htonl(0x7F000001):08X}"
    assert sockets_of(embedded_cloud.process.pid) == [f"{loopback}:{embedded_cloud.port}"]
    assert sockets_of(seen_by_a_function["pid"]) == []


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def gone(pids: list[int], seconds: float = 3) -> bool:
    until = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(is_alive(pid) for pid in pids)


def test_sigterm_ends_it_and_its_busy_functions_within_seconds(start_cloud, tmp_path):
    cloud = start_cloud()
    create_function(cloud, "ended")
    idle, mark = invoke(cloud, "ended")["pid"], tmp_path / "busy"
    with ThreadPoolExecutor() as caller:
        answer = caller.submit(invoke, cloud, "ended", busy=str(mark))
        while not mark.exists():
            time.sleep(0.02)
        started = time.monotonic()
        assert cloud.stop() == 0
        assert time.monotonic() - started < 6
        assert gone([cloud.process.pid, idle])
        assert answer.exception(10) or "pid" not in answer.result()


def test_a_kill_leaves_no_function_behind(start_cloud):
    cloud = start_cloud()
    create_function(cloud, "killed")
    worker = invoke(cloud, "killed")["pid"]
    cloud.process.send_signal(signal.SIGKILL)
    cloud.process.wait(5)
    assert gone([worker])


def test_it_ends_with_its_parent_when_told_to():
    # A shell that starts it, says its pid, and is killed.
    command = [sys.executable, "-m", "embedded_cloud", "--port", "0", "--end-with-parent"]
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], text=True, stdout=subprocess.PIPE);"
            " p.stdout.readline(); print(p.pid, flush=True); p.wait()",
            *command,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait(5)
    assert gone([pid], seconds=8)


def run(*options: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "embedded_cloud", *options]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=20, check=False)


def test_a_taken_port_is_named_with_what_to_do(embedded_cloud):
    refused = run("--port", str(embedded_cloud.port))
    assert refused.returncode == 3
    assert f"127.0.0.1:{embedded_cloud.port} is taken" in refused.stderr
    assert "ss -ltnp" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_missing_emulator_is_named_with_what_to_do():
    # -S hides the packages of the virtual environment.
    command = [sys.executable, "-S", "-m", "embedded_cloud", "--port", "0"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert refused.returncode == 4
    assert "cannot be imported" in refused.stderr
    assert "requirements.txt" in refused.stderr


@pytest.mark.parametrize("options", [("--port", "65536"), ("--account", "12"), ("--session-seconds", "0"), ("--time-scale", "1.5")])
def test_a_nonsensical_option_is_refused(options):
    assert run(*options).returncode == 2
