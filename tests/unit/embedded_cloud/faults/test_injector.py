"""Faults on request, as AWS clients meet them: each kind, at the rate and by the seed that were asked for, and for nobody else."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError
from refusals import ACCOUNT, policy, root, unique
from users import User

KINDS = ["throttling", "error_500", "error_503", "closed_before", "closed_after"]

# The code and the status that each service throttles with, and a call to be throttled.
THROTTLING = [
    ("ec2", "describe_vpcs", "RequestLimitExceeded", 503),
    ("cloudwatch", "describe_alarms", "Throttling", 400),
    ("iam", "list_roles", "Throttling", 400),
    ("sts", "get_caller_identity", "Throttling", 400),
    ("lambda", "list_functions", "TooManyRequestsException", 429),
    ("sqs", "list_queues", "RequestThrottled", 403),
    ("dynamodb", "list_tables", "ThrottlingException", 400),
    ("logs", "describe_log_groups", "ThrottlingException", 400),
    ("ssm", "describe_parameters", "ThrottlingException", 400),
]


class Faulty:
    """An embedded cloud whose faults can be chosen."""

    def __init__(self, cloud: Any) -> None:
        self.cloud = cloud

    def set(self, **settings: Any) -> dict[str, Any]:
        return self._ask("PUT", json.dumps(settings).encode())

    def counts(self) -> dict[str, Any]:
        return self._ask("GET", None)

    def _ask(self, method: str, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.cloud.endpoint}/_embedded_cloud/faults", data=body, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def met_by(self, call: Callable[[], Any]) -> str | None:
        """Make the call; the kind of fault it met. The error it may raise is not the question here."""
        before = self.counts()["faults"]
        try:
            call()
        except (ClientError, ConnectionClosedError) as error:
            assert error
        after = self.counts()["faults"]
        return next((kind for kind in KINDS if after[kind] > before[kind]), None)

    def choose(self, kind: str, harmless: Callable[[int], Any]) -> None:
        """Let the next call of `harmless`'s action meet this kind of fault. `harmless` is given a number, for names of its own."""
        for seed in range(200):
            self.set(rate=1.0, seed=seed)
            if self.met_by(lambda seed=seed: harmless(seed)) == kind:
                self.set(rate=1.0, seed=seed)
                return
        raise AssertionError(f"no seed makes {kind}")


@pytest.fixture(scope="module")
def one_cloud(start_cloud: Callable[..., Any]) -> Any:
    return start_cloud()


@pytest.fixture
def faulty(one_cloud: Any) -> Iterator[Faulty]:
    made = Faulty(one_cloud)
    yield made
    made.set()


@pytest.mark.parametrize(("service", "operation", "code", "status"), THROTTLING, ids=[row[0] for row in THROTTLING])
def test_throttling_comes_with_the_code_and_status_of_the_service(faulty: Faulty, service: str, operation: str, code: str, status: int):
    call = getattr(faulty.cloud.client(service), operation)
    faulty.choose("throttling", lambda _number: call())
    with pytest.raises(ClientError) as refused:
        call()
    answer = refused.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


@pytest.mark.parametrize("service_and_operation", [row[:2] for row in THROTTLING], ids=[row[0] for row in THROTTLING])
@pytest.mark.parametrize(("kind", "code", "status"), [("error_500", "InternalFailure", 500), ("error_503", "ServiceUnavailable", 503)])
def test_server_errors_are_those_that_all_services_share(faulty: Faulty, service_and_operation, kind: str, code: str, status: int):
    service, operation = service_and_operation
    call = getattr(faulty.cloud.client(service), operation)
    faulty.choose(kind, lambda _number: call())
    with pytest.raises(ClientError) as refused:
        call()
    answer = refused.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


@pytest.mark.parametrize(("kind", "takes_effect"), [("closed_before", False), ("closed_after", True)])
def test_a_closed_connection_lost_the_request_or_the_answer(faulty: Faulty, kind: str, takes_effect: bool):
    sqs = faulty.cloud.client("sqs")
    faulty.choose(kind, lambda number: sqs.create_queue(QueueName=f"other-{kind}-{number}"))
    with pytest.raises(ConnectionClosedError):
        sqs.create_queue(QueueName=f"wanted-{kind}")
    assert (f"wanted-{kind}" in faulty.cloud.resources()["queues"]) is takes_effect


@pytest.mark.parametrize("kind", ["throttling", "error_500", "error_503"])
def test_a_call_that_was_refused_did_not_take_effect(faulty: Faulty, kind: str):
    ec2 = faulty.cloud.client("ec2")
    faulty.choose(kind, lambda number: ec2.create_key_pair(KeyName=f"other-{kind}-{number}"))
    with pytest.raises(ClientError):
        ec2.create_key_pair(KeyName=f"wanted-{kind}")
    assert f"wanted-{kind}" not in faulty.cloud.resources()["key_pairs"]


def test_latency_is_added_to_every_request(faulty: Faulty):
    sts = faulty.cloud.client("sts")
    sts.get_caller_identity()
    faulty.set(latency_ms=300)
    started = time.monotonic()
    sts.get_caller_identity()
    assert time.monotonic() - started >= 0.3


def kinds_met(faulty: Faulty, calls: list[Callable[[], Any]], **settings: Any) -> list[str | None]:
    faulty.set(**settings)
    return [faulty.met_by(call) for call in calls]


def test_a_seed_makes_the_same_faults_again_and_another_seed_others(faulty: Faulty):
    calls = [faulty.cloud.client("sts").get_caller_identity] * 30
    first = kinds_met(faulty, calls, rate=0.5, seed=1)
    assert kinds_met(faulty, calls, rate=0.5, seed=1) == first
    assert kinds_met(faulty, calls, rate=0.5, seed=2) != first


def test_how_actions_interleave_does_not_matter(faulty: Faulty):
    one, other = faulty.cloud.client("sts").get_caller_identity, faulty.cloud.client("sqs").list_queues
    after_each_other = kinds_met(faulty, [one] * 15 + [other] * 15, rate=0.5, seed=3)
    in_turn = kinds_met(faulty, [one, other] * 15, rate=0.5, seed=3)
    assert in_turn[::2] == after_each_other[:15]
    assert in_turn[1::2] == after_each_other[15:]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rate_is_kept_and_every_kind_is_met(faulty: Faulty, seed: int):
    """600 requests at 10 %: 60 faults expected, standard deviation 7.3; of each kind 12, and none at all would be one in 170,000."""
    clients = [faulty.cloud.client("sts"), faulty.cloud.client("sqs")]
    faulty.set(rate=0.1, seed=seed)
    failed = 0
    for _ in range(300):
        for call in (clients[0].get_caller_identity, clients[1].list_queues):
            try:
                call()
            except (ClientError, ConnectionClosedError):
                failed += 1
    counts = faulty.counts()
    assert counts["requests"] == 600
    assert sum(counts["faults"].values()) == failed
    assert 31 <= failed <= 89
    assert min(counts["faults"].values()) > 0


def test_nothing_is_wrong_unless_asked_for(embedded_cloud: Any):
    for _ in range(50):
        root(embedded_cloud, "sts").get_caller_identity()
    assert Faulty(embedded_cloud).counts() == {"rate": 0.0, "seed": 0, "latency_ms": 0, "requests": 0, "faults": dict.fromkeys(KINDS, 0)}


def test_the_options_of_the_process_set_them_from_the_start(start_cloud: Callable[..., Any]):
    cloud = start_cloud("--fault-rate", "1", "--fault-seed", "7", "--latency", "20")
    with pytest.raises((ClientError, ConnectionClosedError)):
        cloud.client("sts").get_caller_identity()
    counts = Faulty(cloud).counts()
    assert (counts["rate"], counts["seed"], counts["latency_ms"], counts["requests"]) == (1.0, 7, 20, 1)


@pytest.mark.parametrize("page", ["health", "resources", "faults"])
def test_the_clouds_own_pages_are_spared(faulty: Faulty, page: str):
    faulty.set(rate=1.0)
    for _ in range(20):
        with urllib.request.urlopen(f"{faulty.cloud.endpoint}/_embedded_cloud/{page}", timeout=10) as response:
            assert response.status == 200
    assert faulty.counts()["requests"] == 0


def test_instance_metadata_is_spared(faulty: Faulty):
    faulty.set(rate=1.0)
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{faulty.cloud.endpoint}/_imds/nobody/latest/meta-data/", timeout=10)
    assert answer.value.code == 404
    assert faulty.counts()["requests"] == 0


def session_of(faulty: Faulty) -> tuple[User, dict[str, str]]:
    """A user, and the keys of its session of a role."""
    document = policy({"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"})
    arn = root(faulty.cloud, "iam").create_role(RoleName=unique("role"), AssumeRolePolicyDocument=document)["Role"]["Arn"]
    user = User(faulty.cloud, {"Action": "sts:AssumeRole", "Resource": arn})
    session = user.client("sts").assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
    return user, {"access_key": session["AccessKeyId"], "secret_key": session["SecretAccessKey"], "token": session["SessionToken"]}


def test_a_roles_session_is_spared_and_a_user_is_not(faulty: Faulty):
    user, session = session_of(faulty)
    faulty.set(rate=1.0)
    as_role = faulty.cloud.client("sts", **session)
    assert as_role.get_caller_identity()["Arn"].endswith("/session")
    with pytest.raises((ClientError, ConnectionClosedError)):
        user.client("sts").get_caller_identity()
    assert faulty.counts()["requests"] == 1


def test_the_roles_can_be_the_ones_that_meet_them(faulty: Faulty):
    user, session = session_of(faulty)
    faulty.set(rate=1.0, roles=True)
    assert user.client("sts").get_caller_identity()["Arn"].endswith(f"user/{user.name}")
    with pytest.raises((ClientError, ConnectionClosedError)):
        faulty.cloud.client("sts", **session).get_caller_identity()
    assert faulty.counts()["requests"] == 1


def test_the_actions_and_the_kinds_can_be_chosen(faulty: Faulty):
    faulty.set(rate=1.0, actions=["sqs:ListQueues"], kinds=["error_503"])
    faulty.cloud.client("sts").get_caller_identity()
    with pytest.raises(ClientError) as refused:
        faulty.cloud.client("sqs").list_queues()
    assert refused.value.response["Error"]["Code"] == "ServiceUnavailable"
    counts = faulty.counts()
    assert (counts["requests"], counts["faults"]) == (1, {"error_503": 1})


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_other_entry_of_a_batch_can_be_refused_and_the_rest_is_sent(faulty: Faulty, count: int):
    sqs = faulty.cloud.client("sqs")
    url = sqs.create_queue(QueueName=f"entries-{count}")["QueueUrl"]
    entries = [{"Id": str(number), "MessageBody": str(number)} for number in range(count)]
    faulty.set(rate=1.0, actions=["sqs:SendMessage"], kinds=["entries"])
    answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [(one["Id"], one["Code"], one["SenderFault"]) for one in answer["Failed"]] == [
        (str(number), "InternalError", False) for number in range(0, count, 2)
    ]
    faulty.set()
    sent = {one["Body"] for one in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])}
    assert sent == {one["Id"] for one in answer.get("Successful", [])} == {str(number) for number in range(1, count, 2)}


def test_of_two_queues_one_can_be_chosen(faulty: Faulty):
    sqs = faulty.cloud.client("sqs")
    spared, chosen = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("queue-of-two", "queue-of-two-dlq"))
    faulty.set(rate=1.0, actions=["sqs:SendMessage"], queue="queue-of-two-dlq", kinds=["error_503"])
    sqs.send_message(QueueUrl=spared, MessageBody="x")
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        sqs.send_message(QueueUrl=chosen, MessageBody="x")
    assert faulty.counts()["requests"] == 1


def test_credentials_can_be_refused_as_expired(faulty: Faulty):
    _user, session = session_of(faulty)
    faulty.set(rate=1.0, roles=True, kinds=["expired"])
    with pytest.raises(ClientError) as refused:
        faulty.cloud.client("sqs", **session).list_queues()
    assert refused.value.response["Error"]["Code"] == "ExpiredToken"


def test_every_other_statement_of_a_batch_can_be_throttled_and_the_rest_is_carried_out(faulty: Faulty):
    dynamodb = faulty.cloud.client("dynamodb")
    key = {
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }
    dynamodb.create_table(TableName="statements", BillingMode="PAY_PER_REQUEST", **key)
    statements = [{"Statement": "INSERT INTO \"statements\" VALUE {'id': ?}", "Parameters": [{"S": str(number)}]} for number in range(5)]
    faulty.set(rate=1.0, actions=["dynamodb:PartiQLInsert", "dynamodb:BatchExecuteStatement"], kinds=["entries"])
    answer = dynamodb.batch_execute_statement(Statements=statements)
    codes = [reply.get("Error", {}).get("Code") for reply in answer["Responses"]]
    assert codes == ["ProvisionedThroughputExceeded", None] * 2 + ["ProvisionedThroughputExceeded"]
    faulty.set()
    assert {item["id"]["S"] for item in dynamodb.scan(TableName="statements")["Items"]} == {"1", "3"}


def several(faulty: Faulty, *settings: dict[str, Any]) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"{faulty.cloud.endpoint}/_embedded_cloud/faults", data=json.dumps(settings).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_of_several_faults_a_request_meets_the_one_that_is_about_it(faulty: Faulty):
    sqs, sts = faulty.cloud.client("sqs"), faulty.cloud.client("sts")
    several(faulty, {"rate": 1.0, "actions": ["sqs:ListQueues"], "kinds": ["error_503"]}, {"rate": 1.0, "kinds": ["throttling"]})
    for call, code in ((sqs.list_queues, "ServiceUnavailable"), (sts.get_caller_identity, "Throttling")):
        with pytest.raises(ClientError, match=code):
            call()
    assert [(found["requests"], found["faults"]) for found in faulty.counts()] == [(1, {"error_503": 1}), (1, {"throttling": 1})]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"rate": 1.5}, "from 0 to 1"),
        ({"rate": -0.1}, "from 0 to 1"),
        ({"rate": "0.1"}, "must be a number"),
        ({"seed": 1.5}, "must be a whole number"),
        ({"latency_ms": 60_001}, "from 0 to 60000"),
        ({"latency": 5}, "expected an object of rate, seed, latency_ms"),
        ({"roles": 1}, "must be a truth value"),
        ({"kinds": "throttling"}, "must be a list of texts"),
        ({"kinds": ["throtling"]}, "known are throttling, error_500"),
        ({"actions": [1]}, "must be a list of texts"),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(faulty: Faulty, settings: dict[str, Any], problem: str):
    faulty.set(rate=0.25, seed=4)
    with pytest.raises(urllib.error.HTTPError) as refused:
        faulty.set(**settings)
    assert refused.value.code == 400
    assert problem in refused.value.read().decode()
    assert faulty.counts()["rate"] == 0.25
