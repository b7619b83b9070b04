"""What several files of these tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plays import Pipeline, ended, free_port
from streams import MEBIBYTE


def deployed(directory: Path, settings: dict[str, Any], *options: str) -> Iterator[Pipeline]:
    pipeline = Pipeline(directory, free_port(), settings)
    try:
        pipeline.play("site", *options).ended_well()
        yield pipeline
    finally:
        ended(pipeline)


@pytest.fixture(scope="session")
def infrastructure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline without its producer; each file that uses it leaves empty queues and an enabled mapping.

    It has capacity for many messages and short times, so that a batch whose worker was killed is soon tried again.
    """
    settings = {
        "transaction_table_write_capacity": 4000,
        "transaction_queue_maximum_message_size": MEBIBYTE,
        "stream_processor_timeout": 15,
        "stream_processor_batching_window": 0,
        "transaction_queue_maximum_receives": 200,
    }
    yield from deployed(tmp_path_factory.mktemp("infrastructure"), settings, "--limit", "embedded_cloud:operator")


@pytest.fixture(scope="session")
def deployed_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A whole pipeline; each file that uses it leaves it as site.yml makes it."""
    settings = {
        "probe_timeout": 5,
        # What site.yml releases is to be judged, and not how busy this machine is.
        "stream_processor_probe_timeout": 30,
        # A failed batch is hidden for six times the function's timeout: short here, so that it is soon tried again.
        "stream_processor_timeout": 15,
        "stream_processor_batching_window": 0,
        "transaction_queue_maximum_receives": 200,
    }
    yield from deployed(tmp_path_factory.mktemp("deployed"), settings)
