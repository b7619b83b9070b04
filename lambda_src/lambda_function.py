"""Stores the transactions of an SQS batch in DynamoDB: the first write wins, and no record makes the other records of its batch fail.

Every record ends with one outcome. Settled: `stored`; `duplicate`, the table holds the same content; `quarantined`, it can never succeed,
and its dead-letter message has the whole body and the reason. In batchItemFailures: `retried`, it failed for now; `redrive`, it can never
succeed but its message has no room for a reason, so SQS moves it and the log has the reason. Every record starts as `retried`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache, partial
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from processor_settings import Settings, settings
from transaction import (
    AMOUNT,
    CATEGORY,
    KEY,
    PROCESSED_AT,
    PROCESSOR_VERSION,
    InvalidRecord,
    Item,
    Reason,
    bounded,
    check_size,
    differing_fields,
    item_bytes,
    parse,
)

T = TypeVar("T")
Operation = Callable[..., dict[str, Any]]
Caller = Callable[..., dict[str, Any]]  # takes an operation and its arguments

# DynamoDB: API_BatchExecuteStatement.html, API_BatchStatementRequest.html, API_BatchGetItem.html.
MAX_STATEMENTS, MAX_STATEMENT_CHARACTERS, MAX_READ_KEYS = 25, 8192, 100
# SQS: API_SendMessageBatch.html. Bytes of one message and of a whole call, attributes included; the dead-letter queue has that limit too.
MAX_ENTRIES, MAX_ATTRIBUTES, MAX_MESSAGE_BYTES = 10, 10, 1024 * 1024
# Ours. Item bytes in one insert call, so that it is answered well within the read timeout. Rounds of reading unprocessed keys of
# BatchGetItem: a reply holds 16 MB. Characters of a detail, and of all ids in a log line, which CloudWatch cuts at 256 KB.
MAX_INSERT_BYTES, READ_ROUNDS = 1024 * 1024, 3
DETAIL_CHARACTERS, IDS_CHARACTERS = 1024, 200_000

# A call that hangs takes 2 attempts of 1 s to connect and 5 s to answer, and up to 1 s between them. No call starts with less time left:
# two calls may hang in the function's 30 s, and every record is still reported.
AWS_CONFIG = Config(connect_timeout=1, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
CALL_MILLISECONDS = 13_000

PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")  # an attribute name that goes into a PartiQL statement as it is
# Error kinds of a call that is refused for its content: one entry may be the cause, so each one is then tried alone.
REFUSALS = frozenset(("Validation", "Serialization", "InvalidMessageContents", "InvalidParameterValue", "BatchRequestTooLong"))


class Outcome(StrEnum):
    """Where a record ended; the module's docstring has the meanings."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    RETRIED = "retried"
    REDRIVE = "redrive"


class OutOfTimeError(Exception):
    """Too little of the invocation is left to start another call."""


@cache
def client(service: str) -> Any:
    """The one client of this process for "dynamodb" or "sqs", built on first use."""
    return boto3.client(service, config=AWS_CONFIG)


@dataclass(eq=False)
class RecordState:
    """The state of one record; `reason` and `detail` say why it is not settled."""

    record: dict[str, Any]
    item: Item = field(default_factory=dict)
    outcome: Outcome = Outcome.RETRIED
    reason: Reason | None = Reason.INTERNAL_ERROR
    detail: dict[str, Any] = field(default_factory=dict)
    invalid: bool = False

    @property
    def key(self) -> str:
        return str(self.item[KEY]["S"])

    def settle(self, outcome: Outcome) -> None:
        self.outcome, self.reason, self.detail = outcome, None, {}

    def retry(self, reason: Reason, **detail: Any) -> None:
        self.reason, self.detail = reason, detail

    def refuse(self, reason: Reason, **detail: Any) -> None:
        self.reason, self.detail, self.invalid = reason, detail, True

    def fail(self, error: Exception) -> None:
        """Note what an exception means for this record: a retry, unless the record itself is invalid."""
        if isinstance(error, InvalidRecord):
            self.refuse(error.reason, **error.detail)
        elif isinstance(error, OutOfTimeError):
            self.retry(Reason.OUT_OF_TIME, milliseconds_needed=CALL_MILLISECONDS)
        elif not isinstance(error, ClientError):
            reason = Reason.CALL_FAILED if isinstance(error, BotoCoreError) else Reason.INTERNAL_ERROR
            self.retry(reason, error=type(error).__name__, message=bounded(str(error)))
        else:
            kind, message, identity = error_kind(error), error.response["Error"].get("Message", ""), bounded(self.key)
            if kind == "Validation":
                reason = Reason.ITEM_TOO_LARGE if "Item size" in message else Reason.REJECTED_BY_TABLE
                self.refuse(reason, transaction_id=identity, message=bounded(message))
            elif kind in ("DuplicateItem", "ConditionalCheckFailed"):
                self.retry(Reason.UNREAD_DUPLICATE, transaction_id=identity)
            else:
                throttled = any(word in kind for word in ("Thrott", "Throughput", "RequestLimit"))
                reason = Reason.THROTTLED if throttled else Reason.CALL_FAILED
                self.retry(reason, transaction_id=identity, error=kind, message=bounded(message))

    def settle_against(self, held: Item) -> None:
        """First write wins: the same content is a duplicate, other content a conflict."""
        fields = differing_fields(self.item, held)
        if fields:
            named = [bounded(name, 60) for name in fields[:8]]
            self.refuse(Reason.CONFLICT, transaction_id=bounded(self.key), differing=len(fields), fields=named)
        else:
            self.settle(Outcome.DUPLICATE)


def error_kind(error: ClientError) -> str:
    """An AWS error code in its shortest form: "ValidationException" and "ValidationError" are "Validation"."""
    return re.sub(r"(Exception|Error)$", "", error.response["Error"].get("Code", "").rpartition(".")[2])


def is_refusal(error: Exception) -> bool:
    return isinstance(error, ParamValidationError) or (isinstance(error, ClientError) and error_kind(error) in REFUSALS)


def groups(sized: Iterable[tuple[T, int]], count: int, room: int) -> Iterator[list[T]]:
    """The things in order, in lists of at most `count` and a total size of at most `room`; a larger one gets a list of its own."""
    group: list[T] = []
    used = 0
    for thing, size in sized:
        if group and (len(group) == count or used + size > room):
            yield group
            group, used = [], 0
        group.append(thing)
        used += size
    if group:
        yield group


def call_in_time(context: Any, operation: Operation, **arguments: Any) -> dict[str, Any]:
    """Raises OutOfTimeError instead of starting a call if the invocation has no time for one that hangs, and whatever botocore raises."""
    if context.get_remaining_time_in_millis() < CALL_MILLISECONDS:
        raise OutOfTimeError
    return operation(**arguments)


class Table:
    """The table, for one invocation."""

    def __init__(self, dynamodb: Any, name: str, call: Caller) -> None:
        self.dynamodb, self.name, self.call = dynamodb, name, call

    def store(self, states: list[RecordState]) -> None:
        """Inserts the first record of each id; compares every other with what the table then holds."""
        by_id: dict[str, RecordState] = {}
        for state in states:
            by_id.setdefault(state.key, state)
        firsts = by_id.values()
        plain = [(state, item_bytes(state.item)) for state in firsts if self.statement(state.item)]
        for group in groups(plain, MAX_STATEMENTS, MAX_INSERT_BYTES):
            self.insert(group)
        for state in firsts:
            if not self.statement(state.item):
                self.put(state)
        held = {state.key: state.item for state in firsts if state.outcome is Outcome.STORED}
        held |= self.read([state for state in firsts if state.reason is Reason.UNREAD_DUPLICATE])
        for state in states:
            if state.key in held:
                if state.outcome is not Outcome.STORED:
                    state.settle_against(held[state.key])
            elif state is not by_id[state.key]:
                state.retry(Reason.SAME_ID_PENDING, transaction_id=bounded(state.key), first=by_id[state.key].record["messageId"])

    def statement(self, item: Item) -> str:
        """The conditional insert of an item with these names; "" if PartiQL cannot express them."""
        if not all(PLAIN_NAME.fullmatch(name) for name in item):
            return ""
        values = ", ".join(f"'{name}': ?" for name in item)
        statement = f'INSERT INTO "{self.name}" VALUE {{{values}}}'
        return statement if len(statement) <= MAX_STATEMENT_CHARACTERS else ""

    def insert(self, states: list[RecordState]) -> None:
        statements = [{"Statement": self.statement(state.item), "Parameters": list(state.item.values())} for state in states]
        try:
            answer = self.call(self.dynamodb.batch_execute_statement, Statements=statements, ReturnConsumedCapacity="NONE")
            replies = list(zip(states, answer["Responses"], strict=True))
        except Exception as error:
            if len(states) > 1 and is_refusal(error):
                for state in states:
                    self.insert([state])
            else:
                for state in states:
                    state.fail(error)
            return
        for state, reply in replies:
            if "Error" in reply:
                state.fail(ClientError({"Error": reply["Error"]}, "BatchExecuteStatement"))
            else:
                state.settle(Outcome.STORED)

    def put(self, state: RecordState) -> None:
        try:
            condition = f"attribute_not_exists({KEY})"
            self.call(self.dynamodb.put_item, TableName=self.name, Item=state.item, ConditionExpression=condition)
        except Exception as error:
            state.fail(error)
        else:
            state.settle(Outcome.STORED)

    def read(self, states: list[RecordState]) -> dict[str, Item]:
        """What the table holds for these records' ids, as far as it can be read now."""
        held: dict[str, Item] = {}
        for group in groups(((state, 0) for state in states), MAX_READ_KEYS, 0):
            keys: list[Item] = [{KEY: state.item[KEY]} for state in group]
            try:
                for _ in range(READ_ROUNDS):
                    answer = self.call(self.dynamodb.batch_get_item, RequestItems={self.name: {"Keys": keys, "ConsistentRead": True}})
                    held |= {item[KEY]["S"]: item for item in answer["Responses"].get(self.name, [])}
                    keys = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
                    if not keys:
                        break
            except Exception as error:
                for state in group:
                    state.detail |= {"read_error": describe(error)}
        return held


def quarantine(states: list[RecordState], sqs: Any, url: str, call: Caller) -> None:
    """Sends these records to the dead-letter queue with their reasons; SQS redrives those without room for a reason."""
    messages = []
    for state in states:
        try:
            entry, size = dead_letter_message(state)
            obstacle = f"{len(entry['MessageAttributes'])} attributes" if len(entry["MessageAttributes"]) > MAX_ATTRIBUTES else ""
            obstacle = obstacle or (f"{size} bytes" if size > MAX_MESSAGE_BYTES else "")
        except UnicodeEncodeError:
            obstacle = "lone surrogates"
        except Exception as error:
            state.detail |= {"quarantine_error": describe(error)}
            continue
        if obstacle:
            state.outcome = Outcome.REDRIVE
            state.detail |= {"no_room_for": obstacle}
        else:
            messages.append(((state, entry), size))
    for group in groups(messages, MAX_ENTRIES, MAX_MESSAGE_BYTES):
        send(group, sqs, url, call)


def dead_letter_message(state: RecordState) -> tuple[dict[str, Any], int]:
    """The dead-letter message of a record and its size in bytes: the whole body, the source's attributes, and ours."""
    attributes: dict[str, dict[str, Any]] = {}
    for name, source in (state.record.get("messageAttributes") or {}).items():
        binary = source.get("binaryValue")  # base64 in the function's event
        value = {"StringValue": source["stringValue"]} if binary is None else {"BinaryValue": base64.b64decode(binary)}
        attributes[name] = {"DataType": source["dataType"], **value}
    own = {"reason": str(state.reason), "detail": detail_text(state.detail), "source_message_id": state.record["messageId"]}
    attributes |= {name: {"DataType": "String", "StringValue": value} for name, value in own.items()}
    size = len(state.record["body"].encode())
    for name, attribute in attributes.items():
        content = attribute.get("BinaryValue") or attribute.get("StringValue", "").encode()
        size += len(name.encode()) + len(attribute["DataType"].encode()) + len(content)
    return {"MessageBody": state.record["body"], "MessageAttributes": attributes}, size


def send(messages: list[tuple[RecordState, dict[str, Any]]], sqs: Any, url: str, call: Caller) -> None:
    entries = [{"Id": str(number), **entry} for number, (_, entry) in enumerate(messages)]
    try:
        answer = call(sqs.send_message_batch, QueueUrl=url, Entries=entries)
    except Exception as error:
        if len(messages) > 1 and is_refusal(error):
            for one in messages:
                send([one], sqs, url, call)
        else:
            for state, _ in messages:
                state.detail |= {"quarantine_error": describe(error)}
        return
    for sent in answer.get("Successful", []):
        messages[int(sent["Id"])][0].outcome = Outcome.QUARANTINED
    for failed in answer.get("Failed", []):
        messages[int(failed["Id"])][0].detail |= {"quarantine_error": bounded(failed["Code"], 60)}


def describe(error: Exception) -> str:
    return bounded(error_kind(error) if isinstance(error, ClientError) else type(error).__name__, 60)


def detail_text(detail: dict[str, Any]) -> str:
    """One JSON object of at most DETAIL_CHARACTERS, in ASCII; the last members are left out until it fits."""
    members = list(detail.items())
    while len(text := json.dumps(dict(members))) > DETAIL_CHARACTERS:
        members.pop()
    return text


def prepare(body: str, config: Settings, processed_at: str) -> Item:
    """The item to store for a body, with our three fields. Raises InvalidRecord."""
    item = parse(body)
    own = {CATEGORY: config.category(Decimal(item[AMOUNT]["N"])), PROCESSED_AT: processed_at}
    own[PROCESSOR_VERSION] = config.processor_version
    return check_size(item | {name: {"S": value} for name, value in own.items()})


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """Processes an SQS event; returns the partial batch response, which names every record that is not settled.

    Raises SettingsError for a wrong environment and ValueError for an event that is not from SQS.
    """
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list):
        raise ValueError("the event has no Records, expected an SQS batch; invoke this function by its event source mapping")
    foreign = [record.get("eventSource") for record in records if record.get("eventSource") != "aws:sqs"]
    if foreign:
        raise ValueError(f"a record has the eventSource {foreign[0]!r}, expected 'aws:sqs'; map only the transaction queue to it")
    config, call = settings(), partial(call_in_time, context)
    processed_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    states = [RecordState(record) for record in records]
    for state in states:
        try:
            state.item = prepare(state.record["body"], config, processed_at)
        except Exception as error:
            state.fail(error)
    ready = [state for state in states if state.item]
    try:
        Table(client("dynamodb"), config.table_name, call).store(ready)
    except Exception as error:
        for state in ready:
            if state.outcome is Outcome.RETRIED and not state.invalid:
                state.fail(error)
    invalid = [state for state in states if state.invalid]
    try:
        quarantine(invalid, client("sqs"), config.dead_letter_queue_url, call)
    except Exception as error:
        for state in invalid:
            state.detail |= {"quarantine_error": describe(error)}
    report(states, context.aws_request_id)
    unsettled = [state for state in states if state.outcome in (Outcome.RETRIED, Outcome.REDRIVE)]
    return {"batchItemFailures": [{"itemIdentifier": state.record["messageId"]} for state in unsettled]}


def report(states: list[RecordState], request_id: str) -> None:
    """Prints one JSON line for every record that failed and one for the invocation, all ASCII and of bounded length."""
    for state in states:
        if state.reason is not None:
            named = ((state.record.get("messageAttributes") or {}).get("outbox_id") or {}).get("stringValue")
            outbox_id = named and bounded(named)
            line = {"level": "ERROR", "message": "Record failed", "reason": state.reason, "detail": json.loads(detail_text(state.detail))}
            line |= {"source_message_id": state.record["messageId"], "outbox_id": outbox_id, "outcome": state.outcome}
            print(json.dumps(line | {"request_id": request_id}), flush=True)
    count = {outcome: sum(state.outcome is outcome for state in states) for outcome in Outcome}
    ids = [bounded(state.key) for state in states if state.outcome in (Outcome.STORED, Outcome.DUPLICATE)]
    shown = next(groups(((identity, len(json.dumps(identity)) + 2) for identity in ids), len(ids), IDS_CHARACTERS), [])
    done: dict[str, Any] = {"level": "INFO", "message": "Successfully processed", "count": len(ids), "transaction_ids": shown}
    done |= {"transaction_ids_left_out": len(ids) - len(shown), "stored": count[Outcome.STORED], "duplicates": count[Outcome.DUPLICATE]}
    done |= {outcome.value: count[outcome] for outcome in (Outcome.QUARANTINED, Outcome.RETRIED, Outcome.REDRIVE)}
    print(json.dumps(done | {"request_id": request_id}), flush=True)
