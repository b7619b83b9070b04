"""What a teardown would destroy is counted, what is absent is reported as absent, and nothing is changed."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.export.data_info import count_items, find_instances, table_line, users_of_group
from aws_fakes import make_table
from botocore.exceptions import ClientError
from fakes import client_error


@pytest.fixture
def dynamodb(aws: None) -> Any:
    return boto3.client("dynamodb", "us-east-1")


def fill_table(client: Any, items: int) -> None:
    make_table(client, "T")
    for number in range(items):
        client.put_item(TableName="T", Item={"transaction_id": {"S": str(number)}})


def test_items_are_counted_by_a_call_that_reads_none(dynamodb: Any) -> None:
    fill_table(dynamodb, 3)

    assert count_items(dynamodb, "T") == {"name": "T", "state": "present", "item_count": 3, "protected": False}


def test_a_table_that_may_not_be_deleted_is_known(dynamodb: Any) -> None:
    fill_table(dynamodb, 0)
    dynamodb.update_table(TableName="T", DeletionProtectionEnabled=True)

    assert count_items(dynamodb, "T")["protected"] is True


def test_an_absent_table_is_absent(dynamodb: Any) -> None:
    assert table_line(count_items(dynamodb, "T")) == "table T: absent"


@pytest.mark.parametrize(("count", "words"), [(0, "about 0 items"), (1, "about 1 item"), (1234, "about 1,234 items")])
def test_numbers_of_items_read_well(count: int, words: str) -> None:
    assert table_line({"name": "T", "state": "present", "item_count": count}) == f"table T: {words}"


def test_a_table_that_may_not_be_read_is_not_taken_for_absent(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> Any:
        raise client_error("AccessDenied", "DescribeTable")

    monkeypatch.setattr(dynamodb, "describe_table", refused)
    with pytest.raises(ClientError):
        count_items(dynamodb, "T")


@pytest.fixture
def ec2(aws: None) -> Any:
    return boto3.client("ec2", "us-east-1")


def launch(ec2: Any, name: str, group: str) -> str:
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SecurityGroupIds=[group], TagSpecifications=tags)
    return made["Instances"][0]["InstanceId"]


def make_group(ec2: Any, name: str) -> str:
    return ec2.create_security_group(GroupName=name, Description="of a test")["GroupId"]


def test_instances_that_are_stopped_are_found_and_those_that_are_terminated_are_not(ec2: Any) -> None:
    group = make_group(ec2, "ours")
    runs, stopped, gone = (launch(ec2, "ours", group) for _ in range(3))
    launch(ec2, "another", group)
    ec2.stop_instances(InstanceIds=[stopped])
    ec2.terminate_instances(InstanceIds=[gone])

    found = find_instances(ec2, "ours")

    assert {one["id"]: one["state"] for one in found} == {runs: "running", stopped: "stopped"}
    assert f"instance {stopped}: stopped" in [one["line"] for one in found]


def test_what_else_uses_the_security_group_is_named(ec2: Any) -> None:
    ours, another, third = (make_group(ec2, name) for name in ("ours", "another", "third"))
    launch(ec2, "ours", ours)
    instances = find_instances(ec2, "ours")
    assert users_of_group(ec2, "ours", instances) == []

    launch(ec2, "another", ours)
    pair = [{"GroupId": ours}]
    ec2.authorize_security_group_ingress(
        GroupId=another, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": pair}]
    )
    ec2.authorize_security_group_egress(
        GroupId=third, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": pair}]
    )

    users = users_of_group(ec2, "ours", instances)

    assert [user for user in users if user.startswith("eni-")] == users[2:] != []
    assert sorted(users[:2]) == sorted([f"a rule of {another}", f"a rule of {third}"])


def test_a_group_that_is_not_there_is_used_by_nothing(ec2: Any) -> None:
    assert users_of_group(ec2, "ours", []) == []
