"""Reading transactions by id, consistently: DynamoDB's own item count lags six hours, and a count names nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from ..core.clock import Clock, polls
from ..core.errors import AWS_ERRORS, explain, is_lasting
from .paging import in_chunks

KEY = "transaction_id"
# BatchGetItem takes no more keys in one call.
KEYS_PER_CALL = 100


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
    """Read until every id is there, the seconds are up, or the table says it never will answer. Each id is asked for once."""
    started = clock.monotonic()
    lookup = Lookup(missing=list(dict.fromkeys(ids)))
    for _left in polls(clock, seconds):
        lasting = _read_missing(client, table, lookup)
        if lasting or not lookup.missing:
            break
    lookup.seconds = clock.monotonic() - started
    return lookup


def _read_missing(client: Any, table: str, lookup: Lookup) -> bool:
    """One pass over what is missing; true when an error is there to stay. Keys left unprocessed wait for the next pass."""
    lookup.error = ""
    unread = 0
    lasting = False
    for chunk in in_chunks(lookup.missing, KEYS_PER_CALL):
        keys = [{KEY: {"S": one}} for one in chunk]
        try:
            response = client.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
        except AWS_ERRORS as error:
            lookup.error = explain(error)
            lasting = is_lasting(error)
            break
        for raw in response.get("Responses", {}).get(table, []):
            item = {name: TypeDeserializer().deserialize(value) for name, value in raw.items()}
            lookup.found[item[KEY]] = item
        unread += len(response.get("UnprocessedKeys", {}).get(table, {}).get("Keys", []))
    lookup.missing = [one for one in lookup.missing if one not in lookup.found]
    if unread and not lookup.error:
        lookup.error = f"the table was too busy to read {unread} of the ids"
    return lasting
