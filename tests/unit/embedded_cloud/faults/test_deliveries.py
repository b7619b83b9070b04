"""Faults between a queue and its function: none unless asked for, and each as AWS documents it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from plays import wait_until
from refusals import make_function, make_queue, make_role, package, root

# Tells what it was given, in the order it was given it, by the queue whose URL it has.
SOURCE = """
import boto3, os
def handler(event, context):
    sqs = boto3.client("sqs")
    for record in event["Records"]:
        sqs.send_message(QueueUrl=os.environ["HEARD"], MessageBody=record["body"])
    return {"batchItemFailures": []}
"""


class Mapped:
    """A queue, whose messages show again after two seconds, and a function that forwards them to another queue."""

    def __init__(self, cloud: Any) -> None:
        self.cloud, self.sqs, self.functions = cloud, root(cloud, "sqs"), root(cloud, "lambda")
        self.dead_letter_queue, dead_letter_arn = make_queue(cloud)
        self.heard_url, _arn = make_queue(cloud)
        redrive = {"deadLetterTargetArn": dead_letter_arn, "maxReceiveCount": "3"}
        self.url, queue = make_queue(cloud, VisibilityTimeout="2", RedrivePolicy=json.dumps(redrive))
        variables = {"Variables": {"HEARD": self.heard_url}}
        code = {"ZipFile": package(source=SOURCE)}
        role = make_role(cloud, actions=["sqs:*", "logs:*"])
        self.name = make_function(cloud, role, Code=code, Timeout=2, Environment=variables)
        # The first start loads boto3, which a busy machine may not do within the timeout.
        warm = lambda: "FunctionError" not in self.functions.invoke(FunctionName=self.name, Payload=b'{"Records": []}')  # noqa: E731
        wait_until(warm, 30, "a function that has started")
        self.mapping = self.functions.create_event_source_mapping(EventSourceArn=queue, FunctionName=self.name, BatchSize=10)["UUID"]

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
def mapped(embedded_cloud: Any) -> Iterator[Mapped]:
    made = Mapped(embedded_cloud)
    yield made
    made.set()
    made.functions.delete_event_source_mapping(UUID=made.mapping)


def test_nothing_goes_wrong_unless_asked_for(mapped: Mapped):
    mapped.send("a", "b")
    assert sorted(mapped.heard_until(lambda found: len(found) >= 2)) == ["a", "b"]  # two sends may be two batches, side by side
    assert [mapped.met(name) for name in ("twice", "shuffled", "killed", "timed_out")] == [0, 0, 0, 0]


def test_a_message_can_be_delivered_again_after_it_was_deleted(mapped: Mapped):
    mapped.set(twice=1.0, twice_seconds=0.5)
    mapped.send("a")
    assert mapped.heard_until(lambda found: len(found) >= 2)[:2] == ["a", "a"]


def test_batches_can_be_taken_out_of_order(mapped: Mapped):
    mapped.functions.put_function_concurrency(FunctionName=mapped.name, ReservedConcurrentExecutions=0)
    sent = [f"{number:02d}" for number in range(30)]
    mapped.set(shuffled=1.0, seed=1)
    mapped.send(*sent)
    mapped.functions.delete_function_concurrency(FunctionName=mapped.name)
    found = mapped.heard_until(lambda found: len(set(found)) >= 30)
    assert sorted(set(found)) == sent
    assert found != sorted(found)


@pytest.mark.parametrize("end", ["killed", "timed_out"])
def test_an_invocation_can_end_after_its_work_and_its_messages_come_again(mapped: Mapped, end: str):
    mapped.set(**{end: 1.0})
    mapped.send("a")
    assert mapped.heard_until(lambda found: mapped.met(end) >= 1) == ["a"]
    mapped.set()
    assert mapped.heard_until(lambda found: len(found) >= 1) == ["a"]


@pytest.mark.parametrize("target", ["function", "alias"])
def test_a_throttled_invocation_counts_as_a_receive(mapped: Mapped, target: str):
    if target == "alias":
        version = mapped.functions.publish_version(FunctionName=mapped.name)["Version"]
        alias = mapped.functions.create_alias(FunctionName=mapped.name, Name="live", FunctionVersion=version)["AliasArn"]
        mapped.functions.update_event_source_mapping(UUID=mapped.mapping, FunctionName=alias)
    # Nothing is invoked, so a shorter time will do.
    mapped.functions.update_function_configuration(FunctionName=mapped.name, Timeout=1)
    mapped.sqs.set_queue_attributes(QueueUrl=mapped.url, Attributes={"VisibilityTimeout": "1"})
    mapped.functions.put_function_concurrency(FunctionName=mapped.name, ReservedConcurrentExecutions=0)
    mapped.send("a")
    end = time.monotonic() + 30
    dead_letter_messages: list[str] = []
    while not dead_letter_messages and time.monotonic() < end:
        dead_letter_messages = mapped.heard(mapped.dead_letter_queue)
    assert dead_letter_messages == ["a"]
    assert mapped.heard() == []


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
def test_nonsense_is_refused(mapped: Mapped, settings: dict[str, Any], problem: str):
    with pytest.raises(urllib.error.HTTPError) as refused:
        mapped.set(**settings)
    assert refused.value.code == 400
    assert problem in refused.value.read().decode()
