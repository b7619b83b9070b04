"""Deploying, looking and removing: our plays, the same stack in Terraform, and a script on bare boto3, each on its own embedded cloud."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.measuring import ROOT, packed, say, seconds, spread, wait_until

BIN = Path(sys.executable).parent
# The waiting times of AWS, and what a call takes from far: "with latency".
AWS_LIKE = {"latency": 80, "time_scale": 1.0}
QUICK = {"latency": 0, "time_scale": 0.02}


def run(command: list[str], environment: dict[str, str], directory: Path = ROOT) -> str:
    """What a command writes. Raises RuntimeError with it where it fails."""
    done = subprocess.run(command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def own_package() -> Path:
    return packed("ours", *sorted((ROOT / "lambda_src").glob("*.py")))


class Cloud:
    """An embedded cloud for a peer."""

    def __init__(self, directory: Path, latency: int, time_scale: float) -> None:
        self.credentials = directory / "aws.cfg"
        command = [sys.executable, "-m", "embedded_cloud", "--port", "0", "--time-scale", str(time_scale), "--latency", str(latency)]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--credentials", str(self.credentials)], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.endpoint = self.process.stdout.readline().split()[1].rstrip(",")
        wait_until(self.answers, 30, f"an answer of {self.endpoint}", 0.05)
        found = configparser.ConfigParser(interpolation=None)
        found.read_string(self.credentials.read_text())
        self.keys = dict(found["profile embedded-cloud"])

    def answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.endpoint}/_embedded_cloud/health", timeout=5):
            return True
        return False

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait(30)


class Pipeline:
    """Our plays, on an embedded cloud and with files of their own; what is left of them at the end is removed."""

    def __init__(self, **settings: Any) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))
        self.settings = settings | {
            "embedded_cloud_port": free_port(),
            "embedded_cloud_directory": str(self.directory),
            "teardown_export_directory": str(self.directory / "exports"),
        }
        self.options = ["-i", "inventories/local"]
        # As a person's shell has it: Python keeps what it compiled.
        unset = ("ANSIBLE_", "PYTHONDONTWRITEBYTECODE")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
        self.environment |= {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(self, playbook: str, *options: str, **settings: Any) -> str:
        """What a playbook writes."""
        command = [str(BIN / "ansible-playbook"), playbook, *self.options, *options, "-e", json.dumps(self.settings | settings)]
        return run(command, self.environment)

    def play(self, name: str, *options: str, **settings: Any) -> float:
        """Seconds of the whole process."""
        return seconds(lambda: self.run(f"{name}.yml", *options, **settings))

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if (self.directory / "supervisor" / "supervisord.conf").exists():
            self.play("teardown", "-e", "discard_data=default")
        shutil.rmtree(self.directory)


def ours(latency: int, time_scale: float) -> dict[str, float]:
    """Seconds of each play. The cloud runs before the first, as for the peers."""
    with Pipeline(embedded_cloud_latency=latency, embedded_cloud_time_scale=time_scale) as pipeline:
        play = pipeline.play
        play("site", "--tags", "embedded_cloud")
        found = {"create": play("site"), "no change": play("site"), "check": play("site", "--check", "--diff"), "verify": play("verify")}
        found["teardown"] = play("teardown")
        play("site", "--tags", "embedded_cloud")
        play("site")
        found["teardown, discard_data"] = play("teardown", "-e", "discard_data=default")
        return found


def terraform(latency: int, time_scale: float) -> dict[str, float]:
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    (directory / "bench").mkdir()
    stack = Path(shutil.copytree(ROOT / "bench" / "terraform", directory / "bench" / "terraform"))
    (directory / "files").symlink_to(ROOT / "files")
    try:
        with Cloud(directory, latency, time_scale) as cloud:
            given = {"endpoint": cloud.endpoint, "package": str(own_package()), "access_key": cloud.keys["aws_access_key_id"]}
            given |= {"secret_key": cloud.keys["aws_secret_access_key"]}
            environment = os.environ | {f"TF_VAR_{name}": value for name, value in given.items()} | {"TF_IN_AUTOMATION": "1"}

            def terraform(*words: str) -> float:
                return seconds(lambda: run(["terraform", *words, "-input=false", "-no-color"], environment, stack))

            terraform("init")
            found = {"create": terraform("apply", "-auto-approve"), "no change": terraform("apply", "-auto-approve")}
            return found | {"check": terraform("plan"), "teardown": terraform("destroy", "-auto-approve")}
    finally:
        shutil.rmtree(directory)


def boto3(latency: int, time_scale: float) -> dict[str, float]:
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with Cloud(directory, latency, time_scale) as cloud:
            keys = {name.upper(): value for name, value in cloud.keys.items()}
            environment = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": cloud.endpoint, "AWS_DEFAULT_REGION": "us-east-1"} | keys

            def script(word: str) -> float:
                command = [sys.executable, str(ROOT / "bench" / "peers" / "boto3_deploy.py"), word, str(own_package())]
                return seconds(lambda: run(command, environment))

            return {"create": script("create"), "no change": script("read"), "teardown": script("delete")}
    finally:
        shutil.rmtree(directory)


def has_terraform() -> bool:
    """Whether Terraform and its AWS provider are here."""
    if not shutil.which("terraform"):
        return False
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(ROOT / "bench" / "terraform" / "main.tf", directory)
        done = subprocess.run(["terraform", "init", "-input=false"], cwd=directory, capture_output=True, check=False)
        return done.returncode == 0


def measure(rounds: int, small: bool) -> dict[str, Any]:
    """Seconds of each tool and step, with and without AWS's times."""
    peers: dict[str, Any] = {"ours": ours, "boto3": boto3}
    if small:
        say("the small form leaves Terraform out")
    elif has_terraform():
        peers["Terraform"] = terraform
    else:
        say("left out: Terraform or its AWS provider is not on this machine")
    found: dict[str, Any] = {}
    kinds = {"quick": QUICK} if small else {"quick": QUICK, "with latency": AWS_LIKE}
    for kind, times in kinds.items():
        told: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
        for number in range(rounds):
            for name, peer in peers.items():
                told[name].append(peer(**times))
                say(f"{kind}, round {number + 1} of {rounds}, {name}: {told[name][-1]}")
        found[kind] = {name: {step: spread([one[step] for one in values]) for step in values[0]} for name, values in told.items()}
    return found
