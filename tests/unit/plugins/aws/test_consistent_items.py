"""Reading transactions by id: consistently, in calls of a hundred, until all are there or the time is up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.aws.consistent_items import wait_for_items
from ansible.module_utils.pipeline.core.clock import Clock
from botocore.exceptions import ClientError, EndpointConnectionError

TABLE = "RealTimeTransactions"


class Time:
    """A clock that only moves when somebody waits."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.on_wait: Any = lambda: None
        self.clock = Clock(now=lambda: datetime.now(UTC), monotonic=lambda: self.passed, wait=self._wait)

    def _wait(self, seconds: float) -> None:
        self.passed += seconds
        self.on_wait()


class Spy:
    """A table that notes the calls, and answers the first ones as told: an exception, or how many keys to leave unprocessed."""

    def __init__(self, client: Any, *answers: Any) -> None:
        self.client = client
        self.answers = list(answers)
        self.calls: list[dict[str, Any]] = []

    def batch_get_item(self, RequestItems: dict[str, Any]) -> Any:
        self.calls.append(RequestItems[TABLE])
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, Exception):
            raise answer
        keys = RequestItems[TABLE]["Keys"]
        unprocessed, keys = keys[:answer], keys[answer:]
        response = self.client.batch_get_item(RequestItems={TABLE: {"Keys": keys, "ConsistentRead": True}})
        return response | {"UnprocessedKeys": {TABLE: {"Keys": unprocessed}} if unprocessed else {}}


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def table(aws: None) -> Any:
    client = boto3.client("dynamodb", "us-east-1")
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "transaction_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "transaction_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


def put(client: Any, *ids: str) -> None:
    for one in ids:
        client.put_item(TableName=TABLE, Item={"transaction_id": {"S": one}, "amount": {"N": "0.07"}})


def throttle() -> ClientError:
    error = {
        "Error": {"Code": "ProvisionedThroughputExceededException", "Message": "slow down"},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    return ClientError(error, "BatchGetItem")


def test_all_that_are_there_are_found_without_a_wait(table: Any, time: Time) -> None:
    put(table, "a", "b")

    lookup = wait_for_items(table, TABLE, ["b", "a"], time.clock, 60)

    assert (set(lookup.found), lookup.missing, time.passed) == ({"a", "b"}, [], 0)


def test_the_missing_are_named_in_the_order_given(table: Any, time: Time) -> None:
    put(table, "b")

    assert wait_for_items(table, TABLE, ["c", "b", "a"], time.clock, 5).missing == ["c", "a"]


def test_the_wait_ends_when_the_last_one_arrives(table: Any, time: Time) -> None:
    time.on_wait = lambda: put(table, "a") if time.passed > 3 else None

    lookup = wait_for_items(table, TABLE, ["a"], time.clock, 60)

    assert not lookup.missing and 3 < lookup.seconds < 6


def test_the_wait_ends_with_the_timeout(table: Any, time: Time) -> None:
    assert wait_for_items(table, TABLE, ["a"], time.clock, 7).seconds == pytest.approx(7)


def test_what_arrives_in_the_last_moment_is_found(table: Any, time: Time) -> None:
    time.on_wait = lambda: put(table, "a") if time.passed >= 7 else None

    assert wait_for_items(table, TABLE, ["a"], time.clock, 7).missing == []


def test_reads_are_consistent_and_of_at_most_a_hundred_keys(table: Any, time: Time) -> None:
    spy = Spy(table)

    wait_for_items(spy, TABLE, map(str, range(250)), time.clock, 0)

    assert [len(call["Keys"]) for call in spy.calls] == [100, 100, 50]
    assert all(call["ConsistentRead"] is True for call in spy.calls)


def test_an_id_given_twice_is_asked_for_once(table: Any, time: Time) -> None:
    spy = Spy(table)

    lookup = wait_for_items(spy, TABLE, ["a", "b", "a"], time.clock, 0)

    assert len(spy.calls[0]["Keys"]) == 2 and lookup.missing == ["a", "b"]


def test_what_was_found_is_not_asked_for_again(table: Any, time: Time) -> None:
    put(table, "a")
    spy = Spy(table)

    wait_for_items(spy, TABLE, ["a", "b"], time.clock, 1)

    assert [len(call["Keys"]) for call in spy.calls[:2]] == [2, 1]


def test_unprocessed_keys_are_read_later(table: Any, time: Time) -> None:
    put(table, "a", "b", "c")
    spy = Spy(table, 2)

    lookup = wait_for_items(spy, TABLE, ["a", "b", "c"], time.clock, 60)

    assert not lookup.missing and not lookup.error and len(spy.calls) == 2


def test_keys_unprocessed_to_the_end_are_explained(table: Any, time: Time) -> None:
    put(table, "a", "b")

    lookup = wait_for_items(Spy(table, 1), TABLE, ["a", "b"], time.clock, 0)

    assert (lookup.missing, lookup.error) == (["a"], "the table was too busy to read 1 of the ids")


@pytest.mark.parametrize("error", [throttle(), EndpointConnectionError(endpoint_url="http://x")])
def test_a_refusal_of_the_moment_is_outlived(table: Any, time: Time, error: Exception) -> None:
    put(table, "a")

    lookup = wait_for_items(Spy(table, error), TABLE, ["a"], time.clock, 60)

    assert not lookup.missing and not lookup.error


def test_a_missing_table_is_said_at_once(table: Any, time: Time) -> None:
    table.delete_table(TableName=TABLE)

    lookup = wait_for_items(table, TABLE, ["a"], time.clock, 600)

    assert lookup.error.startswith("ResourceNotFoundException (BatchGetItem)") and time.passed == 0
