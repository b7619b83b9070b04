"""Which records a version of the function wrote, and what finding them cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.release import version_records
from ansible.module_utils.pipeline.release.version_records import LISTED, Written
from aws_fakes import TABLE, make_table
from fakes import FakeClock, client_error


class Pages:
    """A table that gives a page for each item, at 10 units each, and fails at `fails_at`."""

    def __init__(self, real: Any, fails_at: int = 1000) -> None:
        self.real, self.fails_at, self.requests = real, fails_at, []

    def scan(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        if len(self.requests) == self.fails_at:
            raise client_error("AccessDeniedException", "Scan")
        return self.real.scan(**request, Limit=1) | {"ConsumedCapacity": {"CapacityUnits": 10.0}}


@pytest.fixture
def table(aws: None) -> Any:
    return make_table(boto3.client("dynamodb", "us-east-1"))


def written_by(table: Any, directory: Path, read_units: float = 1000) -> Written:
    options = {"function": "f", "table": TABLE, "records_directory": str(directory), "read_units": read_units}
    return version_records.written_by(table, options, "7", FakeClock())


def store(client: Any, count: int, version: str | None) -> None:
    for number in range(count):
        item = {"transaction_id": f"{version}-{number}", "processed_at_utc": "2026-01-01T00:00:00Z", "amount": "1"}
        item |= {"processor_version": version} if version else {}
        client.put_item(TableName=TABLE, Item={name: {"S": value} for name, value in item.items()})


def test_what_another_version_wrote_or_nobody_knows_who_is_left_out(table: Any, tmp_path: Path):
    for count, version in ((3, "7"), (2, "8"), (1, "77"), (1, None)):
        store(table, count, version)
    found = written_by(Pages(table), tmp_path / "new")
    assert (found.count, sorted(found.ids), found.complete, found.error) == (3, ["7-0", "7-1", "7-2"], True, "")
    lines = [json.loads(line) for line in Path(found.path).read_text().splitlines()]
    assert sorted(line["transaction_id"] for line in lines) == ["7-0", "7-1", "7-2"]
    assert {frozenset(line) for line in lines} == {frozenset({"transaction_id", "processed_at_utc"})}


def test_the_read_units_are_counted_and_said(table: Any, tmp_path: Path):
    store(table, 3, "7")
    found = written_by(Pages(table), tmp_path)
    assert found.units >= 30
    assert f"(a scan of {found.units:g} read units)" in str(found)


def test_reads_are_consistent(table: Any, tmp_path: Path):
    pages = Pages(table)
    written_by(pages, tmp_path)
    assert all(request["ConsistentRead"] for request in pages.requests)


def test_a_scan_ends_when_its_units_are_used_and_says_so(table: Any, tmp_path: Path):
    store(table, 9, "7")
    found = written_by(Pages(table), tmp_path, 40)
    assert (found.units, found.complete) == (40, False)
    assert "reading ended before the end of the table (the read units ran out)" in str(found)


def test_an_error_ends_a_scan_with_what_was_found_so_far(table: Any, tmp_path: Path):
    store(table, 9, "7")
    found = written_by(Pages(table, fails_at=4), tmp_path)
    assert (found.count, found.complete) == (3, False)
    assert "AccessDeniedException (Scan): refused" in str(found)


def test_few_are_listed_and_all_are_in_the_file(table: Any, tmp_path: Path):
    store(table, LISTED + 5, "7")
    found = written_by(table, tmp_path)
    assert (found.count, len(found.ids)) == (LISTED + 5, LISTED)
    assert len((tmp_path / "f-7.jsonl").read_text().splitlines()) == LISTED + 5
    assert ", ...; all are in" in str(found)
    assert list(tmp_path.iterdir()) == [tmp_path / "f-7.jsonl"]


def test_a_version_that_wrote_nothing_is_said_to_have(table: Any, tmp_path: Path):
    assert "Version 7 wrote 0 of the records in the table (a scan of" in str(written_by(table, tmp_path))
