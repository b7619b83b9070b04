"""How the producer batches, sends, sends again and stops: without a network, on a clock that jumps."""

from __future__ import annotations

import json
import threading
from collections import Counter
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from botocore.stub import ANY, Stubber
from fakes import client_error
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from outbox_records import Entry
from producer_fakes import URL, World, fail, stream_of, take_all, wanted
from sending import Batch, Producer
from sqs_client import SendError, explain
from synthetic_transactions import SyntheticSource

NO_OUTBOX: Any = None

# Batches


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 1_048_000), st.text("a-1/", max_size=20)), max_size=60))
def test_batches_keep_order_and_both_limits_and_lose_and_double_nothing(shapes: list[tuple[int, str]]):
    # given entries of any size that SQS would take alone
    entries = [Entry(n, text, str(n), "é" * (size // 2) + "x" * (size % 2)) for n, (size, text) in enumerate(shapes, 1)]
    # when they are all cut into batches
    producer = Producer(wanted(), NO_OUTBOX, lambda: None, lambda *_, **__: None, threading.Event())
    for entry in entries:
        producer._add(entry, 0.0)
    producer._close()
    # then
    assert [each for batch in producer._ready for each in batch.entries] == entries
    for batch in producer._ready:
        counted = [len(each.body.encode()) + len(b"outbox_idString") + len(each.outbox_id.encode()) for each in batch.entries]
        assert 1 <= len(batch.entries) <= 10 and sum(counted) <= 1_048_576 and batch.size == sum(counted)


def test_a_batch_takes_exactly_1_mib_counted_with_attributes():
    beside = len(b"outbox_id") + len(b"String") + len(b"i-0/1")
    assert Batch(0.0).add(Entry(1, "i-0/1", "a", "x" * (1_048_576 - beside)))
    assert not Batch(0.0).add(Entry(1, "i-0/1", "a", "x" * (1_048_576 - beside + 1)))


def test_a_transaction_waits_no_longer_than_the_linger():
    # given one transaction a minute or so, when five are sent, then each goes alone, five seconds after it was drawn
    world = World()
    world.run(rate=1 / 60, count=5, linger=5.0)
    arrivals, stream = [], SyntheticSource(1 / 60, 1, 0.0)
    for _ in range(5):
        arrivals.append(stream.next_moment(0.0))
        stream.draw(arrivals[-1], 1)
    assert [len(ids) for _, ids in world.requests] == [1] * 5
    assert [moment for moment, _ in world.requests[:4]] == pytest.approx([each + 5 for each in arrivals[:4]])


def test_a_full_batch_is_sent_at_once():
    world = World()
    world.run(rate=1_000, count=10_000, linger=300.0)
    assert Counter(len(ids) for _, ids in world.requests) == {10: 1_000}
    assert world.requests[-1][0] == pytest.approx(10, rel=0.05)


def test_the_last_transaction_of_a_count_does_not_wait_for_more():
    world = World()
    world.run(rate=1_000, count=3, linger=300.0)
    assert len(world.sent()) == 3 and world.clock.passed < 1


def test_a_slow_queue_does_not_lower_the_mean_rate():
    world = World(latency=0.3)
    world.run(rate=10, count=1_000)
    assert world.clock.passed == pytest.approx(100, rel=0.1)


def test_moto_receives_every_transaction_once_and_whole():
    with mock_aws():
        client = boto3.client("sqs", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        queue = client.create_queue(QueueName="FinancialTransactionQueue")["QueueUrl"]
        world, received = World(), []
        code = world.run_from(None, client, queue_url=queue, rate=1_000, count=57)
        while messages := client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            received += [json.loads(each["Body"], parse_float=Decimal) for each in messages]
    assert code == 0 and received == stream_of(57, rate=1_000)
    assert world.sent() == [each["transaction_id"] for each in received]


# Sending again


def test_failed_entries_are_sent_again_alone():
    # given a queue that fails the third and the ninth of the first batch
    world = World(fail("2", "8"))
    code = world.run(rate=1_000, count=20, linger=1)
    # then only those two are sent again, without company, and all arrive once
    first = world.requests[0][1]
    again = [ids for _, ids in world.requests[1:] if set(ids) & set(first)]
    assert again == [[first[2], first[8]]]
    assert code == 0 and sorted(world.sent()) == sorted({each["transaction_id"] for each in stream_of(20)})


def test_a_stubbed_client_gets_the_entries_of_the_api():
    client = boto3.client("sqs", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    world = World()
    with Stubber(client) as stub:
        attributes = {"outbox_id": {"DataType": "String", "StringValue": ANY}}
        parameters = {"QueueUrl": URL, "Entries": [{"Id": "0", "MessageBody": ANY, "MessageAttributes": attributes}]}
        failed = {"Successful": [], "Failed": [{"Id": "0", "SenderFault": False, "Code": "InternalError", "Message": "later"}]}
        success = {"Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "d"}], "Failed": []}
        stub.add_response("send_message_batch", failed, parameters)
        stub.add_response("send_message_batch", success, parameters)
        assert world.run_from(None, client, count=1) == 0
        stub.assert_no_pending_responses()
    assert [line["event"] for line in world.log] == ["retrying", "sent", "stopped"]


def test_an_entry_that_the_answer_does_not_name_is_sent_again():
    world = World(lambda entries: take_all(entries[:1]))
    world.run(rate=1_000, count=3)
    assert world.requests[1][1] == world.requests[0][1][1:] and len(world.sent()) == 3
    assert {each["Code"] for each in world.lines("retrying")[0]["failed"]} == {"NoAnswer"}


def test_an_entry_at_fault_is_named_with_code_and_advice_and_kept():
    world = World(*[fail("0", fault=True)] * 30)
    world.run(count=1)
    line = world.lines("retrying")[0]
    assert line["failed"][0] == {"transaction_id": stream_of(1)[0]["transaction_id"], "Id": "0", "Code": "InternalError"} | {
        "Message": "try again", "SenderFault": "True"}  # fmt: skip
    assert "maximum message size" in line["what_to_do"] and len(world.lines("retrying")) == 30 and len(world.sent()) == 1


def test_the_backoff_doubles_with_jitter_up_to_30_seconds():
    world = World(*[fail("0")] * 40)
    world.run(count=1)
    delays = [line["delay_seconds"] for line in world.lines("retrying")]
    for attempt, delay in enumerate(delays):
        limit = min(0.2 * 2**attempt, 30)
        assert limit / 2 - 0.001 <= delay <= limit + 0.001
    assert len(set(delays[10:])) > 20


def test_network_trouble_is_retried_from_the_first_request_on():
    world = World(*[EndpointConnectionError(endpoint_url="http://127.0.0.1:1")] * 6)
    assert world.run(count=25, rate=100) == 0
    assert [each["transaction_id"] for each in stream_of(25)] == world.sent()
    assert "network" in world.lines("retrying")[0]["what_to_do"]


def test_the_backoff_begins_anew_after_a_success():
    away = client_error("ServiceUnavailable", "SendMessageBatch", 503)
    world = World(away, away, away, take_all, away)
    world.run(count=20, rate=1_000)
    assert [line["attempt"] for line in world.lines("retrying")] == [1, 2, 3, 1]


def test_an_outage_is_probed_by_one_batch_and_holds_no_more_than_a_thousand_transactions():
    world = World(*[client_error("ServiceUnavailable", "SendMessageBatch", 503)] * 60)
    assert world.run(count=1_500, rate=100) == 0
    held = {each for _, ids in world.requests[:60] for each in ids}
    assert len(held) == 10 and [each["transaction_id"] for each in stream_of(1_500)] == world.sent()


def test_a_full_outbox_takes_in_no_more_says_so_and_loses_nothing():
    world = World(*[client_error("ServiceUnavailable", "SendMessageBatch", 503)] * 10_000, stop_at=3_600.0)
    assert world.run(rate=100, outbox_rows=1_000) == 1
    assert world.lines("stopped")[0]["unsent"] == 1_000
    full = world.lines("full")
    assert full[0]["at"] < 15 and 55 < len(full) <= 60  # once a minute
    assert (full[0]["rows"], full[0]["rows_limit"], full[0]["unsent"]) == (1_000, 1_000, 1_000) and full[0]["what_to_do"]


def test_an_outage_stops_no_transaction_from_being_recorded_in_time_and_sent_in_order_after():
    # given an outage of half an hour at two a second
    world = World(*[client_error("ServiceUnavailable", "SendMessageBatch", 503)] * 80, stop_at=2_400.0)
    # when it ends
    assert world.run(rate=2, linger=1) == 0
    # then what came in that time is sent, in the order it came
    assert len(world.sent()) == pytest.approx(4_800, rel=0.1)
    assert world.sent() == [each["transaction_id"] for each in stream_of(len(world.sent()), rate=2)]


def test_the_moments_of_a_long_pause_are_let_go_but_for_the_last_minute():
    made_up = SyntheticSource(10.0, 1, now=0.0)
    assert made_up.next_moment(3_600.0) == 3_540.0
    assert len(made_up.draw(3_600.0, 10_000).messages) == pytest.approx(600, rel=0.2)


@pytest.mark.parametrize("code", ["RequestThrottled", "ThrottlingException", "OverLimit", "KmsThrottled"])
def test_a_throttle_is_retried_even_before_anything_was_sent(code: str):
    world = World(client_error(code))
    assert world.run(count=1) == 0 and len(world.sent()) == 1


REFUSALS = [
    ("AWS.SimpleQueueService.NonExistentQueue", "create the queue"), ("QueueDoesNotExist", "create the queue"),
    ("AccessDenied", "sqs:SendMessage"), ("AccessDeniedException", "sqs:SendMessage"), ("ExpiredToken", "clock"),
    ("InvalidClientTokenId", "role"), ("SignatureDoesNotMatch", "--region"), ("InvalidAddress", "--queue-url"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "advice"), REFUSALS)
def test_a_refusal_before_anything_was_sent_ends_the_run_with_advice(code: str, advice: str):
    with pytest.raises(SendError) as trouble:
        World(client_error(code)).run(count=1)
    assert advice in trouble.value.what_to_do and URL in trouble.value.detail


@pytest.mark.parametrize("code", [code for code, _ in REFUSALS])
def test_a_refusal_after_something_was_sent_is_retried_with_a_new_client(code: str):
    world = World(take_all, client_error(code))
    assert world.run(count=20, rate=1_000) == 0
    assert len(world.sent()) == 20 and world.clients == 2


def test_no_credentials_show_before_the_first_transaction():
    world = World()

    def nothing() -> None:
        raise NoCredentialsError()

    with pytest.raises(SendError, match="no credentials from instance metadata") as trouble:
        Producer(wanted(), NO_OUTBOX, nothing, world.say, world.stop, world.now, world.wait).run()
    assert "instance profile" in trouble.value.what_to_do and world.clock.passed == 0


def test_no_part_of_a_session_token_reaches_the_log():
    token = "IQoJb3JpZ2luX2VjEJr" * 9
    text = f"The request signature does not match {token}.\nThe Canonical String was x-amz-security-token:{token[:30]}"
    error = explain(client_error("SignatureDoesNotMatch", "SendMessageBatch", 403, text), wanted())
    assert "does not match" in error.detail and token[:30] not in error.detail


# Stopping


def test_a_stop_sends_what_waits_for_its_batch_and_draws_no_more():
    world = World(stop_at=30.0)
    assert world.run(rate=1.0, linger=300.0) == 0
    assert len(world.sent()) == len(set(world.sent())) > 10
    assert world.lines("stopped")[0] | {"at": 0} == {
        "event": "stopped",
        "at": 0,
        "sent": len(world.sent()),
        "unsent": 0,
        "reason": "signal",
    }
    assert world.clock.passed == pytest.approx(30.0)


def test_a_stop_during_a_long_backoff_tries_again_at_once():
    # given a queue that is away for so long that attempts are 15 to 30 seconds apart, and back at the stop
    world = World(*[client_error("ServiceUnavailable", "SendMessageBatch", 503)] * 9, stop_at=60.0)
    # when the stop comes between two attempts
    code = world.run(rate=10)
    # then all that is held is sent at once
    assert code == 0 and len(world.sent()) > 500
    assert world.clock.passed - 60 < 1 and world.lines("stopped")[0]["unsent"] == 0


def test_a_stop_sends_failed_entries_without_their_backoff():
    # given an entry that failed nine times, so that its next attempt is 15 seconds away or more, and a stop one second later
    def fail_and_stop_soon(entries: list[dict]) -> dict:
        world.stop_at = world.clock.passed + 1
        return fail("0")(entries)

    world = World(*[fail("0")] * 8, fail_and_stop_soon)
    # when it runs
    code = world.run(count=1)
    # then the entry is sent at the stop
    assert code == 0 and len(world.sent()) == 1 and world.stop_at is not None
    assert world.clock.passed == pytest.approx(world.stop_at)


def test_a_drain_gives_up_within_20_seconds_and_says_how_much_stays():
    # given a queue that is away, each request taking the seven seconds that one can take
    world = World(*[EndpointConnectionError(endpoint_url="http://127.0.0.1:1")] * 1_000, stop_at=10.0, latency=7.0)
    code = world.run(rate=1.0)
    # then with the request under way at the stop it takes less than the 30 s of a service manager
    unsent = world.lines("error")[0]["unsent"]
    assert code == 1 and unsent > 3 and world.lines("stopped")[0]["unsent"] == unsent
    assert world.states() == dict.fromkeys(range(1, unsent + 1), "unsent")
    assert 13 <= world.clock.passed - 10 <= 20
