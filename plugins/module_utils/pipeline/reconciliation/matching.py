"""Matching: where every transaction was found, and the verdict that follows from it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from itertools import groupby
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage
from ..aws.paging import in_chunks
from ..core.content import KEY, OWN_FIELDS, Body, Item, differing, fingerprint, plain, read_body, remembered, shown, storable
from .entry_store import Entries, Named, missing_condition, to_blob, to_text


class Found(IntFlag):
    """Where a transaction was found. Stored comes before altered, then quarantined, then the others. NOWHERE is undecided."""

    NOWHERE = 0
    STORED = 1  # in the table as it was sent
    REPAIRED = 2  # in the table after a repair in the quarantine: it could not be stored as it was sent
    ALTERED = 4  # in the table with different content
    QUARANTINED = 8
    LOST = 16
    ARCHIVED = 32  # it would be lost, but an archive of the quarantine has it


SETTLED = Found.STORED | Found.REPAIRED | Found.ARCHIVED
# The first that applies is the verdict.
_FIRST = (
    (Found.STORED | Found.REPAIRED, "stored"),
    (Found.ARCHIVED, "quarantined"),
    (Found.ALTERED, "altered"),
    (Found.QUARANTINED, "quarantined"),
    (Found.LOST, "lost"),
)
VERDICTS = ("sent", "stored", "quarantined", "in_flight", "lost", "altered", "unsent", "copies", "repaired", "archived")


@dataclass(frozen=True)
class Altered:
    """An altered transaction: its differing fields as {field, sent, stored}; of the item the key, those fields and the function's own."""

    named: Named
    fields: list[dict[str, Any]]
    item: Item


class Matcher(Entries):
    """Matches what was found with the entries. Call `load` and `close_ledgers`, then add what was found, then `classify`."""

    # --- What the table holds

    def match_items(self, items: list[Item], passed_over: Callable[[Item], Any]) -> None:
        """Compares items with what was sent; notes those that are in no ledger, except those that `passed_over` accepts."""
        keys = {to_blob(item[KEY]["S"]) or b"": item for item in items}
        entries: dict[bytes, list[tuple[Any, ...]]] = {}
        for chunk in in_chunks(keys, 500):
            marks = ",".join("?" * len(chunk))
            wanted = f"SELECT key, id, body, amount, timestamp FROM entries WHERE key IN ({marks}) AND leader = id"
            for key, *row in self._db.execute(wanted, chunk):
                entries.setdefault(key, []).append(tuple(row))
        found: list[tuple[int, int]] = []
        for key, item in keys.items():
            if key in entries:
                found += self._compare(entries[key], item)
            elif not passed_over(item):
                content = fingerprint(plain(item), frozenset({KEY}))
                self._db.execute("INSERT OR REPLACE INTO unknown VALUES (?, ?)", (key, content))
        self._db.executemany("UPDATE entries SET found = (found & ~4) | ? WHERE id = ?", found)

    def _compare(self, rows: list[tuple[Any, ...]], item: Item) -> Iterator[tuple[int, int]]:
        """Verdict and entry for the transactions with the item's id. If one is equal to the item, the others are conflicts."""
        verdicts: list[tuple[int, Found, Body, list[str]]] = []
        for entry, blob, amount, timestamp in rows:
            read = remembered(amount, timestamp) if blob is None else read_body(to_text(blob) or "")
            body = read or {}
            names = [name for name in differing(body, item) if blob is not None or name in body]
            verdict = (
                Found.STORED if read is not None and not names else Found.ALTERED if blob is None or storable(read) else Found.REPAIRED
            )
            verdicts.append((entry, verdict, body, names))
        stored, repaired = ([one for one in verdicts if one[1] is verdict] for verdict in (Found.STORED, Found.REPAIRED))
        for entry, verdict, body, names in stored or repaired or verdicts:
            if verdict is Found.ALTERED:
                held = plain(item)
                fields = [{"field": name, "sent": shown(body, name), "stored": shown(held, name)} for name in names]
                kept = {name: attribute for name, attribute in item.items() if name in {KEY, *names, *OWN_FIELDS}}
                row = (entry, pickle.dumps(fields), pickle.dumps(kept))
                self._db.execute("INSERT OR REPLACE INTO altered VALUES (?, ?, ?)", row)
            yield int(verdict), entry

    # --- What the quarantine holds

    def add_quarantined(self, message: QuarantinedMessage) -> None:
        """Notes a quarantined message, with the body of a conflict: a report will name its content."""
        outbox_id, key = to_blob(message.outbox_id), to_blob(message.transaction_id)
        body = to_blob(message.body) if message.reason == "conflict" else None
        entry = self.entry_of(message.outbox_id, key)
        row = (message.message_id, outbox_id, key, message.reason, message.sent_at.timestamp(), body, entry)
        self._db.execute("INSERT OR REPLACE INTO dead_letter_messages VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        if entry is not None:
            self._db.execute("UPDATE entries SET found = found | 8 WHERE id = ?", (entry,))

    def add_replay(self, outbox_id: str | None, key: str | None, at: float) -> None:
        """Notes that a quarantined message was sent to the queue again at that time, in seconds since 1970."""
        entry = self.entry_of(outbox_id, to_blob(key))
        self._db.execute("UPDATE entries SET sent_at = MAX(COALESCE(sent_at, ?1), ?1) WHERE id = ?2", (at, entry))

    def add_purge(self, outbox_id: str, at: float) -> None:
        """Notes that an archive has the message of this entry, unless it was sent again since; call it after all `add_replay`."""
        entry = self.entry_of(outbox_id, None)
        self._db.execute("INSERT OR IGNORE INTO archived SELECT id FROM entries WHERE id = ? AND COALESCE(sent_at, 0) < ?", (entry, at))

    def add_deletion(self, outbox_id: str) -> None:
        """Notes that a repair may have deleted the item of this entry: no archive replaces it; call it after all `add_purge`."""
        self._db.execute("DELETE FROM archived WHERE entry = ?", (self.entry_of(outbox_id, None),))

    # --- What follows

    def mark_lost(self, sent_before: dict[int, float] | None = None) -> None:
        """Marks as lost what was sent and found nowhere: all of it, or only what `missing_before` counts."""
        lost = f"UPDATE entries SET found = 16 WHERE {missing_condition(False)}"
        if sent_before is None:
            self._db.execute(lost)
        else:
            self._db.executemany(f"{lost} AND ledger = ? AND sent_at < ?", sent_before.items())

    def classify(self) -> None:
        """Decides what depends on table and quarantine together; call it once, after everything was read."""
        self._db.execute("UPDATE entries SET found = 32 WHERE found = 16 AND id IN (SELECT entry FROM archived)")
        self._conflicts_of_altered()
        self._second_records()
        other = "dead_letter_messages.key IS NOT NULL AND entries.key IS NOT NULL AND dead_letter_messages.key <> entries.key"
        self._db.execute(
            "INSERT OR IGNORE INTO doubled SELECT entries.id, dead_letter_messages.key, 'quarantine'"
            f" FROM dead_letter_messages JOIN entries ON dead_letter_messages.entry = entries.id WHERE entries.found & 3 AND {other}"
        )
        self._db.execute("DELETE FROM altered WHERE entry NOT IN (SELECT id FROM entries WHERE found & 4 AND NOT found & 3)")

    def _conflicts_of_altered(self) -> None:
        """If several transactions have one id and none is stored as sent, those in the quarantine are conflicts, not altered."""
        several = "SELECT key FROM entries WHERE found & 4 AND leader = id GROUP BY key HAVING COUNT(*) > 1"
        rows = self._db.execute(
            f"SELECT key, id, found FROM entries WHERE found & 4 AND leader = id AND key IN ({several}) ORDER BY key, id"
        )
        for _key, group in groupby(rows.fetchall(), key=lambda row: row[0]):
            transactions = list(group)
            conflicts = [row for row in transactions if row[2] & Found.QUARANTINED]
            for _, entry, _found in conflicts[1:] if len(conflicts) == len(transactions) else conflicts:
                self._db.execute("UPDATE entries SET found = found & ~4 WHERE id = ?", (entry,))

    def _second_records(self) -> None:
        """Finds items in no ledger that equal a transaction except for the id: second records, or the only one of what was sent without id.

        A transaction that has an id and was found nowhere stays missing: a similar item proves nothing.
        """
        if not self.count("unknown"):
            return
        self._db.execute("CREATE INDEX unknown_content ON unknown (content)")
        matches = []
        rows = self._db.execute("SELECT id, body, found, key IS NULL FROM entries WHERE leader = id AND body IS NOT NULL ORDER BY id")
        for entry, blob, found, nameless in rows:
            body = read_body(to_text(blob) or "")
            if body is not None:
                content = fingerprint(body, frozenset({KEY}))
                for (key,) in self._db.execute("SELECT key FROM unknown WHERE content = ?", (content,)):
                    matches.append((entry, found, nameless, key))
        for entry, found, nameless, key in matches:
            if nameless:
                self._db.execute("UPDATE entries SET found = 2 WHERE id = ?", (entry,))
            elif found & (Found.STORED | Found.REPAIRED | Found.ALTERED | Found.QUARANTINED):
                self._db.execute("INSERT OR IGNORE INTO doubled VALUES (?, ?, 'table')", (entry, key))
            else:
                continue
            self._db.execute("DELETE FROM unknown WHERE key = ?", (key,))

    # --- What to report

    def count(self, table: str) -> int:
        """Rows of `altered`, `doubled`, `unknown` or `dead_letter_messages`."""
        return int(self._db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])

    def counts(self) -> dict[str, int]:
        """How many transactions have which verdict: VERDICTS. sent = stored + quarantined + in_flight + lost + altered, always."""
        counts = dict.fromkeys(VERDICTS, 0)
        for found, awaited, number in self._db.execute(
            "SELECT found, awaited, COUNT(*) FROM entries WHERE leader = id GROUP BY found, awaited"
        ):
            verdict = _verdict(Found(found), awaited)
            counts[verdict] += number
            counts["sent"] += number if verdict != "unsent" else 0
            counts["repaired"] += number if verdict == "stored" and not found & Found.STORED else 0
            counts["archived"] += number if found & Found.ARCHIVED else 0
        counts["copies"] = int(self._db.execute("SELECT COUNT(*) FROM entries WHERE leader <> id").fetchone()[0])
        return counts

    def lost(self) -> Iterator[Named]:
        return self.select("found = 16 AND leader = id")

    def in_flight(self) -> Iterator[Named]:
        """Oldest first."""
        return self.select(missing_condition(False), "sent_at, id")

    def waiting(self) -> Iterator[Named]:
        """Transactions in flight or not sent yet."""
        return self.select(missing_condition(True))

    def altered(self) -> Iterator[Altered]:
        for entry, fields, item in self._db.execute("SELECT entry, fields, item FROM altered ORDER BY entry"):
            named = next(self.select(f"id = {int(entry)}"))
            yield Altered(named, pickle.loads(fields), pickle.loads(item))

    def doubled(self) -> Iterator[tuple[Named, str, str]]:
        """A transaction, the other id under which it exists, and where: `table` or `quarantine`."""
        for entry, other, place in self._db.execute("SELECT entry, other, place FROM doubled ORDER BY entry, other"):
            yield next(self.select(f"id = {int(entry)}")), to_text(other) or "", place

    def unknown(self) -> Iterator[str]:
        for (key,) in self._db.execute("SELECT key FROM unknown ORDER BY key"):
            yield to_text(key) or ""

    def conflicts(self) -> Iterator[tuple[str, str | None, str | None, str]]:
        """Message id, outbox id, transaction id and body of the quarantined messages that were noted with their body."""
        for message_id, outbox_id, key, body in self._db.execute(
            "SELECT message_id, outbox_id, key, body FROM dead_letter_messages WHERE body IS NOT NULL ORDER BY sent_at, message_id"
        ):
            yield message_id, to_text(outbox_id), to_text(key), to_text(body) or ""

    def quarantined_before(self, moment: float) -> list[tuple[str, str | None, float]]:
        """Message id, transaction id and time of the quarantined messages that were sent before then, oldest first."""
        wanted = "SELECT message_id, key, sent_at FROM dead_letter_messages WHERE sent_at <= ? ORDER BY sent_at, message_id"
        return [(message_id, to_text(key), sent_at) for message_id, key, sent_at in self._db.execute(wanted, (moment,))]

    def reasons(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT reason, COUNT(*) FROM dead_letter_messages GROUP BY reason ORDER BY reason"))

    def foreign_messages(self, sent_before: float) -> list[str]:
        """Transaction ids (or message ids) of quarantined messages in no ledger that were sent before then, without the probe's."""
        wanted = (
            "SELECT key, message_id FROM dead_letter_messages WHERE entry IS NULL"
            " AND COALESCE(CAST(outbox_id AS TEXT), '') NOT LIKE 'verify:%' AND sent_at < ? ORDER BY sent_at, message_id"
        )
        return [to_text(key) or message_id for key, message_id in self._db.execute(wanted, (sent_before,))]

    def settled_through(self) -> dict[str, int]:
        """By ledger, the sequence up to which every entry is stored or archived; without ledgers whose first entry is neither."""
        open_ones = dict(
            self._db.execute(
                "SELECT one.ledger, MIN(one.sequence) FROM entries one JOIN entries lead ON lead.id = one.leader"
                f" WHERE one.state = 'unsent' OR NOT lead.found & {int(SETTLED)} GROUP BY one.ledger"
            )
        )
        through = {}
        for number, ledger in enumerate(self.ledgers):
            if ledger.first is not None and ledger.last is not None:
                below = f"SELECT MAX(sequence) FROM entries WHERE ledger = {number} AND sequence < ?"
                last = self._db.execute(below, (open_ones.get(number, ledger.last + 1),)).fetchone()[0]
                if last is not None:
                    through[ledger.ledger] = int(last)
        return through

    def is_safe(self, outbox_id: str) -> bool:
        """Whether an entry is stored, or its message waits in the quarantine; false for an entry of a ledger that was not given."""
        row = self._db.execute("SELECT found FROM entries WHERE id = ?", (self.entry_of(outbox_id, None),)).fetchone()
        return row is not None and bool(row[0] & (Found.STORED | Found.REPAIRED) or row[0] == Found.QUARANTINED)


def _verdict(found: Found, awaited: int) -> str:
    return next((verdict for flags, verdict in _FIRST if found & flags), "in_flight" if awaited else "unsent")
