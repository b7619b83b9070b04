"""The one mapping between a queue and a function: what is changed, what is waited for, what is left alone."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.release.mapping import (
    PERMISSION_PATIENCE_SECONDS,
    MappingError,
    MappingManager,
    MappingSettings,
)
from botocore.exceptions import ClientError
from mapping_fakes import FUNCTION, OTHER_FUNCTION, QUEUE, Lambda, Time, mapping, refusal
from moto import mock_aws

LONGEST_PAUSE = 5.0  # seconds
NO_PERMISSION = "The function execution role does not have permissions to call ReceiveMessage on SQS"


def manager(client: Any, time: Time | None = None, **options: Any) -> MappingManager:
    return MappingManager(client, FUNCTION, QUEUE, (time or Time()).clock, **options)


# --- present ---------------------------------------------------------------------------------------------------------------------


def test_without_a_mapping_one_is_created_with_every_setting_and_waited_for():
    cloud = Lambda()
    outcome = manager(cloud).present(MappingSettings(batch_size=50, maximum_batching_window=3, maximum_concurrency=7, enabled=False))
    assert outcome.changed
    assert cloud.request("create") == {
        "EventSourceArn": QUEUE,
        "FunctionName": FUNCTION,
        "BatchSize": 50,
        "MaximumBatchingWindowInSeconds": 3,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": 7},
        "Enabled": False,
    }
    assert outcome.mapping["state"] == "Disabled"
    assert outcome.before == {}
    assert outcome.after["maximum_concurrency"] == 7


def test_a_mapping_as_wanted_is_left_alone():
    cloud = Lambda(mapping())
    outcome = manager(cloud).present(MappingSettings())
    assert not outcome.changed
    assert (outcome.before, outcome.after) == ({}, {})
    assert cloud.writes() == []


@pytest.mark.parametrize(
    ("found", "sent", "before", "after"),
    [
        ({"State": "Disabled"}, {"Enabled": True}, {"enabled": False}, {"enabled": True}),
        (
            {"FunctionResponseTypes": []},
            {"FunctionResponseTypes": ["ReportBatchItemFailures"]},
            {"function_response_types": []},
            {"function_response_types": ["ReportBatchItemFailures"]},
        ),
        ({"ScalingConfig": {"MaximumConcurrency": 5}}, {"ScalingConfig": {}}, {"maximum_concurrency": 5}, {"maximum_concurrency": None}),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}}, {"FilterCriteria": {}}, {"filters": ["{}"]}, {"filters": []}),
        ({"BatchSize": 5}, {"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0}, {"batch_size": 5}, {"batch_size": 10}),
    ],
    ids=["disabled", "no partial failures", "concurrency limit", "filter", "batch size"],
)
def test_only_what_differs_is_updated(found: dict[str, Any], sent: dict[str, Any], before: dict[str, Any], after: dict[str, Any]):
    cloud = Lambda(mapping(**found))
    outcome = manager(cloud).present(MappingSettings())
    assert cloud.request("update") == {"UUID": "one", **sent}
    assert (outcome.before, outcome.after) == (before, after)
    assert outcome.mapping["state"] == "Enabled"


def test_after_a_change_the_second_run_changes_nothing():
    cloud = Lambda(mapping(State="Disabled", FilterCriteria={"Filters": [{"Pattern": "{}"}]}, ScalingConfig={"MaximumConcurrency": 3}))
    manager(cloud).present(MappingSettings())
    assert not manager(cloud).present(MappingSettings()).changed


def test_a_filter_that_may_not_be_read_is_removed_too():
    cloud = Lambda(mapping(FilterCriteriaError={"ErrorCode": "KMSAccessDenied", "Message": "no key"}))
    outcome = manager(cloud, check_mode=True).present(MappingSettings())
    assert outcome.before == {"filters": ["unreadable: no key"]}


def test_of_two_mappings_the_one_that_differs_least_stays():
    cloud = Lambda(mapping("a-wrong", BatchSize=3), mapping("b-right"))
    outcome = manager(cloud).present(MappingSettings())
    assert outcome.deleted == ["a-wrong"]
    assert list(cloud.mappings) == ["b-right"]
    assert cloud.writes() == ["delete"]
    assert (outcome.before, outcome.after) == ({"extra_mappings": ["a-wrong"]}, {"extra_mappings": []})


def test_a_mapping_to_an_alias_of_the_function_is_replaced_by_one_to_the_function():
    cloud = Lambda(mapping("alias", FunctionArn=f"{FUNCTION}:live"))
    outcome = manager(cloud).present(MappingSettings())
    assert cloud.writes() == ["delete", "create"]
    assert [found["FunctionArn"] for found in cloud.mappings.values()] == [FUNCTION]
    assert outcome.deleted == ["alias"]


def test_a_mapping_to_another_function_is_reported_and_left_alone():
    cloud = Lambda(mapping(), mapping("theirs", FunctionArn=OTHER_FUNCTION))
    outcome = manager(cloud).present(MappingSettings())
    assert not outcome.changed
    assert [(found["uuid"], found["function_arn"]) for found in outcome.foreign_mappings] == [("theirs", OTHER_FUNCTION)]
    assert "theirs" in cloud.mappings


def test_a_function_whose_name_begins_like_ours_is_another_function():
    cloud = Lambda(mapping("theirs", FunctionArn=f"{FUNCTION}-staging"))
    manager(cloud).absent()
    assert "theirs" in cloud.mappings


# --- waiting ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["Creating", "Enabling", "Disabling", "Updating"])
def test_a_mapping_in_transition_is_changed_only_once_it_rests(state: str):
    cloud = Lambda(mapping(State=state, BatchSize=5), calls_to_settle=3)
    outcome = manager(cloud).present(MappingSettings())
    assert cloud.writes() == ["update"]
    assert outcome.mapping["batch_size"] == 10
    assert outcome.mapping["state"] == "Enabled"


def test_a_mapping_that_is_being_deleted_is_gone_before_a_new_one_is_created():
    cloud = Lambda(mapping(State="Deleting"), calls_to_settle=4)
    outcome = manager(cloud).present(MappingSettings())
    assert outcome.changed
    assert list(cloud.mappings) == ["created-1"]
    assert cloud.writes() == ["create"]


def test_a_change_refused_as_in_use_is_made_again():
    cloud = Lambda(mapping(BatchSize=5))
    cloud.refusals["update"] = [refusal("ResourceInUseException"), refusal("ResourceConflictException")]
    outcome = manager(cloud).present(MappingSettings())
    assert cloud.writes() == ["update"] * 3
    assert outcome.mapping["batch_size"] == 10


def test_a_creation_that_conflicts_with_a_mapping_that_appeared_adopts_and_corrects_it():
    cloud = Lambda()
    original = cloud.create_event_source_mapping

    def lost_answer(**request: Any) -> dict[str, Any]:
        original(**request | {"BatchSize": 4})
        raise refusal("ResourceConflictException", "already exists")

    cloud.create_event_source_mapping = lost_answer
    outcome = manager(cloud).present(MappingSettings())
    assert cloud.writes() == ["create", "update"]
    assert outcome.mapping["batch_size"] == 10
    assert len(cloud.mappings) == 1


def test_the_permission_of_a_new_role_is_waited_for():
    cloud = Lambda()
    cloud.refusals["create"] = [refusal("InvalidParameterValueException", NO_PERMISSION)] * 3
    assert manager(cloud).present(MappingSettings()).changed
    assert cloud.writes() == ["create"] * 4


def test_a_permission_that_never_comes_is_named_with_the_actions_to_allow():
    cloud, time = Lambda(), Time()
    cloud.refusals["create"] = [refusal("InvalidParameterValueException", NO_PERMISSION)] * 1000
    with pytest.raises(MappingError, match="sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes"):
        manager(cloud, time).present(MappingSettings())
    assert PERMISSION_PATIENCE_SECONDS <= time.now < PERMISSION_PATIENCE_SECONDS + 2 * LONGEST_PAUSE


def test_any_other_invalid_parameter_is_raised_at_once():
    cloud, time = Lambda(), Time()
    cloud.refusals["create"] = [
        refusal("InvalidParameterValueException", "Queue visibility timeout: 30 seconds is less than Function timeout")
    ]
    with pytest.raises(ClientError, match="visibility timeout"):
        manager(cloud, time).present(MappingSettings())
    assert time.pauses == []


def test_a_missing_function_is_named():
    cloud = Lambda()
    cloud.refusals["create"] = [refusal("ResourceNotFoundException", "Function not found")]
    with pytest.raises(MappingError, match=f"{FUNCTION} does not exist: deploy it"):
        manager(cloud).present(MappingSettings())


def test_a_state_that_never_comes_ends_in_an_error_after_the_timeout():
    cloud, time = Lambda(mapping(State="Updating"), calls_to_settle=10**6), Time()
    with pytest.raises(MappingError, match=r"Waited 90 seconds .*FinancialTransactionQueue.*Run again when it has settled"):
        manager(cloud, time, wait_timeout=90).present(MappingSettings(batch_size=5))
    assert time.now == pytest.approx(90)


def test_pauses_grow_up_to_a_bound():
    cloud, time = Lambda(mapping(State="Updating"), calls_to_settle=20), Time()
    manager(cloud, time).present(MappingSettings())
    assert time.pauses == sorted(time.pauses)
    assert time.pauses[0] < 1
    assert time.pauses[-1] == LONGEST_PAUSE


def test_a_read_that_still_shows_the_old_settings_is_not_taken_for_the_result():
    cloud = Lambda(mapping(BatchSize=5))
    stale = [mapping(BatchSize=5)] * 3
    fresh = cloud.get_event_source_mapping
    cloud.get_event_source_mapping = lambda UUID: stale.pop() if stale else fresh(UUID)
    assert manager(cloud).present(MappingSettings()).mapping["batch_size"] == 10


# --- check mode ------------------------------------------------------------------------------------------------------------------


def test_check_mode_on_an_empty_cloud_says_it_would_create():
    cloud = Lambda()
    outcome = manager(cloud, check_mode=True).present(MappingSettings())
    assert outcome.changed
    assert outcome.mapping is None
    assert outcome.after["batch_size"] == 10
    assert cloud.writes() == []


def test_check_mode_says_what_it_would_change_and_delete_and_does_neither():
    cloud = Lambda(mapping(BatchSize=5), mapping("two", BatchSize=5))
    outcome = manager(cloud, check_mode=True).present(MappingSettings())
    assert outcome.before == {"batch_size": 5, "extra_mappings": ["two"]}
    assert outcome.after == {"batch_size": 10, "extra_mappings": []}
    assert cloud.writes() == []


def test_check_mode_says_it_would_delete_and_does_not():
    cloud = Lambda(mapping())
    assert manager(cloud, check_mode=True).absent().changed
    assert cloud.writes() == []


# --- absent ----------------------------------------------------------------------------------------------------------------------


def test_absent_deletes_every_mapping_of_the_pair_and_waits_until_they_are_gone():
    cloud = Lambda(mapping(), mapping("two", FunctionArn=f"{FUNCTION}:live"), mapping("theirs", FunctionArn=OTHER_FUNCTION))
    outcome = manager(cloud).absent()
    assert outcome.deleted == ["one", "two"]
    assert list(cloud.mappings) == ["theirs"]
    assert [found["uuid"] for found in outcome.before["mappings"]] == ["one", "two"]
    assert outcome.after == {"mappings": []}


def test_absent_a_second_time_changes_nothing():
    cloud = Lambda(mapping())
    manager(cloud).absent()
    assert not manager(cloud).absent().changed


def test_absent_waits_out_a_deletion_that_somebody_else_began():
    cloud = Lambda(mapping(State="Deleting"), calls_to_settle=5)
    assert not manager(cloud).absent().changed
    assert cloud.mappings == {}


def test_absent_of_a_mapping_in_transition_waits_for_it():
    cloud = Lambda(mapping(State="Creating"), calls_to_settle=3)
    assert manager(cloud).absent().changed is True
    assert cloud.mappings == {}


def test_a_mapping_that_vanishes_before_its_deletion_is_fine():
    cloud = Lambda(mapping())
    cloud.refusals["delete"] = [refusal("ResourceNotFoundException")]
    cloud.get_event_source_mapping = lambda UUID: (_ for _ in ()).throw(refusal("ResourceNotFoundException"))
    assert manager(cloud).absent().changed


# --- what AWS refuses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, but AWS takes 1 to 10000"),
        ({"batch_size": 10_001, "maximum_batching_window": 1}, "batch_size is 10001"),
        ({"batch_size": 11}, "AWS refuses a batch over 10 without a window"),
        ({"maximum_batching_window": 301}, "maximum_batching_window is 301"),
        ({"maximum_concurrency": 1}, "maximum_concurrency is 1, but AWS takes 2 to 1000"),
    ],
)
def test_settings_that_aws_refuses_are_refused_before_any_call(settings: dict[str, Any], message: str):
    with pytest.raises(MappingError, match=message):
        manager(None).present(MappingSettings(**settings))


@pytest.mark.parametrize("settings", [{"batch_size": 11, "maximum_batching_window": 1}, {"batch_size": 10}, {"maximum_concurrency": 2}])
def test_settings_at_the_limits_are_taken(settings: dict[str, Any]):
    assert manager(Lambda(), check_mode=True).present(MappingSettings(**settings)).changed


@pytest.mark.parametrize(
    ("function", "queue", "message"),
    [("ProcessFinancialStream", QUEUE, "not the ARN of a Lambda function"), (FUNCTION, FUNCTION, "not the ARN of an SQS queue")],
)
def test_a_name_instead_of_an_arn_is_refused(function: str, queue: str, message: str):
    with pytest.raises(MappingError, match=message):
        MappingManager(None, function, queue, Time().clock)


# --- the real API's shapes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def emulated():
    """A Lambda client of moto, with the queue and the function deployed."""
    with mock_aws(config={"lambda": {"use_docker": False}}):
        trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
        role = boto3.client("iam", region_name="us-east-1").create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(trust))
        boto3.client("sqs", region_name="us-east-1").create_queue(QueueName="FinancialTransactionQueue")
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            package.writestr("lambda_function.py", "def lambda_handler(event, context): pass")
        client = boto3.client("lambda", region_name="us-east-1")
        client.create_function(
            FunctionName="ProcessFinancialStream",
            Runtime="python3.13",
            Role=role["Role"]["Arn"],
            Handler="lambda_function.lambda_handler",
            Code={"ZipFile": archive.getvalue()},
        )
        yield client


def test_an_emulated_mapping_is_created_changed_and_removed(emulated: Any):
    created = manager(emulated).present(MappingSettings(batch_size=20, maximum_batching_window=1, maximum_concurrency=4))
    unchanged = manager(emulated).present(MappingSettings(batch_size=20, maximum_batching_window=1, maximum_concurrency=4))
    updated = manager(emulated).present(MappingSettings(batch_size=10, enabled=False))
    removed = manager(emulated).absent()
    assert [created.changed, unchanged.changed, updated.changed, removed.changed] == [True, False, True, True]
    assert (updated.mapping["maximum_concurrency"], updated.mapping["state"]) == (None, "Disabled")
    assert emulated.list_event_source_mappings()["EventSourceMappings"] == []
