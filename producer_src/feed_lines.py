"""Reads a line of a feed: it is a transaction, which is sent to the byte, or it is rejected with a reason."""

import json
import re
from typing import NoReturn

from outbox_records import ATTRIBUTE_BYTES, Message

UNSENDABLE = re.compile("[\ufffe\uffff]")  # characters of JSON that SQS refuses (SendMessage)
SURROGATE = re.compile("[\ud800-\udfff]")  # JSON's escapes can name one half of a pair, which is no character of UTF-8


class Number(str):
    """A JSON number, as it is written."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def parse_line(line: bytes, message_bytes: int) -> Message | str:
    """The transaction of a line, or the reason why it is not one."""
    if len(line) + ATTRIBUTE_BYTES > message_bytes:
        return "too_large"
    try:
        text = line.decode()
        found = json.loads(text, parse_float=Number, parse_int=Number, parse_constant=_refuse)
    except UnicodeDecodeError:
        return "not_utf8"
    except (ValueError, RecursionError):
        return "not_json"
    if not isinstance(found, dict):
        return "not_an_object"
    identity = found.get("transaction_id")
    if identity is None:
        return "id_missing"
    if not isinstance(identity, str) or isinstance(identity, Number):
        return "id_not_a_string"
    if not identity:
        return "id_empty"
    if UNSENDABLE.search(text):
        return "character_not_allowed"
    if SURROGATE.search(identity):
        return "lone_surrogate"
    amount, moment = found.get("amount"), found.get("timestamp")
    sound = isinstance(moment, str) and not isinstance(moment, Number) and len(moment) <= 64 and not SURROGATE.search(moment)
    return Message(identity, text, str(amount) if isinstance(amount, Number) else None, moment if sound else None)
