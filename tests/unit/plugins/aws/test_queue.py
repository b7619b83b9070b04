"""Counting the messages of queues, and waiting until they are idle."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.aws.queue import (
    PipelineCounts,
    QueueIdleMonitor,
    count_messages,
    count_pipeline,
    queue_line,
    total_of,
    wait_until_empty,
)
from botocore.exceptions import ClientError
from fakes import FakeClock, client_error


@pytest.fixture
def sqs(aws: None) -> Any:
    return boto3.client("sqs", "us-east-1")


def test_messages_are_counted_by_what_they_do(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="Q")["QueueUrl"]
    for delay in (0, 0, 0, 600):
        sqs.send_message(QueueUrl=url, MessageBody="x", DelaySeconds=delay)
    sqs.receive_message(QueueUrl=url)

    queue = count_messages(sqs, "Q")

    assert queue == {"name": "Q", "state": "present", "visible": 2, "in_flight": 1, "delayed": 1}
    assert (total_of(queue), queue_line(queue)) == (4, "queue Q: about 4 messages (1 in flight, 1 delayed)")


def test_an_absent_queue_is_absent(sqs: Any) -> None:
    queue = count_messages(sqs, "Q")

    assert (total_of(queue), queue_line(queue)) == (0, "queue Q: absent")


def test_an_empty_queue_is_not_about_empty(sqs: Any) -> None:
    sqs.create_queue(QueueName="Q")

    assert queue_line(count_messages(sqs, "Q")) == "queue Q: 0 messages"


def test_a_queue_that_may_not_be_read_is_not_taken_for_absent(sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> Any:
        raise client_error("AccessDenied", "GetQueueUrl")

    monkeypatch.setattr(sqs, "get_queue_url", refused)
    with pytest.raises(ClientError):
        count_messages(sqs, "Q")


def test_both_queues_of_the_pipeline_are_counted(sqs: Any) -> None:
    queue, quarantine = (sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("Q", "Q-dlq"))
    for url, count in ((queue, 2), (quarantine, 3)):
        for _ in range(count):
            sqs.send_message(QueueUrl=url, MessageBody="x")
        sqs.receive_message(QueueUrl=url)

    assert count_pipeline(sqs, queue, quarantine) == PipelineCounts(queued=2, quarantined=3, quarantine_hidden=1)


@pytest.mark.parametrize(("counts", "idle"), [((0, 5, 0), True), ((1, 0, 0), False), ((0, 5, 1), False)])
def test_a_hidden_message_of_the_quarantine_may_be_on_its_way(counts: tuple[int, int, int], idle: bool) -> None:
    assert PipelineCounts(*counts).idle == idle


def test_idle_time_counts_from_the_first_look_and_begins_again_after_a_message() -> None:
    clock = FakeClock()
    monitor = QueueIdleMonitor(clock)
    seconds = []
    for idle in (False, True, True, False, True, True):
        monitor.note(idle)
        seconds.append(monitor.seconds)
        clock.wait(5)
    assert seconds == [0, 0, 5, 0, 0, 5]


def test_an_absent_queue_is_empty(sqs: Any) -> None:
    assert wait_until_empty(sqs, "another", FakeClock(), 10, 2)["empty"]


def test_a_queue_is_empty_when_it_was_so_for_some_seconds(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="Q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="one")
    clock = FakeClock()

    def take() -> None:
        (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    events = [(3, take), (4, lambda: sqs.send_message(QueueUrl=url, MessageBody="late")), (9, take)]
    clock.on_wait = lambda: events.pop(0)[1]() if events and events[0][0] <= clock.passed else None

    counted = wait_until_empty(sqs, "Q", clock, 60, 2)

    assert counted["empty"]
    assert 11 <= clock.passed <= 14


def test_a_queue_that_does_not_empty_is_counted(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="Q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="one")
    sqs.receive_message(QueueUrl=url)
    clock = FakeClock()

    counted = wait_until_empty(sqs, "Q", clock, 10, 2)

    assert (counted["empty"], counted["in_flight"], clock.passed) == (False, 1, 10)
