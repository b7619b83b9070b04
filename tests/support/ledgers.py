"""Made-up transactions, as a ledger exports them and as the table stores them."""

from __future__ import annotations

import gzip
import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

NOW = datetime.now(UTC) - timedelta(minutes=5)


def moment(seconds: float = 0) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def transactions(seed: int, count: int) -> Iterator[dict[str, str]]:
    """Made-up transactions as {field: JSON text}; no float ever holds an amount."""
    chance = random.Random(seed)
    for number in range(count):
        yield {
            "transaction_id": f'"{uuid.UUID(int=chance.getrandbits(128), version=4)}"',
            "user_id": f'"user-{chance.randrange(10_000)}"',
            "amount": f"{chance.randrange(1_000_000)}.{chance.randrange(100):02}",
            "currency": chance.choice(['"EUR"', '"USD"', '"CHF"']),
            "timestamp": f'"{moment(number / 1000 - 200)}"',
            "merchant": chance.choice(['"Café Zürich"', '"東京 Store"', '"Acme, Inc."']),
        }


def write_ledger(path: Path, made: Iterator[dict[str, str]], ledger: str) -> None:
    count = 0
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        for count, fields in enumerate(made, start=1):
            body = "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}"
            entry = {"outbox_id": f"{ledger}/{count}", "transaction_id": json.loads(fields["transaction_id"]), "amount": fields["amount"]}
            entry |= {"timestamp": json.loads(fields["timestamp"]), "state": "sent", "recorded_at": moment(), "sent_at": moment()}
            file.write(json.dumps(entry | {"message_id": f"m-{count}", "sends": 1, "body": body}, ensure_ascii=False) + "\n")
        closing = {"ledger": ledger, "entries": count, "first": 1, "last": count, "exported_at": moment(1)}
        file.write(json.dumps(closing) + "\n")


def item(fields: dict[str, str]) -> dict[str, Any]:
    stored = {name: {"N": text} if name == "amount" else {"S": json.loads(text)} for name, text in fields.items()}
    return stored | {"transaction_category": {"S": "standard"}, "processed_at_utc": {"S": moment()}, "processor_version": {"S": "1"}}
