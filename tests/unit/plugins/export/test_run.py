"""The export before a teardown: whole or not at all, to the digit, for its owner alone; and what is read is left as it was."""

from __future__ import annotations

import gzip
import hashlib
import json
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.aws.table import TableReader
from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.export.run import ExportError, export, whole_ledger
from aws_fakes import make_table
from botocore.exceptions import ClientError

STAMP = "20260102T030405Z"
LONG = "99999999999999999999999999999999999.99"


@pytest.fixture
def table(aws: None) -> Any:
    return make_table(boto3.client("dynamodb", "us-east-1"), "T")


@pytest.fixture
def queue(aws: None) -> tuple[Any, str]:
    client = boto3.client("sqs", "us-east-1")
    return client, client.create_queue(QueueName="Q")["QueueUrl"]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]


def ledger(path: Path, entries: int, said: int | None = None) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        for number in range(entries):
            lines.write(json.dumps({"outbox_id": f"web-1/{number}", "state": "sent"}) + "\n")
        lines.write(json.dumps({"ledger": "web-1", "entries": entries if said is None else said}) + "\n")
    return path


def export_table(table: Any, directory: Path) -> Path:
    with export(directory, STAMP, "blue") as made:
        made.table(TableReader(table, "T", system_clock()), "T")
    return made.directory


def test_items_are_kept_to_the_digit(table: Any, tmp_path: Path) -> None:
    item = {"transaction_id": {"S": "a"}, "amount": {"N": LONG}, "note": {"S": "Café"}, "deep": {"M": {"x": {"L": [{"N": "0.10"}]}}}}
    table.put_item(TableName="T", Item=item)

    (found,) = read(export_table(table, tmp_path) / "table.jsonl.gz")

    assert Decimal(found["Item"]["amount"]["N"]) == Decimal(LONG)
    assert found == {"Item": item}


def test_bytes_are_kept_as_base64(table: Any, tmp_path: Path) -> None:
    table.put_item(TableName="T", Item={"transaction_id": {"S": "a"}, "raw": {"B": b"\x00\xff"}})

    assert read(export_table(table, tmp_path) / "table.jsonl.gz")[0]["Item"]["raw"] == {"B": "AP8="}


def test_only_the_owner_may_read_an_export(table: Any, tmp_path: Path) -> None:
    made = export_table(table, tmp_path / "exports")

    modes = {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    assert modes == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (made, made.parent)} == {0o700}


def test_the_list_has_the_sum_of_every_file(table: Any, tmp_path: Path) -> None:
    table.put_item(TableName="T", Item={"transaction_id": {"S": "a"}})
    with export(tmp_path, STAMP, "blue") as made:
        made.ledger(ledger(tmp_path / "web-1.jsonl.gz", 3))
        made.table(TableReader(table, "T", system_clock()), "T")

    listed = json.loads((made.directory / "export.json").read_text())
    assert listed["environment"] == "blue"
    assert {file["name"]: file["records"] for file in listed["files"]} == {"ledger-web-1.jsonl.gz": 3, "table.jsonl.gz": 1}
    for file in listed["files"]:
        content = (made.directory / file["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])


def test_nothing_is_left_of_an_export_that_fails(table: Any, tmp_path: Path) -> None:
    with pytest.raises(ClientError), export(tmp_path / "exports", STAMP, "blue") as made:
        made.ledger(ledger(tmp_path / "web-1.jsonl.gz", 2))
        made.table(TableReader(table, "another", system_clock()), "another")

    assert list((tmp_path / "exports").iterdir()) == []


def test_a_second_export_of_the_same_second_has_a_name_of_its_own(table: Any, tmp_path: Path) -> None:
    assert [export_table(table, tmp_path).name for _ in range(3)] == [STAMP, f"{STAMP}-2", f"{STAMP}-3"]


def test_what_a_killed_export_left_does_not_stand_in_the_way(table: Any, tmp_path: Path) -> None:
    (tmp_path / f".{STAMP}.partial").mkdir()
    (tmp_path / f".{STAMP}.partial" / "table.jsonl.gz").write_text("half")

    assert read(export_table(table, tmp_path) / "table.jsonl.gz") == []


def test_the_quarantine_is_kept_with_its_reasons_and_stays_as_it_was(queue: tuple[Any, str], tmp_path: Path) -> None:
    client, url = queue
    for number in range(13):
        attributes = {
            "reason": {"DataType": "String", "StringValue": "not_json"},
            "outbox_id": {"DataType": "String", "StringValue": f"w/{number}"},
        }
        client.send_message(QueueUrl=url, MessageBody=f"body {number}", MessageAttributes=attributes)

    with export(tmp_path, STAMP, "blue") as made:
        made.quarantine(client, url, system_clock(), 30)

    found = read(made.directory / "quarantine.jsonl.gz")
    assert {(one["outbox_id"], one["body"], one["reason"]) for one in found} == {(f"w/{n}", f"body {n}", "not_json") for n in range(13)}
    assert "receipt_handle" not in found[0]
    visible = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    assert visible == {"ApproximateNumberOfMessages": "13"}


def test_a_quarantine_of_which_somebody_hides_a_part_is_not_called_exported(queue: tuple[Any, str], tmp_path: Path) -> None:
    client, url = queue
    client.send_message(QueueUrl=url, MessageBody="seen")
    client.send_message(QueueUrl=url, MessageBody="hidden")
    client.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=600)

    said = r"quarantine Q: 1 messages were read within 2 s, and about 1 more are hidden"
    with pytest.raises(ExportError, match=said), export(tmp_path / "exports", STAMP, "blue") as made:
        made.quarantine(client, url, system_clock(), 2)

    assert list((tmp_path / "exports").iterdir()) == []


def test_a_ledger_is_kept_byte_by_byte(tmp_path: Path) -> None:
    source = ledger(tmp_path / "web-1.jsonl.gz", 2)
    with export(tmp_path / "exports", STAMP, "blue") as made:
        made.ledger(source)

    assert (made.directory / "ledger-web-1.jsonl.gz").read_bytes() == source.read_bytes()
    assert made.lines[0].startswith("ledger of web-1: 2 in ledger-web-1.jsonl.gz (")


def test_a_ledger_whose_last_line_says_another_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"it closes with 3 entries, but has 2"):
        whole_ledger(ledger(tmp_path / "web-1.jsonl.gz", 2, said=3))


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b""), gzip.compress(b'{"outbox_id": "web-1/1"}\n')],
    ids=["an empty file", "no gzip", "no line", "no last line"],
)
def test_a_ledger_without_its_last_line_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "web-1.jsonl.gz").write_bytes(content)

    with pytest.raises(ExportError, match="not whole"):
        whole_ledger(tmp_path / "web-1.jsonl.gz")


def test_a_ledger_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    whole = ledger(tmp_path / "web-1.jsonl.gz", 500).read_bytes()
    (tmp_path / "web-1.jsonl.gz").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(ExportError, match="not whole"):
        whole_ledger(tmp_path / "web-1.jsonl.gz")


def test_rejected_lines_are_kept_byte_by_byte_and_a_list_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    listed = tmp_path / "web-1.rejected.jsonl.gz"
    listed.write_bytes(gzip.compress(b'{"number": 1}\n{"number": 2}\n'))
    with export(tmp_path / "exports", STAMP, "blue") as made:
        made.rejected(listed)
    assert made.lines == [f"rejected lines of web-1: 2 in rejected-web-1.jsonl.gz ({listed.stat().st_size} bytes)"]
    assert (made.directory / "rejected-web-1.jsonl.gz").read_bytes() == listed.read_bytes()

    listed.write_bytes(listed.read_bytes()[:-9])
    with pytest.raises(ExportError, match="are not whole"), export(tmp_path / "exports", STAMP, "blue") as made:
        made.rejected(listed)
