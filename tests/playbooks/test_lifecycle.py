"""From an empty cloud to a pipeline and back, in the order of an operator's work. Each test starts where the one before it ended."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from plays import Pipeline, free_port, listings, supervisorctl, wait_until

STRANGER = "somebody-elses-queue"


@pytest.fixture(scope="module")
def remembered() -> dict[str, Any]:
    """What a test keeps for a later test."""
    return {}


def test_check_mode_says_in_one_line_that_the_cloud_is_stopped(pipeline: Pipeline):
    run = pipeline.play("site", "--check", "--diff")
    assert run.status != 0
    assert "The embedded cloud is stopped and --check starts nothing" in run.message
    assert not pipeline.answers()


def test_check_mode_works_on_an_empty_cloud_and_makes_nothing(pipeline: Pipeline, remembered: dict[str, Any]):
    pipeline.play("site", "--tags", "embedded_cloud").ended_well()
    remembered["empty"] = listings(pipeline)

    run = pipeline.play("site", "--check", "--diff").ended_well()

    assert run.totals["changed"] > 0
    assert "queue FinancialTransactionQueue:" in run.output
    assert listings(pipeline) == remembered["empty"]


def test_site_deploys_and_says_what_there_is(pipeline: Pipeline):
    run = pipeline.play("site").ended_well()
    for line in (pipeline.queue_url(), "ansible-playbook verify.yml", "ansible-playbook teardown.yml"):
        assert line in run.output
    assert listings(pipeline)["tables"] == ["RealTimeTransactions"]


def test_what_needs_a_failed_branch_is_not_tried(pipeline: Pipeline, tmp_path: Path):
    tags = "transaction_queue,stream_processor,producer_service"
    # Of a host, so that not every play is refused but the role's argument specification refuses it there.
    broken = tmp_path / "broken.yml"
    broken.write_text("all: {hosts: {workstation-2: {transaction_queue_visibility_timeout: ninety}}}")
    run = pipeline.play("site", "-i", "inventories/local", "-i", str(broken), "--tags", tags)
    assert run.status != 0
    assert "workstation-2 failed above; what needs it was not tried." in run.output
    assert "TASK [stream_processor" not in run.output
    assert "TASK [producer_service" not in run.output


def test_a_second_site_changes_nothing(pipeline: Pipeline):
    run = pipeline.play("site").ended_well()
    assert run.totals["changed"] == 0, run.output
    # One comparison of all resources, one look at the cloud and one at the producer's host found all as expected.
    assert not [task for task in ("Compare the queues", "Install the program", "Write the configuration") if task in run.output], run.output


def test_check_mode_shows_exactly_the_property_that_would_change(pipeline: Pipeline):
    run = pipeline.play("site", "--check", "--diff", stream_processor_high_value_threshold="25000").ended_well()
    assert sorted(run.diffs()) == ["+HIGH_VALUE_THRESHOLD: '25000'", "-HIGH_VALUE_THRESHOLD: '10000'"]
    # All other roles are in sync, and --check reports no change in them.
    assert {task.partition(" : ")[0] for task in run.changed_tasks} == {"stream_processor"}


def test_verify_passes_with_transactions_in_the_table(pipeline: Pipeline):
    run = pipeline.play("verify").ended_well()
    assert run.failed_checks == set()
    assert run.totals["changed"] == 0
    items = pipeline.client("dynamodb").scan(TableName="RealTimeTransactions", ConsistentRead=True)["Items"]
    assert items
    assert not [item for item in items if item["transaction_id"]["S"].startswith("verify-")], "verify.yml left records behind"


def test_a_killed_producer_comes_back_by_itself(pipeline: Pipeline):
    before = supervisorctl(pipeline, "pid", "FinancialTransactionProducer").strip()
    os.kill(int(before), signal.SIGKILL)
    wait_until(
        lambda: supervisorctl(pipeline, "pid", "FinancialTransactionProducer").strip() not in (before, "0", ""), 20, "a new producer"
    )


def test_a_role_runs_alone_by_its_tag(pipeline: Pipeline):
    run = pipeline.play("site", "--tags", "transaction_queue").ended_well()
    assert run.totals["changed"] == 0
    assert "Compare the queues" in run.output
    assert "Compare the table" not in run.output


def test_after_a_producer_is_replaced_verify_needs_the_ledger_that_was_exported(pipeline: Pipeline):
    roles = ("--tags", "producer_service,producer_instance")
    pipeline.play("teardown", *roles, confirm_teardown="default").ended_well()
    pipeline.play("site", *roles).ended_well()
    others = ("--skip-tags", "iam_roles,transaction_table,transaction_queue,stream_processor,observability")
    assert pipeline.play("verify", *others).failed_checks == {"reconciliation: every item of the table is in a ledger"}
    kept = [str(path) for path in pipeline.directory.glob("exports/*/ledger-producer.jsonl.gz")]
    pipeline.play("verify", *others, reconciliation_kept_ledgers=kept).ended_well()


def test_the_guard_stops_on_another_account_before_anything_changes(pipeline: Pipeline):
    cloud = {"embedded_cloud_account_id": "000000000000"}  # stays the account it is
    run = pipeline.play("site", pipeline_account_id="111111111111", pipeline_environment="other", **cloud)
    assert run.status != 0
    assert "expects 111111111111" in run.message
    assert not [queue for queue in listings(pipeline)["queues"] if queue.endswith("-other")]


def test_the_guard_refuses_an_environment_name_that_is_not_valid_in_a_resource_name(pipeline: Pipeline):
    run = pipeline.play("site", pipeline_environment="Not Good")
    assert run.status != 0
    assert "1 to 20 of a-z, 0-9 and -" in run.message


@pytest.mark.parametrize("play", ["site", "teardown"])
def test_no_limit_leaves_the_guard_out(pipeline: Pipeline, play: str):
    before = listings(pipeline)
    run = pipeline.play(play, "--limit", "workstation-2", stream_processor_memory=512, confirm_teardown="default")
    assert run.status != 0
    assert "workstation-1 checks the account, and was left out. Nothing was changed." in run.message
    assert listings(pipeline) == before


def test_teardown_asks_for_confirmation_and_removes_nothing_without_it(pipeline: Pipeline):
    before = listings(pipeline)
    run = pipeline.play("teardown", teardown_needs_confirmation=True)
    assert run.status != 0
    assert "-e confirm_teardown=default" in run.message
    assert re.search(r"^ +table RealTimeTransactions: about \d+ items?$", run.output, re.MULTILINE)
    assert listings(pipeline) == before


def test_another_environment_and_a_strangers_queue_survive_a_teardown_with_a_dead_producer(pipeline: Pipeline):
    pipeline.play("site", pipeline_environment="blue").ended_well()
    pipeline.client("sqs").create_queue(QueueName=STRANGER)
    supervisorctl(pipeline, "stop", "FinancialTransactionProducer")

    pipeline.play("teardown", "-e", "confirm_teardown=default").ended_well()

    left = listings(pipeline)
    assert [queue.rpartition("/")[2] for queue in left["queues"]] == [
        "FinancialTransactionQueue-blue",
        "FinancialTransactionQueue-dlq-blue",
        STRANGER,
    ]
    assert left["tables"] == ["RealTimeTransactions-blue"]
    assert left["roles"] == ["EC2-SQS-Role-blue", "Lambda-SQS-DynamoDB-Role-blue"]
    assert len(left["instances"]) == 1
    assert "RUNNING" in supervisorctl(pipeline, "status", "FinancialTransactionProducer-blue")


def test_discarding_works_with_an_unreachable_producer(pipeline: Pipeline, remembered: dict[str, Any], tmp_path: Path):
    unreachable = tmp_path / "unreachable.yml"
    host = f"{{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: {free_port()}}}"
    unreachable.write_text(f"all: {{hosts: {{producer: {host}}}}}")

    options = ("-i", "inventories/local", "-i", str(unreachable), "-e", "discard_data=blue")
    run = pipeline.play("teardown", *options, pipeline_environment="blue").ended_well()

    assert "UNREACHABLE" in run.output
    assert "producer did not answer: how much it has not sent is unknown" in run.message
    assert listings(pipeline) == remembered["empty"] | {"queues": [f"{pipeline.endpoint}/000000000000/{STRANGER}"]}
    pipeline.client("sqs").delete_queue(QueueUrl=f"{pipeline.endpoint}/000000000000/{STRANGER}")
    assert listings(pipeline) == remembered["empty"]


def test_a_second_teardown_is_no_error_and_leaves_no_process(pipeline: Pipeline):
    pipeline.play("teardown").ended_well()
    assert pipeline.processes() == []
    assert not pipeline.answers()
