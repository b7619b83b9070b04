"""The package of the function: the same bytes wherever and whenever it is made, and only from code that compiles."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.release.package import PackageError, build, code_sha256, collect, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "lambda_src"
    (folder / "helpers").mkdir(parents=True)
    (folder / "lambda_function.py").write_text("def lambda_handler(event, context):\n    return event\n")
    (folder / "helpers" / "money.py").write_text("CENT = 1\n")
    (folder / "data.json").write_text("{}")
    return folder


def names(package: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(package)).namelist()


def test_times_modes_and_the_order_of_creation_do_not_change_a_byte(source: Path, tmp_path: Path):
    twin = tmp_path / "twin"
    (twin / "helpers").mkdir(parents=True)
    for name in ("data.json", "helpers/money.py", "lambda_function.py"):
        (twin / name).write_bytes((source / name).read_bytes())
        (twin / name).chmod(0o700)
        os.utime(twin / name, (1_000_000_000, 1_000_000_000))
    assert build(collect([twin])) == build(collect([source]))


def test_the_bytes_are_those_of_a_known_package(tmp_path: Path):
    # A change of this hash uploads every function once more: it has to be on purpose.
    (tmp_path / "lambda_function.py").write_text("x = 1\n")
    assert code_sha256(build(collect([tmp_path]))) == "6uG+jbWcKiSjbYJthIsr/PLlEfi7CICfhCskiDCiywQ="


def test_another_interpreter_process_makes_the_same_bytes(source: Path):
    helpers = Path(__file__).resolve().parents[4] / "plugins" / "module_utils"
    script = "import sys; from pipeline.release import package as p; sys.stdout.write(p.code_sha256(p.build(p.collect([sys.argv[1]]))))"
    environment = {"PYTHONPATH": str(helpers), "PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "PYTHONDONTWRITEBYTECODE": "1"}
    made = subprocess.run([sys.executable, "-c", script, str(source)], env=environment, capture_output=True, text=True, check=True)
    assert made.stdout == code_sha256(build(collect([source])))


def test_entries_are_sorted_readable_files_of_1980(source: Path):
    entries = zipfile.ZipFile(io.BytesIO(build(collect([source])))).infolist()
    assert [entry.filename for entry in entries] == ["data.json", "helpers/money.py", "lambda_function.py"]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {oct(entry.external_attr >> 16) for entry in entries} == {"0o100644"}


def test_the_package_can_be_imported(source: Path, tmp_path: Path):
    write(build(collect([source])), tmp_path / "package.zip")
    script = "import lambda_function; print(lambda_function.lambda_handler('event', None))"
    ran = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(tmp_path / "package.zip")}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "event"


def test_compiled_files_are_left_out(source: Path):
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "lambda_function.cpython-311.pyc").write_bytes(b"x")
    (source / "helpers" / "__pycache__").mkdir()
    (source / "helpers" / "__pycache__" / "note.txt").write_bytes(b"x")
    (source / "stale.pyc").write_bytes(b"x")
    assert names(build(collect([source]))) == ["data.json", "helpers/money.py", "lambda_function.py"]


def test_a_list_of_files_is_packaged_under_their_own_names(source: Path):
    files = collect([source / "lambda_function.py", source / "helpers" / "money.py"])
    assert names(build(files)) == ["lambda_function.py", "money.py"]


def test_a_changed_character_changes_the_hash(source: Path):
    before = code_sha256(build(collect([source])))
    (source / "helpers" / "money.py").write_text("CENT = 2\n")
    assert code_sha256(build(collect([source]))) != before


def test_the_hash_is_the_sha256_in_base64():
    assert code_sha256(b"bytes") == base64.b64encode(hashlib.sha256(b"bytes").digest()).decode()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\ndef broken(:\n", r"lambda_function.py, line 2: invalid syntax"),
        ("return 1\n", r"lambda_function.py, line 1: 'return' outside function"),
        ("x = '\0'\n", r"lambda_function.py.*null bytes"),
        ("x = 'é'\n".encode("latin-1"), r"lambda_function.py.*utf-8"),
    ],
    ids=["syntax", "misplaced return", "null byte", "encoding"],
)
def test_code_that_does_not_compile_is_named(source: Path, code: str | bytes, message: str):
    (source / "lambda_function.py").write_bytes(code if isinstance(code, bytes) else code.encode())
    with pytest.raises(PackageError, match=message):
        build(collect([source]))


def test_compiling_leaves_nothing_behind(source: Path):
    build(collect([source]))
    assert list(source.rglob("*.pyc")) == []


def test_a_source_that_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(PackageError, match="nowhere does not exist"):
        collect([tmp_path / "nowhere"])


def test_a_source_without_python_files_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(PackageError, match="No Python file"):
        collect([tmp_path])


def test_two_files_of_one_name_are_refused(source: Path):
    (source / "helpers" / "lambda_function.py").write_text("")
    with pytest.raises(PackageError, match=r"would both be lambda_function.py"):
        collect([source / "lambda_function.py", source / "helpers" / "lambda_function.py"])


def test_writing_makes_folders_and_replaces_in_one_step(tmp_path: Path):
    destination = tmp_path / "build" / "deep" / "package.zip"
    write(b"old", destination)
    write(b"new", destination)
    assert destination.read_bytes() == b"new"
    assert destination.stat().st_mode & 0o777 == 0o644
    assert list(destination.parent.iterdir()) == [destination]


def test_a_failed_write_keeps_the_old_package_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    destination = tmp_path / "package.zip"
    write(b"old", destination)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(b"new", destination)
    assert destination.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [destination]


# --- the module itself, run by Ansible -------------------------------------------------------------------------------------------


def run_module(*arguments: str, src: Path, dest: Path) -> dict[str, Any]:
    plugins = Path(__file__).resolve().parents[4] / "plugins"
    environment = os.environ | {
        "ANSIBLE_LIBRARY": str(plugins / "modules"),
        "ANSIBLE_MODULE_UTILS": str(plugins / "module_utils"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [str(Path(sys.executable).with_name("ansible")), "localhost", "-i", "localhost,", "-c", "local"]
    command += ["-e", "ansible_python_interpreter={{ansible_playbook_python}}", "-m", "lambda_package", "-a", f"src={src} dest={dest}"]
    ran = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
    return dict(json.loads(ran.stdout.partition(" => ")[2]))


def test_check_mode_tells_the_hash_and_writes_nothing(source: Path, tmp_path: Path):
    destination = tmp_path / "build" / "package.zip"
    result = run_module("--check", src=source, dest=destination)
    assert result["changed"]
    package = build(collect([source]))
    assert (result["sha256_base64"], result["sha256"]) == (code_sha256(package), hashlib.sha256(package).hexdigest())
    assert not destination.parent.exists()


def test_the_second_run_changes_nothing(source: Path, tmp_path: Path):
    destination = tmp_path / "package.zip"
    first, second = (run_module(src=source, dest=destination) for _ in range(2))
    assert [first["changed"], second["changed"]] == [True, False]
    assert second["size"] == destination.stat().st_size


def test_broken_code_fails_the_module_and_keeps_the_old_package(source: Path, tmp_path: Path):
    destination = tmp_path / "package.zip"
    write(b"old", destination)
    (source / "lambda_function.py").write_text("def broken(:\n")
    assert "lambda_function.py, line 1" in run_module(src=source, dest=destination)["msg"]
    assert destination.read_bytes() == b"old"
