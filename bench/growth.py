"""How the plays and the reconciliation grow: with producers, with their ledgers, and with transactions."""

from __future__ import annotations

import configparser
import json
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import boto3

from bench.deploy import Pipeline
from bench.flow import body
from bench.measuring import ROOT, say, spread, spreads, wait_until

NAME, TABLE = "FinancialTransactionProducer", "RealTimeTransactions"
UNITS = {"ReadCapacityUnits": 25, "WriteCapacityUnits": 25}  # as the plays make the table
MANY_UNITS = {"ReadCapacityUnits": 25, "WriteCapacityUnits": 10_000}
A_CALL = 25  # items of BatchWriteItem


def plays(pipeline: Pipeline, rounds: int, **settings: Any) -> dict[str, dict[str, float]]:
    """Seconds of a site.yml that changes nothing, and of verify.yml."""
    pipeline.play("site", **settings)
    return spreads([{"no change": pipeline.play("site", **settings), "verify": pipeline.play("verify", **settings)} for _ in range(rounds)])


def more_producers(count: int) -> dict[str, Any]:
    """An inventory with so many producers beside the first: other names for the same service, which is looked at for each."""
    return {"producers": {"hosts": {f"producer-{number}": {"pipeline_root": str(ROOT)} for number in range(2, count + 2)}}}


def by_producers(rounds: int, numbers: list[int]) -> dict[str, Any]:
    found = {}
    with Pipeline() as pipeline:
        pipeline.play("site")
        for number in numbers:
            hosts = pipeline.directory / f"hosts-{number}.json"
            hosts.write_text(json.dumps(more_producers(number - 1)))
            found[str(number)] = spreads([{"no change": pipeline.play("site", "-i", str(hosts))} for _ in range(rounds)])
            say(f"{number} producers: {found[str(number)]}")
    return found


def by_ledgers(rounds: int, numbers: list[int]) -> dict[str, Any]:
    """With so many ledgers of producers of before, which have nothing that is not settled."""
    found = {}
    with Pipeline() as pipeline:
        pipeline.play("site")
        for number in numbers:
            kept = [empty_ledger(pipeline.directory, name) for name in range(number)]
            found[str(number)] = plays(pipeline, rounds, reconciliation_kept_ledgers=kept)
            say(f"{number} kept ledgers: {found[str(number)]}")
    return found


def empty_ledger(directory: Path, number: int) -> str:
    path = directory / f"kept-{number}.jsonl"
    closing = {"ledger": f"web-{number}", "entries": 0, "first": None, "last": None, "exported_at": datetime.now(UTC).isoformat()}
    path.write_text(json.dumps(closing) + "\n")
    subprocess.run(["gzip", "--force", str(path)], check=True)
    return f"{path}.gz"


def by_stored(rounds: int, numbers: list[int]) -> dict[str, Any]:
    """With so many transactions in the table and in the producer's ledger."""
    found, before = {}, 0
    with Pipeline() as pipeline:
        pipeline.play("site")
        for number in numbers:
            store(pipeline, number - before)
            before = number
            found[str(number)] = plays(pipeline, rounds)
            say(f"{number} transactions: {found[str(number)]}")
    return found


def store(pipeline: Pipeline, count: int) -> None:
    """Put so many transactions into the table and into the outbox, as sent."""
    keys = configparser.ConfigParser(interpolation=None)
    keys.read_string((pipeline.directory / "aws.cfg").read_text())
    endpoint = f"http://127.0.0.1:{pipeline.settings['embedded_cloud_port']}"
    dynamodb = boto3.client("dynamodb", "us-east-1", endpoint_url=endpoint, **dict(keys["profile embedded-cloud"]))
    bodies = {one: body(one) for one in (str(uuid.uuid4()) for _ in range(count))}
    resize(dynamodb, MANY_UNITS)
    requests = [{"PutRequest": {"Item": item(text)}} for text in bodies.values()]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(partial(put, dynamodb), (requests[first : first + A_CALL] for first in range(0, count, A_CALL))))
    resize(dynamodb, UNITS)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with sqlite3.connect(pipeline.directory / NAME / "state" / "outbox.sqlite3", timeout=60) as outbox:
        for identity, text in bodies.items():
            row = (identity, "12.5", "2026-11-24T12:00:00Z", "sent", now, now, f"m-{identity}", 1)
            fields = "transaction_id, amount, timestamp, state, recorded_at, sent_at, message_id, sends"
            added = outbox.execute(f"INSERT INTO entry ({fields}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            outbox.execute("INSERT INTO body VALUES (?, ?)", (added.lastrowid, text))


def put(dynamodb: Any, requests: list[dict[str, Any]]) -> None:
    if left := dynamodb.batch_write_item(RequestItems={TABLE: requests})["UnprocessedItems"]:
        raise RuntimeError(f"the table took all but {left}")


def resize(dynamodb: Any, units: dict[str, int]) -> None:
    dynamodb.update_table(TableName=TABLE, ProvisionedThroughput=units)
    wait_until(lambda: dynamodb.describe_table(TableName=TABLE)["Table"]["TableStatus"] == "ACTIVE", 60, "a table that is active")


def item(text: str) -> dict[str, Any]:
    """A transaction as the function stores it."""
    fields = {name: {"N" if name == "amount" else "S": str(value)} for name, value in json.loads(text).items()}
    added = {"transaction_category": "standard", "processed_at_utc": datetime.now(UTC).isoformat(), "processor_version": "1"}
    return fields | {name: {"S": value} for name, value in added.items()}


def reconcile(count: int) -> dict[str, float]:
    """Seconds of CPU, peak of the memory in MiB, and read units, with a table that is made up as it is read."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(ROOT / "tests" / "chaos" / "run_streamed_reconciliation.py"), str(count), directory]
        found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    return {name: float(found[name]) for name in ("cpu_seconds", "peak_mib", "read_units")}


def measure(rounds: int, small: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "producers": by_producers(rounds, [1, 2] if small else [1, 5, 20]),
        "ledgers": by_ledgers(rounds, [1, 2] if small else [1, 20]),
        "transactions": by_stored(rounds, [10, 100] if small else [10, 1_000, 100_000]),
        "reconcile": {},
    }
    for count in [1_000] if small else [10_000, 100_000, 1_000_000]:
        told = [reconcile(count) for _ in range(rounds)]
        found["reconcile"][str(count)] = {name: spread([one[name] for one in told]) for name in told[0]}
        say(f"reconciling {count}: {found['reconcile'][str(count)]}")
    return found
