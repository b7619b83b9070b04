"""A line of a feed: a transaction passes to the byte, and what is none has a reason."""

from __future__ import annotations

import pytest
from feed_lines import parse_line
from hypothesis import given, settings
from hypothesis import strategies as st
from outbox_records import Message

LIMIT = 262_144


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\xff{}", "not_utf8"),
        (b'{"transaction_id": "a"', "not_json"),
        (b'{"transaction_id": "a", "amount": NaN}', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'\xef\xbb\xbf{"transaction_id": "a"}', "not_json"),
        (b'["transaction_id"]', "not_an_object"),
        (b"17", "not_an_object"),
        (b"{}", "id_missing"),
        (b'{"transaction_id": null}', "id_missing"),
        (b'{"transaction_id": 17}', "id_not_a_string"),
        (b'{"transaction_id": ["a"]}', "id_not_a_string"),
        (b'{"transaction_id": ""}', "id_empty"),
        (rb'{"transaction_id": "\ud800"}', "lone_surrogate"),
        ('{"transaction_id": "a", "x": "\uffff"}'.encode(), "character_not_allowed"),
        (b'{"transaction_id": "a", "x": "' + b"x" * LIMIT + b'"}', "too_large"),
    ],
)
def test_a_line_that_is_no_transaction_has_a_reason(text: bytes, reason: str):
    assert parse_line(text, LIMIT) == reason


@pytest.mark.parametrize(
    ("text", "amount", "timestamp"),
    [
        ('{"transaction_id":"a","amount":12.30,"timestamp":"2026-11-24T00:00:00Z"}', "12.30", "2026-11-24T00:00:00Z"),
        ('  {"transaction_id":"a" , "amount":1e3}', "1e3", None),
        ('{"transaction_id":"a","amount":99999999999999999999999999999999999.99}', "99999999999999999999999999999999999.99", None),
        ('{"transaction_id":"a","amount":"12.30","timestamp":17}', None, None),
        (r'{"transaction_id":"a","amount":null,"timestamp":"\ud800"}', None, None),
        ('{"transaction_id":"a","é":"\U0001f600","amount":-0.0}', "-0.0", None),
    ],
)
def test_a_transaction_passes_to_the_byte_and_its_amount_as_it_is_written(text: str, amount: str | None, timestamp: str | None):
    assert parse_line(text.encode(), LIMIT) == Message("a", text, amount, timestamp)


@settings(max_examples=300, deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_no_amount_ever_passes_through_a_float(amount):
    text = f'{{"transaction_id":"a","amount":{amount}}}'
    found = parse_line(text.encode(), LIMIT)
    assert isinstance(found, Message) and (found.body, found.amount) == (text, str(amount))


def test_a_message_of_exactly_the_limit_is_taken_and_one_byte_more_is_not():
    beside = len("outbox_id") + len("String") + len("h" * 80 + "/" + "9" * 19)
    text = '{"transaction_id":"a","x":""}'
    fits = text[:-2] + "x" * (LIMIT - beside - len(text)) + text[-2:]
    assert isinstance(parse_line(fits.encode(), LIMIT), Message)
    assert parse_line((fits[:-2] + "x" + fits[-2:]).encode(), LIMIT) == "too_large"
