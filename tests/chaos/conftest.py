"""One deployment for the whole suite, and the report of what it found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import plays
import pytest
from chaos_report import Report

if TYPE_CHECKING:
    from chaos_world import World

# The stream and its faults take the machine too.
plays.PLAY_SECONDS = 900

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from chaos_world import World  # which needs the path above

    made = World(tmp_path_factory.mktemp("chaos"))
    try:
        made.deploy()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """What a run found; with CHAOS_REPORT=1 it is written to the docs."""
    made = Report()
    yield made
    print("\n" + "\n".join(made.tables()))
    if os.environ.get("CHAOS_REPORT") == "1":
        made.write(ROOT / "docs")
