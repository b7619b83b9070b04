"""The operator's policy and the calls that the plays make agree both ways: all three plays run with it, and each of its actions is missed.

The plays run once, as a user who has no other permission; site.yml thrice, to set right what was changed by hand, and for a new setting.
The embedded cloud tells which permissions that took, by AWS's names (embedded_cloud/iam). Whether the policy
allows them, in parts or in all, is then evaluated, by the code that decides in the cloud.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from drifts import DRIFTS, drift_everything
from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document
from operators import POLICIES, as_list, make_operator, needed, rendered
from plays import ACCOUNT, REGION, ROOT, Pipeline, Run, confirm_alarm_address, listings, supervisorctl, wait_until

# One fixture runs all the plays.
pytestmark = pytest.mark.timeout(1200)

# Permissions that AWS needs by its documentation, and that the embedded cloud does not ask for.
DOCUMENTED: list[dict[str, Any]] = [
    # CreateSecurityGroup makes the group in the default VPC when it names none ("CreateSecurityGroup" in EC2's API reference), and that VPC
    # is a resource of the action (Service Authorization Reference).
    {"action": "ec2:CreateSecurityGroup", "resource": f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/vpc-default", "context": {}},
    # MiniStack has no AssociateKmsKey, so site.yml has nothing to undo.
    {
        "action": "logs:DisassociateKmsKey",
        "resource": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/ProcessFinancialStream:*",
        "context": {},
    },
]

# A launch may use any security group; any policy may be taken from a role; a mapping is read until it is gone, and what is gone has no
# function to be conditioned on.
UNCONDITIONED = ("ec2:RunInstances", "iam:DetachRolePolicy", "lambda:GetEventSourceMapping")

# The roles that the whole comparison has the resources of.
RESOURCES = ",".join(re.findall(r"(?m)^ +- \.\./roles/(\w+)/vars/main\.yml$", (ROOT / "playbooks/site.yml").read_text()))

TEMPLATES = [json.loads((ROOT / template).read_text()) for template in POLICIES]
ACTIONS = sorted({action for policy in TEMPLATES for statement in policy["Statement"] for action in as_list(statement["Action"])})


@dataclass
class Rehearsed:
    """What the plays printed, the operator's policies, the permissions that were needed, and what the cloud held in the end."""

    runs: dict[str, Run]
    policies: list[dict[str, Any]]
    needed: list[dict[str, Any]]
    left: dict[str, list[str]]


@pytest.fixture(scope="module")
def rehearsed(pipeline: Pipeline) -> Rehearsed:
    # As on AWS. The local inventory needs no key pair.
    pipeline.settings |= {
        "producer_instance_key_name": "FinancialTransactionProducer",
        "producer_instance_key_file": str(pipeline.directory / "ssh" / "producer"),
        "observability_email": "operator@example.com",
        # drift_everything puts somebody else's message into the quarantine.
        "reconciliation_other_senders": "allowed",
        # So that an old version is deleted.
        "stream_processor_versions_kept": 1,
    }
    pipeline.play("site", "--tags", "embedded_cloud").ended_well()
    policies = [rendered(template, pipeline.directory) for template in POLICIES]
    key = make_operator(pipeline, policies)
    runs = {"first site": pipeline.play("site").ended_well()}
    confirm_alarm_address(pipeline)
    # The function that replaces ours must get no transaction.
    supervisorctl(pipeline, "stop", "FinancialTransactionProducer")
    wait_until(lambda: waiting(pipeline) == 0, 60, "an empty queue")
    drift_everything(pipeline)
    runs["check"] = pipeline.play("site", "--check", "--tags", RESOURCES)
    # After the check, to show that it changed nothing.
    runs["drift"] = pipeline.play("verify", "--tags", RESOURCES)
    runs["second site"] = pipeline.play("site").ended_well()
    runs["site in sync"] = pipeline.play("site", "--tags", RESOURCES).ended_well()
    runs["verify"] = pipeline.play("verify").ended_well()
    # With new code, amazon.aws.lambda publishes by itself; with another setting alone it does not.
    # An instance that runs is stopped for another type.
    changes = {"stream_processor_memory": 512, "producer_instance_type": "t3.nano"}
    runs["third site"] = pipeline.play("site", "--tags", "stream_processor,producer_instance", **changes).ended_well()
    # The cloud keeps running, because it knows the permissions that were needed.
    runs["teardown"] = pipeline.play("teardown", "--skip-tags", "embedded_cloud").ended_well()
    return Rehearsed(runs, policies, needed(pipeline, key), listings(pipeline))


def waiting(pipeline: Pipeline) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = pipeline.client("sqs").get_queue_attributes(QueueUrl=pipeline.queue_url(), AttributeNames=names)["Attributes"]
    return sum(int(count) for count in counts.values())


def allowed(policies: list[dict[str, Any]], permission: dict[str, Any]) -> bool:
    context = EvalContext(
        principal_arn=f"arn:aws:iam::{ACCOUNT}:user/operator",
        principal_type="User",
        principal_account=ACCOUNT,
        action=permission["action"],
        resource_arn=permission["resource"],
        region=REGION,
        service_context={name.lower(): value for name, value in permission["context"].items()},
    )
    return evaluate(context, [parse_policy_document(policy) for policy in policies]).decision == "Allow"


def without(policies: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    short = []
    for policy in policies:
        left = [statement | {"Action": [one for one in as_list(statement["Action"]) if one != action]} for statement in policy["Statement"]]
        # A statement without an action would match every action.
        short.append(policy | {"Statement": [statement for statement in left if statement["Action"]]})
    return short


def singles(policies: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every action of every statement with every resource it is given, as a statement of its own."""
    for policy in policies:
        for statement in policy["Statement"]:
            for action in as_list(statement["Action"]):
                for resource in as_list(statement["Resource"]):
                    yield statement | {"Action": action, "Resource": resource}


@pytest.mark.parametrize(
    ("label", "name"), sorted((label, name) for broken in DRIFTS.values() for label in broken for name in broken[label])
)
def test_verify_names_each_property_that_was_changed_and_site_is_its_remedy(rehearsed: Rehearsed, label: str, name: str):
    """All properties are changed at once. The verify.yml that follows proves that site.yml restored them."""
    remedies = re.findall(rf"{label} \S+: {name}: expected .*?; what to do: (\S+ \S+)", rehearsed.runs["drift"].message)
    assert set(remedies) == {"ansible-playbook site.yml"}
    assert [check for check in rehearsed.runs["verify"].failed_checks if check.startswith(f"{label} ")] == []


def test_check_mode_reports_what_it_would_repair_and_site_changes_nothing_after_the_repair(rehearsed: Rehearsed):
    tasks = rehearsed.runs["check"].output.split("TASK [")
    for role in ("iam_roles", "transaction_table", "transaction_queue", "stream_processor", "observability"):
        (mended,) = [task for task in tasks if task.startswith(f"{role} : ") and "read it back]" in task.partition("\n")[0]]
        assert "changed: [" in mended, f"{role} says nothing of what it would mend"
    assert rehearsed.runs["site in sync"].totals["changed"] == 0


def test_the_plays_do_their_work_with_that_policy_alone(rehearsed: Rehearsed):
    assert rehearsed.runs["second site"].totals["changed"] > 0
    assert rehearsed.runs["verify"].failed_checks == set()
    assert rehearsed.runs["verify"].totals["changed"] == 0


def test_teardown_leaves_nothing_but_the_operator(rehearsed: Rehearsed):
    left = {kind: names for kind, names in rehearsed.left.items() if names}
    policies = [f"arn:aws:iam::{ACCOUNT}:policy/operator-{number}" for number in range(len(POLICIES))]
    # The role is the one that drift_everything gave the function.
    assert left == {"users": ["operator"], "roles": ["other"], "policies": policies, "security groups": ["default"]}


def test_the_policy_allows_all_that_was_needed(rehearsed: Rehearsed):
    assert len(rehearsed.needed) >= len(ACTIONS)
    assert [permission for permission in rehearsed.needed + DOCUMENTED if not allowed(rehearsed.policies, permission)] == []


def test_the_policy_allows_nothing_that_was_not_needed(rehearsed: Rehearsed):
    idle = [
        (one["Sid"], one["Action"], one["Resource"])
        for one in singles(rehearsed.policies)
        if not any(allowed([{"Statement": [one]}], permission) for permission in rehearsed.needed + DOCUMENTED)
    ]
    assert idle == []


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_that_is_dropped_is_missed(rehearsed: Rehearsed, action: str):
    short = without(rehearsed.policies, action)
    assert not all(allowed(short, permission) for permission in rehearsed.needed + DOCUMENTED)


def test_no_name_of_another_environment_is_in_reach(rehearsed: Rehearsed):
    names = ("FinancialTransactionQueue", "RealTimeTransactions", "ProcessFinancialStream", "EC2-SQS-Role", "Lambda-SQS-DynamoDB-Role")
    others = [
        permission | {"resource": permission["resource"].replace(name, f"Other{name}")}
        for permission in rehearsed.needed
        for name in names
        if name in permission["resource"] and permission["action"] != "cloudwatch:DescribeAlarms"  # asked by prefix, it takes `alarm:*`
    ]
    assert others
    assert [other for other in others if allowed(rehearsed.policies, other)] == []


@pytest.mark.parametrize("key", ["iam:PassedToService", "iam:PolicyARN", "lambda:FunctionArn", "aws:ResourceTag/Name", "ec2:CreateAction"])
def test_a_condition_that_is_not_met_denies(rehearsed: Rehearsed, key: str):
    """A role for another service, the mapping of another function, another host's instance, a tag on what was there before."""
    others = [
        permission | {"context": {name: value for name, value in permission["context"].items() if name != key} | {key: "other"}}
        for permission in rehearsed.needed
        if key in permission["context"] and permission["action"] not in UNCONDITIONED
    ]
    assert others
    assert [other for other in others if allowed(rehearsed.policies, other)] == []
