"""What the tests of the reconciliation run it on: moto's table and queues, ledgers as producers export them, a clock moved by waiting."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from ansible.module_utils.pipeline.aws.dead_letter_queue import QuarantinedMessage
from ansible.module_utils.pipeline.quarantine.journal import Journal, Outgoing
from ansible.module_utils.pipeline.reconciliation.artifacts import Progress
from ansible.module_utils.pipeline.reconciliation.report import checks, counts, report
from ansible.module_utils.pipeline.reconciliation.run import Options, Reconciliation
from aws_fakes import TABLE, make_table
from boto3.dynamodb.types import TypeSerializer
from fakes import FakeClock

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HOST = "web-1-3fa9c2"
DAY = 86_400
# Names of checks.
LOST, ALTERED, DOUBLED = "nothing is lost", "nothing is altered", "nothing is doubled"
SUM, UNKNOWN = "sent = stored + quarantined + in flight", "every item of the table is in a ledger"
OVERDUE, OLD = "nothing is in flight for too long", "no quarantined message is near its end"
FOREIGN = "every quarantined message is in a ledger"
WHOLE, LEDGERS = "table, queue and quarantine were read whole", "every producer's ledger is there"


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def body(identity: str | None, amount: str = "12.30", **fields: Any) -> str:
    """A transaction as it is sent; `amount` is JSON text."""
    members = {} if identity is None else {"transaction_id": identity}
    members |= {"user_id": "user-1", "currency": "EUR", "timestamp": iso(NOW), "merchant": "Café Zürich"} | fields
    return json.dumps(members)[:-1] + f', "amount": {amount}}}'


@dataclass(frozen=True)
class Entry:
    """A line of a ledger; `body` None is one that was pruned. With `again` an unsent one was sent before, and is to be sent again."""

    transaction_id: str | None
    body: str | None
    state: str = "sent"
    age: float = 60.0
    amount: str | None = "12.30"
    again: bool = False

    def line(self, ledger: str, sequence: int, now: datetime) -> dict[str, Any]:
        sent = self.state != "unsent" or self.again
        at = iso(now - timedelta(seconds=self.age))
        return {
            "outbox_id": f"{ledger}/{sequence}",
            "transaction_id": self.transaction_id,
            "amount": self.amount,
            "timestamp": iso(NOW),
            "state": self.state,
            "recorded_at": at,
            "sent_at": at if sent else None,
            "message_id": f"m-{sequence}" if sent else None,
            "sends": int(sent),
            "body": self.body,
        }


def entry(identity: str | None, amount: str = "12.30", **fields: Any) -> Entry:
    """An entry that was sent, with the body that belongs to it."""
    return Entry(identity, body(identity, amount, **fields), amount=amount)


def export(path: Path, entries: list[Entry], ledger: str = HOST, first: int = 1, now: datetime = NOW) -> str:
    """Writes a whole export and returns its path."""
    lines = [one.line(ledger, number, now) for number, one in enumerate(entries, start=first)]
    last = first + len(entries) - 1
    closing = {"ledger": ledger, "entries": len(entries), "first": first if entries else None, "last": last if entries else None}
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in [*lines, closing | {"exported_at": iso(now)}])
    return str(path)


class Client:
    """A boto3 client with some of its calls replaced, and all of them noted."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls.append((name, arguments))
            return getattr(self.real, name)(**arguments)

        return call

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)


@cache
def clients() -> tuple[Any, Any]:
    """Of SQS and DynamoDB; built once, in the first of moto's accounts, since that takes a while, and good for the next ones."""
    return boto3.client("sqs", "us-east-1"), boto3.client("dynamodb", "us-east-1")


@dataclass
class World:
    """Everything together. `on_wait` is what happens meanwhile, whenever the reconciliation waits."""

    directory: Path
    ledgers: list[str] = field(default_factory=list)
    options: Options = field(
        default_factory=lambda: Options(
            ledgers=[],
            kept_ledgers=[],
            missing_ledgers=[],
            quarantine_directory=None,
            repaired=Path(),
            settle_seconds=10,
            timeout=60,
            rate=0,
            queue_retention=4 * DAY,
            overdue_seconds=3700,
            quarantine_age=10 * DAY,
            await_unsent=False,
            others_allowed=False,
        )
    )
    on_wait: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.set(repaired=self.directory / "repaired.jsonl")
        self.sqs, self.dynamodb = map(Client, clients())
        self.queue_url, self.quarantine_url = (self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("queue", "quarantine"))
        make_table(self.dynamodb)
        self.clock = FakeClock(NOW, on_wait=lambda: self.on_wait())
        self.sqs.receive_message = self._receive

    def ledger(self, *entries: Entry, name: str = HOST, **how: Any) -> None:
        self.ledgers.append(export(self.directory / f"{len(self.ledgers)}.jsonl.gz", list(entries), name, **how))

    def set(self, **options: Any) -> None:
        self.options = replace(self.options, **options)

    def store(self, text: str, **changed: Any) -> None:
        """What the function would store of a body; `changed` replaces fields, None removes one."""
        fields = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        fields |= {
            "transaction_category": "standard",
            "processed_at_utc": iso(NOW - timedelta(seconds=30)),
            "processor_version": "7",
        } | changed
        serialize = TypeSerializer().serialize
        item = {name: serialize(value) for name, value in fields.items() if value is not None or name not in changed}
        self.dynamodb.put_item(TableName=TABLE, Item=item)

    def queue(self, text: str = "{}") -> str:
        return self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=text)["MessageId"]

    def empty_queue(self) -> None:
        for message in self.sqs.real.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages", []):
            self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])

    def quarantine(self, text: str, outbox_id: str | None, reason: str | None = "amount_missing") -> None:
        attributes = {"outbox_id": outbox_id, "reason": reason, "detail": "{}"}
        self.sqs.send_message(
            QueueUrl=self.quarantine_url,
            MessageBody=text,
            MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value},
        )

    def stored(self) -> set[str]:
        return {item["transaction_id"]["S"] for item in self.dynamodb.scan(TableName=TABLE)["Items"]}

    def run(self, **options: Any) -> Reconciliation:
        """One reconciliation of all ledgers written so far."""
        made = Reconciliation(
            self.sqs,
            self.dynamodb,
            TABLE,
            self.queue_url,
            self.quarantine_url,
            replace(self.options, **{"ledgers": self.ledgers} | options),
            self.clock,
            Progress(self.directory / "progress.log", self.clock),
        )
        made.run()
        return made

    def counts(self, **options: Any) -> dict[str, int | None]:
        """The counts of one reconciliation that are not 0."""
        return {name: number for name, number in counts(self.run(**options)).items() if number != 0}

    def failed(self, run: Reconciliation) -> dict[str, str]:
        """The failed checks, each with what it found."""
        found = checks(run, 0.0, "report.json")
        return {one["check"].removeprefix("reconciliation: "): one["found"] for one in found if not one["passed"]}

    def report(self, run: Reconciliation) -> dict[str, Any]:
        summary, lists = report(run)
        return summary | {name: list(elements) for name, elements in lists.items()}

    @property
    def passed(self) -> float:
        """For how many seconds somebody has waited."""
        return self.clock.passed

    def _receive(self, **arguments: Any) -> Any:
        """A long poll that takes the test's time, not real time."""
        self.sqs.calls.append(("receive_message", arguments))
        response = self.sqs.real.receive_message(**(arguments | {"WaitTimeSeconds": 0}))
        if not response.get("Messages"):
            self.clock.passed += arguments["WaitTimeSeconds"]
        return response


def archive(world: World, *outbox_ids: str, messages: int | None = None, at: float = 0, purged: bool = True) -> None:
    """An archive that was begun so many seconds before now; the messages are called m-<outbox id>."""
    lines = [{"message_id": f"m-{one}", "outbox_id": one, "reason": "amount_missing"} for one in outbox_ids]
    closing = {"archive": "quarantine", "messages": len(lines) if messages is None else messages, "purged": purged}
    closing["archived_at"] = iso(NOW - timedelta(seconds=at))
    path = world.directory / "quarantine" / "archive.jsonl.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in [*lines, closing]).encode()))
    world.set(quarantine_directory=path.parent)


def replay(world: World, message_id: str, outbox_id: str | None, at: float, identity: str | None = None) -> None:
    """That a replay of this message was begun so many seconds before now, whether it was sent or not."""
    directory = world.directory / "quarantine"
    directory.mkdir(exist_ok=True)
    began = NOW - timedelta(seconds=at)
    message = QuarantinedMessage(message_id, "", "", {}, "throttled", "", outbox_id, None, identity, began, 1)
    with contextlib.closing(Journal(directory)) as journal:
        journal.begin([Outgoing(message, "{}", {})], [], "run", iso(began))
    world.set(quarantine_directory=directory)
