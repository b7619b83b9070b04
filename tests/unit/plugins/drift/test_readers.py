"""Each reader against an emulated AWS: what was deployed is found, and one change is exactly one difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.pipeline.drift.compare import TYPES, compare
from botocore.exceptions import ClientError
from drift_fakes import (
    DEAD_LETTER_ARN,
    DEPLOY,
    DEPLOYED,
    FUNCTION_ARN,
    OTHER_KEY,
    POLICY_ARN,
    PUBLISH,
    QUEUE_ARN,
    ROLE_ARN,
    SEND,
    TAGS,
    TOPIC_ARN,
    TRUST,
    Cloud,
    change_queue,
    deploy,
    import_key,
    launch,
    package,
    put_alarm,
)
from moto import mock_aws


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # loading them takes seconds, and any image will do
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield Cloud()


def resources(family: str) -> list[dict[str, Any]]:
    return [{"type": kind, "name": name, "expected": expected} for kind, (name, expected) in DEPLOYED[family].items()]


def differing(cloud: Cloud, family: str) -> list[str]:
    drift = compare(resources(family), cloud.clients, default_remedy="")
    assert drift.unreadable == []
    return [f"{difference['resource']}: {difference['property']}" for difference in drift.differences]


def test_every_type_is_tried_with_nearly_every_property():
    # moto knows no log group of a function and no redrive allowance; a hash and a VPC are no constants.
    left_out = {
        "lambda_function": {"log_group", "code_sha256", "alias"},
        "security_group": {"vpc_id"},
        "sqs_queue": {"redrive_allow_policy"},
        "ec2_instances": {"instance_profile_id"},  # it shows the id of the association
    }
    tried = {kind: set(expected) | left_out.get(kind, set()) for family in DEPLOYED.values() for kind, (_, expected) in family.items()}
    assert tried == {kind: set(description.properties) for kind, description in TYPES.items()}


@pytest.mark.parametrize("family", DEPLOYED)
def test_what_was_deployed_is_found_as_expected(cloud: Cloud, family: str):
    deploy(cloud, family)
    assert differing(cloud, family) == []


@pytest.mark.parametrize("family", DEPLOYED)
def test_on_an_empty_cloud_every_resource_is_missing(cloud: Cloud, family: str):
    drift = compare(resources(family), cloud.clients, default_remedy="")
    always_there = [check["check"] for check in drift.checks if check["check"].startswith("alarms ")]
    assert [check["found"] for check in drift.checks if check["check"] not in always_there] == ["missing"] * len(
        [kind for kind in DEPLOYED[family] if kind != "cloudwatch_alarms"]
    )
    assert drift.unreadable == []


def share_with_another_version(cloud: Cloud) -> None:
    cloud.lambda_.update_function_configuration(FunctionName="f", MemorySize=512)
    cloud.lambda_.publish_version(FunctionName="f")
    cloud.lambda_.update_function_configuration(FunctionName="f", MemorySize=256)
    cloud.lambda_.update_alias(FunctionName="f", Name="live", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})


# By family: the difference that a change makes, and the change.
def replace_key(cloud: Cloud) -> None:
    cloud.ec2.delete_key_pair(KeyName="k")
    import_key(cloud, OTHER_KEY)


CHANGES: dict[str, dict[str, Callable[[Cloud], Any]]] = {
    "iam": {
        "role r: trust_policy": lambda cloud: cloud.iam.update_assume_role_policy(
            RoleName="r", PolicyDocument=json.dumps(TRUST).replace("lambda.", "ecs.")
        ),
        "role r: managed_policies": lambda cloud: cloud.iam.attach_role_policy(
            RoleName="r", PolicyArn=cloud.iam.create_policy(PolicyName="extra", PolicyDocument=json.dumps(SEND))["Policy"]["Arn"]
        ),
        "role r: inline_policies": lambda cloud: cloud.iam.put_role_policy(
            RoleName="r", PolicyName="extra", PolicyDocument=json.dumps(SEND)
        ),
        "role r: max_session_duration": lambda cloud: cloud.iam.update_role(RoleName="r", Description="Sends", MaxSessionDuration=7200),
        "role r: permissions_boundary": lambda cloud: cloud.iam.put_role_permissions_boundary(RoleName="r", PermissionsBoundary=POLICY_ARN),
        "role r: tags": lambda cloud: cloud.iam.untag_role(RoleName="r", TagKeys=["environment"]),
        "policy p: document": lambda cloud: cloud.iam.create_policy_version(
            PolicyArn=POLICY_ARN, PolicyDocument=json.dumps(SEND).replace("SendMessage", "*"), SetAsDefault=True
        ),
        "instance profile r: roles": lambda cloud: cloud.iam.remove_role_from_instance_profile(InstanceProfileName="r", RoleName="r"),
    },
    "data": {
        "table transactions: write_capacity": lambda cloud: cloud.dynamodb.update_table(
            TableName="transactions", ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
        ),
        "table transactions: stream_enabled": lambda cloud: cloud.dynamodb.update_table(
            TableName="transactions", StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        ),
        "table transactions: deletion_protection": lambda cloud: cloud.dynamodb.update_table(
            TableName="transactions", DeletionProtectionEnabled=True
        ),
        "table transactions: exists": lambda cloud: cloud.dynamodb.delete_table(TableName="transactions"),
        "queue q: redrive_policy": lambda cloud: change_queue(cloud, RedrivePolicy=""),
        "queue q: policy": lambda cloud: change_queue(cloud, Policy=""),
        "queue q: sse": lambda cloud: change_queue(cloud, SqsManagedSseEnabled="false"),
        "queue q: visibility_timeout": lambda cloud: change_queue(cloud, VisibilityTimeout="30"),
        "queue q: tags": lambda cloud: cloud.sqs.tag_queue(QueueUrl=cloud.url("q"), Tags={"extra": "tag"}),
    },
    "function": {
        "function f: environment": lambda cloud: cloud.lambda_.update_function_configuration(
            FunctionName="f", Environment={"Variables": {"TABLE_NAME": "other"}}
        ),
        "function f: reserved_concurrency": lambda cloud: cloud.lambda_.put_function_concurrency(
            FunctionName="f", ReservedConcurrentExecutions=1
        ),
        "mapping f: state": lambda cloud: cloud.lambda_.update_event_source_mapping(UUID=cloud.mapping_id(), Enabled=False),
        "mapping f: filters": lambda cloud: cloud.lambda_.update_event_source_mapping(
            UUID=cloud.mapping_id(), FilterCriteria={"Filters": [{"Pattern": "{}"}]}
        ),
        "mapping f: function_response_types": lambda cloud: cloud.lambda_.update_event_source_mapping(
            UUID=cloud.mapping_id(), FunctionResponseTypes=[]
        ),
        "mapping f: exists": lambda cloud: cloud.lambda_.delete_event_source_mapping(UUID=cloud.mapping_id()),
    },
    "release": {
        "alias f:live: exists": lambda cloud: cloud.lambda_.delete_alias(FunctionName="f", Name="live"),
        "alias f:live: checked": lambda cloud: cloud.lambda_.update_alias(FunctionName="f", Name="live", Description="somebody's"),
        "alias f:live: latest_differs_in": lambda cloud: cloud.lambda_.update_function_configuration(FunctionName="f", MemorySize=512),
        "alias f:live: weights": share_with_another_version,
    },
    "monitoring": {
        "log group /aws/lambda/f: retention_in_days": lambda cloud: cloud.logs.delete_retention_policy(logGroupName="/aws/lambda/f"),
        "log group /aws/lambda/f: metric_filters": lambda cloud: cloud.logs.put_metric_filter(
            logGroupName="/aws/lambda/f",
            filterName="extra",
            filterPattern="ERROR",
            metricTransformations=[{"metricName": "m", "metricNamespace": "n", "metricValue": "1"}],
        ),
        "log group /aws/lambda/f: exists": lambda cloud: cloud.logs.delete_log_group(logGroupName="/aws/lambda/f"),
        "alarm f-dead-letters: threshold": lambda cloud: put_alarm(cloud, Threshold=0.5),
        "alarm f-dead-letters: dimensions": lambda cloud: put_alarm(cloud, Dimensions=[{"Name": "QueueName", "Value": "q"}]),
        "alarm f-dead-letters: actions_enabled": lambda cloud: put_alarm(cloud, ActionsEnabled=False),
        "alarm f-dead-letters: alarm_actions": lambda cloud: put_alarm(cloud, AlarmActions=[TOPIC_ARN]),
        "alarm f-dead-letters: ok_actions": lambda cloud: put_alarm(cloud, OKActions=[TOPIC_ARN]),
        "topic alarms: policy": lambda cloud: cloud.sns.set_topic_attributes(
            TopicArn=TOPIC_ARN, AttributeName="Policy", AttributeValue=json.dumps(PUBLISH).replace("cloudwatch", "s3")
        ),
        "topic alarms: subscriptions": lambda cloud: cloud.sns.subscribe(
            TopicArn=TOPIC_ARN, Protocol="email", Endpoint="other@example.com"
        ),
        "topic alarms: tags": lambda cloud: cloud.sns.untag_resource(ResourceArn=TOPIC_ARN, TagKeys=["environment"]),
        "topic alarms: exists": lambda cloud: cloud.sns.delete_topic(TopicArn=TOPIC_ARN),
        "alarms f-: names": lambda cloud: put_alarm(cloud, AlarmName="f-extra"),
    },
    "instance": {
        "security group g: ingress": lambda cloud: cloud.ec2.authorize_security_group_ingress(
            GroupId=cloud.group_id(),
            IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}],
        ),
        "security group g: egress": lambda cloud: cloud.ec2.revoke_security_group_egress(
            GroupId=cloud.group_id(), IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        ),
        "instance producer: state": lambda cloud: cloud.ec2.stop_instances(InstanceIds=cloud.instance_ids()),
        "instance producer: exists": lambda cloud: cloud.ec2.terminate_instances(InstanceIds=cloud.instance_ids()),
        "instance producer: http_tokens": lambda cloud: cloud.ec2.modify_instance_metadata_options(
            InstanceId=cloud.instance_ids()[0], HttpTokens="optional", HttpPutResponseHopLimit=1
        ),
        "instance producer: tags": lambda cloud: cloud.ec2.create_tags(
            Resources=cloud.instance_ids(), Tags=[{"Key": "extra", "Value": "tag"}]
        ),
        "key pair k: exists": lambda cloud: cloud.ec2.delete_key_pair(KeyName="k"),
        "key pair k: public_key": replace_key,
    },
}


@pytest.mark.parametrize(("family", "difference"), [(family, difference) for family, changes in CHANGES.items() for difference in changes])
def test_one_change_is_one_difference(cloud: Cloud, family: str, difference: str):
    deploy(cloud, family)
    CHANGES[family][difference](cloud)
    assert differing(cloud, family) == [difference]


def test_a_second_mapping_of_the_queue_is_found_whatever_its_function(cloud: Cloud):
    deploy(cloud, "function")
    cloud.lambda_.create_function(
        FunctionName="other", Runtime="python3.13", Role=ROLE_ARN, Handler="x.y", Code={"ZipFile": package("return 1")}
    )
    cloud.lambda_.create_event_source_mapping(
        FunctionName="other",
        EventSourceArn=QUEUE_ARN,
        MaximumBatchingWindowInSeconds=1,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 5},
    )
    assert differing(cloud, "function") == ["mapping f: count", "mapping f: function_arn"]


def test_a_mapping_of_the_function_to_another_queue_is_found_too(cloud: Cloud):
    deploy(cloud, "function")
    cloud.lambda_.create_event_source_mapping(FunctionName="f", EventSourceArn=DEAD_LETTER_ARN, MaximumBatchingWindowInSeconds=1)
    assert "mapping f: count" in differing(cloud, "function")


def test_a_second_instance_of_the_name_is_found(cloud: Cloud):
    deploy(cloud, "instance")
    launch(cloud, instance_type="t3.micro")
    assert differing(cloud, "instance") == ["instance producer: count", "instance producer: instance_type"]


def test_the_only_volume_is_the_root_whatever_the_image_calls_it(cloud: Cloud):
    deploy(cloud, "instance")
    cloud.ec2.terminate_instances(InstanceIds=cloud.instance_ids())
    launch(cloud, root_device="/dev/xvda")
    assert differing(cloud, "instance") == []


def test_of_several_volumes_none_is_taken_for_a_root_that_is_not_named(cloud: Cloud):
    deploy(cloud, "instance")
    cloud.ec2.terminate_instances(InstanceIds=cloud.instance_ids())
    launch(cloud, root_device="/dev/xvda")
    cloud.attach_data_volume()
    assert [name.rpartition(" ")[2] for name in differing(cloud, "instance")] == [
        "root_volume_type",
        "root_volume_encrypted",
        "root_volume_size",
    ]


def test_a_source_that_is_a_group_is_found(cloud: Cloud):
    deploy(cloud, "instance")
    itself = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": cloud.group_id()}]}
    cloud.ec2.authorize_security_group_ingress(GroupId=cloud.group_id(), IpPermissions=[itself])
    assert differing(cloud, "instance") == ["security group g: ingress"]


@pytest.mark.parametrize(
    ("kind", "operation"), [("iam_role", "get_role"), ("lambda_function", "get_function"), ("sqs_queue", "get_queue_url")]
)
def test_a_refused_read_is_not_taken_for_a_missing_resource(kind: str, operation: str):
    class Refusing:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def refuse(**_: Any) -> Any:
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": f"may not {name}"}}, name)

            return refuse

    clients = dict.fromkeys(("iam", "lambda", "sqs"), Refusing())
    drift = compare([{"type": kind, "name": "x"}], clients, default_remedy="")
    assert [check["found"] for check in drift.checks] == [f"AccessDenied: may not {operation}"]


def test_behind_an_alias_its_version_is_compared_and_not_the_latest(cloud: Cloud):
    """So the memory of the version that is live differs from the 512 that $LATEST has, and tags are the function's."""
    deploy(cloud, "release")
    cloud.lambda_.update_function_configuration(FunctionName="f", MemorySize=512)
    function = {"type": "lambda_function", "name": "f", "expected": {"alias": "live", "memory_size": 256, "tags": TAGS}}
    assert compare([function], cloud.clients, default_remedy="").differences == []
    cloud.lambda_.delete_alias(FunctionName="f", Name="live")
    assert compare([function], cloud.clients, default_remedy="").before == {"function f": {"memory_size": 512}}


def test_an_alias_that_was_moved_by_hand_is_told_from_one_that_was_released(cloud: Cloud):
    deploy(cloud, "release")
    cloud.lambda_.update_function_configuration(FunctionName="f", MemorySize=512)
    cloud.lambda_.publish_version(FunctionName="f")
    cloud.lambda_.update_alias(FunctionName="f", Name="live", FunctionVersion="2")
    alias = {"type": "lambda_alias", "name": "f:live", "expected": {"checked": "yes"}}
    assert compare([alias], cloud.clients, default_remedy="").before == {"alias f:live": {"checked": "no, moved by hand from 1"}}


def test_an_alias_that_follows_the_latest_is_no_release(cloud: Cloud):
    deploy(cloud, "release")
    cloud.lambda_.update_alias(FunctionName="f", Name="live", FunctionVersion="$LATEST")
    alias = {"type": "lambda_alias", "name": "f:live", "expected": {"published": True}}
    assert compare([alias], cloud.clients, default_remedy="").before == {"alias f:live": {"published": False}}


def test_a_role_that_was_made_again_is_another_one_though_it_has_the_same_name(cloud: Cloud):
    deploy(cloud, "function")
    function = {"type": "lambda_function", "name": "f", "expected": {"role": ROLE_ARN, "role_id": "current"}}
    was = cloud.iam.get_role(RoleName="r")["Role"]["RoleId"]
    recreate_role(cloud)
    now = cloud.iam.get_role(RoleName="r")["Role"]["RoleId"]
    assert compare([function], cloud.clients, default_remedy="").before == {"function f": {"role_id": f"{was}, and it is {now} now"}}
    cloud.lambda_.untag_resource(Resource=FUNCTION_ARN, TagKeys=["RoleId"])
    assert compare([function], cloud.clients, default_remedy="").before == {"function f": {"role_id": f"none, and it is {now} now"}}


def recreate_role(cloud: Cloud) -> None:
    cloud.iam.remove_role_from_instance_profile(InstanceProfileName="r", RoleName="r")
    cloud.iam.detach_role_policy(RoleName="r", PolicyArn=POLICY_ARN)
    cloud.iam.delete_role(RoleName="r")
    cloud.iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST))


def test_changed_code_of_a_function_is_found(cloud: Cloud):
    deploy(cloud, "function")

    def hash_drift(expected: str) -> list[Any]:
        function = {"type": "lambda_function", "name": "f", "expected": {"code_sha256": expected}}
        return compare([function], cloud.clients, default_remedy="").differences

    deployed_hash = cloud.lambda_.get_function(FunctionName="f")["Configuration"]["CodeSha256"]
    assert hash_drift(deployed_hash) == []
    cloud.lambda_.update_function_code(FunctionName="f", ZipFile=package("return 1"))
    assert [difference["property"] for difference in hash_drift(deployed_hash)] == ["code_sha256"]


def test_a_group_is_looked_for_in_the_vpc_that_is_named(cloud: Cloud):
    deploy(cloud, "instance")
    elsewhere = cloud.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    group = {"type": "security_group", "name": "g", "expected": {"vpc_id": elsewhere}}
    assert [check["found"] for check in compare([group], cloud.clients, default_remedy="").checks] == ["missing"]


def test_a_queue_under_a_key_of_its_own_is_told_from_one_under_that_of_sqs(cloud: Cloud):
    deploy(cloud, "data")
    change_queue(cloud, KmsMasterKeyId="alias/aws/sqs")
    queue = {"type": "sqs_queue", "name": "q", "expected": {"sse": "SQS"}}
    assert compare([queue], cloud.clients, default_remedy="").before == {"queue q": {"sse": "KMS"}}


def test_only_the_calls_that_the_named_properties_need_are_made(cloud: Cloud):
    for family in ("iam", "monitoring", "instance"):
        DEPLOY[family](cloud)
    calls: list[str] = []
    for client in cloud.clients.values():
        client.meta.events.register("before-call.*.*", lambda model, **_: calls.append(model.name), unique_id="calls")
    wanted = [
        {"type": "iam_role", "name": "r", "expected": {"description": "Sends"}},
        {"type": "log_group", "name": "/aws/lambda/f", "expected": {"retention_in_days": 14}},
        {"type": "ec2_instances", "name": "producer", "expected": {"state": "running"}},
    ]
    compare(wanted, cloud.clients, default_remedy="")
    for client in cloud.clients.values():
        client.meta.events.unregister("before-call.*.*", unique_id="calls")
    assert sorted(calls) == ["DescribeInstances", "DescribeLogGroups", "GetRole"]


def test_who_may_use_a_queue_for_dead_letters_is_compared():
    class Sqs:
        get_queue_url = staticmethod(lambda QueueName: {"QueueUrl": QueueName})

        @staticmethod
        def get_queue_attributes(QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
            return {"Attributes": {"RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": ["b", "a"]})}}

    allowed = {"redrive_permission": "byQueue", "source_queue_arns": ["a", "b"]}
    queue = {"type": "sqs_queue", "name": "q", "expected": {"redrive_allow_policy": allowed}}
    assert compare([queue], {"sqs": Sqs()}, default_remedy="").differences == []


def test_an_address_that_nobody_confirmed_is_named(cloud: Cloud):
    """moto takes an address at once; AWS names `PendingConfirmation` where the subscription's ARN will be."""
    DEPLOY["monitoring"](cloud)
    pending = {"SubscriptionArn": "PendingConfirmation", "Protocol": "email", "Endpoint": "me@example.com"}

    class Sns:
        def __getattr__(self, name: str) -> Any:
            return getattr(cloud.sns, name)

        def get_paginator(self, operation: str) -> Any:
            if operation != "list_subscriptions_by_topic":
                return cloud.sns.get_paginator(operation)
            return SimpleNamespace(paginate=lambda **_: [{"Subscriptions": [pending]}])

    topic = {"type": "sns_topic", "name": "alarms", "expected": {"subscriptions": ["email:me@example.com"], "unconfirmed": []}}
    drift = compare([topic], {"sns": Sns()}, default_remedy="")
    assert [(one["property"], one["found"]) for one in drift.differences] == [("unconfirmed", ["email:me@example.com"])]


@pytest.mark.parametrize(("ago", "unsettled"), [(10, ["q"]), (70, [])], ids=["just-now", "long-ago"])
@pytest.mark.parametrize("delay", [0, 5], ids=["the-same", "different"])
def test_a_queue_that_differs_is_unsettled_for_as_long_as_a_change_may_take_to_show(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, ago: int, unsettled: list[str], delay: int
):
    DEPLOY["data"](cloud)
    attributes = cloud.sqs.get_queue_attributes(QueueUrl=cloud.url("q"), AttributeNames=["LastModifiedTimestamp"])["Attributes"]
    changed = float(attributes["LastModifiedTimestamp"])
    monkeypatch.setattr("ansible.module_utils.pipeline.drift.compare.time.time", lambda: changed + ago)
    queue = {"type": "sqs_queue", "name": "q", "expected": {"delay_seconds": delay}}
    assert compare([queue], cloud.clients, default_remedy="", settle_seconds=60).unsettled == (unsettled if delay else [])
    assert compare([queue], cloud.clients, default_remedy="").unsettled == []
