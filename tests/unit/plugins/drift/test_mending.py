"""Mending: what a mender brings back, what has a remedy of its own, and that nothing is called mended that still differs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import drifts
import pytest
import yaml
from ansible.module_utils.pipeline.core.canonical import number
from ansible.module_utils.pipeline.core.clock import Clock
from ansible.module_utils.pipeline.drift import compare as aws_drift
from ansible.module_utils.pipeline.drift.compare import TYPES, compare, mend
from ansible.module_utils.pipeline.drift.resource_type import ResourceType, page
from botocore.exceptions import ClientError
from drift_fakes import DEPLOYED, POLICY_ARN, QUEUE_ARN, SEND, TOPIC_ARN, Cloud, change_queue, deploy, put_alarm
from moto import mock_aws

ROOT = Path(__file__).resolve().parents[4]
KINDS = {description.label: kind for kind, description in TYPES.items()}


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wait(self, seconds: float) -> None:
        self.seconds += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: datetime.now(UTC), monotonic=lambda: self.seconds, wait=self.wait)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # loading them takes seconds, and any image will do
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield Cloud()


# --- the walk over every type and property ---------------------------------------------------------------------------------------


def compared() -> dict[str, set[str]]:
    """What the roles compare, by type: every resource that their variables expect."""
    found: dict[str, set[str]] = {}

    def look(value: Any) -> None:
        if isinstance(value, dict) and "type" in value and isinstance(value.get("expected"), dict):
            found.setdefault(value["type"], set()).update(value["expected"])
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(inner)

    for variables in ROOT.glob("roles/*/vars/main.yml"):
        look(yaml.safe_load(variables.read_text()))
    return found


def broken_by_a_test() -> dict[str, set[str]]:
    tables = [*drifts.DRIFTS.values(), drifts.LATER, drifts.REPLACED, drifts.UNCHANGEABLE]
    return {kind: set().union(*(table.get(TYPES[kind].label, ()) for table in tables)) for kind in compared()}


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_property_that_verify_compares_is_broken_by_a_test_or_cannot_be(kind: str):
    assert kind in compared(), f"no role expects a {kind}: it needs no reader"
    assert sorted(compared()[kind]) == sorted(broken_by_a_test()[kind])


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_menders_and_remedies_are_for_properties_that_there_are(kind: str):
    assert TYPES[kind].menders.keys() | TYPES[kind].remedies.keys() <= TYPES[kind].properties.keys()


@pytest.mark.parametrize(
    ("kind", "name"), [(KINDS[label], name) for label, names in sorted(drifts.REPLACED.items()) for name in sorted(names)]
)
def test_what_can_only_be_replaced_has_a_command_or_a_section_of_a_page(kind: str, name: str):
    found = {"count": 2, "root_volumes": ["vol-1"], "foreign": ["1-2"], "global_indexes": []}
    remedy = TYPES[kind].remedies[name]("thing", 1, found)
    pages = re.findall(r"(docs/\w+\.md)#([\w-]+)", remedy)
    for path, heading in pages:
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
        assert heading in [text.lower().replace(" ", "-").replace(",", "") for text in headings]
    assert pages or re.search(r"aws [a-z0-9]+ [a-z-]+ --", remedy)


# --- each mender, against an emulated AWS ----------------------------------------------------------------------------------------


def add_filters(cloud: Cloud) -> None:
    metric = [{"metricName": "m", "metricNamespace": "n", "metricValue": "1"}]
    cloud.logs.put_metric_filter(logGroupName="/aws/lambda/f", filterName="extra", filterPattern="E", metricTransformations=metric)


def add_indexes(cloud: Cloud) -> None:
    for name in ("one", "two"):
        key = [{"AttributeName": name, "KeyType": "HASH"}]
        index = {"IndexName": name, "KeySchema": key, "Projection": {"ProjectionType": "ALL"}}
        cloud.dynamodb.update_table(
            TableName="transactions",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"}],
            GlobalSecondaryIndexUpdates=[{"Create": index | {"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}}}],
        )


BREAK: dict[tuple[str, str], tuple[str, Callable[[Cloud], Any]]] = {
    ("iam_role", "inline_policies"): (
        "iam",
        lambda cloud: [cloud.iam.put_role_policy(RoleName="r", PolicyName=name, PolicyDocument=json.dumps(SEND)) for name in ("a", "b")],
    ),
    ("iam_role", "permissions_boundary"): (
        "iam",
        lambda cloud: cloud.iam.put_role_permissions_boundary(RoleName="r", PermissionsBoundary=POLICY_ARN),
    ),
    ("dynamodb_table", "stream_enabled"): (
        "data",
        lambda cloud: cloud.dynamodb.update_table(
            TableName="transactions", StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        ),
    ),
    ("dynamodb_table", "deletion_protection"): (
        "data",
        lambda cloud: cloud.dynamodb.update_table(TableName="transactions", DeletionProtectionEnabled=True),
    ),
    ("dynamodb_table", "global_indexes"): ("data", add_indexes),
    ("sqs_queue", "redrive_policy"): ("data", lambda cloud: change_queue(cloud, RedrivePolicy="")),
    ("lambda_function", "reserved_concurrency"): (
        "function",
        lambda cloud: cloud.lambda_.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1),
    ),
    ("log_group", "retention_in_days"): (
        "monitoring",
        lambda cloud: cloud.logs.put_retention_policy(logGroupName="/aws/lambda/f", retentionInDays=1),
    ),
    ("log_group", "metric_filters"): ("monitoring", add_filters),
    ("ec2_instances", "state"): ("instance", lambda cloud: cloud.ec2.stop_instances(InstanceIds=cloud.instance_ids())),
    ("cloudwatch_alarms", "names"): ("monitoring", lambda cloud: put_alarm(cloud, AlarmName="f-extra")),
}

# What moto has no call for, or answers otherwise than AWS: the request alone is held against AWS's own description of the call.
REQUESTS: dict[tuple[str, str, Any], tuple[str, str, dict[str, Any]]] = {
    ("iam_role", "permissions_boundary", POLICY_ARN): (
        "iam",
        "put_role_permissions_boundary",
        {"RoleName": "x", "PermissionsBoundary": POLICY_ARN},
    ),
    ("sqs_queue", "sse", "SQS"): (
        "sqs",
        "set_queue_attributes",
        {"QueueUrl": "url-of-x", "Attributes": {"KmsMasterKeyId": "", "SqsManagedSseEnabled": "true"}},
    ),
    ("sqs_queue", "redrive_allow_policy", None): (
        "sqs",
        "set_queue_attributes",
        {"QueueUrl": "url-of-x", "Attributes": {"RedriveAllowPolicy": ""}},
    ),
    ("sqs_queue", "redrive_allow_policy", "byQueue"): (
        "sqs",
        "set_queue_attributes",
        {
            "QueueUrl": "url-of-x",
            "Attributes": {"RedriveAllowPolicy": json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [QUEUE_ARN]})},
        },
    ),
    ("lambda_function", "layers", None): ("lambda", "update_function_configuration", {"FunctionName": "x", "Layers": []}),
    ("lambda_function", "last_update_status", "Successful"): ("lambda", "update_function_configuration", {"FunctionName": "x"}),
    ("lambda_function", "reserved_concurrency", 3): (
        "lambda",
        "put_function_concurrency",
        {"FunctionName": "x", "ReservedConcurrentExecutions": 3},
    ),
    ("log_group", "retention_in_days", None): ("logs", "delete_retention_policy", {"logGroupName": "x"}),
    ("log_group", "kms_key_id", None): ("logs", "disassociate_kms_key", {"logGroupName": "x"}),
    ("log_group", "kms_key_id", "arn:key"): ("logs", "associate_kms_key", {"logGroupName": "x", "kmsKeyId": "arn:key"}),
    ("log_group", "subscription_filters", None): ("logs", "delete_subscription_filter", {"logGroupName": "x", "filterName": "extra"}),
    # moto goes on showing the id of the association.
    ("ec2_instances", "instance_profile_id", "current"): (
        "ec2",
        "replace_iam_instance_profile_association",
        {"AssociationId": "iip-assoc-1", "IamInstanceProfile": {"Arn": "arn:profile"}},
    ),
}
VALUES = {"byQueue": {"redrive_permission": "byQueue", "source_queue_arns": [QUEUE_ARN]}}


def test_every_mender_is_tried():
    tried = {*BREAK, *((kind, name) for kind, name, _ in REQUESTS)}
    assert tried == {(kind, name) for kind, description in TYPES.items() for name in description.menders}


@pytest.mark.parametrize(("kind", "name"), BREAK, ids=lambda value: value)
def test_what_a_mender_is_for_reads_back_as_expected(cloud: Cloud, kind: str, name: str):
    family, spoil = BREAK[kind, name]
    deploy(cloud, family)
    resource_name, properties = DEPLOYED[family][kind]
    resources = [{"type": kind, "name": resource_name, "expected": {name: properties[name]}}]
    spoil(cloud)
    assert [difference["property"] for difference in compare(resources, cloud.clients, default_remedy="").differences] == [name]

    called, drift = mend(resources, cloud.clients, Time().clock, default_remedy="")

    assert (called, drift.failed) == (True, [])
    assert not mend(resources, cloud.clients, Time().clock, default_remedy="")[0], "the second run changes something"


@pytest.mark.parametrize(("kind", "name", "wanted"), REQUESTS, ids=str)
def test_a_mender_sends_what_the_service_documents(kind: str, name: str, wanted: Any):
    service, operation, request = REQUESTS[kind, name, wanted]
    sent: list[tuple[str, dict[str, Any]]] = []

    class Recording:
        def get_queue_url(self, QueueName: str) -> dict[str, str]:
            return {"QueueUrl": f"url-of-{QueueName}"}

        def describe_iam_instance_profile_associations(self, Filters: list[dict[str, Any]]) -> dict[str, Any]:
            assert Filters == [{"Name": "instance-id", "Values": ["i-1"]}]
            return {"IamInstanceProfileAssociations": [{"AssociationId": "iip-assoc-1", "IamInstanceProfile": {"Arn": "arn:profile"}}]}

        def __getattr__(self, called: str) -> Callable[..., None]:
            return lambda **parameters: sent.append((called, parameters))

    value = TYPES[kind].properties[name](VALUES.get(wanted, wanted))
    TYPES[kind].menders[name]({service: Recording()}, "x", value, {name: ["extra"], "ids": ["i-1"]})

    assert sent == [(operation, request)]
    client = Cloud().clients[service]
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation])
    client._serializer.serialize_to_request(request, model)  # raises for a parameter that the call does not have
    assert set(request) <= set(model.input_shape.members)


# What an alarm is changed to, by property; the alarm is that of DEPLOYED.
OTHER_ALARMS: dict[str, dict[str, Any]] = {
    "metric_name": {"MetricName": "NumberOfMessagesSent"},
    "namespace": {"Namespace": "AWS/Lambda"},
    "dimensions": {"Dimensions": [{"Name": "QueueName", "Value": "other"}]},
    "statistic": {"Statistic": "Sum"},
    "period": {"Period": 300},
    "evaluation_periods": {"EvaluationPeriods": 2},
    "datapoints_to_alarm": {"EvaluationPeriods": 2, "DatapointsToAlarm": 2},
    "threshold": {"Threshold": 0.5},
    "comparison_operator": {"ComparisonOperator": "LessThanThreshold"},
    "treat_missing_data": {"TreatMissingData": "breaching"},
    "alarm_actions": {"AlarmActions": [TOPIC_ARN]},
    "ok_actions": {"OKActions": [TOPIC_ARN]},
    "insufficient_data_actions": {"InsufficientDataActions": [TOPIC_ARN]},
    "actions_enabled": {"ActionsEnabled": False},
    "description": {"AlarmDescription": "something else"},
    "missing": {},
}


def test_every_property_of_an_alarm_is_changed_once():
    assert set(OTHER_ALARMS) - {"missing"} == set(TYPES["cloudwatch_alarm"].properties) - {"tags"}


@pytest.mark.parametrize("name", OTHER_ALARMS)
def test_an_alarm_that_differs_or_is_missing_is_put_once_and_as_a_whole(cloud: Cloud, name: str):
    deploy(cloud, "monitoring")
    alarm, properties = DEPLOYED["monitoring"]["cloudwatch_alarm"]
    expected = {key: value for key, value in properties.items() if key != "tags"}
    resources = [{"type": "cloudwatch_alarm", "name": alarm, "expected": expected}]
    if name == "missing":
        cloud.cloudwatch.delete_alarms(AlarmNames=[alarm])
    else:
        put_alarm(cloud, **OTHER_ALARMS[name])
    assert len(compare(resources, cloud.clients, default_remedy="").menders) == 1

    called, drift = mend(resources, cloud.clients, Time().clock, default_remedy="")

    assert (called, drift.failed) == (True, [])
    assert not mend(resources, cloud.clients, Time().clock, default_remedy="")[0], "the second run changes something"


@pytest.mark.parametrize("state", ["pending", "stopping", "running"])
def test_an_instance_that_is_not_stopped_is_waited_for(state: str):
    assert TYPES["ec2_instances"].menders["state"]({}, "x", "running", {"state": state, "stopped": []}) is False


def test_an_alarm_that_is_missing_deletes_none(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    deploy(cloud, "monitoring")
    monkeypatch.setattr(cloud.cloudwatch, "delete_alarms", lambda **names: pytest.fail(f"deletes {names}"))
    resources = [{"type": "cloudwatch_alarms", "name": "f-", "expected": {"names": ["f-dead-letters", "f-other"]}}]
    (call,) = compare(resources, cloud.clients, default_remedy="").menders
    assert call() is False


# --- what mending promises ------------------------------------------------------------------------------------------------------


class Thing:
    """A resource with a size that a mender sets; `shown_after` readings later, `refusals` calls later, or never."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, remedies: Mapping[str, Any] | None = None) -> None:
        self.found: dict[str, Any] | None = {"size": 1, "colour": 1}
        self.refusals: list[Exception] = []
        self.shown_after, self.calls, self.keeps = 0, 0, False
        kind = ResourceType(
            "thing", (), self.read, {"size": number, "colour": number}, menders={"size": self.grow}, remedies=remedies or {}
        )
        monkeypatch.setitem(aws_drift.TYPES, "thing", kind)

    def read(self, *_: Any) -> dict[str, Any] | None:
        if self.calls:
            self.shown_after -= 1
        return self.found | {"size": 2} if self.found and self.calls and self.shown_after < 0 and not self.keeps else self.found

    def grow(self, *_: Any) -> None:
        if self.refusals:
            raise self.refusals.pop()
        self.calls += 1

    def mend(self, time: Time, **expected: Any) -> tuple[bool, aws_drift.Drift]:
        return mend([{"type": "thing", "name": "t", "expected": expected}], {}, time.clock, default_remedy="again")


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "Grow")


def test_what_is_as_it_should_be_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    thing = Thing(monkeypatch)
    called, drift = thing.mend(Time(), size=1)
    assert (called, thing.calls, drift.failed) == (False, 0, [])


def test_a_change_that_shows_late_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    thing = Thing(monkeypatch)
    thing.shown_after = 3
    called, drift = thing.mend(Time(), size=2)
    assert (called, drift.failed) == (True, [])


@pytest.mark.parametrize("code", sorted(aws_drift.PASSING_ERRORS))
def test_a_refusal_of_the_moment_is_no_end(monkeypatch: pytest.MonkeyPatch, code: str):
    thing = Thing(monkeypatch)
    thing.refusals = [refusal(code)] * 3
    assert thing.mend(Time(), size=2)[1].failed == []


def test_a_refusal_for_good_is_raised(monkeypatch: pytest.MonkeyPatch):
    thing = Thing(monkeypatch)
    thing.refusals = [refusal("AccessDenied")]
    with pytest.raises(ClientError, match="AccessDenied"):
        thing.mend(Time(), size=2)


def test_what_does_not_come_back_is_named_after_a_while(monkeypatch: pytest.MonkeyPatch):
    thing, time = Thing(monkeypatch), Time()
    thing.keeps = True
    _, drift = thing.mend(time, size=2)
    assert [check["check"] for check in drift.failed] == ["thing t: size"]
    assert time.seconds == pytest.approx(aws_drift.MEND_SECONDS)


def test_what_cannot_come_back_is_named_at_once_and_the_rest_is_mended(monkeypatch: pytest.MonkeyPatch):
    thing, time = Thing(monkeypatch, {"colour": page("a-role")}), Time()
    _, drift = thing.mend(time, size=2, colour=2)
    assert [(check["check"], check["remedy"]) for check in drift.failed] == [
        ("thing t: colour", "It can only be replaced: docs/replacing.md#a-role")
    ]
    assert thing.calls == 1
    assert time.seconds < 5


def test_a_resource_that_is_missing_is_not_mended(monkeypatch: pytest.MonkeyPatch):
    thing = Thing(monkeypatch)
    thing.found = None
    called, drift = thing.mend(Time(), size=2)
    assert (called, [check["check"] for check in drift.failed]) == (False, ["thing t: exists"])


def test_a_resource_that_cannot_be_read_is_not_mended_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    thing, time = Thing(monkeypatch), Time()

    def refuse(*_: Any) -> None:
        raise refusal("AccessDenied")

    monkeypatch.setitem(aws_drift.TYPES, "thing", ResourceType("thing", (), refuse, {"size": number}))
    called, drift = thing.mend(time, size=2)
    assert (called, time.seconds) == (False, 0)
    assert "docs/operator_policy.md" in drift.failed[0]["remedy"]
