"""The judge: holds what is stored and quarantined against what was sent, content by content, by nothing but the lines of the feed.

It shares no code with the pipeline's own reconciliation, which is judged as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer
from chaos_stream import Line

OWN_FIELDS = frozenset({"transaction_category", "processed_at_utc", "processor_version"})
KEYS_PER_CALL = 100

Content = dict[str, Any]


@dataclass
class Verdict:
    """Counts of distinct contents.

    `lost`: neither stored nor quarantined; `altered`: something is stored under the id that was never sent, or took the place of what was
    stored first; `doubled`: stored and quarantined; `given_up`: quarantined though it could be stored.
    """

    sent: int = 0
    stored: int = 0
    quarantined: int = 0
    lost: int = 0
    altered: int = 0
    doubled: int = 0
    given_up: int = 0
    named: dict[str, list[str]] = field(default_factory=dict)

    @property
    def harm(self) -> int:
        return self.lost + self.altered + self.doubled + self.given_up

    @property
    def in_words(self) -> str:
        found = {name.replace("_", " "): getattr(self, name) for name in ("lost", "altered", "doubled", "given_up")}
        return ", ".join(f"{name} {count}" for name, count in found.items() if count) or "nothing"

    def add(self, kind: str, transaction_id: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        if kind not in ("stored", "quarantined"):
            self.named.setdefault(kind, []).append(transaction_id)


def judge(lines: Iterable[Line], stored: dict[str, Content], quarantined: dict[str, list[Content]]) -> Verdict:
    """What became of these lines. `stored` and `quarantined` are by transaction id, without the fields that the pipeline adds."""
    sent: dict[str, list[tuple[Content, bool]]] = {}
    for line in lines:
        contents = sent.setdefault(line.transaction_id, [])
        if (line.content, line.invalid) not in contents:
            contents.append((line.content, line.invalid))
    verdict = Verdict()
    for transaction_id, contents in sent.items():
        held, dead_letters = stored.get(transaction_id), quarantined.get(transaction_id, [])
        good = [content for content, invalid in contents if not invalid]
        if held is not None and held not in good:
            verdict.add("altered", transaction_id)
        for content, invalid in contents:
            verdict.sent += 1
            if content == held and not invalid:
                verdict.add("stored", transaction_id)
                if content in dead_letters:
                    verdict.add("doubled", transaction_id)
            elif content in dead_letters:
                verdict.add("quarantined", transaction_id)
                if not invalid and held not in good:
                    verdict.add("given_up", transaction_id)
            elif held in good and content == good[0]:
                verdict.add("altered", transaction_id)  # overwritten
            elif held is None or held in good:
                verdict.add("lost", transaction_id)
    return verdict


class ExactDeserializer(TypeDeserializer):
    """boto3's own refuses the zeros after a number's 38 digits."""

    def _deserialize_n(self, value: str) -> Decimal:
        return Decimal(value)


def read_items(client: Any, table: str, ids: Iterable[str]) -> dict[str, Content]:
    """What the table holds of these ids, read consistently; nothing when the table is not there."""
    wanted, deserialize, found = sorted(set(ids)), ExactDeserializer().deserialize, dict[str, Content]()
    for start in range(0, len(wanted), KEYS_PER_CALL):
        keys = [{"transaction_id": {"S": one}} for one in wanted[start : start + KEYS_PER_CALL]]
        while keys:
            try:
                answer = client.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
            except client.exceptions.ResourceNotFoundException:
                return {}
            for raw in answer["Responses"].get(table, []):
                item = {name: deserialize(value) for name, value in raw.items()}
                found[item["transaction_id"]] = {name: value for name, value in item.items() if name not in OWN_FIELDS}
            keys = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
    return found


def read_dead_letters(bodies: Iterable[str]) -> dict[str, list[Content]]:
    """The bodies of dead-letter messages by transaction id; what has none was not sent by the stream."""
    found: dict[str, list[Content]] = {}
    for body in bodies:
        content = json.loads(body, parse_float=Decimal, parse_int=Decimal)
        found.setdefault(content.get("transaction_id", ""), []).append(content)
    return found
