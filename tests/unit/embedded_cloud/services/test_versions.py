"""Versions and aliases that Lambda refuses, those it takes, and what runs behind them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from refusals import ACCOUNT, CONSUME, REGION, in_time, make_function, make_queue, make_role, package, refusal, root
from users import User

PENDING = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
TELLING = """import os
import boto3

def handler(event, context):
    facts = f"{os.environ['AWS_LAMBDA_FUNCTION_VERSION']} {os.environ['COLOUR']} %s {context.invoked_function_arn}"
    if "Records" in event:
        boto3.client("sqs").send_message(QueueUrl=os.environ["ANSWERS"], MessageBody=facts)
    return facts
"""


def arn(name: str, qualifier: str = "") -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}" + (f":{qualifier}" if qualifier else "")


def telling(marker: str) -> bytes:
    return package(source=TELLING % marker)


def at_rest(client: Any, name: str, qualifier: str = "$LATEST") -> None:
    for _ in range(500):
        found = client.get_function_configuration(FunctionName=name, Qualifier=qualifier)
        if (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful"):
            return
        time.sleep(0.01)
    raise AssertionError(found)


def publish(client: Any, name: str, **options: Any) -> str:
    version: str = client.publish_version(FunctionName=name, **options)["Version"]
    at_rest(client, name, version)
    return version


def change(client: Any, name: str, **configuration: Any) -> None:
    client.update_function_configuration(FunctionName=name, **configuration)
    at_rest(client, name)


@pytest.fixture(scope="module")
def function(embedded_cloud: Any) -> str:
    """A function with two versions, 1 and 2."""
    name = make_function(embedded_cloud, make_role(embedded_cloud))
    client = root(embedded_cloud, "lambda")
    assert publish(client, name) == "1"
    change(client, name, MemorySize=256)
    assert publish(client, name) == "2"
    return name


def test_nothing_is_published_when_nothing_changed(embedded_cloud: Any, function: str):
    assert root(embedded_cloud, "lambda").publish_version(FunctionName=function)["Version"] == "2"


def test_a_version_is_not_published_from_other_code_than_the_caller_means(embedded_cloud: Any, function: str):
    client = root(embedded_cloud, "lambda")
    found = client.get_function_configuration(FunctionName=function)["CodeSha256"]
    text = f"CodeSHA256 (AAAA) is different from current CodeSHA256 in $LATEST ({found}). Please try again with the CodeSHA256 in $LATEST."
    assert refusal(lambda: client.publish_version(FunctionName=function, CodeSha256="AAAA")) == ("InvalidParameterValueException", text)
    assert client.publish_version(FunctionName=function, CodeSha256=found)["Version"] == "2"


def test_a_version_is_not_published_from_another_revision_than_the_caller_means(embedded_cloud: Any, function: str):
    client = root(embedded_cloud, "lambda")
    found = client.get_function_configuration(FunctionName=function)["RevisionId"]
    code, text = refusal(lambda: client.publish_version(FunctionName=function, RevisionId="another"))
    assert (code, text.startswith("The Revision Id provided does not match")) == ("PreconditionFailedException", True)
    assert client.publish_version(FunctionName=function, RevisionId=found)["Version"] == "2"


def test_publishing_with_new_code_is_publishing_after_it(embedded_cloud: Any):
    """UpdateFunctionCode's Publish: the same call again, as after a lost answer, makes nothing new; the ARN has the number."""
    client = root(embedded_cloud, "lambda")
    name = make_function(embedded_cloud, make_role(embedded_cloud), Publish=True)
    versions = [client.update_function_code(FunctionName=name, ZipFile=package("new"), Publish=True)["Version"]]
    at_rest(client, name)
    versions += [client.publish_version(FunctionName=name)["Version"]]
    assert versions == ["2", "2"]
    assert client.get_function_configuration(FunctionName=name, Qualifier="1")["FunctionArn"] == arn(name, "1")


def test_an_alias_of_a_missing_version_is_refused(embedded_cloud: Any, function: str):
    client = root(embedded_cloud, "lambda")
    missing = ("ResourceNotFoundException", f"Function not found: {arn(function, '99')}")
    assert refusal(lambda: client.create_alias(FunctionName=function, Name="missing", FunctionVersion="99")) == missing
    client.create_alias(FunctionName=function, Name="present", FunctionVersion="1")
    assert refusal(lambda: client.update_alias(FunctionName=function, Name="present", FunctionVersion="99")) == missing
    assert client.update_alias(FunctionName=function, Name="present", FunctionVersion="2")["FunctionVersion"] == "2"


@pytest.mark.parametrize(
    ("version", "weights", "text"),
    [
        ("1", {"2": 0.1, "3": 0.1}, "Number of items in AdditionalVersionWeights cannot be greater than 1"),
        ("$LATEST", {"1": 0.1}, "$LATEST is not supported for an alias pointing to more than 1 version"),
        ("1", {"1": 0.1}, "Invalid function version 1. Function version 1 is already included in routing configuration."),
        ("1", {"99": 0.1}, "Function not found: {arn}:99"),
    ],
    ids=["three-versions", "latest", "itself", "missing"],
)
def test_weights_that_cannot_be_are_refused(embedded_cloud: Any, function: str, version: str, weights: dict[str, float], text: str):
    client = root(embedded_cloud, "lambda")
    routing = {"AdditionalVersionWeights": weights}
    wanted = {"FunctionName": function, "Name": "weighted", "FunctionVersion": version, "RoutingConfig": routing}
    assert refusal(lambda: client.create_alias(**wanted))[1] == text.format(arn=arn(function))


def test_weights_of_two_published_versions_are_taken(embedded_cloud: Any, function: str):
    client = root(embedded_cloud, "lambda")
    routing = {"AdditionalVersionWeights": {"2": 0.1}}
    client.create_alias(FunctionName=function, Name="canary", FunctionVersion="1", RoutingConfig=routing)
    assert client.get_alias(FunctionName=function, Name="canary")["RoutingConfig"] == routing


def test_an_alias_is_not_changed_from_another_revision_than_the_caller_means(embedded_cloud: Any, function: str):
    client = root(embedded_cloud, "lambda")
    made = client.create_alias(FunctionName=function, Name="revised", FunctionVersion="1")
    client.update_alias(FunctionName=function, Name="revised", FunctionVersion="2", RevisionId=made["RevisionId"])
    again = {"FunctionName": function, "Name": "revised", "FunctionVersion": "2", "RevisionId": made["RevisionId"]}
    assert refusal(lambda: client.update_alias(**again))[0] == "PreconditionFailedException"


def test_a_version_that_an_alias_points_to_is_not_deleted(embedded_cloud: Any, function: str):
    client = root(embedded_cloud, "lambda")
    change(client, function, MemorySize=512)
    version = publish(client, function)
    client.create_alias(FunctionName=function, Name="holds", FunctionVersion=version)
    text = "Unable to delete version because the following aliases reference it: [holds]"
    assert refusal(lambda: client.delete_function(FunctionName=function, Qualifier=version)) == ("ResourceConflictException", text)
    client.delete_alias(FunctionName=function, Name="holds")
    client.delete_function(FunctionName=function, Qualifier=version)
    assert version not in [one["Version"] for one in client.list_versions_by_function(FunctionName=function)["Versions"]]
    assert publish(client, function, Description="again") == str(int(version) + 1)


@pytest.mark.parametrize(
    ("qualifier", "text"),
    [
        ("$LATEST", "$LATEST version cannot be deleted without deleting the function."),
        ("alias", "Deletion of aliases is not currently supported."),
    ],
)
def test_what_is_no_version_is_not_deleted_as_one(embedded_cloud: Any, function: str, qualifier: str, text: str):
    client = root(embedded_cloud, "lambda")
    assert refusal(lambda: client.delete_function(FunctionName=function, Qualifier=qualifier)) == ("InvalidParameterValueException", text)
    assert client.get_function(FunctionName=function)


def test_a_version_cannot_be_invoked_before_it_is_active(slow_cloud: Any):
    client = root(slow_cloud, "lambda")
    name = make_function(slow_cloud, make_role(slow_cloud))
    version = client.publish_version(FunctionName=name)
    assert (version["State"], version["StateReasonCode"]) == ("Pending", "Creating")
    assert refusal(lambda: client.invoke(FunctionName=name, Qualifier="1", Payload=b"{}")) == ("ResourceConflictException", PENDING)
    assert client.invoke(FunctionName=name, Payload=b'{"Qualifier": "1"}')["ExecutedVersion"] == "$LATEST"
    answer = in_time(lambda: client.invoke(FunctionName=name, Qualifier="1", Payload=b"{}"), "ResourceConflictException")
    assert answer["ExecutedVersion"] == "1"


@pytest.fixture(scope="module")
def mapped(embedded_cloud: Any) -> dict[str, str]:
    """A function whose version 1, behind the alias that a queue is mapped to, is blue and old, while $LATEST is red and new."""
    client = root(embedded_cloud, "lambda")
    source, source_arn = make_queue(embedded_cloud, VisibilityTimeout="30")
    answers, _ = make_queue(embedded_cloud)
    role = make_role(embedded_cloud, actions=[*CONSUME, "sqs:SendMessage"])
    name = make_function(embedded_cloud, role, Code={"ZipFile": telling("old")}, Environment=environment("blue", answers))
    assert publish(client, name) == "1"
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    change(client, name, Environment=environment("red", answers))
    client.update_function_code(FunctionName=name, ZipFile=telling("new"))
    at_rest(client, name)
    mapping = client.create_event_source_mapping(FunctionName=f"{name}:live", EventSourceArn=source_arn)
    return {"name": name, "source": source, "answers": answers, "uuid": mapping["UUID"], "source_arn": source_arn, "role": role}


def environment(colour: str, answers: str) -> dict[str, Any]:
    return {"Variables": {"COLOUR": colour, "ANSWERS": answers}}


def told(cloud: Any, mapped: dict[str, str]) -> str:
    """What the function says of itself when a message comes."""
    sqs = root(cloud, "sqs")
    sqs.send_message(QueueUrl=mapped["source"], MessageBody="who are you")
    (message,) = sqs.receive_message(QueueUrl=mapped["answers"], WaitTimeSeconds=20)["Messages"]
    sqs.delete_message(QueueUrl=mapped["answers"], ReceiptHandle=message["ReceiptHandle"])
    return str(message["Body"])


def test_a_mapping_runs_the_code_and_the_configuration_of_the_version_behind_its_alias(embedded_cloud: Any, mapped: dict[str, str]):
    assert told(embedded_cloud, mapped) == f"1 blue old {arn(mapped['name'], 'live')}"


def test_a_version_that_is_invoked_runs_its_own_code_and_configuration(embedded_cloud: Any, mapped: dict[str, str]):
    client = root(embedded_cloud, "lambda")
    for qualifier, expected in (("1", "1 blue old"), ("live", "1 blue old"), ("$LATEST", "$LATEST red new")):
        answer = client.invoke(FunctionName=mapped["name"], Qualifier=qualifier, Payload=b"{}")
        assert json.load(answer["Payload"]).rpartition(" ")[0] == expected


def test_all_versions_share_the_functions_reserved_concurrency(embedded_cloud: Any, mapped: dict[str, str]):
    client = root(embedded_cloud, "lambda")
    client.put_function_concurrency(FunctionName=mapped["name"], ReservedConcurrentExecutions=0)
    try:
        code = refusal(lambda: client.invoke(FunctionName=mapped["name"], Qualifier="1", Payload=b"{}"))[0]
    finally:
        client.delete_function_concurrency(FunctionName=mapped["name"])
    assert code == "TooManyRequestsException"


def test_a_mappings_invocations_are_split_by_weight(embedded_cloud: Any, mapped: dict[str, str]):
    client, name = root(embedded_cloud, "lambda"), mapped["name"]
    version = publish(client, name)
    client.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {version: 0.999999}})
    assert told(embedded_cloud, mapped).startswith(f"{version} red new")
    client.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    assert told(embedded_cloud, mapped).startswith("1 blue old")


def test_mappings_are_listed_for_what_they_invoke(embedded_cloud: Any, mapped: dict[str, str]):
    client, name = root(embedded_cloud, "lambda"), mapped["name"]

    def listed(**by: str) -> list[str]:
        return [mapping["UUID"] for mapping in client.list_event_source_mappings(**by)["EventSourceMappings"]]

    for by_alias in (f"{name}:live", arn(name, "live")):
        assert listed(FunctionName=by_alias) == [mapped["uuid"]]
    for by_another in (name, f"{name}:1", f"{name}:$LATEST"):
        assert listed(FunctionName=by_another) == []
    assert listed(EventSourceArn=mapped["source_arn"]) == [mapped["uuid"]]


def test_a_mapping_is_judged_by_the_version_that_it_invokes(embedded_cloud: Any, function: str):
    """Of a function whose $LATEST may run longer than the queue hides a message, the older version still may be mapped."""
    client = root(embedded_cloud, "lambda")
    _, queue = make_queue(embedded_cloud, VisibilityTimeout="30")
    name = make_function(embedded_cloud, make_role(embedded_cloud, actions=CONSUME), Timeout=30)
    publish(client, name)
    change(client, name, Timeout=60)
    text = "Queue visibility timeout: 30 seconds is less than Function timeout: 60 seconds"
    assert refusal(lambda: client.create_event_source_mapping(FunctionName=name, EventSourceArn=queue))[1] == text
    assert client.create_event_source_mapping(FunctionName=f"{name}:1", EventSourceArn=queue)["FunctionArn"] == arn(name, "1")


def test_a_mapping_of_a_missing_alias_is_refused(embedded_cloud: Any, function: str):
    client = root(embedded_cloud, "lambda")
    _, queue = make_queue(embedded_cloud, VisibilityTimeout="30")
    wanted = {"FunctionName": f"{function}:nowhere", "EventSourceArn": queue}
    assert refusal(lambda: client.create_event_source_mapping(**wanted)) == (
        "ResourceNotFoundException",
        f"Function not found: {arn(function, 'nowhere')}",
    )


@pytest.mark.parametrize(
    ("resource", "allowed"), [("", False), (":*", True), (":1", True), (":2", False)], ids=["plain", "all", "this", "another"]
)
def test_a_version_is_authorised_by_its_own_arn(embedded_cloud: Any, function: str, resource: str, allowed: bool):
    client = User(embedded_cloud, {"Action": "lambda:InvokeFunction", "Resource": arn(function) + resource}).client("lambda")

    def invoke() -> Any:
        return client.invoke(FunctionName=function, Qualifier="1", Payload=b"{}")

    if allowed:
        assert invoke()["ExecutedVersion"] == "1"
    else:
        assert refusal(invoke)[0] == "AccessDeniedException"
