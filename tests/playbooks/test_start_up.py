"""The embedded cloud starts, or says in one sentence why not: a taken port, a deleted socket, or characters in the path of the clone."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from plays import ROOT, Pipeline, Run, free_port, supervisorctl, wait_until

RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # SO_LINGER of no seconds: close() resets


def start(pipeline: Pipeline, *options: str, **settings: object) -> Run:
    """Run the role alone."""
    return pipeline.play(str(ROOT / "tests" / "support" / "embedded_cloud"), *options, **settings)


def remove(pipeline: Pipeline) -> None:
    """Run the role alone, which stops an empty cloud. A play would start it first."""
    settings = {"embedded_cloud_port": pipeline.port, "embedded_cloud_directory": str(pipeline.directory), "embedded_cloud_state": "absent"}
    role = ["-m", "ansible.builtin.include_role", "-a", "name=embedded_cloud"]
    pipeline.run("ansible", "cloud", *role, "-e", json.dumps(settings)).ended_well()


def answer(text: bytes) -> Callable[[socket.socket], None]:
    def give(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)

    return give


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def hang(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.recv(65536)  # until the other side gives up


# What may listen on the port: how it treats a connection, and what the message says about it.
STRANGERS = {
    "404": (answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "answers with HTTP status 404"),
    "302": (answer(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"), "answers with HTTP status 302"),
    "no-http": (answer(b"SSH-2.0-OpenSSH_9.6\r\n"), "does not answer as HTTP does"),
    "resets": (reset, "does not answer as HTTP does"),
    "hangs": (hang, "does not answer as HTTP does"),
}


@contextmanager
def stranger(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port, and treat every connection in this way."""

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=treat, args=[connection], daemon=True).start()

    def treat(connection: socket.socket) -> None:
        try:
            behave(connection)
        finally:
            connection.close()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize(("behave", "called"), STRANGERS.values(), ids=STRANGERS)
def test_a_taken_port_is_reported_in_one_sentence(tmp_path: Path, behave: Callable[[socket.socket], None], called: str):
    with stranger(behave) as port:
        pipeline = Pipeline(tmp_path, port)
        run = start(pipeline, __embedded_cloud_port_seconds=1, __embedded_cloud_health_seconds=2)
    assert run.status != 0
    assert f"127.0.0.1:{port} is taken, and not by the embedded cloud of this clone: what listens there" in run.message
    assert called in run.message
    assert "-e embedded_cloud_port=" in run.message
    assert run.totals["changed"] == 0
    assert list(tmp_path.iterdir()) == []
    assert pipeline.processes() == []


def test_a_proxy_in_the_shell_diverts_no_call_of_a_play(pipeline: Pipeline):
    """Every play of these tests has proxies in its shell that refuse; the guard's call to AWS would end it."""
    seen = pipeline.run("python", "-c", "import os, urllib.request as ask; print(ask.getproxies(), 'no_proxy' in os.environ)").output
    assert "'http': 'http://127.0.0.1:9'" in seen
    assert seen.endswith("False\n")
    assert "Ask the cloud whose account this is" in pipeline.play("site", "--tags", "embedded_cloud").ended_well().output


@pytest.fixture
def running(pipeline: Pipeline) -> Pipeline:
    """The cloud, started unless it runs already."""
    if not pipeline.answers():
        start(pipeline).ended_well()
    return pipeline


def supervisord_pid(pipeline: Pipeline) -> str:
    return supervisorctl(pipeline, "pid").strip()


# What may have been deleted while the cloud runs.
SWEPT = {
    "socket": lambda supervisor: (supervisor / "supervisor.sock").unlink(),
    "directory of the socket": shutil.rmtree,
}


@pytest.mark.parametrize("sweep", SWEPT.values(), ids=SWEPT)
def test_a_cloud_whose_socket_was_swept_away_is_ended_and_started_again(running: Pipeline, sweep: Callable[[Path], None]):
    before = supervisord_pid(running)
    sweep(running.directory / "supervisor")
    run = start(running, "--check").ended_well()
    assert "End a supervisord that takes no orders any more" not in run.output  # it is not ended by a check
    assert running.answers()
    start(running).ended_well()
    assert supervisord_pid(running) not in (before, "")
    assert len([line for line in running.processes() if "/supervisord " in line]) == 1
    assert start(running).ended_well().totals["changed"] == 0


def test_a_cloud_whose_socket_was_swept_away_is_removed_when_it_is_empty(running: Pipeline):
    (running.directory / "supervisor" / "supervisor.sock").unlink()
    remove(running)
    assert running.processes() == []
    assert not (running.directory / "supervisor").exists()


def foreign(place: Path) -> None:
    place.mkdir(mode=0o755)


def linked(place: Path) -> None:
    place.with_name("elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.with_name("elsewhere"))


@pytest.mark.parametrize("prepare", [foreign, linked], ids=["others can enter", "a link"])
def test_a_directory_for_the_socket_that_is_not_safe_is_refused(tmp_path: Path, prepare: Callable[[Path], None]):
    place = tmp_path / "sockets"
    prepare(place)
    pipeline = Pipeline(tmp_path / "cloud", free_port())
    run = start(pipeline, embedded_cloud_supervisor_socket=str(place / "supervisor.sock"))
    assert run.status != 0
    assert f"{place} is to hold the socket of supervisord, but is not a directory of mode 0700 that belongs to this user" in run.message
    assert not pipeline.answers()


def copied(clone: Path) -> Path:
    """The files of this clone at another path."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).exists() and not name.startswith(("tests/", "docs/")):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name, follow_symlinks=False)
    return clone


def test_a_clone_may_have_spaces_and_letters_of_any_language_in_its_path(tmp_path: Path):
    clone = copied(tmp_path / "Überweisungen (neu) ÆØÅ" / "in a path so long that no socket can be in it")
    pipeline = Pipeline(clone / ".local", free_port(), root=clone)
    try:
        start(pipeline).ended_well()
        assert pipeline.answers()
        assert start(pipeline).ended_well().totals["changed"] == 0
    finally:
        remove(pipeline)
    wait_until(lambda: not pipeline.processes(), 30, "an end of all that was started")


@pytest.mark.parametrize("name", ["100% sure", "it's $5", "a;b"])
def test_a_clone_with_a_special_character_in_its_path_is_refused_in_one_sentence(tmp_path: Path, name: str):
    run = start(Pipeline(tmp_path / name, free_port()))
    assert run.status != 0
    assert "which supervisord, Ansible or a shell would misread. Nothing was changed." in run.message
    assert list(tmp_path.iterdir()) == []
