"""A pipeline for the probe's tests: moto's queues, table and log group, and a stand-in for the function whose faults are chosen."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import boto3
from ansible.module_utils.pipeline.core.clock import Clock
from ansible.module_utils.pipeline.probe.checks import Targets
from ansible.module_utils.pipeline.probe.records import Thresholds
from ansible.module_utils.pipeline.probe.run import Clients, Outcome, PipelineProbe
from ansible.module_utils.pipeline.probe.senders import QueueSender, VersionSender
from botocore.exceptions import ClientError

TABLE, LOG_GROUP = "RealTimeTransactions", "/aws/lambda/ProcessFinancialStream"
QUEUE, DEAD_LETTERS = "FinancialTransactionQueue", "FinancialTransactionQueue-dlq"
HIGH, MEDIUM = Decimal(10000), Decimal(1000)


def refuse(code: str, operation: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "refused"}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


def category(amount: Decimal) -> str:
    return "high_value" if amount >= HIGH else "medium_value" if amount >= MEDIUM else "standard"


@dataclass
class Function:
    """The stand-in. Every attribute is a way to be wrong; the defaults are right."""

    alive: bool = True
    logs: bool = True
    loses: int = 0  # good records that it takes and forgets
    category: Callable[[Decimal], str] = category
    money: Callable[[Decimal], Any] = lambda amount: amount
    stamp: Callable[[], Any] = lambda: datetime.now(UTC).isoformat()
    version: Any = "3"
    change: Callable[[dict[str, Any]], None] = lambda item: None
    quarantines: bool = True
    stores_invalid: bool = False
    reason: str | None = "amount_missing"
    logged_reason: str = "amount_missing"
    outcome: str = "quarantined"
    detail: str = '{"field": "amount"}'
    body: Callable[[str], str] = lambda body: body
    keeps_attributes: bool = True
    names_source: bool = True


class Client:
    """A boto3 client with some of its calls replaced."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._real, name)


@dataclass
class World:
    """Everything together. Time only passes when the probe waits, in a long poll too; the function runs as soon as something is sent."""

    function: Function = field(default_factory=Function)
    passed: float = 0.0

    def __post_init__(self) -> None:
        self.sqs, self.dynamodb, self.logs = (Client(boto3.client(name, "us-east-1")) for name in ("sqs", "dynamodb", "logs"))
        self.queue_url = self.sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        self.dead_letter_url = self.sqs.create_queue(QueueName=DEAD_LETTERS)["QueueUrl"]
        self.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "transaction_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "transaction_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.logs.create_log_group(logGroupName=LOG_GROUP)
        self.logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName="1")
        self.sqs.send_message_batch = self._send
        self.sqs.receive_message = self._receive
        self.on_wait: Callable[[], None] = lambda: None
        # How many records the next invocations leave to be tried again, the next one's last.
        self.unsettled: list[int] = []

    @property
    def clients(self) -> Clients:
        return Clients(self.sqs, self.dynamodb, self.logs)

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: datetime.now(UTC), monotonic=lambda: self.passed, wait=self._wait)

    def probe(self, version: str = "", seconds: float = 20) -> PipelineProbe:
        """Through the queue, or with a version by invoking it directly."""
        clock = self.clock
        targets = Targets(self.queue_url, self.dead_letter_url, TABLE, LOG_GROUP, version, bool(version))
        sender = VersionSender(self, "function", version, clock, seconds) if version else QueueSender(self.sqs, self.queue_url, clock)
        return PipelineProbe(self.clients, targets, Thresholds(HIGH, MEDIUM), sender, clock)

    def run(self, timeout: float = 20, log_timeout: float = 20, version: str = "") -> Outcome:
        self.passed = 0.0
        return self.probe(version, timeout).run(timeout, log_timeout)

    def failed(self, outcome: Outcome) -> set[str]:
        return {check["check"].removeprefix("probe: ") for check in outcome.checks if not check["passed"]}

    def items(self) -> list[dict[str, Any]]:
        return self.dynamodb.scan(TableName=TABLE)["Items"]

    def dead_letters(self) -> list[str]:
        """The bodies of the dead letters that can be received now."""
        bodies = []
        while messages := self.sqs._real.receive_message(QueueUrl=self.dead_letter_url, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in messages]
        return bodies

    def _wait(self, seconds: float) -> None:
        self.passed += seconds
        self.on_wait()

    def _send(self, **arguments: Any) -> Any:
        response = self.sqs._real.send_message_batch(**arguments)
        self.process()
        return response

    def _receive(self, **arguments: Any) -> Any:
        """A long poll that takes the test's time, not real time."""
        response = self.sqs._real.receive_message(**(arguments | {"WaitTimeSeconds": 0}))
        if not response.get("Messages"):
            self._wait(arguments["WaitTimeSeconds"])
        return response

    def process(self) -> None:
        """What the function would do with the messages that wait."""
        if not self.function.alive:
            return
        arguments = {"QueueUrl": self.queue_url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        messages = self.sqs._real.receive_message(**arguments).get("Messages", [])
        self._handle(messages)
        for message in messages:
            self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])

    def invoke(self, FunctionName: str, Qualifier: str, Payload: bytes) -> dict[str, Any]:
        """Lambda's Invoke of one version: the function is handed an event instead of messages."""
        attributes = {"DataType": "dataType", "StringValue": "stringValue"}
        messages = [
            {
                "MessageId": record["messageId"],
                "Body": record["body"],
                "MessageAttributes": {
                    name: {there: one[here] for there, here in attributes.items()} for name, one in record["messageAttributes"].items()
                },
            }
            for record in json.loads(Payload)["Records"]
        ]
        failures = self.unsettled.pop() if self.unsettled else 0
        self._handle(messages[failures:])
        unsettled = [{"itemIdentifier": message["MessageId"]} for message in messages[:failures]]
        return {"Payload": io.BytesIO(json.dumps({"batchItemFailures": unsettled}).encode())}

    def _handle(self, messages: list[dict[str, Any]]) -> None:
        processed = []
        for message in messages:
            record = json.loads(message["Body"], parse_float=Decimal, parse_int=Decimal)
            if "amount" in record:
                processed += self._store(record)
            else:
                self._quarantine(message)
                if self.function.stores_invalid:
                    self._store(record | {"amount": Decimal(0)})
        self._log({"message": "Successfully processed", "count": len(processed), "transaction_ids": processed})

    def _store(self, record: dict[str, Any]) -> list[str]:
        function = self.function
        if function.loses:
            function.loses -= 1
            return []
        item = record | {"amount": function.money(record["amount"]), "processed_at_utc": function.stamp()}
        item |= {"transaction_category": function.category(record["amount"]), "processor_version": function.version}
        function.change(item)
        boto3.resource("dynamodb", "us-east-1").Table(TABLE).put_item(Item=item)
        return [record["transaction_id"]]

    def _quarantine(self, message: dict[str, Any]) -> None:
        function = self.function
        attributes = dict(message["MessageAttributes"]) if function.keeps_attributes else {}
        added = {
            "reason": function.reason,
            "detail": function.detail,
            "source_message_id": message["MessageId"] if function.names_source else None,
        }
        attributes |= {name: {"DataType": "String", "StringValue": value} for name, value in added.items() if value}
        if function.quarantines:
            self.sqs.send_message(QueueUrl=self.dead_letter_url, MessageBody=function.body(message["Body"]), MessageAttributes=attributes)
        self._log(
            {
                "message": "Record failed",
                "reason": function.logged_reason,
                "source_message_id": message["MessageId"],
                "outbox_id": message["MessageAttributes"]["outbox_id"]["StringValue"],
                "outcome": function.outcome,
            }
        )

    def _log(self, line: dict[str, Any]) -> None:
        if self.function.logs:
            event = {"timestamp": int(datetime.now(UTC).timestamp() * 1000), "message": json.dumps(line)}
            self.logs.put_log_events(logGroupName=LOG_GROUP, logStreamName="1", logEvents=[event])
