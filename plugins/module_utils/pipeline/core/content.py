"""The content of a ledger's body and of a stored item, and whether both are the same: to the digit, by its own reading of JSON.

It shares no code with the function on purpose: a function that rounds money must not confirm its own rounding.
"""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any

from .bounded_json import decode

Body = dict[str, Any]  # JSON with numbers as Decimal
Item = dict[str, dict[str, Any]]  # attribute name -> DynamoDB attribute value, as in {"N": "12.5"}

KEY, AMOUNT, TIMESTAMP = "transaction_id", "amount", "timestamp"
# What the function adds to a transaction: reserved in what is sent, and no part of what is compared.
OWN_FIELDS = frozenset({"transaction_category", "processed_at_utc", "processor_version"})
# "Quotas in Amazon DynamoDB" (ServiceQuotas.html of its developer guide).
MAX_KEY_BYTES, MAX_LEVELS = 2048, 32
MAX_DIGITS, MIN_EXPONENT, MAX_EXPONENT = 38, -130, 125
# Characters of a value in a report: the largest number that DynamoDB stores has 126 digits, and is not cut.
SHOWN_CHARACTERS = 130


class _Unfit:
    """A number whose exponent is too large for Decimal."""


def _number(text: str) -> Decimal | _Unfit:
    try:
        return Decimal(text)
    except InvalidOperation:
        mantissa = text.lower().partition("e")[0]
        return _Unfit() if mantissa.strip("-0.") else Decimal(0)


def _members(pairs: list[tuple[str, Any]]) -> Body:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is named twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_int=_number, parse_constant=_no_constant)


def read_body(text: str) -> Body | None:
    """A message body as an object, numbers as Decimal; None if it is no object, names a member twice, or is nested too deeply."""
    try:
        document = decode(text, _DECODER)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def storable(body: Body | None) -> bool:
    """Whether the function may store this as it is. Otherwise it can only be in the table after a repair in the quarantine."""
    if body is None or OWN_FIELDS & body.keys():
        return False
    amount = body.get(AMOUNT)
    return is_key(body.get(KEY)) and isinstance(amount, Decimal) and amount >= 0 and _fits(body, 0)


def is_key(value: Any) -> bool:
    """Whether this can be the table's key: text of 1 to 2,048 bytes of UTF-8."""
    return isinstance(value, str) and _is_text(value) and 0 < len(value.encode()) <= MAX_KEY_BYTES


def _fits(value: Any, level: int) -> bool:
    if level > MAX_LEVELS:
        return False
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, Decimal):
        significant = "".join(map(str, value.as_tuple().digits)).strip("0")
        return not significant or (len(significant) <= MAX_DIGITS and MIN_EXPONENT <= value.adjusted() <= MAX_EXPONENT)
    if isinstance(value, dict):
        return all(_is_text(name) and _fits(member, level + 1) for name, member in value.items())
    if isinstance(value, list):
        return all(_fits(element, level + 1) for element in value)
    return not isinstance(value, _Unfit)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def same(value: Any, attribute: dict[str, Any]) -> bool:
    """Whether a JSON value is stored as this; 1.50 equals 1.5, true is no number; sets and bytes (not in JSON) equal nothing."""
    ((kind, content),) = attribute.items()
    if kind == "S":
        return isinstance(value, str) and value == content
    if kind == "N":
        return isinstance(value, Decimal) and value == Decimal(content)
    if kind == "BOOL":
        return value is content
    if kind == "NULL":
        return value is None
    if kind == "L":
        return isinstance(value, list) and len(value) == len(content) and all(map(same, value, content))
    if kind == "M":
        return isinstance(value, dict) and value.keys() == content.keys() and all(same(value[name], content[name]) for name in content)
    return False


def differing(body: Body, item: Item) -> list[str]:
    """Sorted names of the fields in which an item differs from what was sent, without the function's own fields."""
    names = (body.keys() | item.keys()) - OWN_FIELDS
    return sorted(name for name in names if name not in body or name not in item or not same(body[name], item[name]))


def remembered(amount: str | None, timestamp: str | None) -> Body:
    """What a ledger still knows of an entry whose body it no longer has."""
    body: Body = {}
    if amount is not None:
        with contextlib.suppress(InvalidOperation):
            body[AMOUNT] = Decimal(amount)
    if timestamp is not None:
        body[TIMESTAMP] = timestamp
    return body


def fingerprint(body: Body, leave_out: frozenset[str] = frozenset()) -> bytes:
    """Equal for equal content, whatever the spelling and the order of members; fields left out do not count."""
    kept = {name: value for name, value in body.items() if name not in leave_out}
    return sha256(_canonical(kept).encode()).digest()


def _canonical(value: Any) -> str:
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        text = "".join(map(str, digits)).lstrip("0")
        significant = text.rstrip("0")
        return f"{'-' * sign}{significant}E{int(exponent) + len(text) - len(significant)}" if significant else "0"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return "unfit" if isinstance(value, _Unfit) else json.dumps(value)


def plain(item: Item) -> Body:
    """An item as the object that was sent, without the function's own fields."""
    return {name: _plain(attribute) for name, attribute in item.items() if name not in OWN_FIELDS}


def _plain(attribute: dict[str, Any]) -> Any:
    ((kind, content),) = attribute.items()
    if kind == "N":
        return Decimal(content)
    if kind == "NULL":
        return None
    if kind == "L":
        return [_plain(element) for element in content]
    if kind == "M":
        return {name: _plain(member) for name, member in content.items()}
    return content if kind in ("S", "BOOL") else {kind: str(content)}


def shown(body: Body, name: str) -> str | None:
    """A field as JSON text for a report, cut where it is long: 12.30 stays 12.30, "12.30" has quotes. None if there is no such field."""
    if name not in body:
        return None
    text = _json(body[name])
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def _json(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_json(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return "a number out of range" if isinstance(value, _Unfit) else json.dumps(value)


def item_bytes(item: Item) -> int:
    """About how large DynamoDB counts an item: "DynamoDB item sizes and formats" (CapacityUnitCalculations.html)."""
    return sum(len(name.encode()) + _value_bytes(attribute) for name, attribute in item.items())


def _value_bytes(attribute: dict[str, Any]) -> int:
    ((kind, content),) = attribute.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return (len(content.lstrip("-").replace(".", "").strip("0")) + 1) // 2 + 1
    if kind == "M":
        return 3 + len(content) + item_bytes(content)
    if kind == "L":
        return 3 + len(content) + sum(map(_value_bytes, content))
    return 1 if kind in ("NULL", "BOOL") else len(str(content))
