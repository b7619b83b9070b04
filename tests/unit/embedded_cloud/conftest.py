"""Embedded clouds that several of these tests share."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="session")
def fast_cloud(start_cloud: Callable[..., Any]) -> Any:
    """One where a minute of AWS takes little more than a second."""
    return start_cloud("--time-scale", "0.02")
