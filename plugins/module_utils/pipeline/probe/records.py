"""The transactions that the probe sends, and what is wrong with the stored items."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from ..core.content import OWN_FIELDS
from ..core.module import OptionError

CENT = Decimal("0.01")
# Cents that a binary float cannot hold, or changes when multiplied by a hundred; the largest also shows rounding to single precision.
CENTS = (Decimal("0.07"), Decimal("4.35"), Decimal("19.99"), Decimal("1234567.89"))
# Thresholds stay where Decimal's default 28 digits leave room for cents.
LARGEST = 10**20
# How far the clocks of this machine and of the function may be apart.
CLOCK_SKEW = timedelta(minutes=10)


@dataclass(frozen=True)
class Thresholds:
    """Where categories begin: an amount equal to a threshold belongs to the higher one."""

    high: Decimal
    medium: Decimal

    @classmethod
    def parse(cls, high: str, medium: str) -> Thresholds:
        """From decimal strings. Raises OptionError."""
        parsed = {}
        for name, text in (("high_value_threshold", high), ("medium_value_threshold", medium)):
            try:
                parsed[name] = Decimal(text)
            except InvalidOperation:
                raise OptionError(f"{name} must be a decimal number such as 1000.00: found {text!r}") from None
            if not parsed[name].is_finite() or not 0 <= parsed[name] < LARGEST:
                raise OptionError(f"{name} must be at least 0 and below {LARGEST}: found {text!r}")
        if parsed["medium_value_threshold"] > parsed["high_value_threshold"]:
            raise OptionError(f"medium_value_threshold must be at most high_value_threshold: found {medium!r} and {high!r}")
        return cls(high=parsed["high_value_threshold"], medium=parsed["medium_value_threshold"])

    def category(self, amount: Decimal) -> str:
        if amount >= self.high:
            return "high_value"
        return "medium_value" if amount >= self.medium else "standard"


@dataclass(frozen=True)
class Record:
    """A record to send: its ids and its body."""

    transaction_id: str
    outbox_id: str
    body: str


@dataclass(frozen=True)
class Sample(Record):
    """A good transaction: `fields` is its body parsed (numbers as Decimal), `boundary` marks a threshold's edge."""

    fields: dict[str, Any]
    amount: Decimal
    category: str
    boundary: bool

    @property
    def label(self) -> str:
        """Which one it is, for the name of a check: "boundary 10000.00" or "amount 19.99"."""
        return f"{'boundary' if self.boundary else 'amount'} {self.amount:f}"


def make_samples(thresholds: Thresholds, now: datetime) -> list[Sample]:
    """Every category, both sides of each threshold, and cents: nine records, so that they and the invalid record fit one SQS batch."""
    both = dict.fromkeys((thresholds.high, thresholds.medium))
    edges = [edge for threshold in both for edge in (threshold, threshold - CENT) if edge >= 0]
    inner = [((thresholds.high + thresholds.medium) / 2).quantize(CENT), *CENTS]
    samples = [_sample(amount, thresholds, now, boundary=True) for amount in edges]
    return samples + [_sample(amount, thresholds, now, boundary=False) for amount in inner]


def make_invalid_record(now: datetime) -> Record:
    """A record that can never succeed: it has no amount. Parsing and writing it again would not give back its spelling."""
    transaction_id = f"verify-{uuid.uuid4()}"
    body = f'{{"merchant" : "Caf\\u00e9 Zürich 東京",  "transaction_id":"{transaction_id}", "user_id":"verify", "currency":"CHF"'
    body += f' , "timestamp":"{_stamp(now)}" }}'
    return Record(transaction_id, f"verify:{uuid.uuid4()}", body)


def _sample(amount: Decimal, thresholds: Thresholds, now: datetime, *, boundary: bool) -> Sample:
    if amount == amount.quantize(CENT):
        amount = amount.quantize(CENT)
    transaction_id = f"verify-{uuid.uuid4()}"
    # Values are JSON text already: an amount that never was a float cannot have been spoiled by one here.
    texts = {
        "transaction_id": json.dumps(transaction_id),
        "user_id": '"verify"',
        "amount": f"{amount:f}",
        "currency": '"EUR"',
        "timestamp": json.dumps(_stamp(now)),
        "merchant": '"Café Zürich 東京"',
        "verification": '{"fees": [0.07, 0.10, 1e3], "note": null, "nested": {"kept": true}}',
    }
    body = "{" + ", ".join(f'"{name}": {text}' for name, text in texts.items()) + "}"
    fields = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    return Sample(transaction_id, f"verify:{uuid.uuid4()}", body, fields, amount, thresholds.category(amount), boundary)


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def wrong_amount(sample: Sample, item: dict[str, Any]) -> str:
    """How the stored money differs from what was sent, or nothing."""
    stored = item.get("amount")
    right = isinstance(stored, Decimal) and stored == sample.amount
    return "" if right else f"{sample.amount:f} is stored as {_show(stored)}"


def wrong_fields(sample: Sample, item: dict[str, Any]) -> str:
    """How any other field differs, is missing or is one too many, or nothing."""
    wrong = []
    for name in sorted((sample.fields.keys() | item.keys()) - OWN_FIELDS - {"amount"}):
        if name not in item:
            wrong.append(f"{name} is missing")
        elif name not in sample.fields:
            wrong.append(f"{name} was never sent")
        elif not _same(sample.fields[name], item[name]):
            wrong.append(f"{name} is {_show(item[name])}, not {_show(sample.fields[name])}")
    return "; ".join(wrong)


def wrong_time(item: dict[str, Any], sent: datetime, now: datetime) -> str:
    """Why `processed_at_utc` is not a UTC time between the sending and now, give or take the clocks' difference, or nothing."""
    text = item.get("processed_at_utc")
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None:
        return f"{_show(text)} is no ISO 8601 time"
    if moment.utcoffset() != timedelta(0):
        return f"{text} is not in UTC"
    if not sent - CLOCK_SKEW <= moment <= now + CLOCK_SKEW:
        return f"{text} is not between the sending ({_stamp(sent)}) and now ({_stamp(now)})"
    return ""


def wrong_version(item: dict[str, Any], version: str) -> str:
    """Why `processor_version` is not this version, or with an empty one no published version ($LATEST is none), or nothing."""
    found = item.get("processor_version")
    right = found == version if version else isinstance(found, str) and found.isdecimal()
    return "" if right else f"processor_version is {_show(found)}"


def _same(sent: Any, stored: Any) -> bool:
    """Equal, and of the same kind all the way down: True is not 1."""
    if type(sent) is not type(stored):
        return False
    if isinstance(sent, dict):
        return sent.keys() == stored.keys() and all(_same(sent[name], stored[name]) for name in sent)
    if isinstance(sent, list):
        return len(sent) == len(stored) and all(map(_same, sent, stored))
    return bool(sent == stored)


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"{value:f}" if isinstance(value, Decimal) else repr(value)
