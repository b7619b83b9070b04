"""What holds for any input: every record ends in exactly one place, money keeps every digit, the first write wins."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lambda_harness import TABLE, aws_error, body, emulated, message, process
from strategies import bodies, numerals, values
from transaction import InvalidRecord, Reason, bounded, differing_fields, parse, plain_number

examples = hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def exact(text: str) -> Fraction:
    return Fraction(text)


def test_every_body_ends_stored_or_quarantined_with_a_reason_or_in_the_failures():
    with emulated() as cloud:

        @examples
        @given(st.lists(bodies, min_size=1, max_size=12))
        def check(batch: list[str]) -> None:
            cloud.reset()
            failed = process(*(message(text, f"m-{n}") for n, text in enumerate(batch)))
            dead_letters = {message["MessageAttributes"]["source_message_id"]["StringValue"]: message for message in cloud.dead_letters()}
            stored = cloud.items()
            for n, text in enumerate(batch):
                dead_letter = dead_letters.get(f"m-{n}")
                if dead_letter is not None:
                    assert dead_letter["Body"] == text
                    Reason(dead_letter["MessageAttributes"]["reason"]["StringValue"])
                    assert f"m-{n}" not in failed
                elif f"m-{n}" not in failed:
                    assert any(not differing_fields(parse(text), item) for item in stored)

        check()


@examples
@given(numerals)
def test_a_plain_number_is_the_same_number_or_refused_for_a_limit(text: str):
    number = exact(text)
    digits = len(str(abs(number.numerator * 10**400 // number.denominator)).strip("0")) if number else 0
    fits = number == 0 or (digits <= 38 and Fraction(10) ** -130 <= abs(number) < Fraction(10) ** 126)
    if not fits:
        with pytest.raises(InvalidRecord, match=Reason.NUMBER_OUT_OF_RANGE.value):
            plain_number(text)
        return
    assert exact(plain_number(text)) == number
    assert set(plain_number(text)) <= set("-.0123456789")


def test_money_survives_to_the_digit_from_the_body_to_the_table():
    fitting = st.tuples(st.integers(0, 10**38 - 1), st.integers(-100, 80)).map(lambda parts: f"{parts[0]}e{parts[1]}")
    cents = st.decimals(0, 10**9, places=2).map(str)
    with emulated() as cloud:

        @examples
        @given(fitting | cents)
        def check(amount: str) -> None:
            cloud.reset()
            assert process(body(amount=...)[:-1] + f', "amount": {amount}}}') == set()
            assert exact((cloud.item("t-1") or {})["amount"]["N"]) == exact(amount)

        check()


def plain_python(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "M":
        return {name: plain_python(member) for name, member in content.items()}
    if kind == "L":
        return [plain_python(element) for element in content]
    return {"N": lambda: int(Decimal(content)), "NULL": lambda: None}.get(kind, lambda: content)()


def test_what_is_stored_is_what_was_sent():
    with emulated() as cloud:

        @examples
        @given(st.dictionaries(st.text(min_size=1, max_size=8).map("x".__add__), values, max_size=5))
        def check(extra: dict[str, Any]) -> None:
            cloud.reset()
            assert process(body(**extra)) == set()
            item = cloud.item("t-1") or {}
            assert {name: plain_python(item[name]) for name in extra} == extra

        check()


def test_the_first_write_wins_whatever_the_batches():
    record = st.tuples(st.sampled_from("abc"), st.integers(1, 2), st.booleans())
    with emulated() as cloud:

        @examples
        @given(st.lists(st.lists(record, max_size=8), max_size=4))
        def check(batches: list[list[tuple[str, int, bool]]]) -> None:
            cloud.reset()
            first: dict[str, tuple[int, bool]] = {}
            conflicts = 0
            for batch in batches:
                texts = [body(transaction_id=identity, amount=amount, **({"nämé": 1} if odd else {})) for identity, amount, odd in batch]
                assert process(*texts) == set()
                for identity, amount, odd in batch:
                    conflicts += first.setdefault(identity, (amount, odd)) != (amount, odd)
            stored = {item["transaction_id"]["S"]: (int(item["amount"]["N"]), "nämé" in item) for item in cloud.items()}
            assert (stored, cloud.reasons()) == (first, ["conflict"] * conflicts)

        check()


def test_whatever_calls_fail_every_record_is_settled_in_the_end_and_none_twice():
    operations = st.sampled_from(["BatchExecuteStatement", "PutItem", "BatchGetItem", "SendMessageBatch"])
    errors = st.sampled_from(
        [aws_error("ThrottlingException"), aws_error("ValidationException"), aws_error("InternalServerError", status=500)]
    )
    texts = st.sampled_from([body(transaction_id="a"), body(transaction_id="b", nämé=1), body(transaction_id="c"), "nope", "[]"])
    with emulated() as cloud:

        @examples
        @given(st.lists(st.tuples(operations, errors), max_size=4), st.lists(texts, min_size=1, max_size=8))
        def check(faults: list[tuple[str, Any]], batch: list[str]) -> None:
            cloud.reset()
            for operation, error in faults:
                cloud.answer(operation, error, times=1)
            waiting = {f"m-{n}": text for n, text in enumerate(batch)}
            for _ in range(6):
                failed = process(*(message(text, name) for name, text in waiting.items()))
                waiting = {name: text for name, text in waiting.items() if name in failed}
            assert waiting == {}
            dead_letters = Counter(message["MessageAttributes"]["source_message_id"]["StringValue"] for message in cloud.dead_letters())
            quarantined = {name for name, text in ((f"m-{n}", text) for n, text in enumerate(batch)) if name in dead_letters}
            stored = {item["transaction_id"]["S"] for item in cloud.items()}
            for n, text in enumerate(batch):
                settled = (text.startswith("{") and json.loads(text)["transaction_id"] in stored) or f"m-{n}" in quarantined
                assert settled
            assert set(dead_letters.values()) <= {1}

        check()


@examples
@given(st.text(alphabet=st.characters(), max_size=400), st.integers(10, 300))
def test_a_bounded_text_never_exceeds_its_bound(text: str, characters: int):
    assert len(json.dumps(bounded(text, characters))) <= characters + 2


def test_the_table_of_these_tests_enforces_the_condition():
    with emulated() as cloud:
        process(body())
        statement = {"Statement": f"INSERT INTO \"{TABLE}\" VALUE {{'transaction_id': ?}}", "Parameters": [{"S": "t-1"}]}
        answer = cloud.dynamodb.batch_execute_statement(Statements=[statement])
        assert answer["Responses"][0]["Error"]["Code"] == "DuplicateItem"
