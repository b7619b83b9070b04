"""Mishaps between a queue and its function: none unless asked for, and each as AWS documents it."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
MAY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["sqs:*", "logs:*"], "Resource": "*"}]}
# Tells what it was given, in the order it was given it, by the queue whose URL it has.
SOURCE = """
import boto3, os
def handler(event, context):
    sqs = boto3.client("sqs")
    for record in event["Records"]:
        sqs.send_message(QueueUrl=os.environ["HEARD"], MessageBody=record["body"])
    return {"batchItemFailures": []}
"""


class World:
    """A queue, whose messages show again after two seconds, and a function that forwards them to another queue."""

    def __init__(self, cloud: Any) -> None:
        self.cloud, name = cloud, f"deliveries-{uuid.uuid4().hex[:8]}"
        self.sqs, iam, self.functions, self.name = cloud.client("sqs"), cloud.client("iam"), cloud.client("lambda"), name
        self.letters = self.sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
        self.heard_url = self.sqs.create_queue(QueueName=f"{name}-heard")["QueueUrl"]
        redrive = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:000000000000:{name}-dlq", "maxReceiveCount": "3"}
        attributes = {"VisibilityTimeout": "2", "RedrivePolicy": json.dumps(redrive)}
        self.url = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=json.dumps(MAY))
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("code.py", SOURCE)
        code = {"Code": {"ZipFile": package.getvalue()}, "Handler": "code.handler", "Runtime": "python3.13", "Timeout": 2}
        self.functions.create_function(FunctionName=name, Role=role, Environment={"Variables": {"HEARD": self.heard_url}}, **code)
        queue = f"arn:aws:sqs:us-east-1:000000000000:{name}"
        self.mapping = self.functions.create_event_source_mapping(EventSourceArn=queue, FunctionName=name, BatchSize=10)["UUID"]

    def set(self, **settings: Any) -> dict[str, Any]:
        return self._ask(json.dumps(settings).encode())

    def met(self, name: str) -> int:
        return self._ask(None)["met"][name]

    def _ask(self, body: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.cloud.endpoint}/_embedded_cloud/deliveries", data=body, method="PUT" if body else "GET")
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def heard(self, url: str | None = None) -> list[str]:
        """What the function has been given so far and nobody asked for yet, in order."""
        found: list[str] = []
        while messages := self.sqs.receive_message(QueueUrl=url or self.heard_url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get(
            "Messages"
        ):
            found += [message["Body"] for message in messages]
            for message in messages:
                self.sqs.delete_message(QueueUrl=url or self.heard_url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def heard_until(self, enough: Callable[[list[str]], bool], seconds: float = 20) -> list[str]:
        found: list[str] = []
        end = time.monotonic() + seconds
        while not enough(found) and time.monotonic() < end:
            found += self.heard()
        return found


@pytest.fixture
def world(embedded_cloud: Any) -> Iterator[World]:
    made = World(embedded_cloud)
    yield made
    made.set()
    made.functions.delete_event_source_mapping(UUID=made.mapping)


def test_nothing_goes_wrong_unless_asked_for(world: World):
    world.send("a", "b")
    assert sorted(world.heard_until(lambda found: len(found) >= 2)) == ["a", "b"]  # two sends may be two batches, side by side
    assert [world.met(name) for name in ("twice", "shuffled", "killed", "timed_out")] == [0, 0, 0, 0]


def test_a_message_can_be_delivered_again_after_it_was_deleted(world: World):
    world.set(twice=1.0, twice_seconds=0.5)
    world.send("a")
    assert world.heard_until(lambda found: len(found) >= 2)[:2] == ["a", "a"]


def test_batches_can_be_taken_out_of_order(world: World):
    world.functions.put_function_concurrency(FunctionName=world.name, ReservedConcurrentExecutions=0)
    sent = [f"{number:02d}" for number in range(30)]
    world.set(shuffled=1.0, seed=1)
    world.send(*sent)
    world.functions.delete_function_concurrency(FunctionName=world.name)
    found = world.heard_until(lambda found: len(set(found)) >= 30)
    assert sorted(set(found)) == sent
    assert found != sorted(found)


@pytest.mark.parametrize("end", ["killed", "timed_out"])
def test_an_invocation_can_end_after_its_work_and_its_messages_come_again(world: World, end: str):
    world.set(**{end: 1.0})
    world.send("a")
    assert world.heard_until(lambda found: world.met(end) >= 1) == ["a"]
    world.set()
    assert world.heard_until(lambda found: len(found) >= 1) == ["a"]


@pytest.mark.parametrize("target", ["function", "alias"])
def test_a_throttled_invocation_counts_as_a_receive(world: World, target: str):
    if target == "alias":
        version = world.functions.publish_version(FunctionName=world.name)["Version"]
        alias = world.functions.create_alias(FunctionName=world.name, Name="live", FunctionVersion=version)["AliasArn"]
        world.functions.update_event_source_mapping(UUID=world.mapping, FunctionName=alias)
    world.functions.put_function_concurrency(FunctionName=world.name, ReservedConcurrentExecutions=0)
    world.send("a")
    end = time.monotonic() + 30
    letters: list[str] = []
    while not letters and time.monotonic() < end:
        letters = world.heard(world.letters)
    assert letters == ["a"]
    assert world.heard() == []


def test_a_seed_chooses_the_same_again(embedded_cloud: Any):
    from embedded_cloud.faults.deliveries import Deliveries, DeliverySettings

    def drawn(seed: int) -> Counter[str]:
        deliveries = Deliveries()
        deliveries.start_anew(DeliverySettings(twice=0.5, killed=0.5, seed=seed))
        return Counter(f"{number} {name}" for number in range(50) for name in ("twice", "killed") if deliveries._happens(name))

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"twice": 1.5}, "a share must be from 0 to 1"),
        ({"killed": True}, "must be a number"),
        ({"shuffle": 1}, "expected an object of twice, shuffled"),
    ],
)
def test_nonsense_is_refused(world: World, settings: dict[str, Any], problem: str):
    with pytest.raises(urllib.error.HTTPError) as refused:
        world.set(**settings)
    assert refused.value.code == 400
    assert problem in refused.value.read().decode()
