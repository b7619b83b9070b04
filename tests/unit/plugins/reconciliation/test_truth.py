"""Whatever has become of a transaction, the verdict on it is what an independent account of its life says, and nothing else is settled."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ansible.module_utils.pipeline.aws.dead_letter_queue import QuarantinedMessage
from ansible.module_utils.pipeline.quarantine.journal import Journal, Outgoing
from ansible.module_utils.pipeline.reconciliation.artifacts import Progress
from ansible.module_utils.pipeline.reconciliation.matching import Found, _verdict
from ansible.module_utils.pipeline.reconciliation.run import Options, Reconciliation
from fakes import FakeClock
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from reconciliation_fakes import DAY, HOST, NOW, Entry, body, export, iso

RETENTION = 4 * DAY  # of the queue
RIGHT, OTHER = "12.30", "99"


@dataclass
class Life:
    """What happened to one transaction, and where it is; ages in seconds. `sent` is by entry: one that is recorded twice has two."""

    identity: str
    sent: list[int]
    happened: list[str] = field(default_factory=list)
    state: str = "sent"
    pruned: bool = False
    item: str = ""  # the amount that the table has
    queued: bool = True
    dead_letters: set[str] = field(default_factory=set)  # message ids in the quarantine
    archives: list[tuple[str, int, bool]] = field(default_factory=list)  # message id, age, whether to purge
    replays: list[tuple[str, int]] = field(default_factory=list)  # message id, age
    deleted_by_repair: bool = False

    def choices(self) -> dict[str, bool]:
        """What may happen next."""
        return {
            "stored": self.queued,
            "quarantined": self.queued,
            "vanishes": self.queued,
            "delivered again": self.item == RIGHT,
            "altered": bool(self.item),
            "item lost": bool(self.item),
            "repair deletes": self.item == OTHER and not self.pruned,
            "settled": self.item == RIGHT and not self.queued,
            "pruned": self.state == "reconciled",
            "archived": bool(self.dead_letters),
            "purged": bool(self.dead_letters),
            "replayed": bool(self.dead_letters),
            "replay killed": bool(self.dead_letters),
            "expires": bool(self.dead_letters),
            "sent again": not self.pruned,
            "to be sent again": not self.pruned,
        }

    def goes_on(self, what: str, age: int) -> None:
        self.happened.append(what)
        dead_letter = max(self.dead_letters, default="")
        if what in ("stored", "quarantined", "vanishes"):
            self.queued = False
        if what == "stored":
            self.item = self.item or RIGHT
        elif what in ("quarantined", "delivered again"):
            self.dead_letters.add(f"{self.identity}-{len(self.happened):03}")
        elif what == "altered":
            self.item = OTHER
        elif what in ("item lost", "repair deletes"):
            self.item = ""
            self.deleted_by_repair |= what == "repair deletes"
        elif what == "settled":
            self.state = "reconciled"
        elif what == "pruned":
            self.pruned = True
        elif what in ("archived", "purged"):
            self.archives.append((dead_letter, age, what == "purged"))
        elif what in ("replayed", "replay killed"):
            self.replays.append((dead_letter, age))
            self.queued |= what == "replayed"
        elif what == "sent again":
            self.sent[0], self.state, self.queued = age, "sent", True
        elif what == "to be sent again":
            self.state = "unsent"
        if what in ("purged", "replayed", "expires"):
            self.dead_letters.discard(dead_letter)

    def verdict(self, busy: bool) -> str:
        """By the whole life. `busy` is whether the queue has anything: while it has, what is nowhere else may be in it."""
        if self.item:
            return "stored" if self.item == RIGHT else "altered"
        if self.dead_letters:
            return "quarantined"
        if self.state == "unsent" and len(self.sent) == 1:
            return "unsent"
        if busy and min([*self.sent, *(age for _dead_letter, age in self.replays)]) < RETENTION:
            return "in_flight"
        return "archived" if self.given_up() else "lost"

    def given_up(self) -> bool:
        """Whether it was purged, and nothing was done since that could have stored it."""
        sent_back = {dead_letter for dead_letter, _age in self.replays}
        since = min([*self.sent, *(age for _dead_letter, age in self.replays)])
        purges = [age for dead_letter, age, purged in self.archives if purged and dead_letter not in sent_back]
        return any(age < since for age in purges) and not self.deleted_by_repair


@st.composite
def lives(draw: st.DrawFn, identity: str) -> Life:
    moments = st.integers(20, 1_000) | st.integers(RETENTION - 900, RETENTION - 300) | st.integers(RETENTION + 300, 6 * DAY)
    ages = sorted(draw(st.lists(moments, min_size=1, max_size=9, unique=True)), reverse=True)
    life = Life(identity, [ages.pop(0)] * draw(st.sampled_from([1, 1, 1, 2])))
    for age in ages:
        life.goes_on(draw(st.sampled_from([what for what, may_be in life.choices().items() if may_be] or ["nothing"])), age)
    return life


class Cloud:
    """The calls of SQS and DynamoDB that a reconciliation makes, on what the lives have left."""

    def __init__(self, items: list[dict[str, Any]], dead_letters: list[dict[str, Any]], queued: int) -> None:
        self.items, self.dead_letters, self.queued = {item["transaction_id"]["S"]: item for item in items}, dead_letters, queued
        self.shown = list(dead_letters)

    def describe_table(self, **_: Any) -> dict[str, Any]:
        return {"Table": {}}

    def scan(self, **_: Any) -> dict[str, Any]:
        return {"Items": list(self.items.values())}

    def batch_get_item(self, RequestItems: dict[str, Any], **_: Any) -> dict[str, Any]:
        keys = [key["transaction_id"]["S"] for key in RequestItems["table"]["Keys"]]
        return {"Responses": {"table": [self.items[key] for key in keys if key in self.items]}}

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        return {
            "Attributes": dict.fromkeys(AttributeNames, 0)
            | {AttributeNames[0]: len(self.dead_letters) if QueueUrl == "dlq" else self.queued}
        }

    def receive_message(self, QueueUrl: str, **_: Any) -> dict[str, Any]:
        assert QueueUrl == "dlq"
        received, self.shown = self.shown[:10], self.shown[10:]
        return {"Messages": received}

    def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
        self.shown = list(self.dead_letters)
        return {}


def item(identity: str, amount: str) -> dict[str, Any]:
    """What the function would store, with this amount."""
    fields = {name: {"S": value} for name, value in json.loads(body(identity)).items() if name != "amount"}
    return fields | {"amount": {"N": amount}, "processed_at_utc": {"S": iso(NOW - timedelta(seconds=60))}}


def dead_letter(message_id: str, text: str, outbox_id: str) -> dict[str, Any]:
    attributes = {"outbox_id": {"StringValue": outbox_id, "DataType": "String"}}
    system = {"SentTimestamp": str(int(NOW.timestamp() - 60) * 1000), "ApproximateReceiveCount": "1"}
    return {"MessageId": message_id, "ReceiptHandle": "r", "Body": text, "MessageAttributes": attributes, "Attributes": system}


def reconciled(directory: Path, lives: tuple[Life, ...], others: int, busy: bool) -> Reconciliation:
    """One reconciliation of where the lives have left everything."""
    entries, items, dead_letters = [], [item(f"other-{number}", f"{number}.5") for number in range(others)], []
    with contextlib.closing(Journal(directory)) as journal, (directory / "repaired.jsonl").open("w") as repaired:
        for life in lives:
            outbox_id, text = f"{HOST}/{len(entries) + 1}", body(life.identity)
            for place, age in enumerate(life.sent):
                copy = "reconciled" if life.pruned else "sent"
                kept, state = None if life.pruned else text, copy if place else life.state
                entries.append(Entry(life.identity, kept, state, age, again=True))
            items += [item(life.identity, life.item)] if life.item else []
            dead_letters += [dead_letter(one, text, outbox_id) for one in life.dead_letters]
            for one, age, purged in life.archives:
                closing = {"archive": "q", "messages": 1, "purged": purged, "archived_at": iso(NOW - timedelta(seconds=age))}
                lines = json.dumps({"message_id": one, "outbox_id": outbox_id}), json.dumps(closing)
                (directory / f"{one}-{age}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
            for one, age in life.replays:
                at = NOW - timedelta(seconds=age)
                message = QuarantinedMessage(one, "", "", {}, "throttled", "", outbox_id, None, life.identity, at, 1)
                journal.begin([Outgoing(message, "{}", {})], [], "run", iso(at))
            if life.deleted_by_repair:
                repaired.write(json.dumps({"outbox_id": outbox_id, "transaction_id": life.identity}) + "\n")
    clock = FakeClock(NOW)
    options = Options(
        ledgers=[export(directory / "ledger.gz", entries)],
        kept_ledgers=[],
        missing_ledgers=[],
        quarantine_directory=directory,
        repaired=directory / "repaired.jsonl",
        settle_seconds=10,
        timeout=0 if busy else 30,
        rate=0,
        queue_retention=RETENTION,
        overdue_seconds=3700,
        quarantine_age=864_000,
        await_unsent=False,
        others_allowed=False,
    )
    cloud = Cloud(items, dead_letters, int(busy))
    made = Reconciliation(cloud, cloud, "table", "queue", "dlq", options, clock, Progress(directory / "progress.log", clock))
    made.run()
    assert not made.error
    return made


def verdicts(run: Reconciliation) -> dict[str, str]:
    rows = run.matcher._db.execute("SELECT CAST(key AS TEXT), found, awaited FROM entries WHERE leader = id")
    return {key: "archived" if found & Found.ARCHIVED else _verdict(Found(found), awaited) for key, found, awaited in rows}


def taken_up() -> Life:
    """Its first replay was killed longer ago than the queue keeps a message; the second is under way."""
    life = Life("t-5", [RETENTION + 302])
    for what, age in (("quarantined", RETENTION + 301), ("replay killed", RETENTION + 300), ("replayed", 20)):
        life.goes_on(what, age)
    return life


@example(True, (*(Life(f"t-{number}", [20]) for number in range(5)), taken_up()), 0)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.booleans(), st.tuples(*(lives(f"t-{number}") for number in range(6))), st.integers(0, 2))
def test_the_verdict_on_every_life_is_what_it_says(busy: bool, lives: tuple[Life, ...], others: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = reconciled(Path(directory), lives, others, busy)
    wanted = {life.identity: life.verdict(busy) for life in lives}
    found = verdicts(run)
    assert found == wanted, [(life.identity, life.happened) for life in lives if found[life.identity] != wanted[life.identity]]

    counts = run.matcher.counts()
    assert counts["sent"] == sum(counts[one] for one in ("stored", "altered", "quarantined", "in_flight", "lost"))
    assert sorted(run.matcher.unknown()) == [f"other-{number}" for number in range(others)] or run.plan["method"] == "batch_get"

    # What is settled, and so may be pruned, is all of it stored or purged.
    through, sequence = run.matcher.settled_through().get(HOST, 0), 0
    for life in lives:
        for place in range(len(life.sent)):
            sequence += 1
            if sequence <= through:
                assert wanted[life.identity] in ("stored", "archived")
                assert place or life.state != "unsent"
    for verdict in wanted.values():
        event(verdict)
