"""How the probe's records reach the function: through the queue, or by invoking one version directly."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.bounded_json import decode
from ..core.checks import Check, make_check
from ..core.clock import Clock, polls
from ..core.errors import AWS_ERRORS, error_code, explain, is_lasting
from .records import Record

# Seconds to retry requests after a throttle or a lost connection.
RETRY_SECONDS = 10.0
# What Invoke answers while a version is being created, or too much runs at once: Invoke, Lambda API reference.
NOT_YET = frozenset({"ResourceConflictException", "ResourceNotReadyException"})


@dataclass
class Delivery:
    """The state of the sending, kept up to date for a caller that is interrupted.

    `sent` has every id that the pipeline has or may have (a request whose answer was lost), `message_ids` those that it confirmed.
    `may_have_copies`: an answer was lost and the request made again, so there may be copies with unknown message ids.
    `may_come_later`: what was not seen yet may still be processed.
    """

    sent: set[str] = field(default_factory=set)
    message_ids: dict[str, str] = field(default_factory=dict)
    may_have_copies: bool = False
    may_come_later: bool = False


class QueueSender:
    """Through the queue, as a producer does. Sending takes a bounded time, and raises no error of AWS."""

    def __init__(self, sqs: Any, queue_url: str, clock: Clock) -> None:
        self._sqs, self._url, self._clock = sqs, queue_url, clock

    def send(self, records: Sequence[Record], delivery: Delivery) -> Check:
        started = self._clock.monotonic()
        left = {record.transaction_id: _entry(number, record) for number, record in enumerate(records)}
        problem = ""
        delivery.may_come_later = True
        for _left in polls(self._clock, RETRY_SECONDS):
            by_entry = {entry["Id"]: transaction_id for transaction_id, entry in left.items()}
            sent_before = set(delivery.sent)
            delivery.sent |= left.keys()
            try:
                response = self._sqs.send_message_batch(QueueUrl=self._url, Entries=list(left.values()))
            except AWS_ERRORS as error:
                problem = explain(error)
                if is_lasting(error):
                    delivery.sent = sent_before
                    break
                delivery.may_have_copies = True
                continue
            delivery.may_have_copies |= _was_repeated(response)
            for accepted in response.get("Successful", []):
                transaction_id = by_entry[accepted["Id"]]
                delivery.message_ids[transaction_id] = accepted["MessageId"]
                del left[transaction_id]
            delivery.sent = sent_before | delivery.message_ids.keys()
            refused = response.get("Failed", [])
            problem = "; ".join(f"{one.get('Code')}: {one.get('Message', 'no message')}" for one in refused)
            if not left or all(one.get("SenderFault") for one in refused):
                break
        remedy = f"Check that queue {self._url.rsplit('/', 1)[-1]} exists (site.yml creates it) and that you may send to it."
        seconds = self._clock.monotonic() - started
        return _taken_check("the queue", f"of {len(records)} accepted", len(records), len(left), problem, seconds, remedy)


class VersionSender:
    """By invoking one version with the event that a mapping would hand it, again while it leaves records to be retried."""

    def __init__(self, functions: Any, function: str, version: str, clock: Clock, seconds: float) -> None:
        self._functions, self._function, self._version = functions, function, version
        self._clock, self._seconds = clock, seconds

    def send(self, records: Sequence[Record], delivery: Delivery) -> Check:
        started = self._clock.monotonic()
        ids = {record.transaction_id: str(uuid.uuid4()) for record in records}
        left = list(records)
        problem = ""
        for _left in polls(self._clock, self._seconds):
            delivery.sent |= {record.transaction_id for record in left}
            try:
                unsettled, problem = self._invoke(left, ids, delivery)
            except AWS_ERRORS as error:
                problem = explain(error)
                if is_lasting(error) and error_code(error) not in NOT_YET:
                    break
                # The invocation may be in progress, or done.
                delivery.may_have_copies = delivery.may_come_later = True
                continue
            delivery.message_ids |= {one.transaction_id: ids[one.transaction_id] for one in left if one not in unsettled}
            left = unsettled
            if not left or problem:
                break
        if left and not problem:
            problem = f"it left {len(left)} to be retried, for {self._seconds:g} s"
        remedy = f"Version {self._version} of {self._function} does not work: look at its log, then fix its code, settings or role."
        seconds = self._clock.monotonic() - started
        return _taken_check(f"version {self._version}", f"of {len(records)} settled", len(records), len(left), problem, seconds, remedy)

    def _invoke(self, records: Sequence[Record], ids: dict[str, str], delivery: Delivery) -> tuple[list[Record], str]:
        """The records that the version did not settle, and what was wrong with its answer, if anything was."""
        event = {"Records": [_event_record(record, ids[record.transaction_id]) for record in records]}
        answer = self._functions.invoke(FunctionName=self._function, Qualifier=self._version, Payload=json.dumps(event).encode())
        delivery.may_have_copies |= _was_repeated(answer)
        payload = answer["Payload"].read().decode("utf-8", "replace")
        if answer.get("FunctionError"):
            return list(records), f"{answer['FunctionError']} error: {payload[:300]}"
        try:
            failures = {failure["itemIdentifier"] for failure in decode(payload)["batchItemFailures"]}
        except (ValueError, TypeError, KeyError):
            return list(records), f"no partial batch response: {payload[:300]}"
        return [record for record in records if ids[record.transaction_id] in failures], ""


Sender = QueueSender | VersionSender


def _taken_check(who: str, words: str, sent: int, left: int, problem: str, seconds: float, remedy: str) -> Check:
    found = f"{sent - left} {words}" + (f": {problem}" if problem else "")
    return make_check(f"probe: {who} takes its transactions", not left, f"{sent} {words}", found, seconds=seconds, remedy=remedy)


def _entry(number: int, record: Record) -> dict[str, Any]:
    attributes = {"outbox_id": {"DataType": "String", "StringValue": record.outbox_id}}
    return {"Id": str(number), "MessageBody": record.body, "MessageAttributes": attributes}


def _event_record(record: Record, message_id: str) -> dict[str, Any]:
    """A record of the event of "Using Lambda with Amazon SQS", in Lambda's developer guide: what the function reads of it."""
    return {
        "messageId": message_id,
        "receiptHandle": "none: this record never was in a queue",
        "body": record.body,
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {"outbox_id": {"dataType": "String", "stringValue": record.outbox_id}},
        "eventSource": "aws:sqs",
    }


def _was_repeated(response: dict[str, Any]) -> bool:
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0)
