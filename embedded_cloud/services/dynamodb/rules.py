"""Reads and writes beyond a table's provisioned capacity: what DynamoDB refuses that MiniStack accepts.

One unit writes an item of up to 1 KB, or reads 4 KB consistently, or 8 KB eventually; a table keeps what it did not use for 300 seconds.
Indexes, which take units of their own, are not counted; a new table starts with all of its burst.
"""

import json
import zlib
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from ministack.core import responses
from ministack.services import dynamodb

from embedded_cloud.base.calls import Call
from embedded_cloud.base.rules import Refusal, World
from embedded_cloud.services.sqs import patches as queues

BURST_SECONDS = 300.0
# What a unit is of, as tables call it, and the bytes of an item that one is enough for.
READ, WRITE = "ReadCapacityUnits", "WriteCapacityUnits"
UNIT_BYTES = {READ: 4096, WRITE: 1024}
MESSAGE = (
    "The level of configured provisioned throughput for the table was exceeded. "
    "Consider increasing your provisioning level with the UpdateTable API."
)

Answer = tuple[int, dict[str, str], bytes]
Handler = Callable[[dict[str, Any]], Answer]
# A table, what it takes units of, and how many.
Cost = tuple[str, str, float]
# The bytes of the page that a query or a scan has just evaluated.
_evaluated: ContextVar[int] = ContextVar("_evaluated", default=0)


def write_beyond_capacity(call: Call, world: World) -> Refusal | None:
    """Amazon DynamoDB Developer Guide, "Provisioned capacity mode" and "Burst and adaptive capacity": "up to five minutes (300 seconds) of
    unused read and write capacity"; Amazon DynamoDB API Reference, PutItem, ProvisionedThroughputExceededException."""
    return None if _fits(_WRITES[call.action](call.parameters), world) else Refusal("ProvisionedThroughputExceededException", MESSAGE)


def measure_pages() -> None:
    """Have MiniStack note how much a query or a scan evaluates, which is what it costs, whatever it then filters, counts or projects."""
    original = dynamodb._paginate_evaluated_items

    def paginate(items: list[dict[str, Any]], limit: Any, table: dict[str, Any], index: str | None = None) -> Any:
        page, more = original(items, limit, table, index)
        _evaluated.set(sum(map(dynamodb._item_size_bytes, page)))
        return page, more

    dynamodb._paginate_evaluated_items = paginate


def read_within_capacity(call: Call, answer: Answer, world: World) -> Answer:
    """The answer to a read, with the units that it took; or that the table has not so many left. Nothing was changed by making it.

    Amazon DynamoDB Developer Guide, "Capacity unit consumption for read operations": GetItem rounds an item up to 4 KB, and takes a unit
    for one that is not there; Query and Scan round the sum of what they evaluated; eventually consistent reads take half,
    transactional twice.
    """
    if call.action not in READS or answer[0] != 200:
        return answer
    costs = READS[call.action](call.parameters)
    if not _fits(costs, world):
        return responses.error_response_json("ProvisionedThroughputExceededException", MESSAGE)
    if not costs or call.parameters.get("ReturnConsumedCapacity", "NONE") == "NONE":
        return answer
    several = "Transact" in call.action
    consumed = _consumed(costs, call.parameters)
    body = json.dumps(json.loads(answer[2]) | {"ConsumedCapacity": consumed if several else consumed[0]}, ensure_ascii=False).encode()
    return answer[0], answer[1] | {"x-amz-crc32": str(zlib.crc32(body))}, body


def keys_within_capacity(original: Handler, world: World) -> Handler:
    """BatchGetItem that reads what the capacity allows and returns the rest.

    Amazon DynamoDB API Reference, BatchGetItem: "if none of the items can be processed due to insufficient provisioned throughput [...]
    ProvisionedThroughputExceededException", else the rest are UnprocessedKeys. Each item is rounded up by itself.
    """

    def batch_get_item(call: dict[str, Any]) -> Answer:
        answer = original(call)
        if answer[0] != 200:
            return answer
        served: dict[str, Any] = {}
        refused: dict[str, Any] = {}
        costs: list[Cost] = []
        for table, wanted in call["RequestItems"].items():
            for key in wanted["Keys"]:
                cost = _item_read(table, key, wanted.get("ConsistentRead"))
                fits = _fits(cost, world)
                costs += cost if fits else []
                (served if fits else refused).setdefault(table, wanted | {"Keys": []})["Keys"].append(key)
        if not served:
            return responses.error_response_json("ProvisionedThroughputExceededException", MESSAGE)
        if refused:
            answer = original(call | {"RequestItems": served})
        document = json.loads(answer[2]) | {"UnprocessedKeys": refused}
        if call.get("ReturnConsumedCapacity", "NONE") != "NONE":
            document["ConsumedCapacity"] = _consumed(costs, call)
        return responses.json_response(document)

    return batch_get_item


def batch_within_capacity(original: Handler, world: World) -> Handler:
    """BatchWriteItem that carries out what the capacity allows and returns the rest.

    Amazon DynamoDB API Reference, BatchWriteItem: "if none of the items can be processed due to insufficient provisioned throughput [...]
    ProvisionedThroughputExceededException", else the rest are UnprocessedItems.
    """

    def batch_write_item(call: dict[str, Any]) -> Answer:
        accepted: dict[str, list[Any]] = {}
        refused: dict[str, list[Any]] = {}
        for table, requests in (call.get("RequestItems") or {}).items():
            for request in requests:
                side = accepted if _fits(_request(table, request), world) else refused
                side.setdefault(table, []).append(request)
        if not refused:
            return original(call)
        if not accepted:
            return responses.error_response_json("ProvisionedThroughputExceededException", MESSAGE)
        status, headers, body = original(call | {"RequestItems": accepted})
        if status != 200:
            return status, headers, body
        return responses.json_response(json.loads(body) | {"UnprocessedItems": refused})

    return batch_write_item


def statements_within_capacity(original: Handler, world: World) -> Handler:
    """BatchExecuteStatement, each statement of which has its own error.

    Amazon DynamoDB API Reference, BatchStatementError, Code: ProvisionedThroughputExceeded.
    """

    def batch_execute_statement(call: dict[str, Any]) -> Answer:
        statements = call.get("Statements") or []
        costs = [_statement(statement) for statement in statements]
        throttled = [queues.is_refused(number) or not _fits(cost, world) for number, cost in enumerate(costs)]
        reads = any(kind == READ for cost in costs for _table, kind, _units in cost)
        if not any(throttled) and not reads:
            return original(call)
        error = {"Error": {"Code": "ProvisionedThroughputExceeded", "Message": MESSAGE}}
        if statements and all(throttled):
            return responses.json_response({"Responses": [error for _ in statements]})
        allowed = [statement for statement, refused in zip(statements, throttled, strict=True) if not refused]
        status, headers, body = original(call | {"Statements": allowed})
        if status != 200:
            return status, headers, body
        answer = json.loads(body)
        carried_out = iter(answer["Responses"])
        answer["Responses"] = [error if refused else next(carried_out) for refused in throttled]
        if "ConsumedCapacity" in answer:
            done = [one for cost, refused in zip(costs, throttled, strict=True) if not refused for one in cost]
            answer["ConsumedCapacity"] = _consumed(done, {})
        return responses.json_response(answer)

    return batch_execute_statement


def _fits(costs: Iterable[Cost], world: World) -> bool:
    """Take the units of one call, if all of them are there."""
    wanted: dict[tuple[str, str], float] = {}
    for table, kind, units in costs:
        wanted[table, kind] = wanted.get((table, kind), 0) + units
    if not all(_left(*one, world) >= units for one, units in wanted.items()):
        return False
    for (name, kind), units in wanted.items():
        found = _table(name)
        if found is not None and (found["TableId"], kind) in world.capacity:
            left, counted = world.capacity[found["TableId"], kind]
            world.capacity[found["TableId"], kind] = left - units, counted
    return True


def _left(name: str, kind: str, world: World) -> float:
    """The units a table has left; without end for a table on demand, and for one that is not there, which MiniStack reports."""
    table = _table(name)
    capacity = ((table or {}).get("ProvisionedThroughput") or {}).get(kind) or 0
    if table is None or not capacity:
        return float("inf")
    now, most = world.times.now(), capacity * BURST_SECONDS
    units, counted = world.capacity.get((table["TableId"], kind), (most, now))
    units = min(most, units + capacity * (now - counted))
    world.capacity[table["TableId"], kind] = units, now
    return units


def _consumed(costs: Iterable[Cost], call: dict[str, Any]) -> list[dict[str, Any]]:
    """ConsumedCapacity, one entry a table."""
    totals: dict[str, float] = {}
    for name, _kind, units in costs:
        name = dynamodb._normalize_table_name(name)
        totals[name] = totals.get(name, 0.0) + units
    by_table = {"Table"} if call.get("ReturnConsumedCapacity") == "INDEXES" else set()
    return [
        {"TableName": name, "CapacityUnits": units} | {each: {"CapacityUnits": units} for each in by_table}
        for name, units in totals.items()
    ]


def _table(name: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = dynamodb._tables.get(dynamodb._normalize_table_name(name))
    return found


def _units(kind: str, *sizes: int) -> int:
    """The units that something of so many bytes takes: those of the largest, at least one."""
    return max(1, -(-max(sizes, default=0) // UNIT_BYTES[kind]))


def _written(table: str, *items: dict[str, Any] | None) -> list[Cost]:
    """What writing takes, by the larger of the item before and the item after."""
    return [(table, WRITE, _units(WRITE, *(dynamodb._item_size_bytes(item) for item in items if item)))]


def _read(table: str, size: int, consistent: Any) -> list[Cost]:
    return [(table, READ, _units(READ, size) * (1.0 if consistent else 0.5))]


def _item_read(table: str, key: dict[str, Any], consistent: Any) -> list[Cost]:
    return _read(table, dynamodb._item_size_bytes(_before(table, key) or {}), consistent)


def _twice(costs: list[Cost]) -> list[Cost]:
    """What they take in a transaction: "Amazon DynamoDB Transactions: How it works"."""
    return [(table, kind, 2 * units) for table, kind, units in costs]


def _before(name: str, key: dict[str, Any]) -> dict[str, Any] | None:
    """The item that is there already, by a key or by an item that has it."""
    table = _table(name)
    try:
        found: dict[str, Any] | None = dynamodb._get_item_by_key(table, key) if table else None
    except (AttributeError, KeyError, TypeError):
        return None  # not a key of this table, which MiniStack reports
    return found


def _put(call: dict[str, Any]) -> list[Cost]:
    name, item = call.get("TableName", ""), call.get("Item") or {}
    return _written(name, _before(name, item), item)


def _change(call: dict[str, Any]) -> list[Cost]:
    """An update, whose item after has at least the values it sets, or a deletion."""
    name, key = call.get("TableName", ""), call.get("Key") or {}
    return _written(name, _before(name, key), key | (call.get("ExpressionAttributeValues") or {}))


def _get(call: dict[str, Any]) -> list[Cost]:
    return _item_read(call.get("TableName", ""), call.get("Key") or {}, call.get("ConsistentRead"))


def _page(call: dict[str, Any]) -> list[Cost]:
    return [] if call.get("IndexName") else _read(call["TableName"], _evaluated.get(), call.get("ConsistentRead"))


def _transaction(call: dict[str, Any]) -> list[Cost]:
    kinds: dict[str, Callable[[dict[str, Any]], list[Cost]]] = {
        "Put": _put,
        "Update": _change,
        "Delete": _change,
        "Get": lambda one: _get(one | {"ConsistentRead": True}),
    }
    members = [(kinds[kind], one) for member in call.get("TransactItems") or [] for kind, one in member.items() if kind in kinds]
    return _twice([cost for count, one in members for cost in count(one)])


def _statement(statement: dict[str, Any]) -> list[Cost]:
    """What one PartiQL statement takes; nothing for one that is no PartiQL, which MiniStack reports."""
    try:
        parsed = dynamodb._parse_partiql(statement.get("Statement", ""), statement.get("Parameters", []))
    except (ValueError, TypeError, AttributeError):
        return []
    if parsed["op"] == "SELECT":
        return _selected(parsed, statement.get("ConsistentRead"))
    if parsed["op"] not in ("INSERT", "UPDATE", "DELETE"):
        return []
    item = parsed.get("item") or {}
    if parsed["op"] != "INSERT":
        item = _before(parsed["table"], {name: value for name, operator, value in parsed.get("conditions") or [] if operator == "="}) or {}
    return _written(parsed["table"], item.get("M", item) if set(item) == {"M"} else item)


def _selected(parsed: dict[str, Any], consistent: Any) -> list[Cost]:
    """A SELECT: of one key as GetItem, of one partition as Query, of anything else as Scan.

    Amazon DynamoDB Developer Guide, "PartiQL select statements for DynamoDB": without an equality or IN on the partition key the whole
    table is scanned.
    """
    name, table = parsed["table"], _table(parsed["table"])
    if table is None or parsed.get("index"):
        return []
    equal = {attribute: value for attribute, operator, value in parsed["conditions"] if operator == "="}
    if {table["pk_name"], table["sk_name"] or table["pk_name"]} <= set(equal):
        return _item_read(name, equal, consistent)
    partitions = [equal[table["pk_name"]]] if table["pk_name"] in equal else []
    partitions += [
        one for attribute, operator, values in parsed["conditions"] if (attribute, operator) == (table["pk_name"], "IN") for one in values
    ]
    if not partitions:
        return _read(name, sum(dynamodb._item_size_bytes(item) for held in table["items"].values() for item in held.values()), consistent)
    held = [table["items"].get(dynamodb._extract_key_val(one), {}) for one in partitions]
    return [cost for each in held for cost in _read(name, sum(map(dynamodb._item_size_bytes, each.values())), consistent)]


def _statements(call: dict[str, Any]) -> list[Cost]:
    return _twice([cost for one in call.get("TransactStatements") or [] for cost in _statement(one | {"ConsistentRead": True})])


def _request(table: str, request: dict[str, Any]) -> list[Cost]:
    if "PutRequest" in request:
        return _put({"TableName": table, **request["PutRequest"]})
    return _change({"TableName": table, **request.get("DeleteRequest", {})})


def _only(kind: str, count: Callable[[dict[str, Any]], list[Cost]]) -> Callable[[dict[str, Any]], list[Cost]]:
    return lambda call: [cost for cost in count(call) if cost[1] == kind]


_WRITES: dict[str, Callable[[dict[str, Any]], list[Cost]]] = {
    "PutItem": _put,
    "UpdateItem": _change,
    "DeleteItem": _change,
    "TransactWriteItems": _transaction,
    "ExecuteStatement": _only(WRITE, _statement),
    "ExecuteTransaction": _only(WRITE, _statements),
}

READS: dict[str, Callable[[dict[str, Any]], list[Cost]]] = {
    "GetItem": _get,
    "Query": _page,
    "Scan": _page,
    "TransactGetItems": _transaction,
    "ExecuteStatement": _only(READ, _statement),
    "ExecuteTransaction": _only(READ, _statements),
}
