"""Writes beyond a table's provisioned capacity: what DynamoDB refuses that MiniStack accepts.

One unit writes an item of up to 1 KB, and a table keeps what it did not use for 300 seconds. Indexes, which take units of their own, are
not counted; a new table starts with all of its burst.
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.core import responses
from ministack.services import dynamodb

from embedded_cloud import queues
from embedded_cloud.calls import Call
from embedded_cloud.fidelity_world import Refusal, World

BURST_SECONDS = 300.0
UNIT_BYTES = 1024
MESSAGE = (
    "The level of configured provisioned throughput for the table was exceeded. "
    "Consider increasing your provisioning level with the UpdateTable API."
)

Answer = tuple[int, dict[str, str], bytes]
Handler = Callable[[dict[str, Any]], Answer]


def write_beyond_capacity(call: Call, world: World) -> Refusal | None:
    """Amazon DynamoDB Developer Guide, "Provisioned capacity mode" and "Burst and adaptive capacity": "up to five minutes (300 seconds) of
    unused read and write capacity"; Amazon DynamoDB API Reference, PutItem, ProvisionedThroughputExceededException. Transactions take
    twice the units, and all or none: "Amazon DynamoDB Transactions: How it works"."""
    writes = _WRITES[call.action](call.parameters)
    factor = 2 if "Transact" in call.action else 1
    wanted: dict[str, int] = {}
    for table, units in writes:
        wanted[table] = wanted.get(table, 0) + factor * units
    if all(_left(table, world) >= units for table, units in wanted.items()):
        for table, units in wanted.items():
            _take(table, units, world)
        return None
    return Refusal("ProvisionedThroughputExceededException", MESSAGE)


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
                side = accepted if _fits([(table, _units_of_request(table, request))], world) else refused
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
        throttled = [
            queues.is_refused(number) or not _fits(_statement_writes(statement), world) for number, statement in enumerate(statements)
        ]
        if not any(throttled):
            return original(call)
        error = {"Error": {"Code": "ProvisionedThroughputExceeded", "Message": MESSAGE}}
        if all(throttled):
            return responses.json_response({"Responses": [error for _ in statements]})
        allowed = [statement for statement, refused in zip(statements, throttled, strict=True) if not refused]
        status, headers, body = original(call | {"Statements": allowed})
        if status != 200:
            return status, headers, body
        answer = json.loads(body)
        carried_out = iter(answer["Responses"])
        answer["Responses"] = [error if refused else next(carried_out) for refused in throttled]
        return responses.json_response(answer)

    return batch_execute_statement


def _fits(writes: list[tuple[str, int]], world: World) -> bool:
    """Take the units of one write, if they are there."""
    if not all(_left(table, world) >= units for table, units in writes):
        return False
    for table, units in writes:
        _take(table, units, world)
    return True


def _left(name: str, world: World) -> float:
    """The units a table has left; without end for a table on demand, and for one that is not there, which MiniStack reports."""
    table = _table(name)
    capacity = ((table or {}).get("ProvisionedThroughput") or {}).get("WriteCapacityUnits") or 0
    if table is None or not capacity:
        return float("inf")
    now, most = world.times.now(), capacity * BURST_SECONDS
    units, counted = world.write_units.get(table["TableId"], (most, now))
    units = min(most, units + capacity * (now - counted))
    world.write_units[table["TableId"]] = units, now
    return units


def _take(name: str, units: int, world: World) -> None:
    table = _table(name)
    if table is not None and table["TableId"] in world.write_units:
        left, counted = world.write_units[table["TableId"]]
        world.write_units[table["TableId"]] = left - units, counted


def _table(name: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = dynamodb._tables.get(dynamodb._normalize_table_name(name))
    return found


def _units(*items: dict[str, Any] | None) -> int:
    """The units that writing takes: those of the larger of the item before and the item after, at least one."""
    largest = max((dynamodb._item_size_bytes(item) for item in items if item), default=0)
    return max(1, -(-largest // UNIT_BYTES))


def _before(name: str, key: dict[str, Any]) -> dict[str, Any] | None:
    """The item that is there already, by a key or by an item that has it."""
    table = _table(name)
    try:
        found: dict[str, Any] | None = dynamodb._get_item_by_key(table, key) if table else None
    except (AttributeError, KeyError, TypeError):
        return None  # not a key of this table, which MiniStack reports
    return found


def _put(call: dict[str, Any]) -> list[tuple[str, int]]:
    name, item = call.get("TableName", ""), call.get("Item") or {}
    return [(name, _units(_before(name, item), item))]


def _change(call: dict[str, Any]) -> list[tuple[str, int]]:
    """An update, whose item after has at least the values it sets, or a deletion."""
    name, key = call.get("TableName", ""), call.get("Key") or {}
    return [(name, _units(_before(name, key), key | (call.get("ExpressionAttributeValues") or {})))]


def _transaction(call: dict[str, Any]) -> list[tuple[str, int]]:
    kinds: dict[str, Callable[[dict[str, Any]], list[tuple[str, int]]]] = {"Put": _put, "Update": _change, "Delete": _change}
    members = [(kinds[kind], write) for member in call.get("TransactItems") or [] for kind, write in member.items() if kind in kinds]
    return [unit for count, write in members for unit in count(write)]


def _statement_writes(statement: dict[str, Any]) -> list[tuple[str, int]]:
    """What one PartiQL statement writes; nothing for one that reads, or that is no PartiQL, which MiniStack reports."""
    try:
        parsed = dynamodb._parse_partiql(statement.get("Statement", ""), statement.get("Parameters", []))
    except (ValueError, TypeError, AttributeError):
        return []
    if parsed["op"] not in ("INSERT", "UPDATE", "DELETE"):
        return []
    item = parsed.get("item") or {}
    if parsed["op"] != "INSERT":
        item = _before(parsed["table"], {name: value for name, operator, value in parsed.get("conditions") or [] if operator == "="}) or {}
    return [(parsed["table"], _units(item.get("M", item) if set(item) == {"M"} else item))]


def _units_of_request(table: str, request: dict[str, Any]) -> int:
    if "PutRequest" in request:
        return _put({"TableName": table, **request["PutRequest"]})[0][1]
    return _change({"TableName": table, **request.get("DeleteRequest", {})})[0][1]


_WRITES: dict[str, Callable[[dict[str, Any]], list[tuple[str, int]]]] = {
    "PutItem": _put,
    "UpdateItem": _change,
    "DeleteItem": _change,
    "TransactWriteItems": _transaction,
    "ExecuteStatement": _statement_writes,
    "ExecuteTransaction": lambda call: [one for statement in call.get("TransactStatements") or [] for one in _statement_writes(statement)],
}
