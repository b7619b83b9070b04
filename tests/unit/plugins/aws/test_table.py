"""Reading a table: consistently, in calls of a hundred ids, at its capacity, and again while it throttles."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.aws.read_capacity import BURST_SECONDS, ReadCapacity
from ansible.module_utils.pipeline.aws.table import PATIENCE_SECONDS, TableReader, wait_for_items
from aws_fakes import TABLE, make_table
from botocore.exceptions import ClientError, EndpointConnectionError
from fakes import FakeClock, client_error


class Spy:
    """A table that notes the calls, and answers the first ones as told: an exception, or how many keys to leave unprocessed."""

    def __init__(self, client: Any, *answers: Any) -> None:
        self.client = client
        self.answers = list(answers)
        self.calls: list[dict[str, Any]] = []

    def batch_get_item(self, RequestItems: dict[str, Any], **_: Any) -> Any:
        self.calls.append(RequestItems[TABLE])
        answer = self.answers.pop(0) if self.answers else 0
        if isinstance(answer, Exception):
            raise answer
        keys = RequestItems[TABLE]["Keys"]
        unprocessed, keys = keys[:answer], keys[answer:]
        response = self.client.batch_get_item(RequestItems={TABLE: {"Keys": keys, "ConsistentRead": True}}) if keys else {"Responses": {}}
        return response | {"UnprocessedKeys": {TABLE: {"Keys": unprocessed}} if unprocessed else {}}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(aws: None) -> Any:
    return make_table(boto3.client("dynamodb", "us-east-1"))


def put(client: Any, *ids: str) -> None:
    for one in ids:
        client.put_item(TableName=TABLE, Item={"transaction_id": {"S": one}, "amount": {"N": "0.07"}})


THROTTLED = client_error("ProvisionedThroughputExceededException", "BatchGetItem")
UNREACHABLE = EndpointConnectionError(endpoint_url="http://x")


def test_all_that_are_there_are_found_without_a_wait(table: Any, clock: FakeClock) -> None:
    put(table, "a", "b")

    lookup = wait_for_items(table, TABLE, ["b", "a"], clock, 60)

    assert (set(lookup.found), lookup.missing, clock.passed) == ({"a", "b"}, [], 0)


def test_the_missing_are_named_in_the_order_given(table: Any, clock: FakeClock) -> None:
    put(table, "b")

    assert wait_for_items(table, TABLE, ["c", "b", "a"], clock, 5).missing == ["c", "a"]


def test_the_wait_ends_when_the_last_one_arrives(table: Any, clock: FakeClock) -> None:
    clock.on_wait = lambda: put(table, "a") if clock.passed > 3 else None

    lookup = wait_for_items(table, TABLE, ["a"], clock, 60)

    assert not lookup.missing and 3 < lookup.seconds < 6


def test_the_wait_ends_with_the_timeout(table: Any, clock: FakeClock) -> None:
    assert wait_for_items(table, TABLE, ["a"], clock, 7).seconds == pytest.approx(7)


def test_what_arrives_in_the_last_moment_is_found(table: Any, clock: FakeClock) -> None:
    clock.on_wait = lambda: put(table, "a") if clock.passed >= 7 else None

    assert wait_for_items(table, TABLE, ["a"], clock, 7).missing == []


def test_reads_are_consistent_and_of_at_most_a_hundred_keys(table: Any, clock: FakeClock) -> None:
    spy = Spy(table)

    wait_for_items(spy, TABLE, map(str, range(250)), clock, 0)

    assert [len(call["Keys"]) for call in spy.calls] == [100, 100, 50]
    assert all(call["ConsistentRead"] is True for call in spy.calls)


def test_an_id_given_twice_is_asked_for_once(table: Any, clock: FakeClock) -> None:
    spy = Spy(table)

    lookup = wait_for_items(spy, TABLE, ["a", "b", "a"], clock, 0)

    assert len(spy.calls[0]["Keys"]) == 2 and lookup.missing == ["a", "b"]


def test_what_was_found_is_not_asked_for_again(table: Any, clock: FakeClock) -> None:
    put(table, "a")
    spy = Spy(table)

    wait_for_items(spy, TABLE, ["a", "b"], clock, 1)

    assert [len(call["Keys"]) for call in spy.calls[:2]] == [2, 1]


def test_unprocessed_keys_are_read_later(table: Any, clock: FakeClock) -> None:
    put(table, "a", "b", "c")
    spy = Spy(table, 2)

    lookup = wait_for_items(spy, TABLE, ["a", "b", "c"], clock, 60)

    assert not lookup.missing and not lookup.error and len(spy.calls) == 2


def test_keys_unprocessed_to_the_end_are_explained(table: Any, clock: FakeClock) -> None:
    put(table, "a", "b")

    lookup = wait_for_items(Spy(table, 1, 1), TABLE, ["a", "b"], clock, 0)

    assert lookup.missing == ["a"]
    assert lookup.error.endswith("(BatchGetItem): the table was too busy to read 1 of the ids")


@pytest.mark.parametrize("error", [THROTTLED, UNREACHABLE])
def test_a_refusal_of_the_moment_is_outlived(table: Any, clock: FakeClock, error: Exception) -> None:
    put(table, "a")

    lookup = wait_for_items(Spy(table, error), TABLE, ["a"], clock, 60)

    assert not lookup.missing and not lookup.error


def test_a_missing_table_is_said_at_once(table: Any, clock: FakeClock) -> None:
    table.delete_table(TableName=TABLE)

    lookup = wait_for_items(table, TABLE, ["a"], clock, 600)

    assert lookup.error.startswith("ResourceNotFoundException (BatchGetItem)") and clock.passed == 0


class Scans:
    """A table of three pages of one item, at 10 units each, which answers the first calls as told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.starts = list(errors), []

    def scan(self, **arguments: Any) -> dict[str, Any]:
        assert (arguments["TableName"], arguments["ConsistentRead"]) == (TABLE, True)
        if self.errors:
            raise self.errors.pop(0)
        start = arguments.get("ExclusiveStartKey")
        self.starts.append(start)
        page = {"Items": [{"transaction_id": {"S": str(start)}}], "ConsumedCapacity": {"CapacityUnits": 10.0}}
        return page | ({"LastEvaluatedKey": len(self.starts)} if len(self.starts) < 3 else {})


def ids(pages: Any) -> list[str]:
    return [item["transaction_id"]["S"] for items in pages for item in items]


@pytest.mark.parametrize("rate", [None, 25.0])
def test_every_page_of_the_table_is_read_once_in_order(clock: FakeClock, rate: float | None) -> None:
    client = Scans()
    reader = TableReader(client, TABLE, clock, ReadCapacity(clock, rate))

    assert ids(reader.scan(250)) == ["None", "1", "2"]
    assert (client.starts, reader.capacity.used) == ([None, 1, 2], 30)


def test_a_scan_ends_once_its_units_are_used(clock: FakeClock) -> None:
    client = Scans()

    assert ids(page["Items"] for page in TableReader(client, TABLE, clock).pages(units=20)) == ["None", "1"]
    assert client.starts == [None, 1]


@pytest.mark.parametrize("error", [THROTTLED, UNREACHABLE, client_error("InternalServerError", "Scan", 500)])
def test_a_page_that_fails_for_now_is_read_again(clock: FakeClock, error: Exception) -> None:
    assert ids(TableReader(Scans(error, error), TABLE, clock).scan(250)) == ["None", "1", "2"]
    assert clock.passed > 0


def test_a_table_that_throttles_for_minutes_ends_the_read(clock: FakeClock) -> None:
    with pytest.raises(ClientError, match="ProvisionedThroughputExceeded"):
        list(TableReader(Scans(*[THROTTLED] * 1000), TABLE, clock).scan(250))
    assert clock.passed == PATIENCE_SECONDS


def test_an_error_that_stays_is_raised_at_once(clock: FakeClock) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        list(TableReader(Scans(client_error("AccessDeniedException", "Scan")), TABLE, clock).scan(250))
    assert clock.passed == 0


def test_ids_that_a_call_leaves_are_read_by_the_next(table: Any, clock: FakeClock) -> None:
    put(table, "a", "b", "c")

    assert sorted(ids(TableReader(Spy(table, 2, 2), TABLE, clock).get(["a", "b", "c"]))) == ["a", "b", "c"]
    assert clock.passed > 0  # the second call left all of them: that is a throttle


def test_what_cannot_be_an_id_is_not_asked_for(table: Any, clock: FakeClock) -> None:
    spy = Spy(table)

    assert list(TableReader(spy, TABLE, clock).get(["", "x" * 2049, "\ud800"])) == []
    assert spy.calls == []


def test_a_table_gives_what_it_saved_up_at_once_and_then_its_capacity(clock: FakeClock) -> None:
    capacity = ReadCapacity(clock, 25, BURST_SECONDS)

    capacity.take(25 * BURST_SECONDS)
    assert clock.passed == 0
    capacity.take(50)
    assert clock.passed == 2
    assert capacity.used == 25 * BURST_SECONDS + 50


def test_without_a_burst_every_unit_is_waited_for_and_idle_time_is_not_made_up_for(clock: FakeClock) -> None:
    capacity = ReadCapacity(clock, 10)

    capacity.take(10)
    assert clock.passed == 1
    clock.passed += 60
    capacity.take(20)
    assert clock.passed == 63


@pytest.mark.parametrize("rate", [None, 0])
def test_a_table_without_a_rate_is_read_without_a_wait(clock: FakeClock, rate: float | None) -> None:
    capacity = ReadCapacity(clock, rate)

    capacity.take(10_000)
    assert (clock.passed, capacity.used) == (0, 10_000)
