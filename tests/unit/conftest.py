"""Lets unit tests import code under its name where it runs: the helpers in plugins/module_utils as Ansible offers them to modules, and the
files of function and producer as top-level modules, which they are where they are deployed; and what all tests share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import ansible.module_utils
import pytest
from moto import mock_aws

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ROOT / "plugins" / "module_utils"

ansible.module_utils.__path__.append(str(HELPERS))
sys.path[:0] = [str(ROOT / "lambda_src"), str(ROOT / "producer_src"), str(ROOT / "tests")]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty account in this process; what has no keys of its own calls it with keys that open nothing else."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield
