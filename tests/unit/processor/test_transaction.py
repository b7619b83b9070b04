"""From a body to an item: what is kept, to the digit, and which reason each impossible body gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lambda_harness import body
from transaction import MAX_ITEM_BYTES, InvalidRecord, Reason, bounded, check_size, differing_fields, item_bytes, parse, plain_number


def reason_for(text: str) -> str:
    with pytest.raises(InvalidRecord) as caught:
        parse(text)
    return caught.value.reason.value


def raw(name: str, value: str) -> str:
    """A good transaction with one member whose JSON is written out."""
    return body(**{name: ...})[:-1] + f', "{name}": {value}}}'


def nested(levels: int, opening: str = "[", closing: str = "]", leaf: str = "1") -> str:
    """A transaction whose deepest value is at this level, as DynamoDB counts: a top-level attribute is level 1."""
    return raw("deep", opening * (levels - 1) + leaf + closing * (levels - 1))


NOT_JSON = [
    "",
    " ",
    "nope",
    "{",
    '{"a": 1,}',
    "{'a': 1}",
    '{"a": 01}',
    '{"a": .5}',
    '{"a": 1.}',
    '{"a": 0x1F}',
    "{}{}",
    "\ufeff{}",
    '{"a": "\n"}',
    "NaN",
]


@pytest.mark.parametrize("text", NOT_JSON)
def test_text_that_is_no_json_is_not_json(text: str):
    assert reason_for(text) == "not_json"


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_constant_that_json_lacks_is_not_json_outside_the_amount(constant: str):
    assert reason_for(raw("extra", constant)) == "not_json"


@pytest.mark.parametrize("text", ["[]", "[{}]", '"text"', "1", "1e999999999999999999999", "null", "true"])
def test_json_that_is_no_object_is_not_an_object(text: str):
    assert reason_for(text) == "not_an_object"


@pytest.mark.parametrize(
    "text",
    [
        body()[:-1] + ', "amount": 12.34}',
        raw("extra", '{"a": 1, "a": 1}'),
        raw("extra", '[[{"": 1, "": 2}]]'),
        raw("e", '{"é": 1, "\\u00e9": 2}'),
    ],
)
def test_a_repeated_key_at_any_depth_is_a_duplicate_key(text: str):
    assert reason_for(text) == "duplicate_key"


def test_one_key_at_two_depths_is_no_duplicate_key():
    assert parse(body(extra={"amount": {"amount": 1}}))["extra"] == {"M": {"amount": {"M": {"amount": {"N": "1"}}}}}


@pytest.mark.parametrize(
    "text",
    [
        raw("extra", '"\\ud800"'),
        raw("extra", '["\\udc00\\ud800"]'),
        raw("extra", '{"\\ud800": 1}'),
        raw("\\ud83d", "1"),
        raw("transaction_id", '"\\ud83d"'),
        body(extra=1) + "\ud800",
    ],
    ids=["value", "in a list", "nested key", "key", "id", "in the body itself"],
)
def test_text_that_utf8_cannot_express_is_a_lone_surrogate(text: str):
    assert reason_for(text) == "lone_surrogate"


def test_a_surrogate_pair_is_one_character():
    assert parse(raw("extra", '"\\ud83d\\ude00"'))["extra"] == {"S": "😀"}


IDS: list[tuple[Any, str]] = [
    (..., "id_missing"),
    ("", "id_empty"),
    (None, "id_not_a_string"),
    (7, "id_not_a_string"),
    (True, "id_not_a_string"),
    (["t"], "id_not_a_string"),
    ({"S": "t"}, "id_not_a_string"),
    ("x" * 2049, "id_too_long"),
    ("é" * 1024 + "x", "id_too_long"),
]


@pytest.mark.parametrize(("value", "reason"), IDS)
def test_a_bad_id_has_its_own_reason(value: Any, reason: str):
    assert reason_for(body(transaction_id=value)) == reason


@pytest.mark.parametrize("value", ["x", "x" * 2048, "é" * 1024, " ", "\u0000", "a'b\"c?"])
def test_an_id_of_up_to_2048_bytes_is_kept_as_it_is(value: str):
    assert parse(body(transaction_id=value))["transaction_id"] == {"S": value}


AMOUNTS = [
    ("null", "amount_not_a_number"),
    ("true", "amount_not_a_number"),
    ("false", "amount_not_a_number"),
    ('"12.34"', "amount_not_a_number"),
    ('"NaN"', "amount_not_a_number"),
    ("[1]", "amount_not_a_number"),
    ("{}", "amount_not_a_number"),
    ("-0.01", "amount_negative"),
    ("-1E-130", "amount_negative"),
    ("NaN", "amount_not_finite"),
    ("Infinity", "amount_not_finite"),
    ("-Infinity", "amount_not_finite"),
    ("1" * 39, "number_out_of_range"),
    ("0." + "1" * 39, "number_out_of_range"),
    ("1e126", "number_out_of_range"),
    ("1e-131", "number_out_of_range"),
    ("1e400", "number_out_of_range"),
]


@pytest.mark.parametrize(("value", "reason"), AMOUNTS)
def test_a_bad_amount_has_its_own_reason(value: str, reason: str):
    assert reason_for(raw("amount", value)) == reason


def test_no_amount_is_amount_missing():
    assert reason_for(body(amount=...)) == "amount_missing"


NUMBERS = [
    ("0", "0"),
    ("-0", "0"),
    ("-0.00", "0"),
    ("0e999999999999999999999", "0"),
    ("0E-9999", "0"),
    ("1e3", "1000"),
    ("1E+3", "1000"),
    ("10.50", "10.5"),
    ("1000", "1000"),
    ("0.1", "0.1"),
    ("-1.5e-3", "-0.0015"),
    ("1" + "0" * 50, "1" + "0" * 50),
    ("1." + "0" * 50, "1"),
    ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
    ("1234567890123456789.0123456789012345678", "1234567890123456789.0123456789012345678"),
    ("9." + "9" * 37 + "e125", "9" * 38 + "0" * 88),
    ("-9." + "9" * 37 + "e125", "-" + "9" * 38 + "0" * 88),
    ("1e-130", "0." + "0" * 129 + "1"),
    ("1.5e-130", "0." + "0" * 129 + "15"),
    ("1e+0000000000000000003", "1000"),
    ("0." + "0" * 100_000 + "1e100001", "1"),
    ("1" + "0" * 100_000 + "e-100000", "1"),
]


@pytest.mark.parametrize(("written", "plain"), NUMBERS, ids=[written[:24] for written, _ in NUMBERS])
def test_a_number_is_made_plain_without_losing_a_digit(written: str, plain: str):
    assert plain_number(written) == plain


@pytest.mark.parametrize(
    "written",
    [
        "1e126",
        "-1e126",
        "10e125",
        "1e-131",
        "0.1e-130",
        "1e999999999",
        "1e-9999999999999999999999",
        "1e" + "9" * 5000,
        "1" * 5000,
        "1.5e126",
    ],
    ids=lambda written: written[:20],
)
def test_a_number_that_dynamodb_cannot_hold_exactly_is_out_of_range(written: str):
    assert reason_for(raw("extra", f"[{written}]")) == "number_out_of_range"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k": ', "}")], ids=["lists", "objects"])
def test_32_levels_are_kept(opening: str, closing: str):
    assert "deep" in parse(nested(32, opening, closing))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k": ', "}")], ids=["lists", "objects"])
@pytest.mark.parametrize("levels", [33, 500, 20_000])
def test_more_than_32_levels_are_too_deep(levels: int, opening: str, closing: str):
    assert reason_for(nested(levels, opening, closing)) == "nesting_too_deep"


def test_an_empty_list_at_level_32_is_kept():
    assert "deep" in parse(nested(32, leaf="[]"))


@pytest.mark.parametrize("field", ["transaction_category", "processed_at_utc", "processor_version"])
def test_input_with_one_of_our_fields_is_reserved_field(field: str):
    assert reason_for(body(**{field: "standard"})) == "reserved_field"


def test_our_field_names_are_free_below_the_top_level():
    assert parse(body(extra={"transaction_category": "mine"}))["extra"] == {"M": {"transaction_category": {"S": "mine"}}}


def test_every_member_is_kept_with_its_own_type():
    text = body(extra={"list": [1, "1", True, False, None, "", [], {}], "text": "Ünïcödé 😀 \u0001"}, **{"": 1, "na me": 2})
    assert parse(text) == {
        "transaction_id": {"S": "t-1"},
        "user_id": {"S": "u-1"},
        "amount": {"N": "12.34"},
        "currency": {"S": "EUR"},
        "merchant": {"S": "Bäckerei"},
        "extra": {
            "M": {
                "list": {"L": [{"N": "1"}, {"S": "1"}, {"BOOL": True}, {"BOOL": False}, {"NULL": True}, {"S": ""}, {"L": []}, {"M": {}}]},
                "text": {"S": "Ünïcödé 😀 \u0001"},
            }
        },
        "": {"N": "1"},
        "na me": {"N": "2"},
    }


def test_a_detail_names_the_transaction_when_its_id_can_be_read():
    with pytest.raises(InvalidRecord) as caught:
        parse(body(amount="12"))
    assert caught.value.detail == {"transaction_id": "t-1", "found": "S"}


SIZES: list[tuple[dict[str, Any], int]] = [
    ({"é": {"S": "😀"}}, 2 + 4),
    ({"n": {"N": "0"}}, 1 + 1),
    ({"n": {"N": "1000"}}, 1 + 1 + 1),
    ({"n": {"N": "-12.345"}}, 1 + 3 + 1),
    ({"n": {"N": "0.0012"}}, 1 + 1 + 1),
    ({"b": {"BOOL": False}, "c": {"NULL": True}}, 2 + 2),
    ({"l": {"L": []}, "m": {"M": {}}}, 4 + 4),
    ({"l": {"L": [{"S": "ab"}, {"N": "1"}]}}, 1 + 3 + 2 * 1 + 2 + 2),
    ({"m": {"M": {"key": {"S": "ab"}}}}, 1 + 3 + 1 + 3 + 2),
]


@pytest.mark.parametrize(("item", "size"), SIZES)
def test_an_item_is_measured_by_the_rules_of_dynamodb(item: dict[str, Any], size: int):
    assert item_bytes(item) == size


@pytest.mark.parametrize(("over", "refused"), [(0, False), (1, True)])
def test_an_item_may_have_400_kb_and_not_a_byte_more(over: int, refused: bool):
    item = {"transaction_id": {"S": "t"}, "pad": {"S": "x" * (MAX_ITEM_BYTES - len("transaction_id") - 1 - len("pad") + over)}}
    if refused:
        with pytest.raises(InvalidRecord, match=Reason.ITEM_TOO_LARGE.value):
            check_size(item)
    else:
        assert check_size(item) is item


DIFFERENCES: list[tuple[Any, Any, bool]] = [
    ("1.50", "1.5", False),
    ("1e3", "1000", False),
    ("1", "2", True),
    ("1", "1.0000000000000000000000000000000000001", True),
    ("1", "true", True),
    ("0", "false", True),
    ("1", '"1"', True),
    ("[1, 2]", "[1.0, 2]", False),
    ("[1, 2]", "[2, 1]", True),
    ("[]", "{}", True),
    ("null", "true", True),
    ('""', "null", True),
    ('{"a": 1, "b": [null]}', '{"b": [null], "a": 1.0}', False),
    ('{"a": 1}', '{"a": 1, "b": 1}', True),
]


@pytest.mark.parametrize(("one", "other", "differ"), DIFFERENCES)
def test_contents_differ_exactly_when_their_values_do(one: str, other: str, differ: bool):
    assert differing_fields(parse(raw("extra", one)), parse(raw("extra", other))) == (["extra"] if differ else [])


def test_a_number_is_compared_as_a_number_however_the_table_writes_it():
    assert differing_fields({"amount": {"N": "1E+3"}}, {"amount": {"N": "1000.0"}}) == []


def test_a_field_that_only_one_side_has_differs():
    assert differing_fields(parse(body(extra=None)), parse(body())) == ["extra"]


def test_our_own_three_fields_do_not_count_as_a_difference():
    own = {"transaction_category": "standard", "processed_at_utc": "2026-01-01T00:00:00.000Z", "processor_version": "7"}
    stored = parse(body()) | {name: {"S": value} for name, value in own.items()}
    assert differing_fields(parse(body()), stored) == []


def test_a_body_of_one_megabyte_of_digits_is_answered_not_choked_on():
    assert reason_for(raw("extra", "9" * 1_000_000)) == "number_out_of_range"


@pytest.mark.parametrize("text", ["short", "x" * 5000, "é" * 5000, "😀" * 5000, "\ud800" * 5000, "\x00" * 500, '"' * 500])
def test_a_bounded_text_is_at_most_so_long_as_ascii_json(text: str):
    assert len(json.dumps(bounded(text, 100))) <= 102


def test_a_text_within_the_bound_is_not_touched():
    assert bounded("x" * 100, 100) == "x" * 100
