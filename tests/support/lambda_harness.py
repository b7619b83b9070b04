"""What the tests of the function run it on: a real table and queue in this process, and ways to break their answers.

The table is MiniStack's own DynamoDB code, reached through a botocore handler instead of a socket, since moto 5.2.5 raises TypeError for a
BatchExecuteStatement with parameters. The dead-letter queue is moto's.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
import lambda_function
import processor_settings
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from ministack.services import dynamodb as ministack_dynamodb
from moto import mock_aws
from moto.core.models import botocore_stubber

TABLE, REGION = "RealTimeTransactions", "us-east-1"
CREDENTIALS = {"region_name": REGION, "aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
# An answer in place of the real one: an HTTP status with a JSON body, or an exception to raise. None lets the call through.
Reply = tuple[int, dict[str, Any]]
Answer = Reply | Exception | None


class Context:
    """The Lambda context, of which the function uses these two."""

    aws_request_id = "request-1"

    def __init__(self, milliseconds: int = 30_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@cache
def clients() -> tuple[Any, Any]:
    """A DynamoDB and an SQS client without moto's handler, which would answer every call first; built once, since that takes a while."""
    config = lambda_function.AWS_CONFIG.merge(Config(retries={"total_max_attempts": 1}))  # tests never wait for a second attempt
    built = tuple(boto3.Session(**CREDENTIALS).client(service, config=config) for service in ("dynamodb", "sqs"))
    for client in built:
        client.meta.events.unregister("before-send", botocore_stubber)
    return built


class Cloud:
    """The table and the dead-letter queue, every call made to them, and the faults in force."""

    def __init__(self) -> None:
        self.faults: list[Callable[[str, dict[str, Any]], Answer]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.dynamodb, self.sqs = clients()
        self.dynamodb.meta.events.register("before-send", self._dynamodb, unique_id="cloud")
        self.sqs.meta.events.register("before-send", self._sqs, unique_id="cloud")
        self.url = self.sqs.create_queue(QueueName="FinancialTransactionQueue-dlq")["QueueUrl"]
        self.reset()

    def close(self) -> None:
        for client in clients():
            client.meta.events.unregister("before-send", unique_id="cloud")

    def reset(self) -> None:
        """Empties both and ends every fault."""
        self.faults.clear()
        ministack_dynamodb.reset()
        self.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "transaction_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "transaction_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.dead_letters()
        self.calls.clear()

    def _dynamodb(self, request: Any, **_: Any) -> AWSResponse:
        operation, body = self._note(request)
        answer = self._fault(operation, body) or self.through(operation, body)
        return _response(request.url, answer)

    def _sqs(self, request: Any, **event: Any) -> AWSResponse:
        answer = self._fault(*self._note(request))
        return _response(request.url, answer) if answer else botocore_stubber(request=request, **event)

    def _note(self, request: Any) -> tuple[str, dict[str, Any]]:
        target = request.headers["X-Amz-Target"]
        operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
        body = json.loads(request.body)
        self.calls.append((operation, body))
        return operation, body

    def _fault(self, operation: str, body: dict[str, Any]) -> Reply | None:
        answers = (fault(operation, body) for fault in self.faults)
        answer = next((answer for answer in answers if answer is not None), None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def through(self, operation: str, body: dict[str, Any]) -> Reply:
        """What the real table answers."""
        headers = {"x-amz-target": f"DynamoDB_20120810.{operation}"}
        status, _, reply = asyncio.run(ministack_dynamodb.handle_request("POST", "/", headers, json.dumps(body).encode(), {}))
        return status, json.loads(reply)

    def answer(self, operation: str, answer: Answer | Callable[[dict[str, Any]], Answer], times: int = 1_000) -> None:
        """Puts `answer`, or what it makes of the request, in place of the next `times` answers to `operation`."""
        left = [times]

        def fault(called: str, body: dict[str, Any]) -> Answer:
            if called != operation or not left[0]:
                return None
            left[0] -= 1
            return answer(body) if callable(answer) else answer

        self.faults.append(fault)

    def count(self, operation: str) -> int:
        return sum(called == operation for called, _ in self.calls)

    def item(self, identity: str) -> dict[str, Any] | None:
        return self.dynamodb.get_item(TableName=TABLE, Key={"transaction_id": {"S": identity}}, ConsistentRead=True).get("Item")

    def items(self) -> list[dict[str, Any]]:
        return self.dynamodb.scan(TableName=TABLE, ConsistentRead=True)["Items"]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Takes every message out of the dead-letter queue."""
        found: list[dict[str, Any]] = []
        while batch := self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=0, MessageAttributeNames=["All"]
        ).get("Messages"):
            for dead_letter in batch:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=dead_letter["ReceiptHandle"])
            found += batch
        return found

    def reasons(self) -> list[str]:
        return sorted(message["MessageAttributes"]["reason"]["StringValue"] for message in self.dead_letters())


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def _response(url: str, reply: Reply) -> AWSResponse:
    status, body = reply
    return AWSResponse(url, status, {"content-type": "application/x-amz-json-1.0"}, _Raw(json.dumps(body).encode()))


def aws_error(code: str, message: str = "", status: int = 400) -> Reply:
    return status, {"__type": f"com.amazonaws#{code}", "message": message, "Message": message}


@contextmanager
def emulated(**environment: str) -> Iterator[Cloud]:
    """A fresh table and queue, with the function's environment and clients pointing at them."""
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        cloud = Cloud()
        defaults = {"TABLE_NAME": TABLE, "DEAD_LETTER_QUEUE_URL": cloud.url, "AWS_LAMBDA_FUNCTION_VERSION": "7"}
        thresholds = {"HIGH_VALUE_THRESHOLD": "10000", "MEDIUM_VALUE_THRESHOLD": "1000"}
        for name, value in (defaults | thresholds | environment).items():
            patch.setenv(name, value)
        processor_settings.settings.cache_clear()
        patch.setattr(lambda_function, "client", lambda service: {"dynamodb": cloud.dynamodb, "sqs": cloud.sqs}[service])
        try:
            yield cloud
        finally:
            cloud.close()
            processor_settings.settings.cache_clear()


def body(**fields: Any) -> str:
    """A good transaction as JSON, with these fields changed or added; a field given as ... is left out."""
    whole = {"transaction_id": "t-1", "user_id": "u-1", "amount": 12.34, "currency": "EUR", "merchant": "Bäckerei"} | fields
    return json.dumps({name: value for name, value in whole.items() if value is not ...})


def message(text: str, message_id: str | None = None, **attributes: str | bytes) -> dict[str, Any]:
    """A record as the event source mapping hands it over."""
    carried: dict[str, dict[str, Any]] = {}
    for name, value in attributes.items():
        if isinstance(value, bytes):
            carried[name] = {"dataType": "Binary", "binaryValue": base64.b64encode(value).decode(), "stringValue": None}
        else:
            carried[name] = {"dataType": "String", "stringValue": value, "stringListValues": [], "binaryListValues": []}
    return {
        "messageId": message_id or str(uuid.uuid4()),
        "receiptHandle": "handle",
        "body": text,
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": carried,
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:FinancialTransactionQueue",
        "awsRegion": REGION,
    }


def process(*records: dict[str, Any] | str, context: Context | None = None) -> set[str]:
    """Runs the function on one batch of records, or bodies; returns the message ids in batchItemFailures."""
    batch = [record if isinstance(record, dict) else message(record) for record in records]
    answer = lambda_function.lambda_handler({"Records": batch}, context or Context())
    assert set(answer) == {"batchItemFailures"}
    return {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}


def log_lines(printed: str) -> list[dict[str, Any]]:
    """The function's log lines, each of which has to be one JSON object."""
    return [json.loads(line) for line in printed.splitlines()]
