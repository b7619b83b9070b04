"""Functions and roles that Lambda, STS and EC2 refuse, and those they take."""

from __future__ import annotations

from typing import Any

import pytest
from ministack.services import sts
from refusals import ACCOUNT, REGION, function_request, in_time, make_function, make_role, package, policy, refusal, root, trust, unique
from users import User

from embedded_cloud.services.lambda_ import patches

CANNOT_BE_ASSUMED = ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")


def test_a_role_that_was_just_made_cannot_be_assumed_for_a_while(slow_cloud: Any):
    client, role = root(slow_cloud, "lambda"), make_role(slow_cloud)
    request = function_request(role)
    assert refusal(lambda: client.create_function(**request)) == CANNOT_BE_ASSUMED
    assert in_time(lambda: client.create_function(**request), CANNOT_BE_ASSUMED[0])["Role"] == role


@pytest.mark.parametrize("service", ["ec2.amazonaws.com", None], ids=["trusts-ec2-only", "missing"])
def test_a_role_that_lambda_may_not_assume_is_refused(embedded_cloud: Any, service: str | None):
    role = make_role(embedded_cloud, service) if service else f"arn:aws:iam::{ACCOUNT}:role/{unique('none')}"
    assert refusal(lambda: root(embedded_cloud, "lambda").create_function(**function_request(role))) == CANNOT_BE_ASSUMED


OURS = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:ours"


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, True),
        ({"StringEquals": {"aws:SourceAccount": "111122223333"}}, False),
        ({"ArnLike": {"aws:SourceArn": OURS}}, True),
        ({"ArnLike": {"aws:SourceArn": f"{OURS}:*"}}, False),
        ({"ArnLike": {"aws:SourceArn": OURS.replace("ours", "other")}}, False),
    ],
    ids=["our-account", "another-account", "our-function", "our-version", "another-function"],
)
def test_a_trust_policys_conditions_are_held_against_what_lambda_sends(embedded_cloud: Any, condition: dict[str, Any], taken: bool):
    iam, client = root(embedded_cloud, "iam"), root(embedded_cloud, "lambda")
    document = trust("lambda.amazonaws.com", **condition)
    request = function_request(iam.create_role(RoleName=unique("role"), AssumeRolePolicyDocument=document)["Role"]["Arn"])
    if taken:
        client.create_function(**request | {"FunctionName": "ours"})
        in_time(lambda: client.delete_function(FunctionName="ours"), "ResourceConflictException")
    else:
        assert refusal(lambda: client.create_function(**request | {"FunctionName": "ours"})) == CANNOT_BE_ASSUMED


def test_a_role_that_trusts_lambda_is_taken_and_another_is_not(embedded_cloud: Any):
    name, client = make_function(embedded_cloud, make_role(embedded_cloud)), root(embedded_cloud, "lambda")
    wrong = make_role(embedded_cloud, "ec2.amazonaws.com")
    assert refusal(lambda: client.update_function_configuration(FunctionName=name, Role=wrong)) == CANNOT_BE_ASSUMED
    assert client.update_function_configuration(FunctionName=name, Timeout=7)["Timeout"] == 7


UPDATES = {
    "code": lambda client, name: client.update_function_code(FunctionName=name, ZipFile=package("new")),
    "configuration": lambda client, name: client.update_function_configuration(FunctionName=name, Timeout=9),
    "version": lambda client, name: client.publish_version(FunctionName=name),
    "deletion": lambda client, name: client.delete_function(FunctionName=name),
}


@pytest.fixture(scope="module")
def role(slow_cloud: Any) -> str:
    return make_role(slow_cloud)


@pytest.mark.parametrize("update", UPDATES)
def test_a_change_while_an_update_is_in_progress_is_refused_until_it_is_done(slow_cloud: Any, role: str, update: str):
    name, client = make_function(slow_cloud, role), root(slow_cloud, "lambda")
    arn = client.update_function_configuration(FunctionName=name, MemorySize=256)["FunctionArn"]
    expected = f"The operation cannot be performed at this time. An update is in progress for resource: {arn}"
    assert refusal(lambda: UPDATES[update](client, name)) == ("ResourceConflictException", expected)
    in_time(lambda: UPDATES[update](client, name), "ResourceConflictException")


def test_a_function_that_was_just_made_cannot_be_updated(slow_cloud: Any, role: str):
    client, request = root(slow_cloud, "lambda"), function_request(role)
    in_time(lambda: client.create_function(**request), CANNOT_BE_ASSUMED[0])
    code, text = refusal(lambda: UPDATES["configuration"](client, request["FunctionName"]))
    assert (code, text[-43:]) == ("ResourceConflictException", "is currently in the following state: Pending"[-43:])


def test_root_assumes_no_role(embedded_cloud: Any):
    role = make_role(embedded_cloud, "ec2.amazonaws.com")
    call = {"RoleArn": role, "RoleSessionName": "any"}
    assert refusal(lambda: root(embedded_cloud, "sts").assume_role(**call)) == (
        "AccessDenied",
        "Roles may not be assumed by root accounts.",
    )


def test_a_user_whom_the_role_trusts_assumes_it(embedded_cloud: Any):
    iam = root(embedded_cloud, "iam")
    document = policy({"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"})
    role = iam.create_role(RoleName=unique("role"), AssumeRolePolicyDocument=document)["Role"]["Arn"]
    sts = User(embedded_cloud, {"Action": "sts:AssumeRole", "Resource": role}).client("sts")
    assert sts.assume_role(RoleArn=role, RoleSessionName="any")["Credentials"]["AccessKeyId"].startswith("ASIA")


def test_a_function_that_may_not_write_its_log_leaves_no_session_behind():
    function = {"config": {"FunctionName": "ours", "FunctionArn": OURS, "Role": f"arn:aws:iam::{ACCOUNT}:role/{unique('none')}"}}
    written, sessions = [], len(sts._sessions)
    for _ in range(3):
        patches.write_log_as_the_role(lambda *rest: written.append(rest), function, "request", "text", False, 1)
    assert not written and len(sts._sessions) == sessions
