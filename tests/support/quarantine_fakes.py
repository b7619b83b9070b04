"""A quarantine for tests: moto's two queues and table, and ways to fill, ask and read them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.aws import dead_letter_queue as quarantine_messages
from ansible.module_utils.pipeline.core.clock import Clock, system_clock
from ansible.module_utils.pipeline.quarantine.actions import Quarantine, Report, Request
from ansible.module_utils.pipeline.quarantine.listing import Selection
from ansible.module_utils.pipeline.quarantine.repairs import Repair, Rules
from aws_fakes import TABLE, make_table
from moto import mock_aws

RULES = Rules(Path(__file__).resolve().parents[2] / "lambda_src" / "transaction.py")


def text(**attributes: str) -> dict[str, dict[str, Any]]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}


def record(number: int, **fields: Any) -> str:
    """A good transaction, with these fields changed."""
    return json.dumps({"transaction_id": f"t-{number}", "user_id": "u-1", "amount": 12.5, "currency": "EUR"} | fields)


@dataclass
class World:
    """The queues by their URLs, and where archives and the journal go."""

    sqs: Any
    dynamodb: Any
    directory: Path
    queue: str
    dead_letters: str
    clock: Clock

    @classmethod
    def connect(cls, directory: Path, **client: Any) -> World:
        sqs, dynamodb = (boto3.client(service, "us-east-1", **client) for service in ("sqs", "dynamodb"))
        return cls(sqs, dynamodb, directory, "", "", system_clock())

    @classmethod
    def make(cls, directory: Path, **client: Any) -> World:
        world = cls.connect(directory, **client)
        make_table(world.dynamodb)
        world.make_queues()
        return world

    def emptied(self, directory: Path) -> World:
        """With new queues, a table without t-1, and another directory."""
        self.make_queues()
        self.dynamodb.delete_item(TableName=TABLE, Key={"transaction_id": {"S": "t-1"}})
        return replace(self, directory=directory)

    def make_queues(self, suffix: str = "") -> None:
        """Both queues, anew and empty."""
        attributes = {"MaximumMessageSize": "262144", "MessageRetentionPeriod": "1209600"}
        names = [f"FinancialTransactionQueue{suffix}", f"FinancialTransactionQueue-dlq{suffix}"]
        for url in {self.queue, self.dead_letters} - {""}:
            if url.endswith(tuple(f"/{name}" for name in names)):
                self.sqs.delete_queue(QueueUrl=url)
        self.queue, self.dead_letters = (self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"] for name in names)

    def add_dead_letter(self, body: str, reason: str | None, attributes: dict[str, dict[str, Any]] | None = None, **more: str) -> str:
        """Puts a message into the quarantine, as the function does, or without a reason, as SQS does; returns its id."""
        own = text(reason=reason, detail="{}", source_message_id="m-1") if reason else {}
        everything = own | text(**more) | (attributes or {})
        return self.sqs.send_message(QueueUrl=self.dead_letters, MessageBody=body, MessageAttributes=everything)["MessageId"]

    def request(self, action: str, repair: list[str] | None = None, **options: Any) -> Request:
        selection = {name: options.pop(name, default) for name, default in (("reasons", []), ("ids", []), ("since", ""), ("until", ""))}
        plain = Request(
            action=action,
            queue_url=self.queue,
            dead_letter_queue_url=self.dead_letters,
            table=TABLE,
            rules=RULES,
            directory=self.directory,
            selection=Selection.read(**selection),
            limit=0,
            repairs=[Repair.read(one) for one in repair or []],
            rate=1000,
            seconds=60,
            samples=3,
            confirmed=True,
            write=True,
            run="run-1",
        )
        return replace(plain, **options)

    def act(self, action: str, repair: list[str] | None = None, **options: Any) -> Report:
        return Quarantine(self.sqs, self.dynamodb, self.clock, self.request(action, repair, **options)).act()

    def take(self, url: str) -> list[dict[str, Any]]:
        """Takes every message out of a queue that can be received."""
        found: list[dict[str, Any]] = []
        arguments = {"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        while batch := self.sqs.receive_message(**arguments).get("Messages"):
            entries = [{"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(batch)]
            self.sqs.delete_message_batch(QueueUrl=url, Entries=entries)
            found += batch
        return found

    def bodies(self, url: str) -> list[str]:
        return sorted(message["Body"] for message in self.take(url))

    def archives(self) -> list[list[dict[str, Any]]]:
        """The lines of every archive."""
        return [
            [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
            for path in sorted(self.directory.glob("*.jsonl.gz"))
        ]


@contextmanager
def emulated() -> Iterator[World]:
    """moto in this process, for the tests of a module: making it anew takes longer than most of them."""
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setattr(quarantine_messages, "POLL_SECONDS", 0)  # moto has one server, which a short poll asks as well
        yield World.make(Path())


def note(events: list[str], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Has every call of this function noted by its name."""
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *arguments, **options: events.append(name) or real(*arguments, **options))
