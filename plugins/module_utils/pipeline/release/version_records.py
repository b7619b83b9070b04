"""The records that one version of the function wrote, found by the version that every stored item carries."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import AWS_ERRORS, explain

# How many ids are listed; all of them go into the file.
LISTED = 20


@dataclass
class Written:
    """What a scan found: how many records, the first of their ids, and what it cost.

    `units` are the read units used; `complete` is false when the units ran out, or when `error` says why reading ended.
    """

    version: str
    path: str
    count: int = 0
    ids: list[str] = field(default_factory=list)
    units: float = 0.0
    complete: bool = False
    error: str = ""

    def __str__(self) -> str:
        listed = ", ".join(self.ids) + (", ..." if self.count > len(self.ids) else "")
        found = f"Version {self.version} wrote {self.count} of the records in the table"
        found += f": {listed}; all are in {self.path}" if self.count else ""
        ended = "" if self.complete else f"; reading ended before the end of the table ({self.error or 'the read units ran out'})"
        return f"{found} (a scan of {self.units:g} read units{ended})."


def written_by(client: Any, table: str, version: str, path: Path, read_units: float) -> Written:
    """Scan the table for what the version wrote, into a file of JSON lines of `transaction_id` and `processed_at_utc`.

    A scan reads the whole table, consistently, a unit for each 4 KB; it ends once it has used `read_units`, which the table's burst has to
    give. Never raises for what AWS answers.
    """
    found = Written(version, str(path))
    request: dict[str, Any] = {
        "TableName": table,
        "ConsistentRead": True,
        "FilterExpression": "processor_version = :version",
        "ExpressionAttributeValues": {":version": {"S": version}},
        "ProjectionExpression": "transaction_id, processed_at_utc",
        "ReturnConsumedCapacity": "TOTAL",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("w") as lines:
        try:
            while found.units < read_units:
                page = client.scan(**request)
                found.units += page.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
                for item in page["Items"]:
                    record = {name: value["S"] for name, value in item.items()}
                    lines.write(json.dumps(record) + "\n")
                    found.count += 1
                    found.ids += [record["transaction_id"]] if found.count <= LISTED else []
                found.complete = "LastEvaluatedKey" not in page
                if found.complete:
                    break
                request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        except AWS_ERRORS as error:
            found.error = explain(error)
    os.replace(unfinished, path)
    return found
