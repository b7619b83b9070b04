"""Reading a dead-letter queue: everything once, with its reason, and all as before afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.aws import dead_letter_queue as quarantine_messages
from ansible.module_utils.pipeline.aws.dead_letter_queue import sweep, transaction_id_in
from ansible.module_utils.pipeline.aws.queue import COUNTERS
from ansible.module_utils.pipeline.core.clock import system_clock
from aws_fakes import swept
from botocore.exceptions import ClientError
from fakes import FakeClock, client_error

SOON = 0.3  # seconds for what cannot end by itself


@pytest.fixture(autouse=True)
def no_long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto has one server, which a short poll asks as well."""
    monkeypatch.setattr(quarantine_messages, "POLL_SECONDS", 0)


@pytest.fixture
def sqs(aws: None) -> Iterator[Any]:
    yield boto3.client("sqs", "us-east-1")


@pytest.fixture
def url(sqs: Any) -> str:
    return sqs.create_queue(QueueName="FinancialTransactionQueue-dlq")["QueueUrl"]


def text(**attributes: str) -> dict[str, dict[str, str]]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}


def send(sqs: Any, url: str, *bodies: str, **attributes: str) -> list[str]:
    return [sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=text(**attributes))["MessageId"] for body in bodies]


def waiting(sqs: Any, url: str) -> tuple[int, int]:
    """Messages that can be received, and messages that are hidden."""
    names = list(COUNTERS.values())
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def refuse(operation: str, code: str = "AccessDenied") -> Callable[..., Any]:
    def refused(**_: Any) -> Any:
        raise client_error(code, operation)

    return refused


def test_every_message_is_met_once_and_visible_again_afterwards(sqs: Any, url: str):
    sent = send(sqs, url, *(f"body {number}" for number in range(25)))
    with swept(sqs, url, system_clock(), 30) as found:
        assert waiting(sqs, url) == (0, 25)
        assert sorted(message.message_id for message in found.messages) == sorted(sent)
    assert (found.complete, found.unseen, found.error, found.unreleased) == (True, 0, "", 0)
    assert waiting(sqs, url) == (25, 0)


def test_an_empty_queue_is_complete(sqs: Any, url: str):
    with swept(sqs, url, system_clock(), 30) as found:
        assert (found.messages, found.complete) == ([], True)


def test_a_message_of_the_function_says_all_about_itself(sqs: Any, url: str):
    before = datetime.now(UTC) - timedelta(seconds=1)
    blob = {"blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    own = text(reason="conflict", detail='{"fields": ["amount"]}', outbox_id="web-1-3fa9c2/17", source_message_id="m-1")
    body = json.dumps({"transaction_id": "t-1", "amount": 1.5})
    sent = sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=own | blob)
    with swept(sqs, url, system_clock(), 30) as found:
        (message,) = found.messages
    assert (message.message_id, message.body, message.reason) == (sent["MessageId"], body, "conflict")
    assert (message.detail, message.outbox_id, message.source_message_id) == ('{"fields": ["amount"]}', "web-1-3fa9c2/17", "m-1")
    assert (message.transaction_id, message.receive_count) == ("t-1", 1)
    assert before < message.sent_at < datetime.now(UTC) + timedelta(seconds=1)
    assert message.attributes == own | blob


def test_a_message_that_was_redriven_has_exhausted_its_retries(sqs: Any, url: str):
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1"}), "VisibilityTimeout": "0"}
    source = sqs.create_queue(QueueName="FinancialTransactionQueue", Attributes=redrive)["QueueUrl"]
    (sent,) = send(sqs, source, "body", outbox_id="web-1-3fa9c2/18")
    for _ in range(2):
        sqs.receive_message(QueueUrl=source)
    with swept(sqs, url, system_clock(), 30) as found:
        (message,) = found.messages
    assert (message.message_id, message.reason, message.outbox_id) == (sent, "retries_exhausted", "web-1-3fa9c2/18")
    assert (message.detail, message.source_message_id, message.transaction_id) == ("", None, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"transaction_id": "t-1", "amount": 1e99999}', "t-1"),
        ('{"transaction_id": "t-1", "amount": %s}' % ("9" * 5000), "t-1"),
        ('{"transaction_id": "t-1", "amount": NaN}', "t-1"),
        ('{"transaction_id": "first", "transaction_id": "second"}', "first"),
        ('{"transaction_id": 7}', None),
        ('{"inner": {"transaction_id": "t-1"}}', None),
        ('["transaction_id", "t-1"]', None),
        ("{}", None),
        ("", None),
        ('{"transaction_id": "t-\\u00e9\\"1", "amount": 12,}', 't-é"1'),
        ('{"transaction_id": "t-\\q"', None),
        ('{"transaction_id": "cut', None),
        ("[" * 100_000, None),
    ],
)
def test_the_id_is_read_from_whatever_the_body_is(body: str, expected: str | None):
    assert transaction_id_in(body) == expected


def test_without_bodies_only_what_arrives_has_one(sqs: Any, url: str):
    send(sqs, url, '{"transaction_id": "t-1"}', reason="amount_missing")
    with sweep(sqs, url, system_clock(), 30, bodies=False) as found:
        (arrived,) = found.arrivals()
        (message,) = found.messages
    assert (arrived.body, arrived.attributes) == ('{"transaction_id": "t-1"}', text(reason="amount_missing"))
    assert (message.body, message.attributes, message.transaction_id, message.reason) == ("", {}, "t-1", "amount_missing")


def test_what_was_deleted_is_gone_and_the_rest_is_visible(sqs: Any, url: str):
    send(sqs, url, *(f"body {number}" for number in range(25)))
    with swept(sqs, url, system_clock(), 30) as found:
        problems = found.delete(found.messages[:12])
        assert (problems, len(found.messages)) == ({}, 13)
    assert waiting(sqs, url) == (13, 0)


def test_a_deletion_that_is_refused_names_the_message_and_keeps_it(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch):
    first, second, third = send(sqs, url, "one", "two", "three")
    answer = {"Successful": [{"Id": "0"}], "Failed": [{"Id": "1", "Code": "InternalError", "SenderFault": False}]}
    with swept(sqs, url, system_clock(), 30) as found:
        monkeypatch.setattr(sqs, "delete_message_batch", lambda **_: answer)
        assert found.delete(found.messages) == {second: "InternalError", third: "not answered for"}
        assert [message.message_id for message in found.messages] == [second, third]
        monkeypatch.setattr(sqs, "delete_message_batch", refuse("DeleteMessageBatch"))
        assert set(found.delete(found.messages).values()) == {"AccessDenied (DeleteMessageBatch): refused"}
    assert first not in [message.message_id for message in found.messages]


def deliver_again(sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard queue may deliver a message twice, each time with another receipt handle."""
    receive, seen = sqs.receive_message, []

    def receive_message(**arguments: Any) -> Any:
        seen.append(arguments)
        if len(seen) == 2:
            for message in sqs._again:
                sqs.change_message_visibility(QueueUrl=arguments["QueueUrl"], ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        answer = receive(**arguments)
        if len(seen) == 1:
            sqs._again = answer["Messages"]
        return answer

    monkeypatch.setattr(sqs, "receive_message", receive_message)


def test_a_message_delivered_twice_counts_once_and_is_deleted_by_its_last_handle(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch):
    send(sqs, url, "one", "two")
    deliver_again(sqs, monkeypatch)
    with sweep(sqs, url, system_clock(), 30) as found:
        arrived = list(found.arrivals())
        assert len(arrived) == len(found.messages) == 2
        assert {message.receipt_handle for message in arrived}.isdisjoint(message.receipt_handle for message in found.messages)
        used: list[str] = []
        delete = sqs.delete_message_batch
        monkeypatch.setattr(sqs, "delete_message_batch", lambda **a: used.extend(e["ReceiptHandle"] for e in a["Entries"]) or delete(**a))
        assert found.delete(arrived) == {}
    assert waiting(sqs, url) == (0, 0)
    assert set(used).isdisjoint(message.receipt_handle for message in arrived)


def test_a_deleted_message_that_comes_again_is_deleted_again(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch):
    (sent,) = send(sqs, url, "one")
    receive, kept = sqs.receive_message, []

    def receive_message(**arguments: Any) -> Any:
        answer = receive(**arguments)
        kept.extend(answer.get("Messages", []))
        return answer if "Messages" in answer or len(kept) > 1 else {"Messages": [kept.append(1) or kept[0] | {"ReceiptHandle": "later"}]}

    monkeypatch.setattr(sqs, "receive_message", receive_message)
    used: list[str] = []

    def delete_message_batch(**arguments: Any) -> Any:
        used.extend(entry["ReceiptHandle"] for entry in arguments["Entries"])
        for entry in arguments["Entries"][:1] if len(used) == 1 else []:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=entry["ReceiptHandle"])
        return {"Successful": [{"Id": entry["Id"]} for entry in arguments["Entries"]]}

    monkeypatch.setattr(sqs, "delete_message_batch", delete_message_batch)
    with sweep(sqs, url, system_clock(), 30) as found:
        arrived = [message.message_id for message in found.arrivals() if found.delete([message]) == {}]
    assert (arrived, found.messages, used[1:]) == ([sent], [], ["later"])


def test_what_somebody_else_hides_is_waited_for_and_then_told(sqs: Any, url: str):
    send(sqs, url, "one", "two")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=600)
    with swept(sqs, url, system_clock(), SOON) as found:
        assert (len(found.messages), found.complete, found.unseen) == (1, False, 1)


def test_what_somebody_else_hides_is_met_when_it_shows_again(sqs: Any, url: str):
    send(sqs, url, "one")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=1)
    with swept(sqs, url, system_clock(), 30) as found:
        assert (len(found.messages), found.complete) == (1, True)


def test_what_one_look_at_the_counters_missed_is_met_by_the_next(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch):
    """A message that shows again just then was in neither of two counters, each right at its moment."""
    send(sqs, url, "body")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=1)
    count = sqs.get_queue_attributes
    nothing = [{"Attributes": dict.fromkeys(COUNTERS.values(), "0")}]
    monkeypatch.setattr(sqs, "get_queue_attributes", lambda **asked: nothing.pop() if nothing else count(**asked))
    with swept(sqs, url, system_clock(), 30) as found:
        assert (len(found.messages), found.complete) == (1, True)


def test_no_more_is_held_than_may_be_in_flight(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine_messages, "MAX_HELD", 10)
    send(sqs, url, *map(str, range(12)))
    with swept(sqs, url, system_clock(), 30) as found:
        assert (len(found.messages), found.complete) == (10, False)
        assert found.error == "it has more than the 10 messages that are held at once"
    assert waiting(sqs, url) == (12, 0)


def test_an_error_ends_the_reading_and_is_told(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch):
    send(sqs, url, "one")
    monkeypatch.setattr(sqs, "get_queue_attributes", refuse("GetQueueAttributes"))
    with swept(sqs, url, system_clock(), 30) as found:
        assert (len(found.messages), found.complete) == (1, False)
        assert found.error == "AccessDenied (GetQueueAttributes): refused"
        assert isinstance(found.failure, ClientError)
    monkeypatch.undo()
    assert waiting(sqs, url) == (1, 0)


def test_a_failure_of_the_work_releases_what_is_swept(sqs: Any, url: str):
    send(sqs, url, "one")
    with pytest.raises(KeyboardInterrupt), swept(sqs, url, system_clock(), 30):
        raise KeyboardInterrupt
    assert waiting(sqs, url) == (1, 0)


def test_what_is_kept_stays_hidden_when_the_rest_is_released(sqs: Any, url: str):
    send(sqs, url, *map(str, range(12)))
    with swept(sqs, url, system_clock(), 30) as found:
        found.keep(found.messages[:5])
    assert (len(found.messages), waiting(sqs, url)) == (7, (7, 5))


def test_a_release_that_is_refused_is_counted_and_the_rest_released(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch):
    send(sqs, url, *map(str, range(15)))
    change = sqs.change_message_visibility_batch
    answers: list[Callable[..., Any]] = [refuse("ChangeMessageVisibilityBatch"), change]
    monkeypatch.setattr(sqs, "change_message_visibility_batch", lambda **arguments: answers.pop(0)(**arguments))
    with swept(sqs, url, system_clock(), 30) as found:
        pass
    assert (found.unreleased, waiting(sqs, url)) == (10, (5, 10))


def test_messages_stay_hidden_for_the_time_asked_for_and_little_more(sqs: Any, url: str, monkeypatch: pytest.MonkeyPatch):
    clock, hidden = FakeClock(), []
    receive = sqs.receive_message

    def receive_message(**arguments: Any) -> Any:
        hidden.append(arguments["VisibilityTimeout"])
        clock.passed += 40
        return receive(**arguments)

    monkeypatch.setattr(sqs, "receive_message", receive_message)
    send(sqs, url, *map(str, range(30)))
    with swept(sqs, url, clock, 100) as found:
        assert (len(found.messages), found.complete, found.seconds_left) == (30, False, 0)
    assert hidden == [105, 65, 25]


def test_no_message_is_hidden_for_longer_than_sqs_allows(sqs: Any, url: str):
    send(sqs, url, "one")
    with swept(sqs, url, system_clock(), 100_000) as found:
        assert found.complete
