"""What the tests of the reconciliation share."""

from pathlib import Path

import pytest
from reconciliation_fakes import World


@pytest.fixture
def world(aws: None, tmp_path: Path) -> World:
    return World(tmp_path)
