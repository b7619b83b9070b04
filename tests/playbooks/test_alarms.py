"""The pipeline's own alarms see a failing table and a lost permission, and tell the address that was given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from plays import ACCOUNT, REGION, Pipeline, confirm_alarm_address, wait_until

QUEUE, EMAIL = "FinancialTransactionQueue", "operator@example.com"
ROLE = "Lambda-SQS-DynamoDB-Role"
POLICY = f"arn:aws:iam::{ACCOUNT}:policy/{ROLE}"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:FinancialTransactionAlarms"


@pytest.fixture(scope="module")
def watched(deployed_pipeline: Pipeline) -> Iterator[Pipeline]:
    """The pipeline with an address, and with limits that a few messages reach: those that fail stay hidden for the visibility timeout."""
    settings = deployed_pipeline.settings
    deployed_pipeline.settings = settings | {"observability_email": EMAIL, "observability_in_flight": 3, "observability_message_age": 4}
    deployed_pipeline.play("site", "--tags", "observability").ended_well()
    yield deployed_pipeline
    deployed_pipeline.settings = settings
    deployed_pipeline.play("site", "--tags", "observability").ended_well()


def state(pipeline: Pipeline, alarm: str) -> str:
    found = pipeline.client("cloudwatch").describe_alarms(AlarmNames=[f"{QUEUE}/{alarm}"])["MetricAlarms"]
    return found[0]["StateValue"]


def without(pipeline: Pipeline, *actions: str) -> None:
    """Take actions out of the policy of the function's role, by hand."""
    iam = pipeline.client("iam")
    version = iam.get_policy(PolicyArn=POLICY)["Policy"]["DefaultVersionId"]
    document: dict[str, Any] = iam.get_policy_version(PolicyArn=POLICY, VersionId=version)["PolicyVersion"]["Document"]
    for statement in document["Statement"]:
        if isinstance(statement["Action"], list):
            statement["Action"] = [one for one in statement["Action"] if one not in actions]
    iam.create_policy_version(PolicyArn=POLICY, PolicyDocument=json.dumps(document), SetAsDefault=True)
    iam.delete_policy_version(PolicyArn=POLICY, VersionId=version)


def cloud_log(pipeline: Pipeline) -> str:
    return (pipeline.directory / "log" / "embedded_cloud.log").read_text()


def test_all_alarms_tell_the_topic_and_an_unconfirmed_address_fails_verification(watched: Pipeline):
    alarms = watched.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert len(alarms) == 8
    assert {(tuple(one["AlarmActions"]), tuple(one["OKActions"])) for one in alarms} == {((TOPIC,), (TOPIC,))}

    found = watched.play("verify", "--tags", "observability")

    assert found.failed_checks == {"topic FinancialTransactionAlarms: unconfirmed"}
    assert f'Open the link in the mail "AWS Notification - Subscription Confirmation" to {EMAIL}' in found.message


def test_an_alarm_reaches_the_address_that_was_confirmed(watched: Pipeline):
    confirm_alarm_address(watched)
    watched.play("verify", "--tags", "observability").ended_well()

    without(watched, "dynamodb:PartiQLInsert", "dynamodb:PutItem")

    wait_until(lambda: state(watched, "in-flight") == "ALARM", 90, "an alarm on a table that cannot be written")
    assert state(watched, "function-errors") == "OK"
    wait_until(lambda: f"{EMAIL} would be mailed: ALARM {QUEUE}/in-flight" in cloud_log(watched), 30, "a mail")


def test_a_lost_permission_on_the_queue_shows_by_the_age_of_its_messages(watched: Pipeline):
    without(watched, "sqs:ReceiveMessage")
    wait_until(lambda: state(watched, "message-age") == "ALARM", 90, "an alarm on a queue that cannot be read")


def test_the_role_mends_it_and_then_changes_nothing(watched: Pipeline):
    watched.play("site", "--tags", "iam_roles").ended_well()
    assert watched.play("site", "--tags", "iam_roles,observability").ended_well().totals["changed"] == 0
