"""Fixtures of the playbook tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plays import Pipeline, free_port, supervisorctl, wait_until


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline that is not deployed yet; whatever of it still runs at the end of the module is stopped."""
    made = Pipeline(tmp_path_factory.mktemp("pipeline"), free_port(), {"pipeline_verify_timeout": 30})
    yield made
    if (made.directory / "supervisor" / "supervisord.conf").exists():
        supervisorctl(made, "shutdown")
        wait_until(lambda: not made.processes(), 30, f"an end of {made.processes()}")
