"""How many units of a table's provisioned capacity each call takes, and how many the table has left.

One unit writes an item of up to 1 KB, or reads 4 KB consistently, or 8 KB eventually. A table keeps unused units for 300 seconds. Units of
indexes are not counted; a new table starts with its whole burst.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, cast

from ministack.services import dynamodb

BURST_SECONDS = 300.0
# The two kinds of units, as a table names them, and how many bytes of an item one unit is enough for.
READ, WRITE = "ReadCapacityUnits", "WriteCapacityUnits"
UNIT_BYTES = {READ: 4096, WRITE: 1024}
# A table, what it takes units of, and how many.
Cost = tuple[str, str, float]
Count = Callable[[dict[str, Any]], list[Cost]]
# The bytes of the page that a query or a scan has just evaluated.
evaluated: ContextVar[int] = ContextVar("evaluated", default=0)
# What is left of a table's capacity, by the table's id and the kind of unit: units, and the time when they were counted.
_remaining: dict[tuple[str, str], tuple[float, float]] = {}


def fits(costs: Iterable[Cost]) -> bool:
    """Take the units of one call, if the tables have all of them."""
    wanted: dict[tuple[str, str], float] = defaultdict(float)
    for name, kind, units in costs:
        wanted[dynamodb._normalize_table_name(name), kind] += units
    now = time.monotonic()
    left = {_left(*one, now): units for one, units in wanted.items()}
    if any(units > most for (_key, most), units in left.items()):
        return False
    _remaining.update({key: (most - units, now) for (key, most), units in left.items()})
    return True


def _left(name: str, kind: str, now: float) -> tuple[tuple[str, str], float]:
    """Where a table's units are counted, and how many it has: infinite on demand, and for a missing table, which MiniStack reports."""
    table = _table(name) or {}
    key, each_second = (table.get("TableId", name), kind), float((table.get("ProvisionedThroughput") or {}).get(kind) or 0)
    if not each_second:
        return key, float("inf")
    most = each_second * BURST_SECONDS
    units, counted = _remaining.get(key, (most, now))
    return key, min(most, units + each_second * (now - counted))


def consumed(costs: Iterable[Cost], call: dict[str, Any]) -> list[dict[str, Any]]:
    """ConsumedCapacity, one entry a table."""
    totals: dict[str, float] = defaultdict(float)
    for name, _kind, units in costs:
        totals[dynamodb._normalize_table_name(name)] += units
    by_table = call.get("ReturnConsumedCapacity") == "INDEXES"
    return [
        {"TableName": name, "CapacityUnits": units} | ({"Table": {"CapacityUnits": units}} if by_table else {})
        for name, units in totals.items()
    ]


def _table(name: str) -> dict[str, Any] | None:
    return cast(dict[str, Any] | None, dynamodb._tables.get(dynamodb._normalize_table_name(name)))


def _units(kind: str, *sizes: int) -> int:
    """The units that the largest of these sizes takes, at least one."""
    return max(1, -(-max(sizes, default=0) // UNIT_BYTES[kind]))


def _written(table: str, *items: dict[str, Any] | None) -> list[Cost]:
    """What a write takes, by the larger of the item before and the item after."""
    return [(table, WRITE, _units(WRITE, *(dynamodb._item_size_bytes(item) for item in items if item)))]


def _read(table: str, size: int, consistent: Any) -> list[Cost]:
    return [(table, READ, _units(READ, size) * (1.0 if consistent else 0.5))]


def item_read(table: str, key: dict[str, Any], consistent: Any) -> list[Cost]:
    return _read(table, dynamodb._item_size_bytes(_before(table, key) or {}), consistent)


def _twice(costs: list[Cost]) -> list[Cost]:
    """The costs in a transaction: "Amazon DynamoDB Transactions: How it works"."""
    return [(table, kind, 2 * units) for table, kind, units in costs]


def _before(name: str, key: dict[str, Any]) -> dict[str, Any] | None:
    """The stored item with this key, or with the key of this item."""
    table = _table(name)
    try:
        return cast(dict[str, Any] | None, dynamodb._get_item_by_key(table, key)) if table else None
    except (AttributeError, KeyError, TypeError):
        return None  # not a key of this table, which MiniStack reports


def _put(call: dict[str, Any]) -> list[Cost]:
    name, item = call.get("TableName", ""), call.get("Item") or {}
    return _written(name, _before(name, item), item)


def _change(call: dict[str, Any]) -> list[Cost]:
    """An update, whose item after has at least the values it sets, or a deletion."""
    name, key = call.get("TableName", ""), call.get("Key") or {}
    return _written(name, _before(name, key), key | (call.get("ExpressionAttributeValues") or {}))


def _get(call: dict[str, Any]) -> list[Cost]:
    return item_read(call.get("TableName", ""), call.get("Key") or {}, call.get("ConsistentRead"))


def _page(call: dict[str, Any]) -> list[Cost]:
    return [] if call.get("IndexName") else _read(call["TableName"], evaluated.get(), call.get("ConsistentRead"))


def _transaction(call: dict[str, Any]) -> list[Cost]:
    kinds: dict[str, Count] = {"Put": _put, "Update": _change, "Delete": _change, "Get": lambda one: _get(one | {"ConsistentRead": True})}
    members = [(kinds[kind], one) for member in call.get("TransactItems") or [] for kind, one in member.items() if kind in kinds]
    return _twice([cost for count, one in members for cost in count(one)])


def statement(sent: dict[str, Any]) -> list[Cost]:
    """What one PartiQL statement takes; nothing for invalid PartiQL, which MiniStack reports."""
    try:
        parsed = dynamodb._parse_partiql(sent.get("Statement", ""), sent.get("Parameters", []))
    except (ValueError, TypeError, AttributeError):
        return []
    if parsed["op"] == "SELECT":
        return _selected(parsed, sent.get("ConsistentRead"))
    if parsed["op"] not in ("INSERT", "UPDATE", "DELETE"):
        return []
    item = parsed.get("item") or {}
    if parsed["op"] != "INSERT":
        item = _before(parsed["table"], {name: value for name, operator, value in parsed.get("conditions") or [] if operator == "="}) or {}
    return _written(parsed["table"], item.get("M", item) if set(item) == {"M"} else item)


def _selected(parsed: dict[str, Any], consistent: Any) -> list[Cost]:
    """A SELECT: of one key as GetItem, of one partition as Query, of anything else as Scan. Amazon DynamoDB Developer Guide, "PartiQL
    select statements for DynamoDB": a scan unless the partition key has an equality or IN."""
    name, table = parsed["table"], _table(parsed["table"])
    if table is None or parsed.get("index"):
        return []
    equal = {attribute: value for attribute, operator, value in parsed["conditions"] if operator == "="}
    if {table["pk_name"], table["sk_name"] or table["pk_name"]} <= set(equal):
        return item_read(name, equal, consistent)
    by_partition = [(operator, value) for attribute, operator, value in parsed["conditions"] if attribute == table["pk_name"]]
    keys = [key for operator, value in by_partition if operator in ("=", "IN") for key in (value if operator == "IN" else [value])]
    if not keys:
        return _read(name, sum(dynamodb._item_size_bytes(item) for held in table["items"].values() for item in held.values()), consistent)
    held = [table["items"].get(dynamodb._extract_key_val(key), {}) for key in keys]
    return [cost for each in held for cost in _read(name, sum(map(dynamodb._item_size_bytes, each.values())), consistent)]


def _statements(call: dict[str, Any]) -> list[Cost]:
    return _twice([cost for one in call.get("TransactStatements") or [] for cost in statement(one | {"ConsistentRead": True})])


def request(table: str, sent: dict[str, Any]) -> list[Cost]:
    if "PutRequest" in sent:
        return _put({"TableName": table, **sent["PutRequest"]})
    return _change({"TableName": table, **sent.get("DeleteRequest", {})})


# Statements take units of either kind.
WRITES: dict[str, Count] = {
    "PutItem": _put,
    "UpdateItem": _change,
    "DeleteItem": _change,
    "TransactWriteItems": _transaction,
    "ExecuteStatement": statement,
    "ExecuteTransaction": _statements,
}

READS: dict[str, Count] = {
    "GetItem": _get,
    "Query": _page,
    "Scan": _page,
    "TransactGetItems": _transaction,
    "ExecuteStatement": statement,
    "ExecuteTransaction": _statements,
}
