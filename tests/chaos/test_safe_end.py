"""teardown.yml deletes nothing that it has not exported, unless told to. Each test starts where the one before ended."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from plays import Pipeline, free_port, listings, supervisorctl, wait_until

SERVICE, FUNCTION, TABLE = "FinancialTransactionProducer", "ProcessFinancialStream", "RealTimeTransactions"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory):
    made = Pipeline(tmp_path_factory.mktemp("safe-end"), free_port(), {"probe_timeout": 60, "teardown_drain_timeout": 6})
    yield made
    if (made.directory / "supervisor" / "supervisord.conf").exists():
        supervisorctl(made, "shutdown")
        wait_until(lambda: not made.processes(), 30, f"an end of {made.processes()}")


def exports(pipeline: Pipeline) -> list[Path]:
    directory = pipeline.directory / "exports"
    return sorted(directory.iterdir()) if directory.exists() else []


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def items(pipeline: Pipeline) -> list[dict[str, Any]]:
    return pipeline.client("dynamodb").scan(TableName=TABLE, ConsistentRead=True)["Items"]


def test_check_mode_says_where_to_and_neither_stops_nor_exports(pipeline: Pipeline):
    pipeline.play("site").ended_well()
    wait_until(lambda: items(pipeline), 60, "a transaction in the table")
    before = listings(pipeline)

    run = pipeline.play("teardown", "--check").ended_well()

    assert f"all of it is exported to {pipeline.directory}/exports" in in_one_line(run.output)
    assert "RUNNING" in supervisorctl(pipeline, "status", SERVICE)
    assert exports(pipeline) == []
    assert listings(pipeline) == before


def test_the_name_of_another_environment_discards_nothing(pipeline: Pipeline):
    before = listings(pipeline)

    run = pipeline.play("teardown", "-e", "discard_data=blue")

    assert run.status != 0
    assert "discard_data is 'blue', the environment is default. Nothing was removed." in in_one_line(run.output)
    assert "RUNNING" in supervisorctl(pipeline, "status", SERVICE)
    assert listings(pipeline) == before


def test_a_role_that_holds_no_data_goes_alone_and_no_producer_stops(pipeline: Pipeline):
    run = pipeline.play("teardown", "--tags", "observability").ended_well()

    assert "What holds data stays." in run.output
    assert "RUNNING" in supervisorctl(pipeline, "status", SERVICE)
    assert exports(pipeline) == []


def test_a_queue_that_does_not_empty_keeps_everything(pipeline: Pipeline):
    functions = pipeline.client("lambda")
    functions.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)
    pipeline.client("sqs").send_message(QueueUrl=pipeline.queue_url(), MessageBody='{"transaction_id": "held", "amount": 1}')
    before = listings(pipeline)

    run = pipeline.play("teardown", __teardown_attempt_seconds=2)

    said = in_one_line(run.output)
    assert run.status != 0
    assert "after 6 s (teardown_drain_timeout): the function does not take them" in said
    assert "table RealTimeTransactions:" in said
    assert "ansible-playbook teardown.yml -e discard_data=default" in said
    assert "Wait until the function has taken what the queue holds" in said
    assert exports(pipeline) == []
    assert listings(pipeline) == before
    assert "STOPPED" in supervisorctl(pipeline, "status", SERVICE)


def test_what_a_producer_cannot_send_keeps_everything(pipeline: Pipeline):
    functions = pipeline.client("lambda")
    functions.delete_function_concurrency(FunctionName=FUNCTION)
    # Taken in while the queue did not answer: so it is as soon as the producer may not send to it.
    pipeline.play("site").ended_well()
    sqs = pipeline.client("sqs")
    policy = sqs.get_queue_attributes(QueueUrl=pipeline.queue_url(), AttributeNames=["Policy"])["Attributes"]["Policy"]
    document = json.loads(policy)
    arn = document["Statement"][0]["Resource"]
    role = "arn:aws:iam::000000000000:role/EC2-SQS-Role"
    refusal = {"Effect": "Deny", "Principal": {"AWS": role}, "Action": "sqs:SendMessage", "Resource": arn}
    denied = json.dumps(document | {"Statement": [*document["Statement"], refusal]})
    sqs.set_queue_attributes(QueueUrl=pipeline.queue_url(), Attributes={"Policy": denied})
    wait_until(lambda: "AccessDenied" in supervisorctl(pipeline, "tail", "-2000", SERVICE), 60, "a refusal in the producer's log")

    run = pipeline.play("teardown", producer_service_drain_seconds=10)

    said = in_one_line(run.output)
    assert run.status != 0
    assert "did not send everything in its outbox" in said
    assert "Two ways on" in said
    assert exports(pipeline) == []
    assert listings(pipeline)["tables"] == [TABLE]
    sqs.set_queue_attributes(QueueUrl=pipeline.queue_url(), Attributes={"Policy": policy})


def test_a_transaction_that_is_lost_keeps_everything_and_is_named(pipeline: Pipeline):
    pipeline.play("site").ended_well()
    lost = items(pipeline)[0]["transaction_id"]
    if lost["S"] == "held":
        lost = items(pipeline)[1]["transaction_id"]
    pipeline.client("dynamodb").delete_item(TableName=TABLE, Key={"transaction_id": lost})

    run = pipeline.play("teardown", teardown_drain_timeout=120)

    said = in_one_line(run.output)
    assert run.status != 0
    assert lost["S"] in said
    assert "reconcile.yml -e reconcile_resend_lost=true" in said
    assert exports(pipeline) == []


def test_what_is_put_right_is_exported_and_then_removed(pipeline: Pipeline):
    pipeline.play("site").ended_well()
    pipeline.play("reconcile", reconcile_resend_lost=True)
    sqs = pipeline.client("sqs")
    sqs.send_message(QueueUrl=pipeline.queue_url(), MessageBody="no json")

    run = pipeline.play("teardown", "--skip-tags", "embedded_cloud", teardown_drain_timeout=120).ended_well()

    (made,) = exports(pipeline)
    assert f"Exported to {made}" in run.output
    assert {path.name for path in made.iterdir()} == {"export.json", "ledger-producer.jsonl.gz", "quarantine.jsonl.gz", "table.jsonl.gz"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o600}
    *entries, last = records(made / "ledger-producer.jsonl.gz")
    stored = {one["Item"]["transaction_id"]["S"] for one in records(made / "table.jsonl.gz")}
    assert len(entries) == last["entries"]
    assert {entry["transaction_id"] for entry in entries} <= stored
    assert [(one["body"], one["reason"]) for one in records(made / "quarantine.jsonl.gz")] == [("no json", "not_json")]
    left = listings(pipeline)
    assert (left["queues"], left["tables"], left["functions"], left["instances"], left["roles"]) == ([], [], [], [], [])


def test_a_second_teardown_has_nothing_to_export(pipeline: Pipeline):
    run = pipeline.play("teardown", "--skip-tags", "embedded_cloud").ended_well()

    assert "There was nothing to export." in run.output
    assert len(exports(pipeline)) == 1


def test_what_is_discarded_is_counted_and_not_exported(pipeline: Pipeline):
    pipeline.play("site").ended_well()
    wait_until(lambda: items(pipeline), 60, "a transaction in the table")

    run = pipeline.play("teardown", "-e", "discard_data=default").ended_well()

    assert "All of it is discarded." in run.output
    assert "producer has not sent" in in_one_line(run.output)
    assert len(exports(pipeline)) == 1
    assert pipeline.processes() == []
