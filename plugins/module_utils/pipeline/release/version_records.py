"""The records that one version of the function wrote: every stored item has the version that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..aws.table import TableReader
from ..core.clock import Clock
from ..core.errors import AWS_ERRORS, explain
from ..core.files import atomic_file, to_json

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


def written_by(client: Any, options: Mapping[str, Any], version: str, clock: Clock) -> Written:
    """Scan the table for what the version wrote, into a file of JSON lines of `transaction_id` and `processed_at_utc`.

    `options` are those of the modules lambda_release and lambda_rollback. A scan reads the whole table, consistently, a unit for each 4 KB;
    it ends once it has used `read_units`, which the table's burst has to give. Never raises for what AWS answers.
    """
    path = Path(options["records_directory"]) / f"{options['function']}-{version}.jsonl"
    found, reader = Written(version, str(path)), TableReader(client, options["table"], clock)
    pages = reader.pages(
        options["read_units"],
        FilterExpression="processor_version = :version",
        ExpressionAttributeValues={":version": {"S": version}},
        ProjectionExpression="transaction_id, processed_at_utc",
    )
    with atomic_file(path) as lines:
        try:
            for page in pages:
                for item in page["Items"]:
                    record = {name: value["S"] for name, value in item.items()}
                    lines.write(f"{to_json(record)}\n".encode())
                    found.count += 1
                    found.ids += [record["transaction_id"]] if found.count <= LISTED else []
                found.complete = not page.get("LastEvaluatedKey")
        except AWS_ERRORS as error:
            found.error = explain(error)
    found.units = reader.capacity.used
    return found
