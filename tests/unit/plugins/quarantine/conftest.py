"""A quarantine for the tests of a file, emptied for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from quarantine_fakes import World, emulated


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    with emulated() as world:
        yield world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    return made.emptied(tmp_path / "kept" / "here")
