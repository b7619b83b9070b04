"""What the producer's tests share: a directory in memory, and a cloud on the loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from producer_fakes import in_memory
from producer_process import Cloud, serving


@pytest.fixture
def directory() -> Iterator[Path]:
    made = in_memory()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with serving() as server:
        yield server
