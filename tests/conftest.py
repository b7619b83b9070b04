"""What several tests share: an embedded cloud of their own, or a whole pipeline on one, on a free port."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible.module_utils
import boto3
import botocore.session
import pytest
from botocore.config import Config
from plays import Pipeline, ended, free_port, root_keys
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]
REGION = "us-east-1"
ACCOUNT = "000000000000"

# The modules' helpers, under the name that they have where they run.
ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))

# moto forgets boto3's session at the start of each test, and a new one would read the descriptions of AWS's services anew.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

# Files that share a deployment (tests/playbooks/conftest.py) run on one worker. Without this each of them would make its own.
SHARED = {
    "test_alarms.py": "deployed_pipeline",
    "test_sabotage.py": "deployed_pipeline",
    "test_role_policies.py": "infrastructure",
    "test_ten_thousand.py": "infrastructure",
}


def group_of(nodeid: str) -> str:
    """What has to run on one worker: the tests of a file, or of the files that share a deployment."""
    file = nodeid.partition("::")[0]
    return SHARED.get(file.rpartition("/")[2], file) if "/playbooks/" in file else file


class Groups(LoadScopeScheduling):
    """Gives a worker one group of tests after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return Groups(config, log)


def pytest_itemcollected(item: pytest.Function) -> None:
    """Mark slow tests: those with an embedded cloud, with a clone and all that runs in it, or with the producer and a cloud to send to."""
    used = set(item.fixturenames)
    if used & {"start_cloud", "clone"} or ("cloud" in used and hasattr(item.module, "Program")):
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of plays, which need the processors, and other files, which mostly wait, in turns: so the processors are always busy."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(item.nodeid), []).append(item)
    plays = [group for group in groups.values() if "playbooks" in group[0].path.parts]
    others = [group for group in groups.values() if "playbooks" not in group[0].path.parts]
    turns = max(len(plays), 1)
    items[:] = [item for turn in range(turns) for group in [*plays[turn : turn + 1], *others[turn::turns]] for item in group]


@dataclass
class EmbeddedCloud:
    """A running embedded cloud. `client` makes boto3 clients of root, or of the credentials it is given."""

    process: subprocess.Popen
    endpoint: str
    log: Path
    config: Path

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def root_keys(self) -> dict[str, str]:
        return root_keys(self.config)

    def client(self, service: str, access_key: str | None = None, secret_key: str | None = None, token: str | None = None) -> Any:
        given = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key, "aws_session_token": token}
        return boto3.client(
            service,
            REGION,
            endpoint_url=self.endpoint,
            **(self.root_keys | {name: value for name, value in given.items() if value is not None}),
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        )

    def resources(self) -> dict[str, list[str]]:
        with urllib.request.urlopen(f"{self.endpoint}/_embedded_cloud/resources", timeout=10) as response:
            return json.load(response)

    def stop(self, seconds: float = 10) -> int:
        """Ends it as supervisord does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def start_embedded_cloud(log: Path, *options: str) -> EmbeddedCloud:
    """Starts one on a port the system picks, where nothing takes AWS's time unless `options` say so; waits until it is healthy."""
    # What an operator's shell may hold must reach neither the emulators nor a function.
    environment = os.environ | {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_PROFILE": "nobody",
        "AWS_SESSION_TOKEN": "stale",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "OPERATORS_SECRET": "hunter2",
    }
    config = log.with_name("aws.cfg")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "embedded_cloud", "--port", "0", "--time-scale", "0", "--credentials", str(config), *options],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    announced = process.stdout.readline()
    if "http://" not in announced:
        raise RuntimeError(f"the embedded cloud did not start: {announced}{log.read_text()}")
    cloud = EmbeddedCloud(process, announced.split()[1].rstrip(","), log, config)
    for _attempt in range(1000):
        try:
            with urllib.request.urlopen(f"{cloud.endpoint}/_embedded_cloud/health", timeout=5):
                return cloud
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the embedded cloud did not become healthy: {log.read_text()}")


@pytest.fixture(scope="session")
def start_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., EmbeddedCloud]]:
    """Starts further embedded clouds, with options of their own; what still runs at the end is stopped."""
    started: list[EmbeddedCloud] = []

    def start(*options: str) -> EmbeddedCloud:
        started.append(start_embedded_cloud(tmp_path_factory.mktemp("embedded-cloud") / "log", *options))
        return started[-1]

    yield start
    for cloud in started:
        if cloud.process.poll() is None:
            cloud.stop()


@pytest.fixture(scope="session")
def embedded_cloud(start_cloud: Callable[..., EmbeddedCloud]) -> EmbeddedCloud:
    """One embedded cloud for the whole run; every test uses names of its own in it."""
    return start_cloud()


@pytest.fixture(scope="session")
def slow_cloud(start_cloud: Callable[..., EmbeddedCloud]) -> EmbeddedCloud:
    """One embedded cloud where what takes AWS some seconds takes a fifth of that."""
    return start_cloud("--time-scale", "0.2")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline that is not deployed yet; whatever of it still runs at the end of the module is stopped."""
    made = Pipeline(tmp_path_factory.mktemp("pipeline"), free_port(), {"probe_timeout": 30})
    yield made
    ended(made)
