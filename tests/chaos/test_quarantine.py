"""1,000 mixed records in the quarantine: listed, half of them repaired and replayed while killed twice, the rest purged to a file.

None is lost: that is looked up id by id, and reconciled.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.aws.dead_letter_queue import transaction_id_in
from operators import POLICIES, make_operator, rendered
from plays import Pipeline, Run, free_port, kill_play, supervisorctl, wait_until
from streams import BAD, MEBIBYTE, TABLE, body, send, stored, waiting

pytestmark = pytest.mark.timeout(900)

TEXT_AMOUNTS, REDRIVEN, CONFLICTS, REJECTED = 400, 100, 20, 10
TOTAL = 1000
REPLAYED = ("amount_not_a_number", "retries_exhausted")
RATE, SECONDS = 60, 45
NO_LEDGER = "reconciliation: every producer's ledger is there"


@dataclass
class Records:
    """What is quarantined: by outbox_id, the reason and the body; by transaction_id, the amount with which half of it is to be stored.

    `stored` are the bodies that are stored before, with which twenty of them are in conflict.
    """

    stored: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, str] = field(default_factory=dict)
    repaired: dict[str, Decimal] = field(default_factory=dict)

    def add(self, reason: str, text: str) -> tuple[str, str]:
        outbox_id = f"test/{len(self.bodies) + 1}"
        self.reasons[outbox_id], self.bodies[outbox_id] = reason, text
        return outbox_id, text

    def add_text_amount(self, reason: str) -> tuple[str, str]:
        cents = f"{len(self.bodies)}.{len(self.bodies) % 100:02d}"
        outbox_id, text = self.add(reason, body(amount=f'"{cents}"'))
        self.repaired[json.loads(text)["transaction_id"]] = Decimal(cents)
        return outbox_id, text


def text(**attributes: str) -> dict[str, Any]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}


def redrive(pipeline: Pipeline, messages: list[tuple[str, str]]) -> None:
    """Has SQS itself move these to the quarantine, without a reason: from a queue that gives up after one try."""
    sqs, dead_letters = pipeline.client("sqs"), pipeline.queue_url("-dlq")
    arn = sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1"})
    url = sqs.create_queue(QueueName="Impatient", Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "0"})["QueueUrl"]
    for outbox_id, content in messages:
        sqs.send_message(QueueUrl=url, MessageBody=content, MessageAttributes=text(outbox_id=outbox_id))
    empty = 0
    while empty < 2:
        empty = 0 if sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages") else empty + 1
    sqs.delete_queue(QueueUrl=url)


def fill(pipeline: Pipeline) -> Records:
    records = Records([body(amount="10.00") for _ in range(CONFLICTS)])
    send(pipeline, [(f"first/{number}", content) for number, content in enumerate(records.stored, start=1)])
    wait_until(lambda: waiting(pipeline) == 0, 60, "the first versions stored")
    messages = [records.add("conflict", content.replace("10.00", "11.00")) for content in records.stored]
    messages += [records.add_text_amount("amount_not_a_number") for _ in range(TEXT_AMOUNTS)]
    makers = [(reason, maker) for reason, some in BAD.items() if reason != "amount_not_a_number" for maker in some]
    others = TOTAL - len(messages) - REDRIVEN - REJECTED
    messages += [records.add(reason, maker()) for reason, maker in (makers[number % len(makers)] for number in range(others))]
    send(pipeline, messages)
    redrive(pipeline, [records.add_text_amount("retries_exhausted") for _ in range(REDRIVEN)])
    sqs = pipeline.client("sqs")
    for _ in range(REJECTED):  # what a table refuses, no emulator does
        outbox_id, content = records.add("rejected_by_table", body())
        dead_letter = text(outbox_id=outbox_id, reason="rejected_by_table", detail="{}", source_message_id="m-1")
        sqs.send_message(QueueUrl=pipeline.queue_url("-dlq"), MessageBody=content, MessageAttributes=dead_letter)
    wait_until(lambda: waiting(pipeline) == 0, 120, "an empty queue")
    assert len(records.bodies) == TOTAL
    return records


def write_ledger(path: Path, ledger: str, bodies: Iterable[str]) -> str:
    """The export that a producer would make which sent these; it knows of no id where a body has none."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    entries = [
        {"outbox_id": f"{ledger}/{number}", "transaction_id": transaction_id_in(content), "amount": None, "timestamp": None}
        | {"state": "sent", "sent_at": now, "body": content}
        for number, content in enumerate(bodies, start=1)
    ]
    closing = {"ledger": ledger, "entries": len(entries), "first": 1, "last": len(entries), "exported_at": now}
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in [*entries, closing])
    return str(path)


def reconciled(pipeline: Pipeline, ledgers: list[str]) -> dict[str, Any]:
    """The report of reconcile.yml. It has one finding besides what it counts: the producer, which was never deployed, has no ledger."""
    run = pipeline.play("reconcile", "--limit", "embedded_cloud:operator", reconciliation_kept_ledgers=ledgers)
    assert NO_LEDGER in run.failed_checks, run.output[-6000:]
    return json.loads((pipeline.directory / "reconcile" / "reconciliation.json").read_text()) | {"failed": run.failed_checks - {NO_LEDGER}}


def hidden(pipeline: Pipeline) -> int:
    name = "ApproximateNumberOfMessagesNotVisible"
    found = pipeline.client("sqs").get_queue_attributes(QueueUrl=pipeline.queue_url("-dlq"), AttributeNames=[name])["Attributes"]
    return int(found[name])


def replays(directory: Path) -> Counter[str]:
    """How many messages the journal has in each state."""
    path = directory / "replays.sqlite3"
    if not path.exists():
        return Counter()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database, contextlib.suppress(sqlite3.OperationalError):
        return Counter(dict(database.execute("SELECT state, count(*) FROM replays GROUP BY state").fetchall()))
    return Counter()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The infrastructure without the producer, with room for large records; its operator has no more than the operator's policy."""
    directory = tmp_path_factory.mktemp("pipeline")
    settings = {
        "transaction_table_write_capacity": 4000,
        "transaction_queue_maximum_message_size": MEBIBYTE,
        "stream_processor_batching_window": 0,
        "quarantine_directory": str(directory / "exports"),
        "quarantine_rate": RATE,
        "quarantine_timeout": SECONDS,
    }
    made = Pipeline(directory, free_port(), settings)
    made.play("site", "--limit", "embedded_cloud:operator").ended_well()
    make_operator(made, [rendered(template, directory) for template in POLICIES])
    yield made
    supervisorctl(made, "shutdown")
    wait_until(lambda: not made.processes(), 30, f"an end of {made.processes()}")


REPLAY: dict[str, Any] = {
    "quarantine_action": "replay",
    "quarantine_reason": ",".join(REPLAYED),
    "quarantine_repair": "parse amount",
}
PLAY = "playbooks/quarantine"


def said(run: Run, *lines: str) -> None:
    run.ended_well()
    for line in lines:
        assert line in run.output, f"{line!r} is not in {run.output[-6000:]}"


def archived(directory: Path) -> list[dict[str, Any]]:
    """The messages of the one archive there is."""
    (path,) = directory.glob("*.jsonl.gz")
    *messages, last = (json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines())
    assert last["messages"] == len(messages)
    return messages


def replay_until_killed(pipeline: Pipeline, directory: Path, moved: int) -> None:
    """Kills a replay once so many messages, of all replays, were moved."""
    with ThreadPoolExecutor(1) as background:
        play = background.submit(pipeline.play, PLAY, quarantine_confirm=True, **REPLAY)
        wait_until(lambda: play.done() or replays(directory)["removed"] >= moved, 90, f"{moved} replayed")
        kill_play("quarantine.yml", directory)
        assert play.result().status < 0


def test_of_1000_mixed_records_half_is_replayed_through_two_kills_and_none_is_lost(
    deployed: Pipeline, tmp_path: Path, record_property: Callable[[str, object], None]
):
    records = fill(deployed)
    directory = Path(deployed.settings["quarantine_directory"])
    by_reason = Counter(records.reasons.values())
    assert set(BAD) | {"conflict", "retries_exhausted", "rejected_by_table"} == set(by_reason)

    started = time.monotonic()
    said(deployed.play(PLAY), "1,000 messages", *(f"{count} {reason}, " for reason, count in by_reason.items()))
    record_property("seconds to list", round(time.monotonic() - started, 1))
    said(deployed.play(PLAY, **REPLAY), "500 messages would be sent", "Nothing was done")
    assert not directory.exists()

    started = time.monotonic()
    for moved in (120, 260):
        replay_until_killed(deployed, directory, moved)
        assert moved <= replays(directory)["removed"] < 500
    record_property("states after the second kill", dict(replays(directory)))
    wait_until(lambda: hidden(deployed) == 0, SECONDS + 10, "what the killed runs hid")
    said(deployed.play(PLAY, quarantine_confirm=True, **REPLAY))
    record_property("seconds to replay, kills and waits included", round(time.monotonic() - started, 1))
    assert replays(directory) == {"removed": 500}
    wait_until(lambda: waiting(deployed) == 0, 120, "an empty queue")

    said(deployed.play(PLAY, quarantine_action="purge", quarantine_confirm=True), "500 messages were deleted")
    left = archived(directory)
    items = {key: item["amount"] for key, item in stored(deployed).items()}
    assert {key: items.get(key) for key in records.repaired} == records.repaired
    assert Counter(one["outbox_id"] for one in left) == {key: 1 for key, reason in records.reasons.items() if reason not in REPLAYED}
    for one in left:
        key = one["attributes"]["outbox_id"]["StringValue"]
        assert (one["reason"], one["body"]) == (records.reasons[key], records.bodies[key])
    assert len(items) == CONFLICTS + len(records.repaired)

    ledgers = [write_ledger(tmp_path / "first", "first", records.stored), write_ledger(tmp_path / "test", "test", records.bodies.values())]
    # The empty id and the one that is too long are always the same ones. What has no id has nothing to be known again by.
    named = [content for content in records.bodies.values() if transaction_id_in(content) is not None]
    copies = len(named) - len(set(named))
    found = reconciled(deployed, ledgers)
    assert found["failed"] == set()
    assert {name: count for name, count in found["counts"].items() if count} == {
        "sent": CONFLICTS + TOTAL - copies,
        "copies": copies,
        "stored": CONFLICTS + 500,
        "repaired": 500,
        "quarantined": 500 - copies,
        "archived": 500 - copies,
    }
    gone = next(iter(records.repaired))
    deployed.client("dynamodb").delete_item(TableName=TABLE, Key={"transaction_id": {"S": gone}})
    found = reconciled(deployed, ledgers)
    assert (found["counts"]["lost"], [one["transaction_id"] for one in found["lost"]]) == (1, [gone])
    assert "reconciliation: nothing is lost" in found["failed"]
