"""Mappings that Lambda refuses, and those it takes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from refusals import CONSUME, REGION, give, in_time, make_function, make_queue, make_role, refusal, root, unique

IN_USE = "because it is in use."


@pytest.fixture(scope="module")
def function(embedded_cloud: Any) -> str:
    """A function with a timeout of 60 seconds, whose role may consume any queue."""
    return make_function(embedded_cloud, make_role(embedded_cloud, actions=CONSUME), Timeout=60)


def mapping(cloud: Any, function: str, queue_arn: str, **options: Any) -> dict[str, Any]:
    request = {"FunctionName": function, "EventSourceArn": queue_arn, "Enabled": False} | options
    found: dict[str, Any] = root(cloud, "lambda").create_event_source_mapping(**request)
    return found


def test_visibility_below_the_functions_timeout_is_refused(embedded_cloud: Any, function: str):
    _url, arn = make_queue(embedded_cloud, VisibilityTimeout="59")
    expected = "Queue visibility timeout: 59 seconds is less than Function timeout: 60 seconds"
    assert refusal(lambda: mapping(embedded_cloud, function, arn)) == ("InvalidParameterValueException", expected)


def test_visibility_of_the_functions_timeout_is_taken(embedded_cloud: Any, function: str):
    _url, arn = make_queue(embedded_cloud, VisibilityTimeout="60")
    assert mapping(embedded_cloud, function, arn)["EventSourceArn"] == arn


def test_an_update_is_refused_when_visibility_fell_below_the_functions_timeout(embedded_cloud: Any, function: str):
    url, arn = make_queue(embedded_cloud, VisibilityTimeout="60")
    made = mapping(embedded_cloud, function, arn)
    root(embedded_cloud, "sqs").set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "30"})
    code, text = refusal(lambda: root(embedded_cloud, "lambda").update_event_source_mapping(UUID=made["UUID"], BatchSize=5))
    assert (code, text[:34]) == ("InvalidParameterValueException", "Queue visibility timeout: 30 secon")


@pytest.mark.parametrize("window", [{}, {"MaximumBatchingWindowInSeconds": 0}], ids=["no-window", "window-of-0"])
def test_a_batch_over_ten_without_a_window_is_refused(embedded_cloud: Any, function: str, window: dict[str, int]):
    _url, arn = make_queue(embedded_cloud, VisibilityTimeout="60")
    expected = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
    call = lambda: mapping(embedded_cloud, function, arn, BatchSize=11, **window)  # noqa: E731
    assert refusal(call) == ("InvalidParameterValueException", expected)


@pytest.mark.parametrize(
    "options",
    [
        {"BatchSize": 10},
        {"BatchSize": 11, "MaximumBatchingWindowInSeconds": 1},
        {"BatchSize": 10_000, "MaximumBatchingWindowInSeconds": 300},
    ],
)
def test_a_batch_of_ten_or_with_a_window_is_taken(embedded_cloud: Any, function: str, options: dict[str, int]):
    _url, arn = make_queue(embedded_cloud, VisibilityTimeout="60")
    assert mapping(embedded_cloud, function, arn, **options)["BatchSize"] == options["BatchSize"]


def test_an_update_is_refused_that_leaves_a_batch_over_ten_without_its_window(embedded_cloud: Any, function: str):
    _url, arn = make_queue(embedded_cloud, VisibilityTimeout="60")
    made = mapping(embedded_cloud, function, arn, BatchSize=100, MaximumBatchingWindowInSeconds=1)
    update = {"UUID": made["UUID"], "MaximumBatchingWindowInSeconds": 0}
    code, text = refusal(lambda: root(embedded_cloud, "lambda").update_event_source_mapping(**update))
    assert (code, text[:20]) == ("InvalidParameterValueException", "Maximum batch window")


def test_a_batch_over_10000_is_refused(embedded_cloud: Any, function: str):
    _url, arn = make_queue(embedded_cloud, VisibilityTimeout="60")
    code, text = refusal(lambda: mapping(embedded_cloud, function, arn, BatchSize=10_001, MaximumBatchingWindowInSeconds=5))
    assert code == "ValidationException"
    assert text.endswith("Member must have value less than or equal to 10000")


def test_a_missing_queue_is_refused(embedded_cloud: Any, function: str):
    arn = f"arn:aws:sqs:{REGION}:000000000000:{unique('none')}"
    code, text = refusal(lambda: mapping(embedded_cloud, function, arn))
    assert code == "InvalidParameterValueException"
    assert "AWS.SimpleQueueService.NonExistentQueue" in text


@pytest.mark.parametrize("missing", CONSUME)
def test_a_role_that_may_not_consume_the_queue_is_refused(embedded_cloud: Any, missing: str):
    role = make_role(embedded_cloud, actions=[action for action in CONSUME if action != missing])
    name = make_function(embedded_cloud, role)
    _url, arn = make_queue(embedded_cloud)
    action = missing.removeprefix("sqs:")
    expected = f"The provided execution role does not have permissions to call {action} on SQS"

    assert refusal(lambda: mapping(embedded_cloud, name, arn)) == ("InvalidParameterValueException", expected)

    give(embedded_cloud, role, CONSUME)
    assert mapping(embedded_cloud, name, arn)["State"] == "Disabled"


def test_permissions_that_lambda_has_not_seen_yet_are_refused_for_a_while(slow_cloud: Any):
    role = make_role(slow_cloud)
    name = make_function(slow_cloud, role)
    _url, arn = make_queue(slow_cloud)
    give(slow_cloud, role, CONSUME)
    code, text = refusal(lambda: mapping(slow_cloud, name, arn))
    assert (code, text[-36:]) == ("InvalidParameterValueException", "permissions to call ReceiveMessage on SQS"[-36:])
    assert in_time(lambda: mapping(slow_cloud, name, arn), code)["UUID"]


def test_a_mapping_can_be_changed_and_deleted_only_when_it_was_made_changed_or_deleted_a_while_ago(slow_cloud: Any):
    client = root(slow_cloud, "lambda")
    name = make_function(slow_cloud, make_role(slow_cloud, actions=CONSUME))
    _url, arn = make_queue(slow_cloud)
    made = in_time(lambda: mapping(slow_cloud, name, arn), "InvalidParameterValueException")
    one = {"UUID": made["UUID"]}

    assert made["State"] == "Creating"
    assert refusal(lambda: client.update_event_source_mapping(**one, BatchSize=5)) == (
        "ResourceInUseException",
        f"Cannot update the event source mapping {IN_USE}",
    )
    assert in_time(lambda: client.update_event_source_mapping(**one, Enabled=True), "ResourceInUseException")["State"] == "Enabling"
    assert refusal(lambda: client.delete_event_source_mapping(**one)) == (
        "ResourceInUseException",
        f"Cannot delete the event source mapping {IN_USE}",
    )
    assert in_time(lambda: client.delete_event_source_mapping(**one), "ResourceInUseException")["State"] == "Deleting"
    assert client.get_event_source_mapping(**one)["State"] == "Deleting"
    assert [found["State"] for found in client.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]] == ["Deleting"]
    assert client.list_event_source_mappings(FunctionName=unique("other"))["EventSourceMappings"] == []
    assert refusal(lambda: client.delete_event_source_mapping(**one))[0] == "ResourceInUseException"
    wait_until_absent(client, made["UUID"])
    assert client.list_event_source_mappings(FunctionName=name)["EventSourceMappings"] == []


def wait_until_absent(client: Any, uuid: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            client.get_event_source_mapping(UUID=uuid)
        except client.exceptions.ResourceNotFoundException:
            return
        time.sleep(0.05)
    raise AssertionError("the mapping is still being deleted")
