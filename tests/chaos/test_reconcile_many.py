"""Reconciling a hundred thousand transactions in the embedded cloud: what is planted is named, exactly, within a minute and 200 MB."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ledgers import item, transactions, write_ledger

pytestmark = pytest.mark.timeout(3600)

TRANSACTIONS, DELETED, ALTERED = 100_000, 3, 2
SECONDS, MIB = 60, 200
MILLION = 1_000_000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(embedded_cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A table of all but the planted, both ledgers of it, and empty queues."""
    directory, dynamodb, sqs = tmp_path_factory.mktemp("many"), embedded_cloud.client("dynamodb"), embedded_cloud.client("sqs")
    table = f"Many-{uuid.uuid4().hex[:8]}"
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "transaction_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "transaction_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    half = TRANSACTIONS // 2
    for name, seed in (("web-1", 1), ("web-2", 2)):
        write_ledger(directory / f"{name}.jsonl.gz", transactions(seed, half), name)
    everything = [item(fields) for seed in (1, 2) for fields in transactions(seed, half)]
    planted = random.Random(3).sample(range(TRANSACTIONS), DELETED + ALTERED)
    deleted, altered = (
        {everything[number]["transaction_id"]["S"] for number in numbers} for numbers in (planted[:DELETED], planted[DELETED:])
    )
    everything[planted[-1]]["amount"] = {
        "N": everything[planted[-1]]["amount"]["N"][:-1] + ("1" if everything[planted[-1]]["amount"]["N"][-1] != "1" else "2")
    }
    everything[planted[-2]]["merchant"] = {"S": "somebody else"}
    left = [one for number, one in enumerate(everything) if number not in planted[:DELETED]]

    def put(chunk: list[dict[str, Any]]) -> None:
        assert not dynamodb.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": one}} for one in chunk]})["UnprocessedItems"]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, (left[start : start + 25] for start in range(0, len(left), 25))))
    queues = [sqs.create_queue(QueueName=f"{table}{suffix}")["QueueUrl"] for suffix in ("", "-dlq")]
    return {"directory": directory, "cloud": embedded_cloud, "table": table, "queues": queues, "deleted": deleted, "altered": altered}


def reconcile(world: dict[str, Any]) -> dict[str, Any]:
    options = {
        "ledgers": [str(world["directory"] / f"{name}.jsonl.gz") for name in ("web-1", "web-2")],
        "table": world["table"],
        "queue_url": world["queues"][0],
        "dead_letter_queue_url": world["queues"][1],
        "report_directory": str(world["directory"] / "report"),
        "settle_seconds": 3,
        "read_rate": 0,
        "endpoint_url": world["cloud"].endpoint,
        "region": "us-east-1",
        "profile": "embedded-cloud",
    }
    # A profile, since what a module is given as a secret is blotted out of what it returns, paths included.
    config = {"AWS_CONFIG_FILE": str(world["cloud"].config)}
    command = [sys.executable, str(Path(__file__).with_name("run_reconciliation.py")), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT, env=os.environ | config, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_million_transactions_are_reconciled_in_little_more_memory_than_a_hundred_thousand(tmp_path: Path):
    peaks = {}
    for count in (100_000, MILLION):
        command = [sys.executable, str(Path(__file__).with_name("run_streamed_reconciliation.py")), str(count), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=3600, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        print(found)
        assert (found["counts"]["sent"], len(found["lost"])) == (count, count // 100_000)
        peaks[count] = found["peak_mib"]
    assert peaks[MILLION] < MIB
    assert peaks[MILLION] < peaks[100_000] + 40


def test_a_hundred_thousand_transactions_are_reconciled_within_a_minute_and_200_mb(world: dict[str, Any]):
    result = reconcile(world)

    found = json.loads(Path(result["report_file"]).read_text())
    assert {one["transaction_id"] for one in found["lost"]} == world["deleted"]
    assert {one["transaction_id"] for one in found["altered"]} == world["altered"]
    assert sorted(one["fields"][0]["field"] for one in found["altered"]) == ["amount", "merchant"]
    expected = {"sent": TRANSACTIONS, "stored": TRANSACTIONS - DELETED - ALTERED, "lost": DELETED, "altered": ALTERED}
    assert {name: count for name, count in result["counts"].items() if count} == expected
    print({name: result[name] for name in ("seconds", "cpu_seconds", "peak_mib")})
    assert result["seconds"] < SECONDS
    assert result["peak_mib"] < MIB
