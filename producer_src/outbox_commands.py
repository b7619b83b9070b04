"""The commands on the outbox beside the service: list the ledger, show what is unsent, send again, settle, show what was rejected."""

import contextlib
import gzip
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from feed import BEGUN, NOT_FOUND, Feed
from outbox import Outbox
from outbox_error import OutboxError
from outbox_records import utc
from producer_settings import Options, Settings, checked, json_line, say, shown, within

COLUMNS = ("outbox_id", "transaction_id", "amount", "timestamp", "state", "recorded_at", "sent_at", "message_id", "sends")
SHOWN = 20  # unsent entries that `outbox` lists
LEDGER = f"""SELECT sequence, {", ".join(COLUMNS[1:])} FROM entry
WHERE sequence > ? AND sequence <= ? AND recorded_at >= ? ORDER BY sequence LIMIT ?"""


def ledger(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    about = """Lists what was recorded and sent, in the order it was recorded; the service may run or not.

--json ends with a line {"ledger": ..., "entries": N, "first": sequence, "last": sequence, "exported_at": ...}: without it the list is
cut off.
--since compares with the host's clock when the entry was recorded."""
    options = Options("ledger", about, environment)
    form = options.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON lines")
    form.add_argument("--table", action="store_true", help="a table (the default)")
    moment = checked(_moment, bool, "a moment such as 2026-11-24 or 2026-11-24T13:00:00Z (UTC, unless it says otherwise)")
    options.add_argument("--since", type=moment, help="only what was recorded at this moment (ISO 8601) or later")
    options.add_argument("--output", type=Path, metavar="FILE", help="write here, all or nothing; compressed if it ends in .gz")
    options.add_argument("--bodies", action="store_true", help="with the bodies as sent (with --json); null where it was pruned")
    found = options.read(arguments)
    if found.bodies and not found.json:
        options.error("argument --bodies: found it without --json, expected both: a table has no room for bodies")
    with _opened(found.state_directory) as outbox, _written(found.output) as file:
        now, last = datetime.now(UTC), outbox.number("SELECT max(sequence) FROM entry")
        entries = _entries(outbox, last, found.since or "", found.bodies)
        (_write_json if found.json else _write_table)(entries, outbox.host, now, file)


def outbox(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    options = Options("outbox", f"Shows what the outbox holds, and the first {SHOWN} unsent entries.", environment)
    options.add_argument("--json", action="store_true", help="one JSON object, without the list")
    options.add_argument("--check", action="store_true", help="let SQLite check the whole file: the errors that it finds")
    found = options.read(arguments)
    with _opened(found.state_directory) as held:
        facts = _facts(held)
        if found.check:
            facts["integrity_errors"] = held.integrity_errors()
        if found.json:
            print(json_line(facts))
            return
        for name, value in facts.items():
            print(f"{name:22}{'-' if value is None else shown(value)}")
        with contextlib.closing(held.unsent(0)) as entries:
            for _, entry in zip(range(SHOWN), entries, strict=False):
                print(f"  {entry.outbox_id}  {shown(entry.transaction_id)}  {entry.size} bytes")
        if facts["unsent"] > SHOWN:
            print(f"  and {facts['unsent'] - SHOWN} more: ledger --json lists them all")


def resend(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Make the entries of a file unsent again: all of them, or none."""
    options = Options("resend", "Makes entries unsent again; the service sends them, within seconds if it runs.", environment)
    text = "JSON lines with outbox_id, as reconciliation writes them; those of other ledgers are ignored"
    options.add_argument("--lost", type=Path, required=True, metavar="FILE", help=text)
    found = options.read(arguments)
    with _opened(found.state_directory, changing=True) as held:
        named = [_sequence_of(one, held.host) for one in _outbox_ids(found.lost)]
        mine = [each for each in named if each is not None]
        changed = held.resend(mine)
        say("resend", ledger=held.host, named=len(mine), made_unsent=changed, already_unsent=len(mine) - changed,
            of_other_ledgers=len(named) - len(mine))  # fmt: skip


def reconciled(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    options = Options("reconciled", "Settles the sent entries up to a sequence: they may then be pruned when room is needed.", environment)
    number = checked(int, within(1), "a sequence, 1 or more")
    options.add_argument("--through", type=number, required=True, metavar="N", help="the last sequence that is settled")
    options.add_argument("--ledger", metavar="NAME", help="do it only if this is the ledger's name")
    found = options.read(arguments)
    with _opened(found.state_directory, changing=True) as held:
        if found.ledger not in (None, held.host):
            options.error(f"argument --ledger: found '{found.ledger}', expected '{held.host}', the ledger in {held.path}")
        last = held.number("SELECT max(seq) FROM sqlite_sequence WHERE name = 'entry'")
        if found.through > last:
            options.error(f"argument --through: found {found.through}, expected {last} at most, the last sequence of {held.host}")
        settled = held.settle(found.through)
        unsent = held.number("SELECT count(*) FROM entry WHERE state = 'unsent' AND sequence <= ?", found.through)
        say("reconciled", ledger=held.host, through=found.through, settled=settled, unsent=unsent)


def rejected(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    about = """Lists the rejected lines of a feed as JSON lines: number, source, line, offset, length, reason, rejected_at, content.

Bytes that are not UTF-8 are shown as \\xNN. Of a line longer than 1 MiB the first MiB is kept; a file still has the rest at the offset."""
    _list_or_remove("rejected", about, "source, line, offset, length, reason, rejected_at, content", arguments, environment)


def lost(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    about = """Lists the lost places of a feed as JSON lines: number, feed, file, offset, line, reason, found_at.

The content of the file after so many bytes (lines) may not be in the ledger. Look for those lines in a copy of the file, give the ones
that the ledger does not have to `run --source -`, and remove the entry: it says that nothing is missing any more."""
    _list_or_remove("lost_place", about, "feed, file, offset, line, reason, found_at", arguments, environment)


def _list_or_remove(table: str, about: str, columns: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    options = Options(table.partition("_")[0], about, environment)
    number = checked(int, within(1), "a number, 1 or more")
    options.add_argument("--remove-through", type=number, metavar="N", help="remove those up to this number instead")
    found = options.read(arguments)
    with _opened(found.state_directory, changing=found.remove_through is not None) as held:
        if found.remove_through:
            say("removed", **{table: held.remove(table, found.remove_through)})
            return
        for (row_number,) in held.pages(f"SELECT number FROM {table} WHERE number > ? ORDER BY number LIMIT ?"):
            # One by one: a page of them may be larger than the memory.
            for row in held.rows(f"SELECT {columns} FROM {table} WHERE number = ?", row_number):
                values = (each.decode(errors="backslashreplace") if isinstance(each, bytes) else each for each in row)
                print(json_line({"number": row_number} | dict(zip(columns.split(", "), values, strict=True))))


def _age(moment: str | None, now: datetime) -> float | None:
    return round((now - datetime.fromisoformat(moment)).total_seconds(), 3) if moment else None


def _facts(held: Outbox) -> dict[str, Any]:
    """Counts, bytes and ages (in seconds, by this host's clock; negative if the clock was set back)."""
    now = datetime.now(UTC)
    size = "SELECT sum(length(CAST(text AS BLOB))) FROM body JOIN entry USING (sequence) WHERE state = 'unsent'"
    counts = {state: held.number("SELECT count(*) FROM entry WHERE state = ?", state) for state in ("unsent", "sent", "reconciled")}
    oldest = held.value("SELECT recorded_at FROM entry WHERE state = 'unsent' ORDER BY sequence LIMIT 1")
    newest = held.value("SELECT sent_at FROM entry WHERE sent_at IS NOT NULL ORDER BY sequence DESC LIMIT 1")
    return {
        "ledger": held.host,
        "file": str(held.path),
        "entries": sum(counts.values()),
        **counts,
        "unsent_bytes": held.number(size),
        "oldest_unsent": oldest,
        "oldest_unsent_seconds": _age(oldest, now),
        "newest_sent_seconds": _age(newest, now),
        "oldest_sent": held.value("SELECT min(sent_at) FROM entry WHERE state <> 'unsent'"),
        "bodies": held.number("SELECT count(*) FROM body"),
        "last": held.number("SELECT max(sequence) FROM entry"),
        "settled_through": held.number("SELECT settled FROM ledger"),
        "bytes": held.bytes_in_use(),
        **_feed_facts(held),
    }


def _feed_facts(held: Outbox) -> dict[str, Any]:
    """The part of the feed that is not in the ledger.

    `feed`: its path, or null; `feed_error`: why it cannot be read; `feed_unread_*`: what is not read yet (null if unknown);
    `feed_waiting_bytes`: what waits too long for a line end; `feed_rejected_lines`, `feed_lost_places`: what nobody has settled yet.
    """
    feed, problem = held.value("SELECT feed FROM ledger"), None
    unread: tuple[int, int] | tuple[None, None] = 0, 0
    if feed and feed != "-":
        try:
            source = Feed(Settings("", "", str(held.directory), source=feed), held.positions, lambda *_, **__: None)
            unread = source.unread()
        except OutboxError as error:
            unread, problem = (None, None), str(error)
        else:
            unseen = any(each.key == BEGUN and each.stamp == NOT_FOUND for each in held.positions(feed))
            if not source.found or unseen:
                who = "the service found no file, though there is one: see what hides it," if source.found else "found no file,"
                problem = f"no source: {feed}: {who} expected a file of JSON lines"
    return {
        "feed": feed,
        "feed_error": problem,
        "feed_unread_bytes": unread[0],
        "feed_unread_lines": unread[1],
        "feed_waiting_bytes": held.number("SELECT sum(waiting) FROM feed_file WHERE feed = ? AND state = 'open'", feed or ""),
        "feed_rejected_lines": held.count_rejected(),
        "feed_lost_places": held.number("SELECT count(*) FROM lost_place"),
    }


def _entries(held: Outbox, last: int, since: str, bodies: bool) -> Iterator[dict[str, Any]]:
    for sequence, *row in held.pages(LEDGER, last, since):
        entry = dict(zip(COLUMNS, (f"{held.host}/{sequence}", *row), strict=True))
        if bodies:  # one by one: a page of bodies may be larger than the memory
            entry["body"] = held.value("SELECT text FROM body WHERE sequence = ?", sequence)
        yield entry


def _write_json(entries: Iterator[dict[str, Any]], name: str, now: datetime, file: TextIO) -> None:
    """`now` is a time before the first entry was read: what was recorded later is not in the list."""
    count, first, last = 0, None, None
    for entry in entries:
        print(json_line(entry), file=file)
        last = int(entry["outbox_id"].rpartition("/")[2])
        count, first = count + 1, first or last
    print(json_line({"ledger": name, "entries": count, "first": first, "last": last, "exported_at": utc(now)}), file=file)


def _write_table(entries: Iterator[dict[str, Any]], name: str, _now: datetime, file: TextIO) -> None:
    form = "{:>10}  {:36}  {:>16}  {:10}  {:24}  {:24}"
    print(form.format("sequence", "transaction_id", "amount", "state", "recorded_at", "sent_at"), file=file)
    count = 0
    for entry in entries:
        cells = (shown(entry[key] or "-") for key in ("transaction_id", "amount", "state", "recorded_at", "sent_at"))
        print(form.format(entry["outbox_id"].rpartition("/")[2], *cells), file=file)
        count += 1
    print(f"{count} entries of ledger {name}", file=file)


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return utc(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))


@contextlib.contextmanager
def _opened(directory: str, changing: bool = False) -> Iterator[Outbox]:
    with contextlib.closing(Outbox(directory)) as held:
        if not changing:
            held.rows("PRAGMA query_only = ON")
        yield held


@contextlib.contextmanager
def _written(path: Path | None) -> Iterator[TextIO]:
    """The file to write to, which appears under its name when it is complete; stdout if there is none."""
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(handle, "wb") as raw:
                plain = path.suffix != ".gz"
                with open(handle, "w", encoding="utf-8", closefd=False) if plain else gzip.open(raw, "wt", 6, "utf-8") as text:
                    yield text
                raw.flush()
                os.fsync(handle)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OutboxError("not written", str(path), str(error), "a directory that this user may write, with room",
                            "choose another --output, or make room") from error  # fmt: skip


def _outbox_ids(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    outbox_id = json.loads(line)["outbox_id"]
                    if not isinstance(outbox_id, str):
                        raise ValueError
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise OutboxError("not a list of entries", f"{path}, line {number}", repr(line[:80]), '{"outbox_id": "...", ...}',
                                        "take the file that reconciliation wrote; nothing was changed") from None  # fmt: skip
                yield outbox_id
    except (OSError, UnicodeDecodeError) as error:
        raise OutboxError("not readable", str(path), str(error), "a file of JSON lines", "correct --lost; nothing was changed") from error


def _sequence_of(outbox_id: str, host: str) -> int | None:
    ledger_name, _, sequence = outbox_id.rpartition("/")
    return int(sequence) if ledger_name == host and re.fullmatch("[1-9][0-9]{0,18}", sequence) else None
