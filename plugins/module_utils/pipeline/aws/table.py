"""Reading a whole table or given ids of it, consistently and at a stated rate of read units, and deleting what is still as it was read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from ..core.clock import Clock, polls
from ..core.content import KEY, Item, is_key, item_bytes
from ..core.errors import AWS_ERRORS, is_lasting

# A consistent read takes a unit for every 4 KB: BatchGetItem rounds each item up, and takes one for an id that is not there; Scan rounds
# the sum of a page ("Capacity unit consumption for read operations" of the DynamoDB developer guide).
UNIT_BYTES = 4096
# What an answer says was consumed counts, unless it is less than what was read comes to: emulators say too little.
# API_BatchGetItem.html: keys of one call.
KEYS_PER_CALL = 100
# What the function's own fields and the spelling of names add to a body, about.
BYTES_BESIDE_BODY = 60
# A table that throttles or does not answer is asked again for so long, in seconds, beside the client's own attempts.
PATIENCE = 120
# API_DeleteItem.html: an expression of at most 4 KB; so many fields of a changed item tell it from any other.
CONDITION_FIELDS = 40

Plan = dict[str, Any]


@dataclass
class Pace:
    """Keeps to `rate` units a second on average, None for no limit; `units` counts what was taken."""

    clock: Clock
    rate: float | None
    units: float = 0.0

    def __post_init__(self) -> None:
        self._started, self._taken = self.clock.monotonic(), 0.0

    def take(self, units: float) -> None:
        """Counts units, and waits until they were due. An idle time is not made up for."""
        self.units += units
        if self.rate is None:
            return
        now = self.clock.monotonic()
        if self._started + self._taken / self.rate < now:
            self._started, self._taken = now, 0.0
        self._taken += units
        self.clock.wait(max(self._started + self._taken / self.rate - now, 0.0))


class TableReader:
    """A table, for one reconciliation."""

    def __init__(self, client: Any, table: str, clock: Clock, rate: float | None) -> None:
        self._client, self._table, self._clock = client, table, clock
        self.pace = Pace(clock, rate)
        self.calls = 0

    def plan(self, ids: int, bytes_sent: int) -> Plan:
        """Whether asking for so many ids or scanning takes fewer units: {method, batch_get_units, scan_units}.

        DynamoDB's own size lags six hours: what was sent is the least that the table can be expected to hold. A scan that takes as many
        units tells more, since it meets items in no ledger too.
        """
        size = self._patiently(lambda: self._client.describe_table(TableName=self._table))["Table"].get("TableSizeBytes") or 0
        scan = max(math.ceil(max(size, bytes_sent) / UNIT_BYTES), 1)
        return {"method": "batch_get" if ids < scan else "scan", "batch_get_units": ids, "scan_units": scan}

    def scan(self, mean_bytes: float) -> Iterator[list[Item]]:
        """Every item, in pages; with a rate, of about what a second allows, at `mean_bytes` an item."""
        arguments: dict[str, Any] = {"TableName": self._table, "ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
        if self.pace.rate is not None:
            arguments["Limit"] = max(int(self.pace.rate * UNIT_BYTES / max(mean_bytes, 1)), 1)
        # The table answers for one page while the one before is compared.
        with ThreadPoolExecutor(1) as ahead:
            page = self._scan(arguments)
            while page.get("LastEvaluatedKey"):
                following = ahead.submit(self._scan, arguments | {"ExclusiveStartKey": page["LastEvaluatedKey"]})
                yield page["Items"]
                page = following.result()
            yield page["Items"]

    def _scan(self, arguments: dict[str, Any]) -> dict[str, Any]:
        page = self._patiently(lambda: self._client.scan(**arguments))
        computed = max(math.ceil(sum(map(item_bytes, page["Items"])) / UNIT_BYTES), 1)
        self.pace.take(max(page.get("ConsumedCapacity", {}).get("CapacityUnits", 0), computed))
        return page

    def get(self, ids: Iterable[str]) -> Iterator[list[Item]]:
        """The items of these ids, those that are there. What can be no id is passed over."""
        keys: list[Item] = []
        for one in ids:
            if is_key(one):
                keys.append({KEY: {"S": one}})
                if len(keys) == KEYS_PER_CALL:
                    yield from self._get(keys)
                    keys = []
        yield from self._get(keys)

    def _get(self, keys: list[Item]) -> Iterator[list[Item]]:
        while keys:
            request = {self._table: {"Keys": keys, "ConsistentRead": True}}
            answer = self._patiently(lambda: self._client.batch_get_item(RequestItems=request, ReturnConsumedCapacity="TOTAL"))  # noqa: B023
            items = answer["Responses"].get(self._table, [])
            left = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            read = sum(math.ceil(item_bytes(item) / UNIT_BYTES) for item in items)
            computed = max(read + len(keys) - len(left) - len(items), 1)
            self.pace.take(max(sum(one["CapacityUnits"] for one in answer.get("ConsumedCapacity", [])), computed))
            yield items
            keys = left

    def delete(self, item: Item, absent: Iterable[str]) -> bool:
        """Deletes an item on condition that the fields of `item` still are what they were read as, and that it still has none of `absent`.

        Returns whether it did; AWS errors are raised.
        """
        present, none = sorted(item.keys() - {KEY})[:CONDITION_FIELDS], sorted(absent)[:CONDITION_FIELDS]
        conditions = [f"#p{number} = :p{number}" for number in range(len(present))]
        conditions += [f"attribute_not_exists(#n{number})" for number in range(len(none))]
        names = {f"#p{number}": name for number, name in enumerate(present)} | {f"#n{number}": name for number, name in enumerate(none)}
        values = {f":p{number}": item[name] for number, name in enumerate(present)}
        arguments = {"ExpressionAttributeValues": values} if values else {}
        try:
            self._client.delete_item(
                TableName=self._table,
                Key={KEY: item[KEY]},
                ConditionExpression=" AND ".join(conditions),
                ExpressionAttributeNames=names,
                **arguments,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def _patiently(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The answer to a read, asked for again while the table throttles or is out of reach. Raises the last error, or a lasting one."""
        for left in polls(self._clock, PATIENCE, first=1, longest=15):
            self.calls += 1
            try:
                return call()
            except AWS_ERRORS as error:
                if is_lasting(error) or not left:
                    raise
        raise AssertionError("polls ends with nothing left")
