"""The roles' policies and the calls that are made agree both ways: all work with the policies as they are, and each action is missed.

The embedded cloud enforces what the producer and the function call themselves, and writing the log. Polling the queue on the role's behalf
it does not enforce; there the policy is evaluated for exactly the calls that AWS documents.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.exceptions import ClientError
from plays import ACCOUNT, REGION, Pipeline, wait_until

PRODUCER_ROLE = "EC2-SQS-Role"
PROCESSOR_ROLE = "Lambda-SQS-DynamoDB-Role"
FUNCTION = "ProcessFinancialStream"
INSTANCE = "FinancialTransactionProducer"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:FinancialTransactionQueue"
DEAD_LETTERS_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:FinancialTransactionQueue-dlq"
TABLE_ARN = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/RealTimeTransactions"
LOG_GROUP = f"/aws/lambda/{FUNCTION}"
STREAMS_ARN = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{LOG_GROUP}:*"


def transaction(**fields: Any) -> dict[str, Any]:
    return {"transaction_id": str(uuid.uuid4()), "amount": 1, "currency": "EUR"} | fields


def invoke(pipeline: Pipeline, *records: dict[str, Any]) -> list[str]:
    """Invoke the function with these records as a batch; the message ids that it reports as failed."""
    event = {
        "Records": [
            {
                "messageId": str(number),
                "receiptHandle": "handle",
                "body": json.dumps(record),
                "attributes": {},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": QUEUE_ARN,
                "awsRegion": REGION,
            }
            for number, record in enumerate(records)
        ]
    }
    answer = pipeline.client("lambda").invoke(FunctionName=FUNCTION, Qualifier="live", Payload=json.dumps(event).encode())
    payload = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return [failure["itemIdentifier"] for failure in payload["batchItemFailures"]]


def send_as_the_instance(pipeline: Pipeline) -> bool:
    base = f"{pipeline.endpoint}/_imds/{INSTANCE}/latest"
    ask = Request(f"{base}/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    with urlopen(ask, timeout=10) as response:
        headers = {"X-aws-ec2-metadata-token": response.read().decode()}
    with urlopen(Request(f"{base}/meta-data/iam/security-credentials/{PRODUCER_ROLE}", headers=headers), timeout=10) as response:
        session = json.load(response)
    client = boto3.client(
        "sqs",
        REGION,
        endpoint_url=pipeline.endpoint,
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["Token"],
    )
    entries = [{"Id": "0", "MessageBody": json.dumps(transaction())}]
    try:
        return not client.send_message_batch(QueueUrl=pipeline.queue_url(), Entries=entries).get("Failed")
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"), error
        return False


def inserts(pipeline: Pipeline) -> bool:
    return invoke(pipeline, transaction()) == []


def inserts_odd_names(pipeline: Pipeline) -> bool:
    return invoke(pipeline, transaction(**{"a 'quoted' name": 1})) == []


def recognises_duplicates(pipeline: Pipeline) -> bool:
    """The id is already stored: only a read tells a repetition from a conflict."""
    known = transaction(transaction_id="known")
    table = pipeline.client("dynamodb")
    item = {"transaction_id": {"S": "known"}, "amount": {"N": "1"}, "currency": {"S": "EUR"}}
    table.put_item(TableName="RealTimeTransactions", Item=item)
    return invoke(pipeline, known) == []


def quarantines(pipeline: Pipeline) -> bool:
    return invoke(pipeline, {"transaction_id": "no amount"}) == []


def logs(pipeline: Pipeline) -> bool:
    """An invocation leaves a line with an id of its own in the log group."""
    record = transaction()
    invoke(pipeline, record)
    events = pipeline.client("logs").filter_log_events(logGroupName=LOG_GROUP)["events"]
    return any(record["transaction_id"] in event["message"] for event in events)


# (role, action, resource): what shows that the action is used. True while it is allowed.
ENFORCED: dict[tuple[str, str, str], Callable[[Pipeline], bool]] = {
    (PRODUCER_ROLE, "sqs:SendMessage", QUEUE_ARN): send_as_the_instance,
    (PROCESSOR_ROLE, "dynamodb:PartiQLInsert", TABLE_ARN): inserts,
    (PROCESSOR_ROLE, "dynamodb:PutItem", TABLE_ARN): inserts_odd_names,
    (PROCESSOR_ROLE, "dynamodb:BatchGetItem", TABLE_ARN): recognises_duplicates,
    (PROCESSOR_ROLE, "sqs:SendMessage", DEAD_LETTERS_ARN): quarantines,
    (PROCESSOR_ROLE, "logs:CreateLogStream", STREAMS_ARN): logs,
    (PROCESSOR_ROLE, "logs:PutLogEvents", STREAMS_ARN): logs,
}

# What AWS calls on the role's behalf. Lambda's developer guide, "Using Lambda with Amazon SQS", execution role permissions.
ON_BEHALF = [
    (PROCESSOR_ROLE, "sqs:ReceiveMessage", QUEUE_ARN),
    (PROCESSOR_ROLE, "sqs:DeleteMessage", QUEUE_ARN),
    (PROCESSOR_ROLE, "sqs:GetQueueAttributes", QUEUE_ARN),
]

# A policy needs a statement.
HARMLESS = {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def document(pipeline: Pipeline, role: str) -> dict[str, Any]:
    iam, arn = pipeline.client("iam"), f"arn:aws:iam::{ACCOUNT}:policy/{role}"
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def dropped(policy: dict[str, Any], action: str, resource: str) -> dict[str, Any]:
    """The policy without one action on one resource."""
    statements = []
    for statement in policy["Statement"]:
        actions = as_list(statement["Action"])
        if statement["Resource"] == resource:
            actions = [one for one in actions if one != action]
        if actions:
            statements.append(statement | {"Action": actions})
    return policy | {"Statement": statements or [HARMLESS]}


@contextmanager
def policy_in_force(pipeline: Pipeline, role: str, policy: dict[str, Any]) -> Iterator[None]:
    before = document(pipeline, role)
    put(pipeline, role, policy)
    try:
        yield
    finally:
        put(pipeline, role, before)


def put(pipeline: Pipeline, role: str, policy: dict[str, Any]) -> None:
    """Make this the policy's only version."""
    iam, arn = pipeline.client("iam"), f"arn:aws:iam::{ACCOUNT}:policy/{role}"
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(policy), SetAsDefault=True)
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])


def decision(pipeline: Pipeline, policy: dict[str, Any], action: str, resource: str) -> str:
    answer = pipeline.client("iam").simulate_custom_policy(
        PolicyInputList=[json.dumps(policy)], ActionNames=[action], ResourceArns=[resource]
    )
    return answer["EvaluationResults"][0]["EvalDecision"]


@pytest.fixture(scope="module")
def deployed(infrastructure: Pipeline) -> Iterator[Pipeline]:
    """The infrastructure with the mapping off, so that the only calls are the tests' own."""
    functions, sqs = infrastructure.client("lambda"), infrastructure.client("sqs")
    (mapping,) = functions.list_event_source_mappings(EventSourceArn=QUEUE_ARN)["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    yield infrastructure
    for suffix in ("", "-dlq"):
        sqs.purge_queue(QueueUrl=infrastructure.queue_url(suffix))
    state = lambda: functions.get_event_source_mapping(UUID=mapping["UUID"])["State"]  # noqa: E731
    wait_until(lambda: state() == "Disabled", 30, "a mapping at rest")
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    wait_until(lambda: state() == "Enabled", 30, "a mapping that takes messages")


def test_the_policies_allow_what_is_called_and_nothing_else(deployed: Pipeline):
    allowed = {
        (role, action, statement["Resource"])
        for role in (PRODUCER_ROLE, PROCESSOR_ROLE)
        for statement in document(deployed, role)["Statement"]
        for action in as_list(statement["Action"])
    }
    assert allowed == set(ENFORCED) | set(ON_BEHALF)


@pytest.mark.parametrize(("role", "action", "resource"), ENFORCED)
def test_an_enforced_action_is_used_and_missed(deployed: Pipeline, role: str, action: str, resource: str):
    works = ENFORCED[role, action, resource]
    assert works(deployed)
    with policy_in_force(deployed, role, dropped(document(deployed, role), action, resource)):
        assert not works(deployed)


@pytest.mark.parametrize(("role", "action", "resource"), ON_BEHALF)
def test_an_action_on_the_roles_behalf_is_allowed_and_missed(deployed: Pipeline, role: str, action: str, resource: str):
    policy = document(deployed, role)
    assert decision(deployed, policy, action, resource) == "allowed"
    assert decision(deployed, dropped(policy, action, resource), action, resource) != "allowed"


@pytest.mark.parametrize("role", [PRODUCER_ROLE, PROCESSOR_ROLE])
def test_no_role_reaches_another_environments_resources(deployed: Pipeline, role: str):
    policy = document(deployed, role)
    for statement in policy["Statement"]:
        for action in as_list(statement["Action"]):
            other = statement["Resource"].replace("FinancialTransactionQueue", "Other").replace("RealTimeTransactions", "Other")
            other = other.replace(FUNCTION, "Other")
            assert decision(deployed, policy, action, other) != "allowed", (action, other)
