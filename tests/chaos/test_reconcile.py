"""reconcile.yml with the stream running: it names what is planted, puts it right, survives a kill, and says which producer is silent."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from operators import POLICIES, make_operator, rendered
from plays import BIN, ROOT, Pipeline, Run, free_port, kill_play, supervisorctl, wait_until

pytestmark = pytest.mark.timeout(900)

TABLE = "RealTimeTransactions"
LEDGERS, LOST, ALTERED = (
    f"reconciliation: {what}" for what in ("every producer's ledger is there", "nothing is lost", "nothing is altered")
)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The whole pipeline, with at least ten transactions stored; its operator has no more than the operator's policy."""
    directory = tmp_path_factory.mktemp("pipeline")
    made = Pipeline(directory, free_port(), {"quarantine_directory": str(directory / "exports")})
    made.play("site").ended_well()
    wait_until(lambda: len(items(made)) >= 10, 60, "ten transactions in the table")
    make_operator(made, [rendered(template, directory) for template in POLICIES])
    yield made
    supervisorctl(made, "shutdown")
    wait_until(lambda: not made.processes(), 30, f"an end of {made.processes()}")


def items(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    found = pipeline.client("dynamodb").scan(TableName=TABLE, ConsistentRead=True)["Items"]
    return {item["transaction_id"]["S"]: item for item in sorted(found, key=lambda item: item["processed_at_utc"]["S"])}


def report(pipeline: Pipeline) -> dict[str, Any]:
    return json.loads((pipeline.directory / "reconcile" / "reconciliation.json").read_text())


def named(pipeline: Pipeline, kind: str) -> set[str]:
    return {one["transaction_id"] for one in report(pipeline)[kind]}


def plant(pipeline: Pipeline, deleted: int, altered: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Deletes items and adds a cent to others, as no part of the pipeline does; returns what they were."""
    client, found = pipeline.client("dynamodb"), list(items(pipeline).items())
    gone, changed = dict(found[:deleted]), dict(found[deleted : deleted + altered])
    for identity in gone:
        client.delete_item(TableName=TABLE, Key={"transaction_id": {"S": identity}})
    for item in changed.values():
        amount = {"N": str(Decimal(item["amount"]["N"]) + Decimal("0.01"))}
        client.put_item(TableName=TABLE, Item=item | {"amount": amount})
    return gone, changed


def amounts(found: dict[str, Any]) -> dict[str, Decimal]:
    return {identity: Decimal(item["amount"]["N"]) for identity, item in found.items()}


def outbox(pipeline: Pipeline) -> dict[str, Any]:
    state = next(pipeline.directory.rglob("outbox.sqlite3")).parent
    program = ROOT / "producer_src"
    command = [str(BIN / "python"), str(program), "outbox", "--json", "--state-directory", str(state)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def reconcile(pipeline: Pipeline, *options: str, **settings: Any) -> Run:
    return pipeline.play("reconcile", *options, **settings)


def test_what_is_stored_passes_and_is_settled_in_the_ledger(deployed: Pipeline):
    reconcile(deployed).ended_well()
    counts = report(deployed)["counts"]
    assert counts["sent"] == counts["stored"] + counts["in_flight"] >= 10
    assert outbox(deployed)["settled_through"] >= 10


def test_what_is_planted_is_named_and_left_alone_and_then_put_right(deployed: Pipeline):
    gone, changed = plant(deployed, deleted=3, altered=2)

    run = reconcile(deployed)
    assert (run.status, run.failed_checks & {LOST, ALTERED}) == (2, {LOST, ALTERED})
    assert (named(deployed, "lost"), named(deployed, "altered")) == (gone.keys(), changed.keys())
    assert not gone.keys() & items(deployed).keys()

    reconcile(deployed, reconcile_resend_lost=True, reconcile_repair_altered=True).ended_well()
    stored = {identity: item for identity, item in items(deployed).items() if identity in gone | changed}
    assert amounts(stored) == amounts(gone | changed)


def test_verify_names_them_too_and_puts_nothing_right(deployed: Pipeline):
    gone, changed = plant(deployed, deleted=1, altered=1)
    settled = outbox(deployed)["settled_through"]

    run = deployed.play("verify")
    assert {LOST, ALTERED} <= run.failed_checks
    assert amounts(items(deployed))[next(iter(changed))] != amounts(changed)[next(iter(changed))]
    assert (gone.keys() & items(deployed).keys(), outbox(deployed)["settled_through"]) == (set(), settled)

    reconcile(deployed, reconcile_resend_lost=True, reconcile_repair_altered=True).ended_well()


def test_a_repair_that_is_killed_after_it_deleted_is_taken_up_by_the_next(deployed: Pipeline):
    _gone, changed = plant(deployed, deleted=0, altered=4)
    thread = threading.Thread(target=reconcile, args=(deployed,), kwargs={"reconcile_repair_altered": True})
    thread.start()
    try:
        while thread.is_alive() and len(changed.keys() & items(deployed).keys()) == len(changed):
            time.sleep(0.01)
        kill_play("reconcile.yml", deployed.directory)
    finally:
        thread.join()
    assert len(changed.keys() & items(deployed).keys()) < len(changed)

    reconcile(deployed, reconcile_repair_altered=True).ended_well()
    assert amounts({identity: item for identity, item in items(deployed).items() if identity in changed}) == amounts(changed)


def test_a_producer_that_cannot_be_reached_is_a_named_finding(deployed: Pipeline, tmp_path: Path):
    unreachable = tmp_path / "unreachable.yml"
    host = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": free_port()}
    unreachable.write_text(json.dumps({"producers": {"hosts": {"silent": host}}}))
    run = reconcile(deployed, "-i", "inventories/local", "-i", str(unreachable))
    assert run.failed_checks == {LEDGERS}
    assert "none of silent" in run.output
    assert report(deployed)["counts"]["lost"] == 0


def test_paused_producers_go_on_afterwards(deployed: Pipeline):
    before = outbox(deployed)["last"]
    reconcile(deployed, reconcile_pause_producers=True).ended_well()
    wait_until(lambda: outbox(deployed)["last"] > before, 30, "new transactions")
    assert "RUNNING" in supervisorctl(deployed, "status")
