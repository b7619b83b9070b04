"""The key of the embedded cloud's root: one for an installation, and nobody else's to read."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedded_cloud.base import root_key

ROOT = Path(__file__).resolve().parents[4]


def test_the_file_of_the_key_is_private_and_stays(tmp_path):
    path = tmp_path / "made" / "aws.cfg"
    made = root_key.read_or_make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert root_key.read_or_make(path) == made
    assert root_key.read_or_make(tmp_path / "other.cfg") != made
    assert re.fullmatch("AKIA[A-Z2-7]{16}", made.access_key)
    assert [entry.name for entry in path.parent.iterdir()] == ["aws.cfg"]


def test_two_that_start_at_once_have_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(root_key.read_or_make, [tmp_path / "aws.cfg"] * 8))) == 1


def readable(path: Path) -> None:
    root_key.read_or_make(path)
    path.chmod(0o640)


def linked(path: Path) -> None:
    root_key.read_or_make(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


SPOILT = {
    "readable by others": readable,
    "a link": linked,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a directory": lambda path: path.mkdir(),
    "empty": lambda path: path.touch(0o600),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "without a secret": lambda path: path.write_text("[profile embedded-cloud]\naws_access_key_id = AKIA\n"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_file_of_the_key_that_is_not_safe_stops_the_start_in_one_sentence(tmp_path, spoil):
    path = tmp_path / "aws.cfg"
    spoil(path)
    command = [sys.executable, "-m", "embedded_cloud", "--port", "0", "--credentials", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("embedded_cloud: ")
    assert str(path) in done.stderr
    assert done.stderr.endswith("Remove it; the next start makes a new key.\n")
    assert "Traceback" not in done.stderr
