"""Reconciles so many made-up transactions with a table that is made up as it is read, to measure the memory that reconciling takes.

Prints one JSON object: `counts`, `lost` (ids), `cpu_seconds`, `read_units`, `before_mib`, the memory before the first entry was read, and
`peak_mib`.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import ansible.module_utils

ROOT = Path(__file__).resolve().parents[2]
ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))
sys.path.append(str(ROOT / "tests" / "support"))

from ansible.module_utils.pipeline.core.clock import Clock, system_clock  # noqa: E402, found by the lines above
from ansible.module_utils.pipeline.reconciliation.artifacts import Progress  # noqa: E402
from ansible.module_utils.pipeline.reconciliation.run import Options, Reconciliation  # noqa: E402
from ledgers import item, transactions, write_ledger  # noqa: E402
from run_reconciliation import peak_kib  # noqa: E402

# About as many as DynamoDB's pages of 1 MB hold.
PAGE = 4000


class Table:
    """A DynamoDB client that has all of the transactions but every 100,000th."""

    def __init__(self, count: int) -> None:
        made = (item(fields) for number, fields in enumerate(transactions(1, count)) if number % 100_000)
        self.pages = iter(lambda: list(islice(made, PAGE)), [])

    def describe_table(self, **_: Any) -> dict[str, Any]:
        return {"Table": {}}

    def scan(self, **_: Any) -> dict[str, Any]:
        items = next(self.pages, [])
        return {"Items": items, "LastEvaluatedKey": {"transaction_id": {"S": "-"}} if items else None}

    def batch_get_item(self, **_: Any) -> dict[str, Any]:
        return {"Responses": {}}


class Queues:
    """An SQS client whose queues are empty."""

    def get_queue_attributes(self, AttributeNames: list[str], **_: Any) -> dict[str, Any]:
        return {"Attributes": dict.fromkeys(AttributeNames, "0")}

    def receive_message(self, **_: Any) -> dict[str, Any]:
        return {}


def waitless() -> Clock:
    """A clock on which waiting takes no time."""
    passed, real = [0.0], system_clock()
    return Clock(now=real.now, monotonic=lambda: time.monotonic() + sum(passed), wait=passed.append)


def main() -> None:
    count, directory = int(sys.argv[1]), Path(sys.argv[2])
    write_ledger(directory / "streamed.jsonl.gz", transactions(1, count), "web-1")
    clock = waitless()
    options = Options(
        ledgers=[str(directory / "streamed.jsonl.gz")],
        kept_ledgers=[],
        missing_ledgers=[],
        quarantine_directory=None,
        repaired=directory / "repaired.jsonl",
        settle_seconds=10,
        timeout=60,
        rate=0,
        queue_retention=345_600,
        overdue_seconds=3700,
        quarantine_age=864_000,
        await_unsent=False,
        others_allowed=False,
    )
    before, started = peak_kib() / 1024, time.process_time()
    run = Reconciliation(
        Queues(), Table(count), "table", "queue", "quarantine", options, clock, Progress(directory / "progress.log", clock)
    )
    run.run()
    lost = [one.transaction_id for one in run.matcher.lost()]
    taken = {"before_mib": before, "peak_mib": peak_kib() / 1024, "cpu_seconds": time.process_time() - started}
    taken["read_units"] = run.reader.capacity.used
    print(json.dumps({"counts": run.matcher.counts(), "lost": lost} | {name: round(value, 1) for name, value in taken.items()}))


if __name__ == "__main__":
    main()
