"""Reading a DynamoDB table: consistently, at a stated rate of read units, and again while it throttles; deleting what is as it was read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from ..core.clock import Clock, polls
from ..core.content import KEY, Item, is_key, item_bytes
from ..core.errors import AWS_ERRORS, error_code, explain, is_lasting
from .read_capacity import ReadCapacity

# A consistent read takes a unit for every 4 KB: BatchGetItem rounds each item up, and takes one for an id that is not there; Scan rounds
# the sum of a page ("Capacity unit consumption for read operations" of the DynamoDB developer guide).
UNIT_BYTES = 4096
# API_BatchGetItem.html: keys of one call.
KEYS_PER_CALL = 100
# What the function's own fields and the spelling of names add to a body, about.
BYTES_BESIDE_BODY = 60
# A table that throttles or does not answer is asked again for so many seconds, in addition to the client's own attempts.
PATIENCE_SECONDS = 120
# API_DeleteItem.html: an expression has 4 KB at most; so many fields of a changed item tell it from any other.
CONDITION_FIELDS = 40

Plan = dict[str, Any]
Answer = TypeVar("Answer")


class TableReader:
    """Consistent reads of one table. Every read counts in `capacity`, and is made again for `patience` seconds when it fails for now."""

    def __init__(
        self, client: Any, table: str, clock: Clock, capacity: ReadCapacity | None = None, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._client, self._table, self._clock, self._patience = client, table, clock, patience
        self.capacity = capacity or ReadCapacity(clock, None)

    def plan(self, ids: int, bytes_sent: int) -> Plan:
        """Whether asking for so many ids or scanning takes fewer units: {method, batch_get_units, scan_units}.

        DynamoDB's own size is up to six hours old: the table can be expected to hold at least what was sent. When both take as many units,
        a scan tells more, since it also reads the items that are in no ledger.
        """
        size = self._patiently(lambda: self._client.describe_table(TableName=self._table))["Table"].get("TableSizeBytes") or 0
        scan = max(math.ceil(max(size, bytes_sent) / UNIT_BYTES), 1)
        return {"method": "batch_get" if ids < scan else "scan", "batch_get_units": ids, "scan_units": scan}

    def pages(self, units: float = math.inf, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The answers of a scan with these arguments, until the table ends or `capacity` has used so many units."""
        arguments |= {"TableName": self._table, "ConsistentRead": True, "ReturnConsumedCapacity": "TOTAL"}
        while self.capacity.used < units:
            page = self._patiently(lambda: self._client.scan(**arguments))
            self._take(math.ceil(sum(map(item_bytes, page["Items"])) / UNIT_BYTES), [page.get("ConsumedCapacity", {})])
            yield page
            if not page.get("LastEvaluatedKey"):
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def scan(self, mean_bytes: float) -> Iterator[list[Item]]:
        """Every item, in pages; with a rate, of about what a second allows, at `mean_bytes` an item."""
        rate = self.capacity.rate
        pages = self.pages(**({"Limit": max(int(rate * UNIT_BYTES / max(mean_bytes, 1)), 1)} if rate else {}))
        # The table answers for one page while the caller works on the one before.
        with ThreadPoolExecutor(1) as ahead:
            page = next(pages, None)
            while page is not None:
                following = ahead.submit(next, pages, None)
                yield page["Items"]
                page = following.result()

    def get(self, ids: Iterable[str]) -> Iterator[list[Item]]:
        """The items of these ids, those that are there. What cannot be an id is passed over."""
        keys = ({KEY: {"S": one}} for one in ids if is_key(one))
        while chunk := list(islice(keys, KEYS_PER_CALL)):
            while chunk:
                items, chunk = self._patiently(partial(self._get, chunk))
                yield items

    def _get(self, keys: list[Item]) -> tuple[list[Item], list[Item]]:
        """The items of one call, and the keys that it left. Raises a throttle when it left all of them."""
        request = {self._table: {"Keys": keys, "ConsistentRead": True}}
        answer = self._client.batch_get_item(RequestItems=request, ReturnConsumedCapacity="TOTAL")
        items = answer.get("Responses", {}).get(self._table, [])
        left = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        if len(left) == len(keys):
            message = f"the table was too busy to read {len(left)} of the ids"
            raise ClientError({"Error": {"Code": "ProvisionedThroughputExceededException", "Message": message}}, "BatchGetItem")
        read = sum(math.ceil(item_bytes(item) / UNIT_BYTES) for item in items)
        self._take(read + len(keys) - len(left) - len(items), answer.get("ConsumedCapacity", []))
        return items, left

    def _take(self, computed: int, consumed: list[dict[str, Any]]) -> None:
        """Counts what the answer says was consumed, or what was read comes to if that is more: emulators say too little."""
        self.capacity.take(max(sum(one.get("CapacityUnits", 0) for one in consumed), computed, 1))

    def delete(self, item: Item, absent: Iterable[str]) -> bool:
        """Deletes an item if its fields are still as in `item`, and if it still has none of the fields in `absent`.

        Returns whether it was deleted; AWS errors are raised.
        """
        present = {f"p{number}": name for number, name in enumerate(sorted(item.keys() - {KEY})[:CONDITION_FIELDS])}
        none = {f"n{number}": name for number, name in enumerate(sorted(absent)[:CONDITION_FIELDS])}
        conditions = [*(f"#{one} = :{one}" for one in present), *(f"attribute_not_exists(#{one})" for one in none)]
        arguments: dict[str, Any] = {"ExpressionAttributeNames": {f"#{one}": name for one, name in (present | none).items()}}
        if present:
            arguments["ExpressionAttributeValues"] = {f":{one}": item[name] for one, name in present.items()}
        condition = " AND ".join(conditions)
        try:
            self._client.delete_item(TableName=self._table, Key={KEY: item[KEY]}, ConditionExpression=condition, **arguments)
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def _patiently(self, call: Callable[[], Answer]) -> Answer:
        """The answer to a read, which is made again while the table throttles or is not reachable. Raises the last error."""
        for left in polls(self._clock, self._patience, first=1, longest=15):
            try:
                return call()
            except AWS_ERRORS as error:
                if is_lasting(error) or not left:
                    raise
        raise AssertionError("polls ends with nothing left")


@dataclass
class Lookup:
    """What reading by id came to.

    `found` maps id to item (numbers are Decimal); `missing` lists the other ids in the order asked; `error` is why some could not be
    read, if so; `seconds` is how long it took.
    """

    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    error: str = ""
    seconds: float = 0.0


def wait_for_items(client: Any, table: str, ids: Iterable[str], clock: Clock, seconds: float) -> Lookup:
    """Read until every id is there, the seconds are over, or an error is permanent. An id that is given twice is read once."""
    started = clock.monotonic()
    reader, deserialize = TableReader(client, table, clock, patience=0), TypeDeserializer().deserialize
    lookup = Lookup(missing=list(dict.fromkeys(ids)))
    for _left in polls(clock, seconds):
        lookup.error, lasting = "", False
        try:
            for item in chain.from_iterable(reader.get(lookup.missing)):
                lookup.found[item[KEY]["S"]] = {name: deserialize(value) for name, value in item.items()}
        except AWS_ERRORS as error:
            lookup.error, lasting = explain(error), is_lasting(error)
        lookup.missing = [one for one in lookup.missing if one not in lookup.found]
        if lasting or not lookup.missing:
            break
    lookup.seconds = clock.monotonic() - started
    return lookup
