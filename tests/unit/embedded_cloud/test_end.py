"""What the embedded cloud's supervisord started is found and ended, whatever is left of its files: by `make clean`, as an operator does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plays import BIN, ROOT, wait_until

CONFIG = """[unix_http_server]
file={directory}/supervisor/supervisor.sock
[supervisord]
directory={directory}
pidfile={directory}/supervisor/supervisord.pid
logfile={directory}/supervisord.log
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{directory}/supervisor/supervisor.sock
[program:embedded_cloud]
command="{python}" -u -m embedded_cloud --port 0 --credentials "{directory}/aws.cfg" --end-with-parent
directory={root}
[program:producer]
command="{python}" -Es "{directory}/producer/financial_producer.pyz"
"""
PRODUCER = "import signal\nsignal.pause()\n"


def processes(directory: Path) -> set[int]:
    """Whose command line names something in the directory."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{directory}/" in words:
            found.add(int(entry.parent.name))
    return found


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `make clean` needs of a clone, at a path that must be quoted; what still runs at the end is killed."""
    made = tmp_path_factory.mktemp("end") / "a clöne"  # a socket's path is short
    for name in ("Makefile", "roles/embedded_cloud/files/supervised"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, made / name)
    (made / ".venv").mkdir()
    yield made
    while running := processes(made):  # a supervisord may have started one again meanwhile
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def start(directory: Path) -> set[int]:
    """A supervisord with a cloud and a producer; their pids."""
    (directory / "supervisor").mkdir(parents=True)
    (directory / "producer").mkdir()
    (directory / "producer" / "financial_producer.pyz").write_text(PRODUCER)
    config = directory / "supervisor" / "supervisord.conf"
    config.write_text(CONFIG.format(directory=directory, python=sys.executable, root=ROOT))
    subprocess.run([str(BIN / "supervisord"), "-c", str(config)], check=True, timeout=60)
    wait_until((directory / "aws.cfg").exists, 60, "a cloud that made its key")
    return wait_until(lambda: found if len(found := processes(directory)) == 3 else None, 60, "supervisord, a cloud and a producer")


def supervised(verb: str, directory: Path) -> str:
    socket = directory / "supervisor" / "supervisor.sock"
    command = [str(ROOT / "roles" / "embedded_cloud" / "files" / "supervised"), verb, str(directory), str(socket)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout.strip()


def pid_of(directory: Path) -> int:
    return int((directory / "supervisor" / "supervisord.pid").read_text())


# What may be gone of it when `make clean` comes.
MISSING: dict[str, Callable[[Path], None]] = {
    "nothing": lambda local: None,
    "socket": lambda local: (local / "supervisor" / "supervisor.sock").unlink(),
    "pid file": lambda local: (local / "supervisor" / "supervisord.pid").unlink(),
    "configuration": lambda local: (local / "supervisor" / "supervisord.conf").unlink(),
    "virtual environment": lambda local: (local.parent / ".venv").rmdir(),
    "all its files": lambda local: shutil.rmtree(local),
    "supervisord": lambda local: os.kill(pid_of(local), signal.SIGKILL),
}


@pytest.mark.parametrize(("where", "missing"), [*(("", name) for name in MISSING), ("rehearsal", "all its files")])
def test_make_clean_ends_what_was_started_whatever_is_missing(clone: Path, where: str, missing: str):
    local = clone / ".local" / where
    start(local)
    MISSING[missing](local)
    done = subprocess.run(["make", "clean"], cwd=clone, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert processes(clone) == set()
    assert not (clone / ".local").exists()


MISREAD = ("100% sure", "it's", 'so "called"', "$HOME", "a;b", "a[1", "1]b", "a\\b", "`a`", "{{ x }}", "a, b", "a#b")


@pytest.mark.parametrize("called", MISREAD)
def test_make_starts_nothing_in_a_clone_whose_path_would_be_misread(tmp_path: Path, called: str):
    clone = tmp_path / called
    clone.mkdir()
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, clone)
    done = subprocess.run(["make", "demo"], cwd=clone, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "would read as something else" in done.stderr
    assert {entry.name for entry in clone.iterdir()} == {"Makefile", "requirements.txt"}


def test_one_directory_is_ended_and_no_other(clone: Path):
    own, other = clone / ".local", clone / ".local" / "rehearsal"
    start(own), start(other)
    found = json.loads(supervised("find", own))
    assert (found["supervisord"], found["takes_orders"]) == (str(pid_of(own)), True)
    assert int(found["cloud"]) in processes(own) - processes(other)
    (own / "supervisor" / "supervisor.sock").unlink()
    assert json.loads(supervised("find", own)) == found | {"takes_orders": False}
    others = processes(other)
    supervised("end", own)
    assert processes(own) == others
    assert json.loads(supervised("find", own)) == {"supervisord": "", "cloud": "", "takes_orders": False}
    assert json.loads(supervised("find", other))["supervisord"] == str(pid_of(other))


def test_who_reads_a_file_of_it_is_left_alone(clone: Path):
    local = clone / ".local"
    started = start(local)
    with subprocess.Popen(["tail", "-f", str(local / "supervisor" / "supervisord.conf")], stdout=subprocess.DEVNULL) as reader:
        supervised("end-below", local)
        assert processes(local) == {reader.pid}
        assert reader.pid not in started
        reader.kill()
