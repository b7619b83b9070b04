"""Writes beyond a table's provisioned capacity are refused, once its burst is used up."""

from __future__ import annotations

from typing import Any

import pytest
from refusals import in_time, refusal, root, unique

EXCEEDED = "ProvisionedThroughputExceededException"


@pytest.fixture
def dynamodb(embedded_cloud: Any) -> Any:
    return root(embedded_cloud, "dynamodb")


@pytest.fixture
def table(dynamodb: Any) -> str:
    """A table of one write unit a second, and so with a burst of 300."""
    return make_table(dynamodb, ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1})


def make_table(dynamodb: Any, **options: Any) -> str:
    name = unique("table")
    key = {
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }
    dynamodb.create_table(TableName=name, **key, **options)
    return name


def item(name: str, units: int = 1) -> dict[str, Any]:
    """An item that takes so many units to write."""
    return {"id": {"S": name}, "filler": {"S": "x" * (1024 * units - 100)}}


def use_up(dynamodb: Any, table: str, units: int = 300) -> None:
    dynamodb.put_item(TableName=table, Item=item("large", units))


def insert(table: str, name: str) -> dict[str, Any]:
    return {"Statement": f"INSERT INTO \"{table}\" VALUE {{'id': ?}}", "Parameters": [{"S": name}]}


WRITES = {
    "put": lambda client, table: client.put_item(TableName=table, Item=item("a")),
    "update": lambda client, table: client.update_item(
        TableName=table, Key={"id": {"S": "a"}}, UpdateExpression="SET n = :n", ExpressionAttributeValues={":n": {"N": "1"}}
    ),
    "deletion": lambda client, table: client.delete_item(TableName=table, Key={"id": {"S": "a"}}),
    "batch": lambda client, table: client.batch_write_item(RequestItems={table: [{"PutRequest": {"Item": item("a")}}]}),
    "transaction": lambda client, table: client.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": item("a")}}]),
    "statement": lambda client, table: client.execute_statement(**insert(table, "a")),
    "statements' transaction": lambda client, table: client.execute_transaction(TransactStatements=[insert(table, "a")]),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_beyond_the_burst_is_refused_until_there_is_capacity_again(dynamodb: Any, table: str, write: str):
    use_up(dynamodb, table)
    code, text = refusal(lambda: WRITES[write](dynamodb, table))
    assert code == EXCEEDED
    assert text.startswith("The level of configured provisioned throughput for the table was exceeded.")
    in_time(lambda: WRITES[write](dynamodb, table), EXCEEDED)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_within_the_burst_is_taken(dynamodb: Any, table: str, write: str):
    use_up(dynamodb, table, 290)
    WRITES[write](dynamodb, table)


def test_reading_takes_no_write_capacity(dynamodb: Any, table: str):
    use_up(dynamodb, table)
    assert dynamodb.get_item(TableName=table, Key={"id": {"S": "large"}})["Item"]
    assert dynamodb.execute_statement(Statement=f"SELECT id FROM \"{table}\" WHERE id = 'large'")["Items"]


def test_a_table_on_demand_takes_every_write(dynamodb: Any):
    table = make_table(dynamodb, BillingMode="PAY_PER_REQUEST")
    for number in range(3):
        dynamodb.put_item(TableName=table, Item=item(f"large-{number}", 300))


def test_an_item_counts_by_its_size_before_as_well(dynamodb: Any, table: str):
    use_up(dynamodb, table, 200)
    assert refusal(lambda: dynamodb.delete_item(TableName=table, Key={"id": {"S": "large"}}))[0] == EXCEEDED


def test_what_a_batch_cannot_write_comes_back_unprocessed(dynamodb: Any, table: str):
    use_up(dynamodb, table, 280)
    requests = [{"PutRequest": {"Item": item(str(number), 10)}} for number in range(3)]
    left = dynamodb.batch_write_item(RequestItems={table: requests})["UnprocessedItems"]
    assert [request["PutRequest"]["Item"]["id"]["S"] for request in left[table]] == ["2"]
    assert "Item" in dynamodb.get_item(TableName=table, Key={"id": {"S": "1"}})
    assert "Item" not in dynamodb.get_item(TableName=table, Key={"id": {"S": "2"}})


def test_each_statement_of_a_batch_has_its_own_error(dynamodb: Any, table: str):
    use_up(dynamodb, table, 297)
    statements = [insert(table, str(number)) for number in range(25)]
    answers = dynamodb.batch_execute_statement(Statements=statements)["Responses"]
    codes = [answer.get("Error", {}).get("Code") for answer in answers]
    done = codes.index("ProvisionedThroughputExceeded")
    assert 3 <= done <= 5
    assert codes == [None] * done + ["ProvisionedThroughputExceeded"] * (25 - done)
    stored = {found["id"]["S"] for found in dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]}
    assert stored == {"large", *map(str, range(done))}


def test_more_capacity_is_in_force_at_once(dynamodb: Any, table: str):
    use_up(dynamodb, table)
    dynamodb.update_table(TableName=table, ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 4000})
    in_time(lambda: dynamodb.put_item(TableName=table, Item=item("b", 100)), EXCEEDED, seconds=10)
