"""10,000 messages: every good one is stored once to the digit, every bad one quarantined with its reason; also with workers killed."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from plays import Pipeline, wait_until
from streams import BAD, ODD, body, send, stored, waiting

TOTAL = 10_000
BAD_OF_EACH_KIND = 6
MINIMUM_BAD = 100


@dataclass
class Stream:
    """What is sent: `good` maps id to the record as sent (numbers are Decimal); `bad` maps outbox_id to its reason and its body."""

    messages: list[tuple[str, str]]
    good: dict[str, dict[str, Any]]
    bad: dict[str, tuple[str, str]]


def make_stream(seed: int) -> Stream:
    stream = Stream([], {}, {})
    number = iter(range(10**9))

    def add(text: str, reason: str | None = None) -> None:
        outbox_id = f"test-{seed}:{next(number)}"
        stream.messages.append((outbox_id, text))
        if reason:
            stream.bad[outbox_id] = (reason, text)
        else:
            record = json.loads(text, parse_float=Decimal, parse_int=Decimal)
            stream.good[record["transaction_id"]] = record

    for reason, makers in BAD.items():
        for maker in makers:
            for _ in range(BAD_OF_EACH_KIND):
                add(maker(), reason)
    first = [body(amount="10.00") for _ in range(50)]
    for text in first:
        add(text)
    for maker in ODD:
        for _ in range(10):
            add(maker())
    while len(stream.messages) < TOTAL - 2 * len(first):
        add(body(amount=f"{len(stream.messages)}.{len(stream.messages) % 100:02d}"))
    random.Random(seed).shuffle(stream.messages)
    for text in first:  # the same again is stored once; another content under a known id is a conflict
        stream.messages.append((f"test-{seed}:{next(number)}", text))
    for text in first:
        add_conflict(stream, f"test-{seed}:{next(number)}", text)
    return stream


def add_conflict(stream: Stream, outbox_id: str, text: str) -> None:
    changed = text.replace('"amount": 10.00', '"amount": 11.00')
    stream.messages.append((outbox_id, changed))
    stream.bad[outbox_id] = ("conflict", changed)


def dead_letter_messages(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Empty the dead-letter queue; its messages by outbox_id. The same record may be there more than once."""
    client, url = pipeline.client("sqs"), pipeline.queue_url("-dlq")
    found: dict[str, dict[str, Any]] = {}
    while True:
        answer = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=0)
        messages = answer.get("Messages", [])
        if not messages:
            return found
        for message in messages:
            attributes = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
            found[attributes["outbox_id"]] = {"body": message["Body"], **attributes}
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@pytest.fixture(scope="module")
def deployed(infrastructure: Pipeline) -> Pipeline:
    # Lambda accepts no less than the function's timeout. site.yml sets six times that, which would take long here.
    infrastructure.client("sqs").set_queue_attributes(QueueUrl=infrastructure.queue_url(), Attributes={"VisibilityTimeout": "20"})
    return infrastructure


@pytest.mark.parametrize("kills", [0, 4], ids=["undisturbed", "with-workers-killed"])
def test_every_good_record_is_stored_once_to_the_digit_and_every_bad_one_quarantined(deployed: Pipeline, kills: int):
    stream = make_stream(seed=kills)
    assert len(stream.messages) == TOTAL
    assert len(stream.bad) >= MINIMUM_BAD
    before = set(stored(deployed))

    # All first writes are stored before their repetitions and conflicts come, so that chance does not decide which is first.
    originals, repetitions = stream.messages[:-100], stream.messages[-100:]
    with ThreadPoolExecutor(4) as senders:
        list(senders.map(lambda part: send(deployed, originals[part::4]), range(4)))
    killed = 0
    for share in range(kills):
        wait_until(lambda share=share: waiting(deployed) < TOTAL * (kills - share) / (kills + 1), 120, f"share {share} of the stream")
        killed += deployed.kill_function_workers()
    assert killed >= kills
    wait_until(lambda: waiting(deployed) == 0, 240, "an empty queue")
    send(deployed, repetitions)
    wait_until(lambda: waiting(deployed) == 0, 120, "an empty queue")

    items = {key: item for key, item in stored(deployed).items() if key not in before}
    own = {"transaction_category", "processed_at_utc", "processor_version"}
    assert {key: {name: value for name, value in item.items() if name not in own} for key, item in items.items()} == stream.good
    messages = dead_letter_messages(deployed)
    assert {outbox_id: (message["reason"], message["body"]) for outbox_id, message in messages.items()} == stream.bad
    assert all(json.loads(message["detail"]) is not None and message["source_message_id"] for message in messages.values())
