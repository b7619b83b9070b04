"""What tests of several parts make in moto, and read from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.pipeline.aws.dead_letter_queue import Sweep, sweep

TABLE = "RealTimeTransactions"


def make_table(client: Any, name: str = TABLE) -> Any:
    """An empty table of transactions; returns the client."""
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "transaction_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "transaction_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


@contextmanager
def swept(*arguments: Any, **options: Any) -> Iterator[Sweep]:
    """A `sweep` that has received everything."""
    with sweep(*arguments, **options) as found:
        for _message in found.arrivals():
            pass
        yield found
