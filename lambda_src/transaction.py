"""Turns a message body into a DynamoDB item, exact to the digit, or says why it can never be one. Nothing here calls AWS."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import StrEnum
from typing import Any

Value = dict[str, Any]  # a DynamoDB attribute value, as in {"N": "12.5"}
Item = dict[str, Value]  # attribute name -> attribute value

KEY, AMOUNT = "transaction_id", "amount"
CATEGORY, PROCESSED_AT, PROCESSOR_VERSION = "transaction_category", "processed_at_utc", "processor_version"
OWN_FIELDS = frozenset((CATEGORY, PROCESSED_AT, PROCESSOR_VERSION))

# DynamoDB's limits: "Quotas in Amazon DynamoDB" (ServiceQuotas.html in its developer guide).
MAX_KEY_BYTES = 2048
MAX_ITEM_BYTES = 400 * 1024
MAX_DIGITS, MIN_EXPONENT, MAX_EXPONENT = 38, -130, 125
MAX_LEVELS = 32  # a top-level attribute is level 1, its members are level 2

TEXT_CHARACTERS = 200  # ours: of one text from a record, in a log line or a detail


class Reason(StrEnum):
    """Why a record is in quarantine, or not settled. The codes are fixed: logs, verify and replay go by them."""

    NOT_JSON = "not_json"  # not one JSON text (NaN and Infinity are not JSON)
    NOT_AN_OBJECT = "not_an_object"  # JSON, but not an object
    DUPLICATE_KEY = "duplicate_key"  # an object, at any depth, names a member twice
    LONE_SURROGATE = "lone_surrogate"  # text that UTF-8 cannot express
    ID_MISSING = "id_missing"  # no transaction_id
    ID_EMPTY = "id_empty"  # transaction_id is ""
    ID_NOT_A_STRING = "id_not_a_string"  # transaction_id is anything but text
    ID_TOO_LONG = "id_too_long"  # transaction_id is over 2,048 bytes of UTF-8
    AMOUNT_MISSING = "amount_missing"  # no amount
    AMOUNT_NOT_A_NUMBER = "amount_not_a_number"  # amount is null, bool, text, a list or an object
    AMOUNT_NEGATIVE = "amount_negative"  # amount is below zero (-0 is zero)
    AMOUNT_NOT_FINITE = "amount_not_finite"  # amount is NaN, Infinity or -Infinity
    NUMBER_OUT_OF_RANGE = "number_out_of_range"  # a number, amount or not, over 38 digits or outside 1E-130 to 9.9...E+125
    NESTING_TOO_DEEP = "nesting_too_deep"  # over 32 levels
    ITEM_TOO_LARGE = "item_too_large"  # over 400 KB as DynamoDB counts, our three fields included
    RESERVED_FIELD = "reserved_field"  # the input already has transaction_category, processed_at_utc or processor_version
    CONFLICT = "conflict"  # the id is known, with different content
    REJECTED_BY_TABLE = "rejected_by_table"  # DynamoDB calls this one record invalid
    # Failed for now, so always retried:
    THROTTLED = "throttled"  # the table asks for less
    CALL_FAILED = "call_failed"  # network, permission, a missing table, an internal error of AWS
    UNREAD_DUPLICATE = "unread_duplicate"  # the id is known, its content could not be read back
    SAME_ID_PENDING = "same_id_pending"  # an earlier record of the batch has this id and is not settled
    OUT_OF_TIME = "out_of_time"  # too little of the invocation was left to start a call
    INTERNAL_ERROR = "internal_error"  # a fault of this function


class InvalidRecord(Exception):
    """A record that can never succeed: its reason code, and a detail of a few small JSON values."""

    def __init__(self, reason: Reason, **detail: Any) -> None:
        super().__init__(reason.value)
        self.reason, self.detail = reason, detail


class _Number(str):
    """A JSON number as it was written; it never becomes a float."""


class _NotFinite(str):
    """NaN, Infinity or -Infinity, which Python's parser accepts although they are not JSON."""


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object, in order, repeated names included."""


_DECODER = json.JSONDecoder(object_pairs_hook=_Members, parse_float=_Number, parse_int=_Number, parse_constant=_NotFinite)


def parse(body: str) -> Item:
    """The item that a message body describes, with every member. Raises InvalidRecord."""
    _check_text(body, "")
    try:
        document = _DECODER.decode(body)
    except RecursionError:
        raise InvalidRecord(Reason.NESTING_TOO_DEEP, levels_allowed=MAX_LEVELS) from None
    except ValueError as error:
        raise InvalidRecord(Reason.NOT_JSON, error=bounded(str(error))) from None
    if isinstance(document, _NotFinite):
        raise InvalidRecord(Reason.NOT_JSON, found=str(document))
    if not isinstance(document, _Members):
        raise InvalidRecord(Reason.NOT_AN_OBJECT)
    try:
        item = _attributes(document, None, 1)
        _check_fields(item)
    except InvalidRecord as error:
        identity = next((value for name, value in document if name == KEY and type(value) is str), None)
        if identity is not None:
            error.detail = {KEY: bounded(identity)} | error.detail
        raise
    return item


def _attributes(members: _Members, top: str | None, level: int) -> Item:
    """`top` is the top-level field around these members. Details name only that one, since a whole path could be as long as the body."""
    attributes: Item = {}
    for name, value in members:
        _check_text(name, top or name)
        if name in attributes:
            raise InvalidRecord(Reason.DUPLICATE_KEY, field=bounded(name))
        attributes[name] = _attribute(value, name if top is None else top, level)
    return attributes


def _attribute(value: Any, top: str, level: int) -> Value:
    if level > MAX_LEVELS:
        raise InvalidRecord(Reason.NESTING_TOO_DEEP, field=bounded(top), levels_allowed=MAX_LEVELS)
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, _NotFinite):
        raise InvalidRecord(Reason.AMOUNT_NOT_FINITE if top == AMOUNT else Reason.NOT_JSON, field=bounded(top), found=str(value))
    if isinstance(value, _Number):
        return {"N": plain_number(value, top)}
    if isinstance(value, str):
        _check_text(value, top)
        return {"S": value}
    if isinstance(value, _Members):
        return {"M": _attributes(value, top, level + 1)}
    return {"L": [_attribute(element, top, level + 1) for element in value]}


def _check_text(text: str, top: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRecord(Reason.LONE_SURROGATE, field=bounded(top)) from None


def plain_number(text: str, top: str = "") -> str:
    """A JSON number without exponent or outer zeros, to the digit: "1e3" is "1000", "10.50" is "10.5", "-0" is "0".

    Works on the text, since Decimal refuses exponents that JSON allows and int() refuses more than 4,300 digits. Raises InvalidRecord,
    naming the top-level field `top`, for a number that DynamoDB cannot hold exactly.
    """
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return "0"
    power = exponent.lstrip("+-0") or "0"
    if len(power) <= 9:  # the digits of a message cannot make up for a longer one
        last = int(power) * (-1 if exponent.startswith("-") else 1) - len(fraction) + len(digits) - len(significant)
        first = last + len(significant) - 1
        if len(significant) <= MAX_DIGITS and MIN_EXPONENT <= first <= MAX_EXPONENT:
            sign = "-" if mantissa.startswith("-") else ""
            return format(Decimal(f"{sign}{significant}E{last}"), "f")
    raise InvalidRecord(Reason.NUMBER_OUT_OF_RANGE, field=bounded(top), number=bounded(text, 60), significant_digits=len(significant))


def _check_fields(item: Item) -> None:
    reserved = sorted(OWN_FIELDS & item.keys())
    if reserved:
        raise InvalidRecord(Reason.RESERVED_FIELD, fields=reserved)
    if KEY not in item:
        raise InvalidRecord(Reason.ID_MISSING)
    if "S" not in item[KEY]:
        raise InvalidRecord(Reason.ID_NOT_A_STRING, found=next(iter(item[KEY])))
    length = len(item[KEY]["S"].encode())
    if not length:
        raise InvalidRecord(Reason.ID_EMPTY)
    if length > MAX_KEY_BYTES:
        raise InvalidRecord(Reason.ID_TOO_LONG, bytes=length, bytes_allowed=MAX_KEY_BYTES)
    if AMOUNT not in item:
        raise InvalidRecord(Reason.AMOUNT_MISSING)
    if "N" not in item[AMOUNT]:
        raise InvalidRecord(Reason.AMOUNT_NOT_A_NUMBER, found=next(iter(item[AMOUNT])))
    if item[AMOUNT]["N"].startswith("-"):
        raise InvalidRecord(Reason.AMOUNT_NEGATIVE, amount=item[AMOUNT]["N"])


def check_size(item: Item) -> Item:
    """The item itself, if DynamoDB has room for it; raises InvalidRecord otherwise."""
    size = item_bytes(item)
    if size > MAX_ITEM_BYTES:
        raise InvalidRecord(Reason.ITEM_TOO_LARGE, transaction_id=bounded(item[KEY]["S"]), bytes=size, bytes_allowed=MAX_ITEM_BYTES)
    return item


def item_bytes(item: Item) -> int:
    """The item's size by "DynamoDB item sizes and formats" (CapacityUnitCalculations.html), which is approximate for numbers.

    Never more than DynamoDB counts, so nothing is refused here that it would take; where it counts more, its own refusal decides.
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Value) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return (len(content.lstrip("-").replace(".", "").strip("0")) + 1) // 2 + 1
    if kind == "M":
        return 3 + len(content) + item_bytes(content)
    if kind == "L":
        return 3 + len(content) + sum(_value_bytes(element) for element in content)
    return 1  # NULL, BOOL


def differing_fields(one: Item, other: Item) -> list[str]:
    """Names, sorted, of the fields in which two items differ, our own three aside; 1.50 equals 1.5, and true is no number."""
    names = (one.keys() | other.keys()) - OWN_FIELDS
    return sorted(name for name in names if _comparable(one.get(name)) != _comparable(other.get(name)))


def _comparable(value: Value | None) -> Any:
    if value is None:
        return None
    ((kind, content),) = value.items()
    if kind == "N":
        return kind, Decimal(content)
    if kind == "M":
        return kind, {name: _comparable(member) for name, member in content.items()}
    if kind == "L":
        return kind, [_comparable(element) for element in content]
    return kind, content


def bounded(text: str, characters: int = TEXT_CHARACTERS) -> str:
    """The text, cut until its JSON in ASCII has at most so many characters; a cut one ends in "..."."""
    if len(text) <= characters and len(json.dumps(text)) - 2 <= characters:
        return text
    cut = text[: characters - 3]
    while len(json.dumps(cut)) - 2 > characters - 3:
        cut = cut[:-1]
    return cut + "..."
