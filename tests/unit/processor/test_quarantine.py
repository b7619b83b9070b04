"""What can never succeed goes to the dead-letter queue at once, whole and with its reason, or is left to redrive when that has no room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import lambda_function
import pytest
from botocore.exceptions import EndpointConnectionError
from lambda_harness import Cloud, Context, aws_error, body, emulated, log_lines, message, process

LIMIT = 1024 * 1024


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with emulated() as cloud:
        yield cloud


def failures(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [line for line in log_lines(capsys.readouterr().out) if line["message"] == "Record failed"]


def sent(cloud: Cloud) -> list[int]:
    """How many entries each send had."""
    return [len(call["Entries"]) for operation, call in cloud.calls if operation == "SendMessageBatch"]


def room_for_a_body(cloud: Cloud, record: dict[str, Any]) -> int:
    """The bytes left for a body beside the attributes with which this record arrives in the dead-letter queue, by the rules of SQS."""
    process(record)
    (dead_letter,) = cloud.dead_letters()
    cloud.calls.clear()
    attributes = dead_letter["MessageAttributes"].items()
    values = [attribute.get("BinaryValue") or attribute["StringValue"].encode() for _, attribute in attributes]
    return LIMIT - sum(map(len, values)) - sum(len(name.encode()) + len(attribute["DataType"]) for name, attribute in attributes)


def test_a_quarantined_message_has_the_whole_body_its_reason_and_its_origin(cloud: Cloud):
    bad = body(amount=-1, note="Ünïcödé 😀")
    assert process(message(bad, "m-1", outbox_id="host-1:17")) == set()
    (dead_letter,) = cloud.dead_letters()
    assert dead_letter["Body"] == bad
    assert {name: attribute["StringValue"] for name, attribute in dead_letter["MessageAttributes"].items()} == {
        "outbox_id": "host-1:17",
        "reason": "amount_negative",
        "detail": '{"transaction_id": "t-1", "amount": "-1"}',
        "source_message_id": "m-1",
    }


def test_the_attributes_of_the_source_travel_with_their_types(cloud: Cloud):
    record = message("nope", blob=b"\x00\xff", label="a")
    record["messageAttributes"]["count"] = {"dataType": "Number.int", "stringValue": "7"}
    process(record)
    carried = cloud.dead_letters()[0]["MessageAttributes"]
    assert carried["blob"] == {"DataType": "Binary", "BinaryValue": b"\x00\xff"}
    assert carried["count"] == {"DataType": "Number.int", "StringValue": "7"}
    assert carried["label"] == {"DataType": "String", "StringValue": "a"}


def test_a_replayed_message_gets_its_new_reason_in_place_of_the_old(cloud: Cloud):
    process(message("nope", "m-2", outbox_id="host-1:17", reason="conflict", detail="{}", source_message_id="m-1"))
    carried = cloud.dead_letters()[0]["MessageAttributes"]
    assert {name: carried[name]["StringValue"] for name in ("reason", "source_message_id")} == {
        "reason": "not_json",
        "source_message_id": "m-2",
    }
    assert carried["outbox_id"]["StringValue"] == "host-1:17"


def test_a_failed_record_is_logged_in_one_line_without_its_body(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    process(message(body(amount=-1, secret="card number"), "m-1", outbox_id="host-1:17"))
    printed = capsys.readouterr().out
    assert "card number" not in printed
    assert log_lines(printed)[0] == {
        "level": "ERROR",
        "message": "Record failed",
        "reason": "amount_negative",
        "detail": {"transaction_id": "t-1", "amount": "-1"},
        "source_message_id": "m-1",
        "outbox_id": "host-1:17",
        "outcome": "quarantined",
        "request_id": "request-1",
    }


def test_ids_in_the_log_are_cut_at_200_characters(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    process(message("nope", outbox_id="h" * 2000), message(body(transaction_id="t" * 2000)))
    failed, done = log_lines(capsys.readouterr().out)
    assert (failed["outbox_id"], done["transaction_ids"]) == ("h" * 197 + "...", ["t" * 197 + "..."])


def test_11_letters_go_in_calls_of_at_most_ten(cloud: Cloud):
    assert process(*["nope"] * 11) == set()
    assert (sent(cloud), len(cloud.dead_letters())) == ([10, 1], 11)


def test_large_messages_go_in_calls_of_at_most_a_mebibyte(cloud: Cloud):
    assert process(*["x" * 500_000] * 3) == set()
    assert (sent(cloud), len(cloud.dead_letters())) == ([2, 1], 3)


def test_the_attributes_count_towards_the_mebibyte_of_a_call(cloud: Cloud):
    process("x" * (LIMIT // 2), "x" * (LIMIT // 2))
    assert sent(cloud) == [1, 1]


@pytest.mark.parametrize(("over", "failed"), [(0, set()), (1, {"m-1"})])
def test_a_body_that_leaves_no_byte_for_the_reason_is_left_to_redrive(cloud: Cloud, over: int, failed: set[str]):
    record = message("x" * 1000, "m-1", outbox_id="host-é", blob=b"\x00" * 100)
    assert process(record | {"body": "x" * (room_for_a_body(cloud, record) + over)}) == failed
    assert sent(cloud) == ([] if failed else [1])


def test_a_record_without_room_has_its_reason_in_the_log(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    process(message("x" * LIMIT, "m-1"))
    (line,) = failures(capsys)
    assert (line["reason"], line["outcome"]) == ("not_json", "redrive")
    assert line["detail"]["no_room_for"].endswith(" bytes")


@pytest.mark.parametrize(("count", "failed"), [(7, set()), (8, {"m-1"})])
def test_a_message_may_have_ten_attributes_ours_included(cloud: Cloud, count: int, failed: set[str]):
    assert process(message("nope", "m-1", **{f"a{n}": "x" for n in range(count)})) == failed


def test_a_body_that_no_message_can_carry_is_left_to_redrive(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    assert process(message("\ud800", "m-1"), message("nope", "m-2")) == {"m-1"}
    assert [(line["reason"], line["outcome"]) for line in failures(capsys)] == [("lone_surrogate", "redrive"), ("not_json", "quarantined")]


def test_a_message_that_the_queue_refuses_is_retried_alone(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    def second_fails(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        reply = {"MessageId": "x", "MD5OfMessageBody": "x"}
        return 200, {
            "Successful": [{"Id": "0"} | reply, {"Id": "2"} | reply],
            "Failed": [{"Id": "1", "Code": "InternalError", "SenderFault": False}],
        }

    cloud.answer("SendMessageBatch", second_fails)
    assert process(*(message("nope", f"m-{n}") for n in range(3))) == {"m-1"}
    line = failures(capsys)[1]
    assert (line["reason"], line["outcome"], line["detail"]["quarantine_error"]) == ("not_json", "retried", "InternalError")


def test_a_message_that_the_queue_does_not_mention_is_retried(cloud: Cloud):
    cloud.answer("SendMessageBatch", (200, {"Successful": [], "Failed": []}))
    assert process(message("nope", "m-1")) == {"m-1"}


@pytest.mark.parametrize(
    "failure",
    [
        aws_error("AccessDeniedException"),
        aws_error("QueueDoesNotExist"),
        aws_error("InternalError", status=500),
        EndpointConnectionError(endpoint_url="x"),
        RuntimeError("x"),
    ],
    ids=["denied", "no queue", "internal", "network", "unknown"],
)
def test_a_send_that_fails_is_retried_and_spares_what_was_stored(cloud: Cloud, capsys: pytest.CaptureFixture[str], failure: Any):
    cloud.answer("SendMessageBatch", failure)
    assert process(message("nope", "m-1"), message(body(), "m-2"), message("[]", "m-3")) == {"m-1", "m-3"}
    assert cloud.item("t-1")
    assert [(line["reason"], line["outcome"]) for line in failures(capsys)] == [("not_json", "retried"), ("not_an_object", "retried")]


def test_one_of_two_sends_that_fails_leaves_the_other_alone(cloud: Cloud):
    cloud.answer("SendMessageBatch", aws_error("AccessDeniedException"), times=1)
    assert process(*(message("nope", f"m-{n}") for n in range(11))) == {f"m-{n}" for n in range(10)}


def test_a_send_refused_for_one_message_is_tried_message_by_message(cloud: Cloud):
    def refuse(request: dict[str, Any]) -> Any:
        return aws_error("InvalidMessageContents") if any(entry["MessageBody"] == "bad" for entry in request["Entries"]) else None

    cloud.answer("SendMessageBatch", refuse)
    assert process(message("nope", "m-1"), message("bad", "m-2"), message("[]", "m-3")) == {"m-2"}
    assert cloud.reasons() == ["not_an_object", "not_json"]


def test_a_record_whose_attributes_make_no_sense_is_retried_alone(cloud: Cloud):
    odd = message("nope", "m-1")
    odd["messageAttributes"] = {"a": {"dataType": "Binary", "binaryValue": 7}}
    assert process(odd, message("nope", "m-2")) == {"m-1"}


def test_no_queue_client_keeps_the_stored_records_settled(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lambda_function, "client", lambda service: cloud.dynamodb if service == "dynamodb" else 1 / 0)
    assert process(message("nope", "m-1"), message(body(), "m-2")) == {"m-1"}


def test_no_time_for_the_send_has_the_record_retried(cloud: Cloud):
    class Shrinking(Context):
        def get_remaining_time_in_millis(self) -> int:
            self.milliseconds -= 10_000
            return self.milliseconds

    assert process(message("nope", "m-1"), message(body(), "m-2"), context=Shrinking(24_000)) == {"m-1"}


@pytest.mark.parametrize("fields", [{f"field-{n}-{'é' * 100}": n for n in range(50)}, {"\x00" * 200 + str(n): n for n in range(50)}])
def test_a_detail_is_at_most_a_kibibyte_of_ascii_json(cloud: Cloud, fields: dict[str, int]):
    identity = "\x01" * 2000
    process(body(transaction_id=identity))
    process(body(transaction_id=identity, **fields))
    detail = cloud.dead_letters()[0]["MessageAttributes"]["detail"]["StringValue"]
    assert len(detail) <= 1024 and detail.isascii()
    assert (json.loads(detail)["differing"], len(json.loads(detail)["fields"])) == (50, 8)


def test_a_detail_that_is_too_long_loses_whole_members_from_the_end():
    assert json.loads(lambda_function.detail_text({"first": "x" * 500, "second": "y" * 400, "third": "z" * 400})) == {
        "first": "x" * 500,
        "second": "y" * 400,
    }


def test_nothing_is_sent_when_nothing_failed(cloud: Cloud):
    process(body())
    assert sent(cloud) == []
