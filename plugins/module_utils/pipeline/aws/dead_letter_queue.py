"""Reading a dead-letter queue that others use: each message once, hidden meanwhile, and left as it was.

SQS cannot be searched: to get past a message, one must receive it, which hides it and adds to its receive count. So at the end every
received message is made visible again. Source: "Amazon SQS visibility timeout", "short and long polling" and "message quotas" of the
developer guide.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..core.bounded_json import decode
from ..core.clock import Clock
from ..core.content import KEY
from ..core.errors import AWS_ERRORS, explain
from .paging import in_chunks
from .queue import read_counters, total_of

# A standard queue has at most 120,000 messages in flight, and beyond that a long poll returns nothing. The difference is for others.
MAX_HELD = 100_000
# If the process is killed before it can release them, messages stay hidden for so much longer than a sweep may last.
MARGIN_SECONDS = 5
MAX_HIDDEN_SECONDS = 43_200
# Only a long poll asks all of the queue's servers; a short one may miss what is there.
POLL_SECONDS = 1
PER_CALL = 10

# A message that SQS moved here by itself has no reason: the function gave none, or there was no room for it.
RETRIES_EXHAUSTED = "retries_exhausted"

_KEY_IN_TEXT = re.compile(r'"transaction_id"\s*:\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class QuarantinedMessage:
    """One message as SQS gave it. What it does not have is None, or "" for `detail`; without content, `body` and `attributes` are empty.

    `sent_at` is when it was sent first: for a message that SQS moved here, when it entered the transaction queue.
    """

    message_id: str
    receipt_handle: str
    body: str
    attributes: dict[str, dict[str, Any]]
    reason: str
    detail: str
    outbox_id: str | None
    source_message_id: str | None
    transaction_id: str | None
    sent_at: datetime
    receive_count: int

    @classmethod
    def read(cls, message: dict[str, Any]) -> QuarantinedMessage:
        """From a message of ReceiveMessage with all its attributes."""
        attributes, system = message.get("MessageAttributes", {}), message["Attributes"]
        texts = {name: value.get("StringValue") for name, value in attributes.items()}
        return cls(
            message_id=message["MessageId"],
            receipt_handle=message["ReceiptHandle"],
            body=message["Body"],
            attributes=attributes,
            reason=texts.get("reason") or RETRIES_EXHAUSTED,
            detail=texts.get("detail") or "",
            outbox_id=texts.get("outbox_id"),
            source_message_id=texts.get("source_message_id"),
            transaction_id=transaction_id_in(message["Body"]),
            sent_at=datetime.fromtimestamp(int(system["SentTimestamp"]) / 1000, UTC),
            receive_count=int(system["ApproximateReceiveCount"]),
        )


def without_content(message: QuarantinedMessage) -> QuarantinedMessage:
    """The same message without its body and attributes, so that a hundred thousand can be kept."""
    return replace(message, body="", attributes={})


def transaction_id_in(body: str) -> str | None:
    """The transaction_id of a body, if it is text: the first of two, and in invalid JSON what looks like it."""
    try:
        document = decode(body, _DECODER)
    except ValueError:
        match = _KEY_IN_TEXT.search(body)
        with contextlib.suppress(ValueError):
            return str(json.loads(match[1])) if match else None
        return None
    members = document if isinstance(document, _Members) else ()
    return next((value for name, value in members if name == KEY and isinstance(value, str)), None)


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object, in order, repeated names included."""


_DECODER = json.JSONDecoder(object_pairs_hook=_Members, parse_int=bool, parse_float=bool)  # numbers of any length


class Sweep:
    """The messages of a dead-letter queue that are held; made by `sweep`.

    `complete`: all messages of the queue were received. No more arrive, and its approximate counters tell of no more. `unseen` is about how
    many more the counters tell of: somebody else, such as a killed process, hides them until their time is up. `error` is why reading
    stopped early, if it did, and `failure` is what AWS raised then. `unreleased` is how many stay hidden at the end, until their time is
    up.
    """

    def __init__(self, sqs: Any, url: str, clock: Clock, seconds: float, bodies: bool) -> None:
        self._sqs, self._url, self._clock, self._bodies = sqs, url, clock, bodies
        self._end = clock.monotonic() + seconds
        self._held: dict[str, QuarantinedMessage] = {}
        self._deleted: set[str] = set()
        self.complete = False
        self.unseen = 0
        self.unreleased = 0
        self.error = ""
        self.failure: Exception | None = None

    @property
    def messages(self) -> list[QuarantinedMessage]:
        """The messages received so far and not deleted, each once, in the order they came."""
        return list(self._held.values())

    @property
    def seconds_left(self) -> float:
        """For how long the messages certainly stay hidden; do nothing with them after that."""
        return max(self._end - self._clock.monotonic(), 0.0)

    def arrivals(self) -> Iterator[QuarantinedMessage]:
        """Each message with its content as it is received, until there are no more or the time is up."""
        try:
            while self.seconds_left > 0:
                if len(self._held) >= MAX_HELD:
                    self.error = f"it has more than the {MAX_HELD:,} messages that are held at once"
                    return
                received = self._receive()
                yield from received
                if not received and self._is_all():
                    self.complete = True
                    return
        except AWS_ERRORS as error:
            self.error, self.failure = explain(error), error

    def keep(self, messages: Iterable[QuarantinedMessage]) -> None:
        """Leaves these hidden at the end, until their time is up: the caller deletes them."""
        for message in messages:
            del self._held[message.message_id]

    def delete(self, messages: Iterable[QuarantinedMessage]) -> dict[str, str]:
        """Deletes these; returns by message id why one is not known to be deleted. Those stay held."""
        problems: dict[str, str] = {}
        for chunk in in_chunks((self._held[message.message_id] for message in messages), PER_CALL):
            entries = [{"Id": str(number), "ReceiptHandle": message.receipt_handle} for number, message in enumerate(chunk)]
            try:
                answer = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
            except AWS_ERRORS as error:
                problems |= dict.fromkeys((message.message_id for message in chunk), explain(error))
                continue
            done = {chunk[int(entry["Id"])].message_id for entry in answer.get("Successful", [])}
            refused = {chunk[int(entry["Id"])].message_id: str(entry.get("Code")) for entry in answer.get("Failed", [])}
            for message in chunk:
                if message.message_id in done:
                    self._deleted.add(message.message_id)
                    del self._held[message.message_id]
                else:
                    problems[message.message_id] = refused.get(message.message_id, "not answered for")
        return problems

    def release(self) -> None:
        """Makes the held messages visible again."""
        for chunk in in_chunks(self._held.values(), PER_CALL):
            entries = [
                {"Id": str(number), "ReceiptHandle": message.receipt_handle, "VisibilityTimeout": 0} for number, message in enumerate(chunk)
            ]
            try:
                answer = self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
                self.unreleased += len(answer.get("Failed", []))
            except AWS_ERRORS:
                # Only counted: the other chunks must still be released, and these become visible again by themselves.
                self.unreleased += len(chunk)

    def _receive(self) -> list[QuarantinedMessage]:
        """Up to ten messages that are new. A standard queue may deliver a message twice: the last receipt handle counts."""
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=PER_CALL,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
            VisibilityTimeout=min(math.ceil(self.seconds_left) + MARGIN_SECONDS, MAX_HIDDEN_SECONDS),
            WaitTimeSeconds=POLL_SECONDS,
        )
        new, again = [], []
        for message in map(QuarantinedMessage.read, answer.get("Messages", [])):
            if message.message_id not in self._held and message.message_id not in self._deleted:
                new.append(message)
            self._held[message.message_id] = message if self._bodies else without_content(message)
            if message.message_id in self._deleted:
                again.append(message)
        self.delete(again)
        return new

    def _is_all(self) -> bool:
        for _look in range(2):  # a message that becomes visible just then may be counted neither as hidden nor as visible
            self.unseen = max(total_of(read_counters(self._sqs, self._url)) - len(self._held), 0)
            if self.unseen:
                return False
        return True


@contextlib.contextmanager
def sweep(sqs: Any, url: str, clock: Clock, seconds: float, *, bodies: bool = True) -> Iterator[Sweep]:
    """A sweep that has received nothing yet: take its `arrivals`, at the pace of the work with each of them.

    All of it, with that work, may take no more than `seconds`: if this process is killed, the messages stay hidden for so long and for
    MARGIN_SECONDS more. Without `bodies`, the held messages (not the arriving ones) have no content.
    """
    found = Sweep(sqs, url, clock, seconds, bodies)
    try:
        yield found
    finally:
        found.release()
