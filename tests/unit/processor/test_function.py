"""What happens to each record of a batch: stored, a duplicate, in conflict, or reported to be retried; and nobody else's fault counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import lambda_function
import pytest
from botocore.exceptions import EndpointConnectionError
from lambda_harness import TABLE, Cloud, Context, aws_error, body, emulated, log_lines, message, process

THROTTLED = {"Error": {"Code": "ProvisionedThroughputExceeded", "Message": "slow down"}}


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with emulated() as cloud:
        yield cloud


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return log_lines(capsys.readouterr().out)


def test_a_good_record_is_stored_whole_with_our_three_fields(cloud: Cloud):
    before = datetime.now(UTC)
    assert process(body(extra={"nested": [None, True, 1]})) == set()
    item = cloud.item("t-1") or {}
    processed_at = datetime.fromisoformat(item.pop("processed_at_utc")["S"])
    assert abs((processed_at - before).total_seconds()) < 60
    assert item == {
        "transaction_id": {"S": "t-1"},
        "user_id": {"S": "u-1"},
        "amount": {"N": "12.34"},
        "currency": {"S": "EUR"},
        "merchant": {"S": "Bäckerei"},
        "extra": {"M": {"nested": {"L": [{"NULL": True}, {"BOOL": True}, {"N": "1"}]}}},
        "transaction_category": {"S": "standard"},
        "processor_version": {"S": "7"},
    }


CATEGORIES = [
    ("0", "standard"),
    ("999.99", "standard"),
    ("999.9999999999999999999999999999999999", "standard"),
    ("1000", "medium_value"),
    ("1e3", "medium_value"),
    ("9999.99", "medium_value"),
    ("10000", "high_value"),
    ("10000.00", "high_value"),
    ("1e125", "high_value"),
]


@pytest.mark.parametrize(("amount", "category"), CATEGORIES)
def test_an_amount_on_a_threshold_is_in_the_higher_category(cloud: Cloud, amount: str, category: str):
    process(body(amount=...)[:-1] + f', "amount": {amount}}}')
    assert (cloud.item("t-1") or {})["transaction_category"] == {"S": category}


def test_the_thresholds_come_from_the_environment():
    with emulated(HIGH_VALUE_THRESHOLD="20.5", MEDIUM_VALUE_THRESHOLD="20.49") as cloud:
        process(body(transaction_id="a", amount=20.48), body(transaction_id="b", amount=20.49), body(transaction_id="c", amount=20.5))
        assert [(cloud.item(i) or {})["transaction_category"]["S"] for i in "abc"] == ["standard", "medium_value", "high_value"]


def test_26_records_go_in_calls_of_at_most_25_statements(cloud: Cloud):
    assert process(*(body(transaction_id=f"t-{n}") for n in range(26))) == set()
    assert [len(call["Statements"]) for operation, call in cloud.calls if operation == "BatchExecuteStatement"] == [25, 1]


def test_large_items_go_in_calls_of_at_most_a_mebibyte(cloud: Cloud):
    assert process(*(body(transaction_id=f"t-{n}", pad="x" * 400_000) for n in range(4))) == set()
    assert [len(call["Statements"]) for operation, call in cloud.calls if operation == "BatchExecuteStatement"] == [2, 2]


@pytest.mark.parametrize("name", ["nämé", "it's", 'say "x"', "a b", "a?", "a:b", "a{b}", "x" * 256, "--!", "/*"])
def test_a_field_name_that_is_not_plain_is_kept_by_a_put(cloud: Cloud, name: str):
    assert process(body(**{name: 1})) == set()
    assert (cloud.item("t-1") or {})[name] == {"N": "1"}
    assert cloud.count("PutItem") == 1


@pytest.mark.parametrize("name", ["select", "a.b", "a-b", "_", "7", "x" * 255])
def test_a_plain_field_name_is_kept_by_a_statement(cloud: Cloud, name: str):
    assert process(body(**{name: 1})) == set()
    assert (cloud.item("t-1") or {})[name] == {"N": "1"}
    assert cloud.count("BatchExecuteStatement") == 1


def test_a_name_that_fits_no_statement_is_put_under_the_same_condition(cloud: Cloud):
    process(body(amount=1, nämé=1))
    process(body(amount=2, nämé=1))
    assert (cloud.count("PutItem"), cloud.count("BatchExecuteStatement")) == (2, 0)
    assert (cloud.item("t-1") or {})["amount"] == {"N": "1"}


def test_an_item_whose_statement_is_over_8192_characters_is_put(cloud: Cloud):
    assert process(body(**{f"field_{n:04}_{'x' * 40}": n for n in range(200)})) == set()
    assert (cloud.count("PutItem"), cloud.count("BatchExecuteStatement")) == (1, 0)


@pytest.mark.parametrize(("characters", "operation"), [(8192, "BatchExecuteStatement"), (8193, "PutItem")])
def test_a_statement_of_8192_characters_is_the_longest(cloud: Cloud, characters: int, operation: str):
    fields = {f"{n:03}{'x' * 238}": n for n in range(32)}
    stored = [*lambda_function.parse(body(**fields, y=1)), "transaction_category", "processed_at_utc", "processor_version"]
    short = f'INSERT INTO "{TABLE}" VALUE {{{", ".join(f"{quoted}: ?" for quoted in map(repr, stored))}}}'
    assert process(body(**fields, **{"y" * (1 + characters - len(short)): 1})) == set()
    assert [called for called, _ in cloud.calls] == [operation]


def test_the_same_content_again_is_a_duplicate_and_a_success(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    process(body(amount=12.5))
    first = cloud.item("t-1")
    capsys.readouterr()
    assert process(body(merchant="Bäckerei", amount=...)[:-1] + ', "amount": 1250e-2}') == set()
    assert cloud.item("t-1") == first
    done = logged(capsys)[-1]
    assert (done["count"], done["stored"], done["duplicates"], done["transaction_ids"]) == (1, 0, 1, ["t-1"])


def test_a_duplicate_under_another_version_is_one_and_keeps_the_version_of_the_first(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    process(body(amount=500))
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "8")
    lambda_function.settings.cache_clear()
    assert process(body(amount=500)) == set()
    assert cloud.dead_letters() == []
    assert (cloud.item("t-1") or {})["processor_version"] == {"S": "7"}


def test_a_duplicate_is_one_although_the_thresholds_changed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    process(body(amount=500))
    monkeypatch.setenv("MEDIUM_VALUE_THRESHOLD", "100")
    lambda_function.settings.cache_clear()
    assert process(body(amount=500)) == set()
    assert cloud.dead_letters() == []


def test_other_content_under_a_known_id_is_a_conflict_and_the_first_write_stays(cloud: Cloud):
    process(body(amount=1))
    assert process(body(amount=2, extra="secret value")) == set()
    assert (cloud.item("t-1") or {})["amount"] == {"N": "1"}
    (dead_letter,) = cloud.dead_letters()
    assert dead_letter["MessageAttributes"]["reason"]["StringValue"] == "conflict"
    detail = '{"transaction_id": "t-1", "differing": 2, "fields": ["amount", "extra"]}'
    assert dead_letter["MessageAttributes"]["detail"]["StringValue"] == detail


def test_the_same_content_twice_in_a_batch_is_inserted_once(cloud: Cloud):
    assert process(body(), body(), body()) == set()
    assert [len(call["Statements"]) for operation, call in cloud.calls if operation == "BatchExecuteStatement"] == [1]
    assert cloud.dead_letters() == []


def test_of_two_contents_in_a_batch_the_first_is_stored_and_the_other_a_conflict(cloud: Cloud):
    assert process(body(amount=1), body(amount=2), body(amount=1)) == set()
    assert (cloud.item("t-1") or {})["amount"] == {"N": "1"}
    assert cloud.reasons() == ["conflict"]


def test_records_of_one_id_are_compared_with_the_table_not_with_each_other(cloud: Cloud):
    process(body(amount=2))
    process(body(amount=1), body(amount=2), body(amount=1))
    assert cloud.reasons() == ["conflict", "conflict"]


def test_when_the_first_of_an_id_fails_for_now_the_others_wait_for_it(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    cloud.answer("BatchExecuteStatement", (200, {"Responses": [THROTTLED]}))
    assert process(message(body(amount=1), "m-1"), message(body(amount=2), "m-2")) == {"m-1", "m-2"}
    assert [line["reason"] for line in logged(capsys)[:2]] == ["throttled", "same_id_pending"]


def test_when_the_first_of_an_id_can_never_succeed_the_others_wait_only_for_it(cloud: Cloud):
    refusal = {"Responses": [{"Error": {"Code": "ValidationError", "Message": "no"}}]}
    cloud.answer("BatchExecuteStatement", (200, refusal), times=1)
    assert process(message(body(amount=1), "m-1"), message(body(amount=2), "m-2")) == {"m-2"}
    assert process(message(body(amount=2), "m-2")) == set()
    assert (cloud.item("t-1") or {})["amount"] == {"N": "2"}


CODES = [
    ("ProvisionedThroughputExceeded", "throttled"),
    ("ThrottlingError", "throttled"),
    ("RequestLimitExceeded", "throttled"),
    ("InternalServerError", "call_failed"),
    ("AccessDenied", "call_failed"),
    ("ResourceNotFound", "call_failed"),
    ("TransactionConflict", "call_failed"),
    ("SomethingNew", "call_failed"),
]


@pytest.mark.parametrize(("code", "reason"), CODES)
def test_a_statement_that_fails_for_now_is_retried_alone(cloud: Cloud, capsys: pytest.CaptureFixture[str], code: str, reason: str):
    def second_fails(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        statements = request["Statements"]
        _, answer = cloud.through("BatchExecuteStatement", {"Statements": [statements[0], statements[2]]})
        stored = answer["Responses"]
        return 200, {"Responses": [stored[0], {"Error": {"Code": code, "Message": "later"}}, stored[1]]}

    cloud.answer("BatchExecuteStatement", second_fails)
    batch = [message(body(transaction_id=identity), f"m-{identity}") for identity in "abc"]
    assert process(*batch) == {"m-b"}
    assert sorted(item["transaction_id"]["S"] for item in cloud.items()) == ["a", "c"]
    assert [(line["reason"], line["outcome"]) for line in logged(capsys)[:-1]] == [(reason, "retried")]


@pytest.mark.parametrize(
    "failure",
    [
        aws_error("ProvisionedThroughputExceededException"),
        aws_error("AccessDeniedException"),
        aws_error("ResourceNotFoundException"),
        aws_error("InternalServerError", status=500),
        (200, {"Responses": []}),
        (200, {}),
        EndpointConnectionError(endpoint_url="https://nowhere"),
        RuntimeError("a bug below us"),
    ],
    ids=["throttled", "denied", "no table", "internal", "too few answers", "no answers", "network", "unknown"],
)
@pytest.mark.parametrize("operation", ["BatchExecuteStatement", "PutItem"])
def test_a_call_that_fails_has_its_records_retried_and_no_other(cloud: Cloud, operation: str, failure: Any):
    if operation == "PutItem" and not isinstance(failure, Exception) and failure[0] == 200:
        failure = RuntimeError("an answer that botocore cannot read")
    cloud.answer(operation, failure)
    plain, put = message(body(transaction_id="plain"), "plain"), message(body(transaction_id="put", nämé=1), "put")
    failed = "plain" if operation == "BatchExecuteStatement" else "put"
    assert process(plain, put, message("nope", "poison")) == {failed}
    assert (cloud.count(operation), cloud.reasons()) == (1, ["not_json"])


def test_an_answer_for_fewer_statements_than_were_sent_settles_none_of_them(cloud: Cloud):
    cloud.answer("BatchExecuteStatement", (200, {"Responses": [{}]}))
    assert process(message(body(transaction_id="a"), "m-1"), message(body(transaction_id="b"), "m-2")) == {"m-1", "m-2"}


def test_a_call_refused_for_one_record_is_tried_record_by_record(cloud: Cloud):
    def refuse(request: dict[str, Any]) -> Any:
        bad = any({"S": "bad"} in statement["Parameters"] for statement in request["Statements"])
        return aws_error("ValidationException", "one of them") if bad else None

    cloud.answer("BatchExecuteStatement", refuse)
    assert process(*(body(transaction_id=identity) for identity in ("good-1", "bad", "good-2"))) == set()
    assert sorted(item["transaction_id"]["S"] for item in cloud.items()) == ["good-1", "good-2"]
    assert cloud.reasons() == ["rejected_by_table"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("Type mismatch for key", "rejected_by_table"), ("Item size has exceeded the maximum allowed size", "item_too_large")],
)
def test_a_record_that_the_table_calls_invalid_is_quarantined(cloud: Cloud, text: str, reason: str):
    cloud.answer("BatchExecuteStatement", (200, {"Responses": [{"Error": {"Code": "ValidationError", "Message": text}}]}))
    assert process(body()) == set()
    assert cloud.reasons() == [reason]


def test_an_item_over_400_kb_never_reaches_the_table(cloud: Cloud):
    assert process(body(pad="x" * 410_000)) == set()
    assert (cloud.count("BatchExecuteStatement"), cloud.reasons()) == (0, ["item_too_large"])


def test_our_two_fields_count_towards_400_kb(cloud: Cloud):
    item = lambda_function.parse(body(pad=""))
    room = 400 * 1024 - lambda_function.item_bytes(item)
    process(body(pad="x" * room))
    assert cloud.reasons() == ["item_too_large"]


def test_keys_left_unprocessed_are_read_again(cloud: Cloud):
    process(body(transaction_id="a"), body(transaction_id="b"))
    cloud.calls.clear()

    def half(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        wanted = request["RequestItems"][TABLE]
        first, rest = wanted["Keys"][:1], wanted["Keys"][1:]
        _, answer = cloud.through("BatchGetItem", {"RequestItems": {TABLE: wanted | {"Keys": first}}})
        return 200, answer | {"UnprocessedKeys": {TABLE: wanted | {"Keys": rest}} if rest else {}}

    cloud.answer("BatchGetItem", half)
    assert process(body(transaction_id="a"), body(transaction_id="b")) == set()
    assert cloud.count("BatchGetItem") == 2


def test_a_key_that_stays_unprocessed_is_retried_by_the_queue(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    process(body())
    cloud.calls.clear()
    cloud.answer("BatchGetItem", lambda request: (200, {"Responses": {TABLE: []}, "UnprocessedKeys": request["RequestItems"]}))
    capsys.readouterr()
    assert process(message(body(), "m-1")) == {"m-1"}
    assert cloud.count("BatchGetItem") == lambda_function.READ_ROUNDS
    assert logged(capsys)[0]["reason"] == "unread_duplicate"


@pytest.mark.parametrize(
    "failure", [aws_error("AccessDeniedException"), EndpointConnectionError(endpoint_url="x"), RuntimeError("x"), (200, {})]
)
def test_a_duplicate_that_cannot_be_read_back_is_retried(cloud: Cloud, failure: Any):
    process(body())
    cloud.answer("BatchGetItem", failure)
    assert process(message(body(), "m-1"), message(body(transaction_id="new"), "m-2")) == {"m-1"}
    assert cloud.item("new")


def test_the_read_back_is_consistent(cloud: Cloud):
    process(body())
    process(body())
    assert [call["RequestItems"][TABLE]["ConsistentRead"] for operation, call in cloud.calls if operation == "BatchGetItem"] == [True]


def test_101_duplicates_are_read_in_calls_of_at_most_100_keys(cloud: Cloud):
    batch = [body(transaction_id=f"t-{n}") for n in range(101)]
    process(*batch)
    assert process(*batch) == set()
    assert [len(call["RequestItems"][TABLE]["Keys"]) for operation, call in cloud.calls if operation == "BatchGetItem"] == [100, 1]


def test_an_unknown_fault_with_one_record_is_that_records_alone(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    real = lambda_function.parse
    monkeypatch.setattr(lambda_function, "parse", lambda text: real(text) if "bad" not in text else 1 / 0)
    assert process(message(body(transaction_id="bad"), "m-1"), message(body(), "m-2")) == {"m-1"}
    assert [(line["reason"], line["detail"]["error"]) for line in logged(capsys)[:-1]] == [("internal_error", "ZeroDivisionError")]


def test_an_unknown_fault_of_the_table_step_spares_what_was_already_known(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lambda_function.Table, "read", lambda *_: 1 / 0)
    assert process(message(body(), "m-1"), message("nope", "m-2"), message(body(), "m-3")) == {"m-3"}
    assert cloud.item("t-1") and cloud.reasons() == ["not_json"]


def test_no_call_starts_without_the_time_for_one_that_hangs(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    late = Context(lambda_function.CALL_MILLISECONDS - 1)
    assert process(message(body(), "m-1"), message("nope", "m-2"), context=late) == {"m-1", "m-2"}
    assert cloud.calls == []
    assert [(line["reason"], line["outcome"]) for line in logged(capsys)[:2]] == [("out_of_time", "retried"), ("not_json", "retried")]


def test_a_hanging_call_fits_into_the_time_kept_for_it_and_two_into_the_invocation():
    config = lambda_function.AWS_CONFIG
    attempts = config.retries["total_max_attempts"]
    hanging = attempts * (config.connect_timeout + config.read_timeout) + (attempts - 1) * 1
    assert hanging * 1000 <= lambda_function.CALL_MILLISECONDS <= 30_000 / 2


def test_the_line_of_an_invocation_says_what_was_done(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    process(body(transaction_id="a"), body(transaction_id="é\n"), body(transaction_id="a"), "nope")
    assert logged(capsys)[-1] == {
        "level": "INFO",
        "message": "Successfully processed",
        "count": 3,
        "transaction_ids": ["a", "é\n", "a"],
        "transaction_ids_left_out": 0,
        "stored": 2,
        "duplicates": 1,
        "quarantined": 1,
        "retried": 0,
        "redrive": 0,
        "request_id": "request-1",
    }


def test_a_log_line_stays_within_what_cloudwatch_keeps(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    process(*(body(transaction_id=f"{n:04}" + "é" * 1000) for n in range(1500)))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) < 256 * 1024 - 26
    done = log_lines(printed)[-1]
    assert (done["count"], len(done["transaction_ids"]) + done["transaction_ids_left_out"]) == (1500, 1500)


def test_the_log_is_ascii_lines_whatever_the_record_has(cloud: Cloud, capsys: pytest.CaptureFixture[str]):
    process(body(transaction_id="\u2028\u0000\u007f\n\x1b[31m😀"), body(transaction_id="\ud800"), message("\ud800", outbox_id="h\n-1"))
    printed = capsys.readouterr().out
    assert re.fullmatch(r"([ -~]+\n){3}", printed)


def test_an_event_without_records_is_named():
    with emulated(), pytest.raises(ValueError, match="no Records"):
        lambda_function.lambda_handler({"source": "aws.events"}, Context())


def test_a_record_from_another_source_is_named():
    with emulated(), pytest.raises(ValueError, match="'aws:sns'"):
        lambda_function.lambda_handler({"Records": [message(body()) | {"eventSource": "aws:sns"}]}, Context())


def test_an_empty_batch_is_a_success(cloud: Cloud):
    assert process() == set()


def test_the_clients_are_built_once_with_the_short_timeouts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    lambda_function.client.cache_clear()
    try:
        built = lambda_function.client("sqs")
        assert (built.meta.config.connect_timeout, built.meta.config.read_timeout) == (1, 5)
        assert lambda_function.client("sqs") is built
    finally:
        lambda_function.client.cache_clear()
