"""Files that are whole or not there, and closing lines that prove them whole."""

from __future__ import annotations

import gzip
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.core import files
from ansible.module_utils.pipeline.core.files import ClosedLines, DamagedFileError, atomic_file, make_directory, new_file, write_json_lines


def write(path: Path, content: bytes = b"new") -> None:
    with atomic_file(path) as file:
        file.write(content)


def test_a_file_takes_its_place_once_it_is_whole(tmp_path: Path):
    path = tmp_path / "file"
    write(path, b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"new", [path])


def test_nothing_is_left_of_a_file_that_fails_and_the_one_before_stays(tmp_path: Path):
    path = tmp_path / "file"
    write(path, b"old")
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"new")
        raise KeyError
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_what_a_killed_writer_left_does_not_stand_in_the_way(tmp_path: Path):
    (tmp_path / ".file.part").write_bytes(b"half of a much longer file")
    write(tmp_path / "file")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"new")]


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(files.os, name, lambda *given, name=name, real=real: events.append(name) or real(*given))
    write(tmp_path / "file")
    assert events == ["fsync", "replace", "fsync"]


def test_files_and_directories_are_for_their_owner_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        write(tmp_path / "made" / "here" / "file")
        new_file(tmp_path / "made" / "text", "w").close()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "made").rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "made", tmp_path / "made" / "here")} == {0o700}


def test_a_directory_that_is_made_is_on_the_disk_with_its_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_directory", synced.append)
    make_directory(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


def test_the_same_records_make_the_same_file_and_bytes_become_base64(tmp_path: Path):
    for name in ("one", "two"):
        with write_json_lines(tmp_path / name, lambda count: {"end": count}) as lines:
            lines.add({"raw": b"\x00\xff", "text": "Café"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    read = ClosedLines(tmp_path / "one", "end", counted="end")
    assert (list(read), read.closing) == ([(1, {"raw": "AP8=", "text": "Café"})], {"end": 1})


def test_what_json_cannot_express_is_refused(tmp_path: Path):
    with pytest.raises(TypeError, match="set has no place in JSON"), write_json_lines(tmp_path / "file") as lines:
        lines.add({"found": {1}})
    assert list(tmp_path.iterdir()) == []


END: dict[str, Any] = {"end": "x", "count": 2}


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ([], "line 0: it is empty"),
        ([{"a": 1}], "line 1: the closing line is missing"),
        ([{"a": 1}, {"a": 2}, END, {"a": 3}], "line 4: there is more after the closing line"),
        ([{"a": 1}, END], "line 2: it closes with 2 count, but has 1"),
        ([{"a": 1}, {"a": 2}, {"end": "x"}], "line 3: it closes with None count, but has 2"),
        ([["a"], END], "line 1: it is no object"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_the_line(tmp_path: Path, lines: list[Any], wrong: str):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    with pytest.raises(DamagedFileError, match=wrong):
        list(ClosedLines(path, "end", counted="count"))


def test_a_file_that_is_cut_off_is_refused_with_the_line(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress((json.dumps({"a": 1}) + "\n" + json.dumps(END) + "\n").encode())[:-6])
    with pytest.raises(DamagedFileError, match=r"line \d: it is cut off or damaged"):
        list(ClosedLines(path, "end"))


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        list(ClosedLines(tmp_path / "none", "end"))
