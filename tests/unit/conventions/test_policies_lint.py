"""The policies of files/ name actions that AWS has, on resources and under conditions that these actions take."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from policy_lint import as_list, findings, fits, overlap

ROOT = Path(__file__).resolve().parents[3]
SERVICES, IAM_EC2 = "operator-services-policy", "operator-iam-ec2-policy"
POLICIES = [SERVICES, IAM_EC2, "processor-policy", "producer-policy"]
# "IAM and AWS STS quotas": characters of a managed policy, white space not counted.
LONGEST = 6144


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Each policy as Ansible renders it, with the longest environment name that the guard lets pass."""
    directory = tmp_path_factory.mktemp("policies")
    found = {}
    for name in POLICIES:
        command = [str(Path(sys.executable).parent / "ansible"), "workstation-1", "-m", "ansible.builtin.template"]
        command += ["-a", f"src=files/{name}.json.j2 dest={directory / name}", "-e", json.dumps({"pipeline_environment": "e" * 20})]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found[name] = json.loads((directory / name).read_text())
    return found


@pytest.mark.parametrize("name", POLICIES)
def test_the_linter_finds_nothing(documents: dict[str, dict[str, Any]], name: str):
    assert findings(documents[name]) == []


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_short_enough_for_aws(documents: dict[str, dict[str, Any]], name: str):
    assert len("".join(json.dumps(documents[name]).split())) <= LONGEST


@pytest.mark.parametrize("name", POLICIES)
def test_a_wrong_action_is_found(documents: dict[str, dict[str, Any]], name: str):
    document = copy.deepcopy(documents[name])
    action = as_list(document["Statement"][0]["Action"])[0]
    document["Statement"][0]["Action"] = f"{action}s"
    assert f"there is no action {action}s" in findings(document)


def test_an_unknown_service_is_found():
    statement = {"Effect": "Allow", "Action": "queues:Send", "Resource": "*"}
    assert findings({"Statement": [statement]}) == ["there is no action queues:Send"]


@pytest.mark.parametrize(("name", "takes"), [(SERVICES, "queue"), (IAM_EC2, "role"), ("producer-policy", "queue")])
def test_a_resource_of_the_wrong_type_is_found(documents: dict[str, dict[str, Any]], name: str, takes: str):
    document = copy.deepcopy(documents[name])
    document["Statement"][0]["Resource"] = "arn:aws:iam::000000000000:policy/FinancialTransactionQueue"
    assert any(f"takes {takes}, not arn:aws:iam::000000000000:policy/" in finding for finding in findings(document))


def test_a_wildcard_is_found_where_the_action_takes_a_resource(documents: dict[str, dict[str, Any]]):
    document = copy.deepcopy(documents[SERVICES])
    document["Statement"][0]["Resource"] = "*"
    assert any(finding.endswith("of type queue, not *") for finding in findings(document))


def test_a_resource_is_found_where_the_action_takes_none():
    statement = {"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "arn:aws:ec2:us-east-1:000000000000:instance/*"}
    assert any("takes no resource" in finding for finding in findings({"Statement": [statement]}))


def test_a_required_type_that_no_statement_gives_is_found(documents: dict[str, dict[str, Any]]):
    document = copy.deepcopy(documents[IAM_EC2])
    for statement in document["Statement"]:
        if statement["Action"] == "ec2:RunInstances":
            statement["Resource"] = [resource for resource in statement["Resource"] if "subnet" not in resource]
    assert findings(document) == ["ec2:RunInstances requires a resource of type subnet"]


@pytest.mark.parametrize(
    ("name", "action"),
    [(IAM_EC2, "iam:PassRole"), (IAM_EC2, "ec2:TerminateInstances"), (SERVICES, "lambda:CreateEventSourceMapping")],
)
def test_a_missing_condition_is_found(documents: dict[str, dict[str, Any]], name: str, action: str):
    document = copy.deepcopy(documents[name])
    for statement in document["Statement"]:
        if action in as_list(statement["Action"]):
            statement.pop("Condition")
    assert any(finding.startswith(f"{action} is not conditioned on") for finding in findings(document))


def test_a_condition_key_that_the_action_does_not_have_is_found(documents: dict[str, dict[str, Any]]):
    document = copy.deepcopy(documents[SERVICES])
    document["Statement"][0]["Condition"] = {"StringEquals": {"iam:PassedToService": "sqs.amazonaws.com"}}
    assert any(finding.endswith("has no condition key iam:PassedToService") for finding in findings(document))


@pytest.mark.parametrize(
    ("pattern", "arn", "expected"),
    [
        ("arn:*:sqs:*:*:*", "arn:aws:sqs:us-east-1:0:Name", True),
        ("arn:*:sqs:*:*:*", "Name", False),
        ("arn:*:ec2:*:*:subnet/*", "arn:aws:ec2:us-east-1:0:subnet/*", True),
        ("arn:*:ec2:*:*:subnet/*", "arn:aws:ec2:us-east-1:0:instance/*", False),
        ("arn:*:ec2:*::image/*", "arn:aws:ec2:us-east-1::image/*", True),
        ("arn:*:ec2:*::image/*", "arn:aws:ec2:us-east-1:0:image/*", False),
    ],
)
def test_an_arn_fits_its_own_type_only(pattern: str, arn: str, expected: bool):
    assert fits(pattern, arn) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("role/*", "role/Name", True),
        ("role/*", "policy/Name", False),
        ("log-group:*:log-stream:*", "log-group:/aws/lambda/Name:*", True),
        ("log-group:*:log-stream:*", "log-group:/aws/lambda/Name", False),
        ("*", "", True),
        ("a", "", False),
    ],
)
def test_patterns_overlap_when_a_text_matches_both(one: str, other: str, expected: bool):
    assert overlap(one, other) is expected
    assert overlap(other, one) is expected


def test_lambda_may_assume_the_processors_role_for_our_function_in_our_account_alone(tmp_path: Path):
    arn = "arn:aws:lambda:eu-west-1:111122223333:function:Ours"
    command = [str(Path(sys.executable).parent / "ansible"), "workstation-1", "-m", "ansible.builtin.template", "-a"]
    ours = "pipeline_region=eu-west-1 pipeline_account_id=111122223333 stream_processor_name=Ours"
    command += [f"src=files/lambda-trust-policy.json.j2 dest={tmp_path / 'trust'}", "-e", ours]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (statement,) = json.loads((tmp_path / "trust").read_text())["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "111122223333"},
        "ArnLike": {"aws:SourceArn": [arn, f"{arn}:*"]},
    }
