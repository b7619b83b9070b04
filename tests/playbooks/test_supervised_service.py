"""The producer's role starts and stops the service whatever state it is in, on a supervisord and a program of the test's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from plays import BIN, Pipeline, Run, wait_until

NAME = "Example"
PROGRAM = """\
import pathlib, sys, time
if (pathlib.Path(sys.argv[0]).parent.parent / "ends").exists():
    sys.exit(3)
time.sleep(600)
"""


@dataclass
class Host:
    """A supervisord with the role's service. While the file `ends` is there, its program ends at once."""

    directory: Path
    pipeline: Pipeline

    @property
    def ends(self) -> Path:
        return self.directory / "ends"

    def control(self, *words: str) -> str:
        command = [BIN / "supervisorctl", "-c", self.directory / "supervisord.conf", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

    def state(self) -> str:
        return self.control("status", NAME).split()[1]

    def role(self, tasks: str) -> Run:
        settings = {
            "producer_service_name": NAME,
            "producer_service_directory": str(self.directory / NAME),
            "producer_service_supervisor_directory": str(self.directory),
            "producer_service_source": str(self.directory / "source"),
            "producer_service_wheelhouse": str(self.directory / "build" / "wheelhouse"),
        }
        return self.pipeline.run("ansible-playbook", str(self.directory / f"{tasks}.yml"), "-e", json.dumps(settings))

    def bring_to(self, state: str) -> None:
        self.ends.unlink(missing_ok=True)
        if state == "STOPPED":
            self.control("stop", NAME)
        elif state == "RUNNING":
            self.control("start", NAME)
        else:
            before = self.count_ends()
            self.ends.touch()
            self.control("restart", NAME)
            # supervisord waits one second longer after each exit.
            wait_until(lambda: self.count_ends() >= before + 5, 60, "five ends of the program")
        wait_until(lambda: self.state() == state, 60, state)

    def count_ends(self) -> int:
        return self.directory.joinpath("log").read_text().count("not expected")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host(tmp_path_factory.mktemp("supervised"), Pipeline(tmp_path_factory.mktemp("none"), 0))
    (made.directory / "source").mkdir()
    (made.directory / "source" / "__main__.py").write_text(PROGRAM)
    (made.directory / "source" / "requirements.txt").touch()
    (made.directory / "conf.d").mkdir()
    (made.directory / "supervisord.conf").write_text(f"""\
[supervisord]
directory={made.directory}
logfile={made.directory}/log
pidfile={made.directory}/pid
[unix_http_server]
file={made.directory}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{made.directory}/socket
[include]
files=conf.d/*.conf
""")
    for tasks in ("main", "supervisord_stop"):
        role = {"name": "producer_service", "tasks_from": tasks}
        tasks_of_play = [{"name": "Run the role", "ansible.builtin.include_role": role}]
        play = {"name": "Run the role", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks_of_play}
        (made.directory / f"{tasks}.yml").write_text(json.dumps([play]))
    subprocess.run([BIN / "supervisord", "-c", made.directory / "supervisord.conf"], check=True)
    try:
        made.role("main").ended_well()
        yield made
    finally:
        pid = int(made.directory.joinpath("pid").read_text())
        made.control("shutdown")
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 60, "an end of supervisord")


STATES = ("STOPPED", "RUNNING", "BACKOFF")


@pytest.mark.parametrize("state", STATES)
def test_the_role_starts_the_service_in_whatever_state_it_is(host: Host, state: str):
    host.bring_to(state)
    host.ends.unlink(missing_ok=True)
    run = host.role("main").ended_well()
    assert host.state() == "RUNNING"
    assert state != "RUNNING" or run.totals["changed"] == 0


@pytest.mark.parametrize("state", STATES)
def test_the_role_stops_the_service_in_whatever_state_it_is(host: Host, state: str):
    host.bring_to(state)
    run = host.role("supervisord_stop").ended_well()
    assert host.state() == "STOPPED"
    assert run.totals["changed"] == (state != "STOPPED")


def test_an_upgrade_removes_what_an_older_version_left(host: Host):
    # given a running service, and the program of a version that was more than one file
    host.bring_to("RUNNING")
    old = [host.directory / NAME / name for name in ("outbox.py", "__pycache__/outbox.cpython-311.pyc")]
    old[1].parent.mkdir()
    for path in old:
        path.touch()
    # when the role runs twice
    first, second = (host.role("main").ended_well().totals["changed"] for _ in range(2))
    # then nothing of it is left, and what is the service's own is
    assert (first, second) == (1, 0)
    left = {path.name for path in (host.directory / NAME).iterdir()}
    assert left == {"financial_producer.pyz", "state", f"{NAME}.log"}


def seen(host: Host) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything that the role makes; the log and what is in the outbox are the program's."""
    home = host.directory / NAME
    paths = [home, *home.iterdir(), host.directory / "conf.d" / f"{NAME}.conf"]
    return {
        path.name: (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in paths
        if path.exists() and path.suffix != ".log"
    }


BREAKS = {
    "program-missing": lambda home, _: (home / "financial_producer.pyz").unlink(),
    "program-changed": lambda home, _: (home / "financial_producer.pyz").write_bytes(b"other"),
    "program-readable-by-nobody-else": lambda home, _: (home / "financial_producer.pyz").chmod(0o600),
    "configuration-missing": lambda _, configuration: configuration.unlink(),
    "configuration-changed": lambda _, configuration: configuration.write_text(configuration.read_text() + "; more\n"),
    "configuration-writable-by-all": lambda _, configuration: configuration.chmod(0o666),
    "directory-readable-by-nobody-else": lambda home, _: home.chmod(0o700),
    "state-readable-by-all": lambda home, _: (home / "state").chmod(0o755),
    "another-virtual-environment": lambda home, _: (home / "venv-00000000").mkdir(),
    "a-module-of-an-older-version": lambda home, _: (home / "outbox.py").touch(),
}


@pytest.mark.parametrize("sabotage", BREAKS)
def test_whatever_is_not_as_the_role_makes_it_is_mended(host: Host, sabotage: str):
    # One look at the host decides whether the role has anything to do: it must see all that the role makes.
    host.bring_to("RUNNING")
    before = seen(host)
    BREAKS[sabotage](host.directory / NAME, host.directory / "conf.d" / f"{NAME}.conf")
    assert seen(host) != before
    assert host.role("main").ended_well().totals["changed"] > 0
    assert (seen(host), host.state()) == (before, "RUNNING")
