"""The census: what is there is counted, what is absent is said to be, and nothing is changed."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline_census_counts import count_items, count_messages, queue_line, table_line, total_of
from botocore.exceptions import ClientError


@pytest.fixture
def cloud(aws: None) -> tuple[Any, Any]:
    return boto3.client("dynamodb", "us-east-1"), boto3.client("sqs", "us-east-1")


def make_table(client: Any, items: int) -> None:
    client.create_table(
        TableName="T",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(items):
        client.put_item(TableName="T", Item={"id": {"S": str(number)}})


class Pages:
    """A table that answers a scan page by page."""

    def __init__(self, *counts: int) -> None:
        self.counts = counts
        self.asked: list[dict[str, Any]] = []

    def scan(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(dict(arguments))
        page = {"Count": self.counts[len(self.asked) - 1]}
        return page if len(self.asked) == len(self.counts) else page | {"LastEvaluatedKey": {"id": {"S": str(len(self.asked))}}}


class Refusing:
    """A client that may not do anything."""

    def __getattr__(self, name: str) -> Any:
        def refuse(**_arguments: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, name)

        return refuse


def test_items_are_counted(cloud: tuple[Any, Any]) -> None:
    make_table(cloud[0], 3)

    assert count_items(cloud[0], "T", 100) == {"name": "T", "state": "present", "item_count": 3, "complete": True}


def test_an_absent_table_is_absent(cloud: tuple[Any, Any]) -> None:
    assert table_line(count_items(cloud[0], "T", 100)) == "table T: absent"


def test_scans_are_consistent_counts_and_follow_every_page() -> None:
    pages = Pages(400, 0, 34)

    assert count_items(pages, "T", 1000)["item_count"] == 434
    assert all(asked["ConsistentRead"] is True and asked["Select"] == "COUNT" for asked in pages.asked)
    assert [asked.get("ExclusiveStartKey", {}).get("id", {}).get("S") for asked in pages.asked] == [None, "1", "2"]


@pytest.mark.parametrize(
    ("pages", "line"),
    [
        ((10,), "table T: 10 items"),
        ((11,), "table T: at least 10 items"),
        ((10, 5), "table T: at least 10 items"),
        ((6, 6, 6), "table T: at least 10 items"),
        ((10, 0), "table T: 10 items"),
    ],
)
def test_counting_stops_at_the_maximum_and_says_so(pages: tuple[int, ...], line: str) -> None:
    assert table_line(count_items(Pages(*pages), "T", 10)) == line


def test_counting_reads_no_page_beyond_the_maximum() -> None:
    pages = Pages(6, 6, 6)

    count_items(pages, "T", 10)

    assert len(pages.asked) == 2


@pytest.mark.parametrize(("count", "words"), [(0, "0 items"), (1, "1 item"), (1234, "1,234 items")])
def test_numbers_of_items_read_well(count: int, words: str) -> None:
    assert table_line(count_items(Pages(count), "T", 10_000)) == f"table T: {words}"


def test_messages_are_counted_by_what_they_do(cloud: tuple[Any, Any]) -> None:
    url = cloud[1].create_queue(QueueName="Q")["QueueUrl"]
    for delay in (0, 0, 0, 600):
        cloud[1].send_message(QueueUrl=url, MessageBody="x", DelaySeconds=delay)
    cloud[1].receive_message(QueueUrl=url)

    queue = count_messages(cloud[1], "Q")

    assert queue == {"name": "Q", "state": "present", "visible": 2, "in_flight": 1, "delayed": 1}
    assert (total_of(queue), queue_line(queue)) == (4, "queue Q: about 4 messages (1 in flight, 1 delayed)")


def test_an_absent_queue_is_absent(cloud: tuple[Any, Any]) -> None:
    queue = count_messages(cloud[1], "Q")

    assert (total_of(queue), queue_line(queue)) == (0, "queue Q: absent")


def test_an_empty_queue_is_not_about_empty(cloud: tuple[Any, Any]) -> None:
    cloud[1].create_queue(QueueName="Q")

    assert queue_line(count_messages(cloud[1], "Q")) == "queue Q: 0 messages"


def test_what_may_not_be_read_is_not_taken_for_absent() -> None:
    with pytest.raises(ClientError):
        count_items(Refusing(), "T", 10)
    with pytest.raises(ClientError):
        count_messages(Refusing(), "Q")
