"""Reads and writes beyond a table's provisioned capacity are refused, once its burst is used up, and tell what they took."""

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


# reads: a table of one unit a second, and so with a burst of 300


def store(dynamodb: Any, *kilobytes: float, name: str = "a") -> str:
    """A table of one read unit, with items of so many KB, called a0, a1, ..."""
    table = make_table(dynamodb, ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 4000})
    for number, size in enumerate(kilobytes):
        dynamodb.put_item(TableName=table, Item={"id": {"S": f"{name}{number}"}, "filler": {"S": "x" * (int(1024 * size) - 10)}})
    return table


def select(table: str, *ids: str, consistent: bool = True) -> dict[str, Any]:
    where = f" WHERE id {'= ?' if len(ids) == 1 else 'IN [' + ', '.join('?' * len(ids)) + ']'}" if ids else ""
    return {"Statement": f'SELECT * FROM "{table}"{where}', "ConsistentRead": consistent} | (
        {"Parameters": [{"S": one} for one in ids]} if ids else {}
    )


def keys(*ids: str) -> list[dict[str, Any]]:
    return [{"id": {"S": one}} for one in ids]


def batch(table: str, *ids: str, consistent: bool = True) -> dict[str, Any]:
    return {table: {"Keys": keys(*ids), "ConsistentRead": consistent}}


def query(client: Any, table: str, **options: Any) -> Any:
    condition = {"KeyConditionExpression": "id = :id", "ExpressionAttributeValues": {":id": {"S": "a0"}}}
    return client.query(TableName=table, **condition, **options)


def got(client: Any, table: str, *ids: str, **options: Any) -> Any:
    return client.transact_get_items(TransactItems=[{"Get": {"TableName": table, "Key": key}} for key in keys(*ids)], **options)


TOTAL = {"ReturnConsumedCapacity": "TOTAL"}
# Of items of 5, 1 and 1 KB: what each read takes by the rules of AWS's page, in units.
READS: dict[str, tuple[float, Any]] = {
    "get": (2.0, lambda c, t, **o: c.get_item(TableName=t, Key=keys("a0")[0], ConsistentRead=True, **o)),
    "get, eventually": (1.0, lambda c, t, **o: c.get_item(TableName=t, Key=keys("a0")[0], **o)),
    "get of nothing": (1.0, lambda c, t, **o: c.get_item(TableName=t, Key=keys("none")[0], ConsistentRead=True, **o)),
    "get of a part": (
        2.0,
        lambda c, t, **o: c.get_item(TableName=t, Key=keys("a0")[0], ConsistentRead=True, ProjectionExpression="id", **o),
    ),
    "query": (2.0, lambda c, t, **o: query(c, t, ConsistentRead=True, **o)),
    "query, eventually": (1.0, query),
    "query of which nothing passes": (
        2.0,
        lambda c, t, **o: query(c, t, ConsistentRead=True, FilterExpression="attribute_exists(absent)", **o),
    ),
    "scan": (2.0, lambda c, t, **o: c.scan(TableName=t, ConsistentRead=True, **o)),  # 7 KB together, and not 2 + 1 + 1
    "scan, eventually": (1.0, lambda c, t, **o: c.scan(TableName=t, **o)),
    "scan that counts": (2.0, lambda c, t, **o: c.scan(TableName=t, ConsistentRead=True, Select="COUNT", **o)),
    "batch": (5.0, lambda c, t, **o: c.batch_get_item(RequestItems=batch(t, "a0", "a1", "a2", "none"), **o)),  # each rounded up
    "batch, eventually": (2.5, lambda c, t, **o: c.batch_get_item(RequestItems=batch(t, "a0", "a1", "a2", "none", consistent=False), **o)),
    "transaction": (6.0, lambda c, t, **o: got(c, t, "a0", "a1", **o)),
    "statement of a key": (2.0, lambda c, t, **o: c.execute_statement(**select(t, "a0"), **o)),
    "statement of a key, eventually": (1.0, lambda c, t, **o: c.execute_statement(**select(t, "a0", consistent=False), **o)),
    "statement of keys": (3.0, lambda c, t, **o: c.execute_statement(**select(t, "a0", "a1"), **o)),
    "statement of all": (2.0, lambda c, t, **o: c.execute_statement(**select(t), **o)),
    "statements": (2.5, lambda c, t, **o: c.batch_execute_statement(Statements=[select(t, "a0"), select(t, "a1", consistent=False)], **o)),
    "statements' transaction": (
        6.0,
        lambda c, t, **o: c.execute_transaction(
            TransactStatements=[{k: v for k, v in select(t, one).items() if k != "ConsistentRead"} for one in ("a0", "a1")], **o
        ),
    ),
}


def got_units(answer: dict[str, Any]) -> float:
    consumed = answer["ConsumedCapacity"]
    return sum(one["CapacityUnits"] for one in (consumed if isinstance(consumed, list) else [consumed]))


@pytest.mark.parametrize("read", READS)
def test_a_read_tells_the_units_that_it_took(dynamodb: Any, read: str):
    table = store(dynamodb, 5, 1, 1)
    units, call = READS[read]
    assert got_units(call(dynamodb, table, **TOTAL)) == units
    assert "ConsumedCapacity" not in call(dynamodb, table)


@pytest.mark.parametrize("read", READS)
def test_a_read_beyond_the_burst_is_refused_until_there_is_capacity_again(dynamodb: Any, read: str):
    table = store(dynamodb, 5, 1, 1)
    units, call = READS[read]
    made = 0

    def once_more() -> bool:
        nonlocal made
        made += 1
        answer = call(dynamodb, table)
        return all("Error" not in one for one in answer.get("Responses", []) if isinstance(one, dict)) and not answer.get("UnprocessedKeys")

    code = ""
    while not code and made * units < 400:
        try:
            code = "" if once_more() else "in part"
        except dynamodb.exceptions.ProvisionedThroughputExceededException:
            code = EXCEEDED
    assert code and made * units >= 300
    in_time(lambda: dynamodb.get_item(TableName=table, Key=keys("none")[0]), EXCEEDED)


def test_what_a_batch_cannot_read_comes_back_unprocessed(dynamodb: Any):
    table = store(dynamodb, 396, 396, 396, 396)  # 99 units each
    answer = dynamodb.batch_get_item(RequestItems=batch(table, "a0", "a1", "a2", "a3"), **TOTAL)
    assert sorted(item["id"]["S"] for item in answer["Responses"][table]) == ["a0", "a1", "a2"]
    assert answer["UnprocessedKeys"] == {table: {"Keys": keys("a3"), "ConsistentRead": True}}
    assert got_units(answer) == 3 * 99
    code, _text = refusal(lambda: dynamodb.batch_get_item(RequestItems=answer["UnprocessedKeys"]))
    assert code == EXCEEDED


def test_writing_takes_no_read_capacity_and_reading_no_write_capacity(dynamodb: Any):
    table = make_table(dynamodb, ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1})
    use_up(dynamodb, table)
    for _each in range(3):  # 75 units each
        dynamodb.get_item(TableName=table, Key=keys("large")[0], ConsistentRead=True)
    assert refusal(lambda: dynamodb.put_item(TableName=table, Item=item("a")))[0] == EXCEEDED


def test_a_table_on_demand_answers_every_read(dynamodb: Any):
    table = make_table(dynamodb, BillingMode="PAY_PER_REQUEST")
    dynamodb.put_item(TableName=table, Item=item("large", 390))
    for _each in range(8):  # 98 units each
        dynamodb.scan(TableName=table, ConsistentRead=True)


def test_a_read_that_is_not_valid_takes_nothing(dynamodb: Any):
    table = store(dynamodb, 396, 396, 396)
    for _each in range(5):
        assert refusal(lambda: dynamodb.batch_get_item(RequestItems=batch(table, "a0", "a1", "a2", "a2")))[0] == "ValidationException"
    assert "Item" in dynamodb.get_item(TableName=table, Key=keys("a0")[0], ConsistentRead=True)
