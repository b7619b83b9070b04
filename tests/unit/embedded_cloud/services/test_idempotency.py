"""A call made again after its answer was lost makes nothing twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import CONSUME, make_function, make_queue, make_role


def run_instance(cloud: Any, token: str, **parameters: Any) -> dict[str, Any]:
    wanted = {"ImageId": "ami-03cf127a", "MinCount": 1, "MaxCount": 1, "ClientToken": token} | parameters
    return cloud.client("ec2").run_instances(**wanted)["Instances"][0]


def test_run_instances_answers_a_token_it_knows_with_the_same_instance(embedded_cloud):
    first = run_instance(embedded_cloud, "again", InstanceType="t3.micro")
    again = run_instance(embedded_cloud, "again", InstanceType="t3.micro")
    other = run_instance(embedded_cloud, "another", InstanceType="t3.micro")
    assert again["InstanceId"] == first["InstanceId"]
    assert other["InstanceId"] != first["InstanceId"]


def test_run_instances_with_a_token_makes_one_instance_for_two_calls_at_once(embedded_cloud):
    with ThreadPoolExecutor(4) as callers:
        made = list(callers.map(lambda _: run_instance(embedded_cloud, "at once"), range(4)))
    assert len({instance["InstanceId"] for instance in made}) == 1


def test_a_token_with_other_parameters_is_refused(embedded_cloud):
    run_instance(embedded_cloud, "differs", InstanceType="t3.micro")
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        run_instance(embedded_cloud, "differs", InstanceType="t3.small")


def test_a_token_of_a_call_that_was_refused_may_be_used_again(embedded_cloud):
    with pytest.raises(ClientError):
        run_instance(embedded_cloud, "refused", SubnetId="subnet-unknown")
    assert run_instance(embedded_cloud, "refused")["InstanceId"]


def test_a_second_mapping_of_a_queue_and_a_function_is_refused_with_the_id_of_the_first(embedded_cloud):
    function = make_function(embedded_cloud, make_role(embedded_cloud, actions=CONSUME), Publish=True)
    _url, queue = make_queue(embedded_cloud)
    client = embedded_cloud.client("lambda")
    wanted = {"FunctionName": function, "EventSourceArn": queue, "BatchSize": 1}
    made = client.create_event_source_mapping(**wanted)
    with pytest.raises(ClientError, match=f"already exists.*{made['UUID']}") as refused:
        client.create_event_source_mapping(**wanted | {"FunctionName": made["FunctionArn"], "BatchSize": 2})
    assert refused.value.response["Error"]["Code"] == "ResourceConflictException"
    assert client.create_event_source_mapping(**wanted | {"FunctionName": f"{function}:1"})["UUID"] != made["UUID"]
