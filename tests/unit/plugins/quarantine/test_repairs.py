"""Repairs work on the text of a body: they do what they say, to the digit, or do not apply."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.quarantine.repairs import NotRepairableError, Repair, Rules, repaired
from hypothesis import given
from hypothesis import strategies as st

RULES = Rules(Path(__file__).resolve().parents[4] / "lambda_src" / "transaction.py")


def repair(body: str, *texts: str) -> str:
    return repaired(body, map(Repair.read, texts))


@pytest.mark.parametrize(
    ("body", "texts", "expected"),
    [
        ('{"amt": 12.30, "x": 1}', ["rename amt amount"], '{"amount": 12.30, "x": 1}'),
        ('{"the amount":1}', ['rename "the amount" amount'], '{"amount": 1}'),
        ('{"x": 1}', ['set currency "EUR"'], '{"x": 1, "currency": "EUR"}'),
        ('{"currency": null, "x": 1}', ['set currency "EUR"'], '{"currency": "EUR", "x": 1}'),
        ('{"x": 1, "amount": 1, "y": 2, "amount": 2}', ["set amount 12.30"], '{"x": 1, "amount": 12.30, "y": 2}'),
        ("{}", ["set amount 1"], '{"amount": 1}'),
        ('{"amount": "12.30"}', ["parse amount"], '{"amount": 12.30}'),
        ('{"amount": " 0012.30 "}', ["parse amount"], '{"amount": 12.30}'),
        ('{"amount": "1.234.567,89"}', ["parse amount ,"], '{"amount": 1234567.89}'),
        ('{"amount": "1234,5"}', ["parse amount ,"], '{"amount": 1234.5}'),
        ('{"amount": "1,234.50"}', ["parse amount ."], '{"amount": 1234.50}'),
        ('{"amount": "1.234"}', ["parse amount . ,"], '{"amount": 1.234}'),
        ('{"amount": "1.234"}', ["parse amount , ."], '{"amount": 1234}'),
        ('{"amount": "1,234"}', ["parse amount  .  ,"], '{"amount": 1234}'),
        ('{"amount": "1,234"}', ["parse amount , ."], '{"amount": 1.234}'),
        ('{"amount": "0.234"}', ["parse amount"], '{"amount": 0.234}'),
        ('{"amount": "1234.567"}', ["parse amount"], '{"amount": 1234.567}'),
        ('{"amount": "1.234.567"}', ["parse amount ,"], '{"amount": 1234567}'),
        ('{"amt": "12.30"}', ["rename amt amount", "parse amount", 'set note {"a": [1e3]}'], '{"amount": 12.30, "note": {"a": [1e3]}}'),
        (' \n{ "amt" : 1 ,\t"x" : { "y" : 1.50e+2 } } ', ["rename amt amount"], '{"amount": 1, "x": { "y" : 1.50e+2 }}'),
    ],
)
def test_a_repair_does_what_it_says(body: str, texts: list[str], expected: str):
    assert repair(body, *texts) == expected


def test_without_a_repair_a_body_stays_as_it_is():
    assert repair(" not json ") == " not json "


@pytest.mark.parametrize(
    ("body", "text", "why"),
    [
        ('{"x": 1}', "rename amt amount", "it has no amt"),
        ('{"amt": 1, "amt": 2}', "rename amt amount", "it has 2 amt"),
        ('{"amt": 1, "amount": 2}', "rename amt amount", "it has a amount already"),
        ('{"x": 1}', "parse amount", "it has no amount"),
        ('{"amount": 12.30}', "parse amount", "is no text that spells a number in that way"),
        ('{"amount": null}', "parse amount", "is no text"),
        ('{"amount": "1,234"}', "parse amount", "in that way"),
        ('{"amount": "0.234"}', "parse amount ,", "in that way"),
        *(
            (f'{{"amount": "{text}"}}', f"parse amount {sign}", "can be read in two ways; say which sign")
            for text, signs in (("1.234", ["", ".", ","]), ("1,234", [".", ","]), (" 999.999 ", ["", ".", ","]))
            for sign in signs
        ),
        ('{"amount": "1.23"}', "parse amount ,", "in that way"),
        ('{"amount": "12,34"}', "parse amount .", "in that way"),
        ('{"amount": "1234,567.00"}', "parse amount .", "in that way"),
        ('{"amount": "-1"}', "parse amount", "in that way"),
        ('{"amount": "12.30 EUR"}', "parse amount", "in that way"),
        ('{"amount": "1e3"}', "parse amount", "in that way"),
        ('{"amount": "١٢"}', "parse amount", "in that way"),
        ('{"amount": ""}', "parse amount", "in that way"),
        ("nope", "set a 1", "it is no JSON object"),
        ("[1]", "set a 1", "it is no JSON object"),
        ('{"a": 1,}', "set a 1", "it is no JSON object"),
        ('{"a": 1} {"b": 2}', "set a 1", "it is no JSON object"),
        ('{"a" 1}', "set a 1", "it is no JSON object"),
        ("{1: 1}", "set a 1", "it is no JSON object"),
        ('{"a": 1', "set a 1", "it is no JSON object"),
        ('{"a": ' + "[" * 100_000, "set a 1", "it is no JSON object"),
        ("", "set a 1", "it is no JSON object"),
    ],
)
def test_what_does_not_apply_says_why(body: str, text: str, why: str):
    with pytest.raises(NotRepairableError) as refused:
        repair(body, text)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "drop x",
        "rename amt",
        "rename amt amount more",
        "set",
        "set x",
        "set x EUR",
        "set x NaN",
        "parse",
        "parse amount ;",
        "parse amount , ,",
        "parse amount . , .",
        "parse amount .,",
        'rename "a b',
    ],
)
def test_a_repair_that_is_none_is_refused(text: str):
    with pytest.raises(ValueError, match=r"repair"):
        Repair.read(text)


plain = st.text(st.characters(codec="utf-8", exclude_characters="#"))  # between two # stands a number until the JSON is written
values = st.recursive(
    st.none() | st.booleans() | plain | st.decimals(allow_nan=False, allow_infinity=False).map(str).map(lambda text: f"#{text}#"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(plain, values), st.sampled_from([None, 1, "\t"]))
def test_whatever_is_not_repaired_keeps_every_digit(members: dict[str, Any], indent: Any):
    members.pop("amount", None)
    body = json.dumps(members, indent=indent).replace('"#', "").replace('#"', "")
    done = repair(body, "set amount 0.10")
    assert repair(body, "set amount 0.10") == done  # the same each time
    exact = {"parse_int": str, "parse_float": str}
    assert json.loads(done, **exact) == json.loads(body, **exact) | {"amount": "0.10"}


def readings(text: str) -> dict[str, Decimal]:
    """By decimal sign, the number that a text is; groups of three, where there are any, go all the way and do not begin with 0."""
    found = {}
    for sign, grouping in (".,", ",."):
        whole, has_fraction, fraction = text.partition(sign)
        groups = whole.split(grouping)
        right = groups[0].isdecimal() and (fraction.isdecimal() if has_fraction else True)
        if len(groups) > 1:
            right = right and len(groups[0]) <= 3 and groups[0][0] != "0" and all(len(one) == 3 and one.isdecimal() for one in groups[1:])
        if right:
            found[sign] = Decimal("".join(groups) + "." + (fraction or "0"))
    return found


amounts = st.text("0123456789.,", max_size=12) | st.from_regex(r"[1-9][0-9]{0,3}([.,][0-9]{3}){0,2}([.,][0-9]{1,3})?", fullmatch=True)


@given(amounts, st.sampled_from(["", ".", ",", ". ,", ", ."]))
def test_a_text_is_read_in_the_way_that_is_asked_for_and_never_where_there_is_another(text: str, signs: str):
    found = readings(text)
    sign = signs[:1] or "."
    wanted = found.get(sign)
    if (len(signs) < 2 and len(set(found.values())) > 1) or (not signs and "," in text):
        wanted = None
    try:
        done = repair(json.dumps({"amount": text}), f"parse amount {signs}")
    except NotRepairableError:
        assert wanted is None
    else:
        assert json.loads(done, parse_float=Decimal, parse_int=Decimal)["amount"] == wanted


@given(st.decimals(min_value=0, max_value=10**30, places=2))
def test_a_text_amount_becomes_the_number_it_spells(amount: Decimal):
    european = f"{amount:,.2f}".translate(str.maketrans(",.", ".,"))
    for text, how in ((f"{amount:.2f}", ""), (f"{amount:,.2f}", "."), (european, ",")):
        done = repair(json.dumps({"amount": text}), f"parse amount {how}")
        assert json.loads(done, parse_float=Decimal)["amount"] == amount


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ('{"transaction_id": "t-1", "amount": 1}', ""),
        ('{"transaction_id": "t-1", "amount": "1"}', 'amount_not_a_number {"transaction_id": "t-1", "found": "S"}'),
        ('{"transaction_id": "t-1", "amount": 1, "x": "%s"}' % ("x" * 500_000), "item_too_large"),
        ("nope", "not_json"),
    ],
)
def test_the_function_s_own_rules_judge(body: str, refusal: str):
    found = RULES.refusal(body)
    assert found.startswith(refusal) if refusal else found == ""
