"""Sending quarantined messages back to the transaction queue. A process may end at any point: no message is lost or changed twice.

For each batch of messages: the journal, on disk, notes what will be sent; it is sent; the journal notes that; the messages are deleted
from the quarantine. So a message leaves the quarantine only after the queue has confirmed its successor, and nothing is sent again with
different content.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..aws.dead_letter_queue import PER_CALL, QuarantinedMessage, Sweep, without_content
from ..core.bounded_json import decode
from ..core.clock import Clock
from ..core.errors import AWS_ERRORS, error_code, explain
from .archive import iso_time
from .journal import BEGUN, Journal, Outgoing
from .listing import Selection
from .repairs import NotRepairableError, Repair, Rules, repaired

# SQS: "message quotas". Of a message; of a whole call, in bytes with attributes.
MAX_ATTRIBUTES, MAX_CALL_BYTES = 10, 1024 * 1024
# What the function wrote on a dead-letter message is about one delivery: it goes into the history, not into the message.
OF_ONE_DELIVERY = ("reason", "detail", "source_message_id")
HISTORY = "history"
# The newest entries of a history, as many as have room.
HISTORY_ENTRIES, HISTORY_BYTES = 10, 8192
# Seconds to finish with what was sent, before messages show again.
RESERVE = 10
# The queue refuses the content of an entry in the call: then it has taken none of the entries.
REFUSALS = frozenset(
    ("InvalidMessageContents", "InvalidParameterValue", "AWS.SimpleQueueService.BatchRequestTooLong", "BatchRequestTooLong")
)


@dataclass(frozen=True)
class Request:
    """What to do with the quarantine. Unless it is `confirmed`, replay and purge only say what they would do; `write`: not in check mode.

    `limit`: 0 for no limit; `rate`: messages a second; `seconds`: for the whole action.
    """

    action: str
    queue_url: str
    dead_letter_queue_url: str
    table: str
    rules: Rules
    directory: Path
    selection: Selection
    limit: int
    repairs: list[Repair]
    rate: float
    seconds: float
    samples: int
    confirmed: bool
    write: bool
    run: str

    @property
    def quarantine(self) -> str:
        """The queue's name."""
        return self.dead_letter_queue_url.rsplit("/", 1)[-1]

    @property
    def writes(self) -> bool:
        return self.write and self.changes

    @property
    def changes(self) -> bool:
        """Whether it writes something, or would outside check mode."""
        return self.action == "archive" or (self.action in ("replay", "purge") and self.confirmed)


@dataclass
class Result:
    """What became of the messages that were read. `left` are (message, why it stays); `problems` are (message, why it must be run again).

    `parsed` are (message, which text becomes which number), if nothing is written.
    """

    sent: Counter[str] = field(default_factory=Counter)  # by reason
    finished: int = 0  # an earlier run had sent them: only deleted
    resumed: int = 0  # an earlier run had begun them: sent as begun
    gone: int = 0  # an earlier run had begun them, and they are no longer in the quarantine
    came_back: int = 0  # sent by this run, and quarantined again
    left: list[tuple[QuarantinedMessage, str]] = field(default_factory=list)
    problems: list[tuple[QuarantinedMessage, str]] = field(default_factory=list)
    parsed: list[tuple[QuarantinedMessage, str]] = field(default_factory=list)
    error: str = ""


def message_bytes(body: str, attributes: dict[str, dict[str, Any]]) -> int:
    """A message's size as SQS counts it."""
    size = len(body.encode())
    for name, attribute in attributes.items():
        content = attribute.get("BinaryValue") or attribute.get("StringValue", "").encode()
        size += len(name.encode()) + len(attribute["DataType"].encode()) + len(content)
    return size


def history_of(message: QuarantinedMessage) -> list[Any]:
    """Its history so far, oldest first; what cannot be read as a history is kept as it was found."""
    text = message.attributes.get(HISTORY, {}).get("StringValue", "[]")
    with contextlib.suppress(ValueError):
        found = decode(text)
        if isinstance(found, list):
            return found
    return [{"found": text}]


class Replay:
    """One run over a sweep of the quarantine: sends messages of at most `room` bytes. `journal` may be None if the request writes nothing.

    Then nothing is sent, and the result is what would be.
    """

    def __init__(self, sqs: Any, held: Sweep, request: Request, room: int, clock: Clock, journal: Journal | None) -> None:
        self._sqs, self._held, self._request, self._room, self._clock, self._journal = sqs, held, request, room, clock, journal
        self._sent_ids: set[str] = set()
        self._next_send = clock.monotonic()
        self._batch: list[Outgoing] = []
        self.result = Result()

    def run(self) -> Result:
        """Reads all messages, until the limit or the time ends."""
        chosen = 0
        unfinished = self._journal.unfinished() if self._journal else 0
        for message in self._held.arrivals():
            if message.message_id in self._sent_ids or message.source_message_id in self._sent_ids:
                self.result.came_back += 1
                continue
            state = self._journal.state(message.message_id) if self._journal else ""
            if self._journal and state:
                unfinished -= 1
                if state == BEGUN:
                    self._put(self._journal.begun(message))
                else:
                    self.result.finished += self._delete([message], self._journal) if self._request.writes else 1
            elif self._request.selection.matches(message) and (not self._request.limit or chosen < self._request.limit):
                outgoing = self._prepare(message)
                if outgoing:
                    chosen += 1
                    self._put(outgoing)
            if self.result.error or (self._request.limit and chosen >= self._request.limit and unfinished <= 0):
                break
        self._flush()
        if self._journal and self._request.writes and self._held.complete:
            self.result.gone = self._journal.settle(message.message_id for message in self._held.messages)
        return self.result

    def _prepare(self, message: QuarantinedMessage) -> Outgoing | None:
        """The message as it is sent, if the function would accept it."""
        parsed: list[str] = []
        try:
            body = repaired(message.body, self._request.repairs, parsed)
        except NotRepairableError as error:
            self._leave(message, f"the repair does not apply: {error}")
            return None
        refusal = self._request.rules.refusal(body)
        if refusal:
            self._leave(message, f"{'even repaired' if self._request.repairs else 'as it is'}, it would be refused: {refusal}")
            return None
        attributes = {name: value for name, value in message.attributes.items() if name not in (*OF_ONE_DELIVERY, HISTORY)}
        size = message_bytes(body, attributes)
        if len(attributes) > MAX_ATTRIBUTES or size > self._room:
            found = f"{size} bytes and {len(attributes)} attributes"
            self._leave(message, f"it has {found}, the queue takes {self._room} and {MAX_ATTRIBUTES}")
            return None
        if not self._request.writes:
            self.result.parsed += [(without_content(message), change) for change in parsed]
        return Outgoing(message, body, attributes | self._history(message, len(attributes), self._room - size))

    def _history(self, message: QuarantinedMessage, attributes: int, room: int) -> dict[str, dict[str, Any]]:
        """The attribute that tells what became of this message so far, with as many entries as have room: {} if none has."""
        entry = {
            "quarantine_message_id": message.message_id,
            "quarantined_at": iso_time(message.sent_at),
            "reason": message.reason,
            "detail": message.detail,
            "source_message_id": message.source_message_id,
            "replayed_at": iso_time(self._clock.now()),
            "repairs": [repair.text for repair in self._request.repairs],
        }
        entries = [*history_of(message), entry][-HISTORY_ENTRIES:]
        while entries and attributes < MAX_ATTRIBUTES:
            found = {HISTORY: {"DataType": "String", "StringValue": json.dumps(entries)}}
            if message_bytes("", found) <= min(room, HISTORY_BYTES):
                return found
            entries.pop(0)
        return {}

    def _put(self, outgoing: Outgoing) -> None:
        """Adds a message to those that are sent together."""
        if self.result.error:
            return
        used = sum(message_bytes(one.body, one.attributes) for one in self._batch)
        if len(self._batch) == PER_CALL or used + message_bytes(outgoing.body, outgoing.attributes) > MAX_CALL_BYTES:
            self._flush()
        self._batch.append(outgoing)

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        if self.result.error or not batch:
            return
        if not self._journal or not self._request.writes:
            self._count(batch)
            return
        pause = max(self._next_send - self._clock.monotonic(), 0.0)
        if pause + RESERVE > self._held.seconds_left:
            self.result.error = "the time is up; what is left stays in the quarantine for the next run"
            return
        self._clock.wait(pause)
        self._next_send = self._clock.monotonic() + len(batch) / self._request.rate
        self._journal.begin(batch, [repair.text for repair in self._request.repairs], self._request.run, iso_time(self._clock.now()))
        sent = self._send(batch, self._journal)
        self._count(sent)
        self._delete([one.message for one in sent], self._journal)

    def _count(self, batch: list[Outgoing]) -> None:
        self.result.resumed += sum(one.resumed for one in batch)
        self.result.sent.update(one.message.reason for one in batch if not one.resumed)

    def _send(self, batch: list[Outgoing], journal: Journal) -> list[Outgoing]:
        """Sends a batch; returns, after the journal has noted them, those that the queue has."""
        entries = [{"Id": str(number), "MessageBody": one.body, "MessageAttributes": one.attributes} for number, one in enumerate(batch)]
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._request.queue_url, Entries=entries)
        except AWS_ERRORS as error:
            if error_code(error) in REFUSALS:
                if len(batch) > 1:
                    return [one for each in batch for one in self._send([each], journal)]
                self._refuse(batch[0], explain(error), journal)
            else:
                self.result.error = explain(error)
                for one in batch:
                    self._add_problem(one.message, "whether it was sent is not known")
            return []
        accepted = {batch[int(entry["Id"])].message.message_id: entry["MessageId"] for entry in answer.get("Successful", [])}
        self._sent_ids |= set(accepted.values())
        journal.sent(accepted)
        failed = {batch[int(entry["Id"])].message.message_id: entry for entry in answer.get("Failed", [])}
        for one in batch:
            if one.message.message_id in accepted:
                continue
            entry = failed.get(one.message.message_id, {})
            why = f"{entry.get('Code', 'the queue did not say that it has it')}: {entry.get('Message', '')}"
            if entry.get("SenderFault"):
                self._refuse(one, why, journal)
            else:
                self._add_problem(one.message, why)
        return [one for one in batch if one.message.message_id in accepted]

    def _refuse(self, one: Outgoing, why: str, journal: Journal) -> None:
        journal.refused([one.message.message_id])
        self._leave(one.message, f"the queue refuses it: {why}")

    def _leave(self, message: QuarantinedMessage, why: str) -> None:
        self.result.left.append((without_content(message), why))

    def _add_problem(self, message: QuarantinedMessage, why: str) -> None:
        self.result.problems.append((without_content(message), why))

    def _delete(self, messages: list[QuarantinedMessage], journal: Journal) -> int:
        """Deletes what was sent; returns how many."""
        problems = self._held.delete(messages)
        for message in messages:
            if message.message_id in problems:
                self._add_problem(message, f"it was sent, and could not be deleted: {problems[message.message_id]}")
        journal.removed(message.message_id for message in messages if message.message_id not in problems)
        return len(messages) - len(problems)
