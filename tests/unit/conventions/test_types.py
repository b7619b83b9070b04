"""mypy sees through the imports of the modules and of their helpers: a wrong type across two files is an error, not Any."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULE = "plugins/modules/queue_wait_empty.py"
HELPERS = "tests/typing/ansible/module_utils/pipeline"
HELPER = f"{HELPERS}/probe/logs.py"


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[str]]:
    """Runs mypy, by the project's own settings, on a copy in which a line is added to a file; returns what it says."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("plugins", "tests/typing"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    # mypy takes a file of the same size and second for unchanged: each one is written a second later than the one before.
    seconds = itertools.count(time.time_ns() // 10**9)

    def run(file: str, line: str) -> list[str]:
        whole = (copy / file).read_text()
        (copy / file).write_text(f"{whole}\n{line}\n")
        os.utime(copy / file, (second := next(seconds), second))
        try:
            checked = subprocess.run(
                [sys.executable, "-m", "mypy", "--no-error-summary", file], cwd=copy, capture_output=True, text=True, timeout=300
            )
        finally:
            (copy / file).write_text(whole)
        assert checked.returncode in (0, 1), checked.stdout + checked.stderr
        return checked.stdout.splitlines()

    return run


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        (
            MODULE,
            "wait_until_empty(None, 'queue', 'no clock', 1.0, 1.0)",
            '"wait_until_empty" has incompatible type "str"; expected "Clock"',
        ),
        (MODULE, "from ansible.module_utils.pipeline.core.clock import stopwatch", 'no attribute "stopwatch"'),
        (MODULE, "import ansible.module_utils.pipeline.core.stopwatch", '"ansible.module_utils.pipeline.core.stopwatch"'),
        (HELPER, "polls('no clock', 1.0)", 'Argument 1 to "polls" has incompatible type "str"; expected "Clock"'),
        (HELPER, "def wait(seconds): ...", "missing a type annotation"),
    ],
)
def test_a_planted_error_across_two_files_is_found(errors: Callable[[str, str], list[str]], file: str, line: str, said: str) -> None:
    found = errors(file, line)
    assert [one for one in found if one.startswith(f"{file}:") and said in one], "\n".join(found)


@pytest.mark.parametrize("file", [MODULE, HELPER])
def test_the_same_files_are_without_error_as_they_are(errors: Callable[[str, str], list[str]], file: str) -> None:
    assert [one for one in errors(file, "") if one.startswith(f"{file}:")] == []


def test_the_helpers_are_checked_under_the_name_by_which_modules_import_them() -> None:
    assert (ROOT / HELPERS).resolve() == ROOT / "plugins/module_utils/pipeline"
