"""The outbox itself: what a commit means, what is pruned, and what is said when file, disk, lock or clock are not as they should be."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import outbox as program
import pytest
from outbox import Outbox
from outbox_error import OutboxError
from outbox_records import Draft, LostPlace, Position, Rejected, Usage
from producer_fakes import in_memory, message

PLENTY = Usage(10**6, 10**9)


@pytest.fixture
def outbox(directory: Path) -> Iterator[Outbox]:
    made = Outbox(directory, exclusive=True)
    yield made
    made.close()


def filled(outbox: Outbox, count: int, sent: int = 0, settled: int = 0, body: str = "{}") -> Outbox:
    """With `count` entries, of which the first are sent, and the first of these settled."""
    outbox.add(Draft([message(f"t-{number}", body=body) for number in range(1, count + 1)]))
    outbox.mark({number: f"m-{number}" for number in range(1, sent + 1)})
    if settled:
        outbox.settle(settled)
    return outbox


def states(outbox: Outbox) -> list[str]:
    return [state for _, state in outbox.pages("SELECT sequence, state FROM entry WHERE sequence > ? ORDER BY sequence LIMIT ?")]


def bodies(outbox: Outbox) -> list[int]:
    return [sequence for (sequence,) in outbox.pages("SELECT sequence FROM body WHERE sequence > ? ORDER BY sequence LIMIT ?")]


# What a commit means


def test_a_commit_is_on_the_disk(outbox: Outbox):
    assert outbox._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert outbox._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@pytest.mark.parametrize(("pragma", "found"), [("journal_mode", "delete"), ("synchronous", "1")])
def test_a_disk_that_takes_no_durable_commit_is_refused(pragma: str, found: str, directory: Path, monkeypatch: pytest.MonkeyPatch):
    class Stubborn(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            return super().execute("PRAGMA synchronous = NORMAL" if sql.startswith(f"PRAGMA {pragma} =") else sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(program.sqlite3, "connect", lambda *words, **named: connect(*words, **named, factory=Stubborn))
    with pytest.raises(OutboxError, match=f"no durable commits: .*outbox.sqlite3: found {pragma} {found}, expected {pragma} ") as trouble:
        Outbox(directory, exclusive=True)
    assert "local disk" in trouble.value.what_to_do and not trouble.value.transient


def test_what_is_added_is_unsent_until_it_is_marked(outbox: Outbox):
    entries = outbox.add(Draft([message("a"), message("b")]))
    assert [(entry.sequence, entry.transaction_id, entry.body) for entry in outbox.unsent(0)] == [
        (1, "a", '{"transaction_id": "a"}'),
        (2, "b", '{"transaction_id": "b"}'),
    ]
    assert list(outbox.unsent(0)) == entries and outbox.count_unsent() == 2
    outbox.mark({1: "m-1"})
    assert [entry.sequence for entry in outbox.unsent(0)] == [2] and states(outbox) == ["sent", "unsent"]
    found = outbox._connection.execute("SELECT message_id, sends, sent_at IS NULL FROM entry ORDER BY sequence").fetchall()
    assert found == [("m-1", 1, 0), (None, 0, 1)]


def test_transactions_rejected_lines_and_places_are_committed_together_or_not_at_all(outbox: Outbox, monkeypatch: pytest.MonkeyPatch):
    rejected = Rejected("/feed", 2, 5, 3, "not_json", b"xyz")
    position, lost = Position("/feed", 1, 2, "/feed", 8, 2, 8, "f"), LostPlace("/feed", "/feed.1", 3, 1, "removed")
    with monkeypatch.context() as broken:
        broken.setattr(Outbox, "_save_positions", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            outbox.add(Draft([message("a")], [rejected], [], [position], [lost]))
    count = "SELECT count(*) FROM lost_place"
    assert (outbox.count_unsent(), outbox.count_rejected(), outbox.positions("/feed"), outbox.number(count)) == (0, 0, [], 0)
    outbox.add(Draft([message("a")], [rejected], [], [position], [lost]))
    assert (outbox.count_unsent(), outbox.count_rejected(), outbox.positions("/feed"), outbox.number(count)) == (1, 1, [position], 1)


def test_a_file_of_the_first_make_is_taken_over_with_all_it_holds(directory: Path):
    # given an outbox as the program made it before it knew more than one file of a feed
    made = Outbox(directory, exclusive=True)
    made.add(Draft([message("a")], [Rejected("/feed", 2, 5, 3, "not_json", b"xyz")]))
    made.close()
    older = sqlite3.connect(directory / "outbox.sqlite3")
    older.executescript("""DROP TABLE feed_file; DROP TABLE lost_place; ALTER TABLE ledger DROP COLUMN feed; PRAGMA user_version = 1;
        CREATE TABLE source (path TEXT PRIMARY KEY, inode INTEGER NOT NULL) STRICT;""")
    older.close()
    # then whoever opens it first brings it up to date
    for exclusive in (False, True):
        found = Outbox(directory, exclusive=exclusive)
        assert (found.host, found.count_unsent(), found.count_rejected(), found.positions("/feed")) == (made.host, 1, 1, [])
        found.record_start("/feed")
        found.close()


def test_an_outbox_id_is_host_and_sequence_and_is_an_attribute_of_the_message(outbox: Outbox):
    (entry,) = outbox.add(Draft([message("a")]))
    assert entry.outbox_id == f"{outbox.host}/1"
    assert entry.attributes == {"outbox_id": {"DataType": "String", "StringValue": entry.outbox_id}}


@pytest.mark.parametrize("hostname", ["web-1.internal", "ünïcode host/1", "x" * 300, ""])
def test_a_ledger_has_a_name_that_fits_and_no_second_one_has_it(hostname: str, directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(program.socket, "gethostname", lambda: hostname)
    names = set()
    for each in "ab":
        made = Outbox(directory / each, exclusive=True)
        names.add(made.host)
        made.close()
    assert len(names) == 2 and all(re.fullmatch(r"[A-Za-z0-9.-]{1,80}", name) for name in names)


def test_a_ledger_keeps_its_name(directory: Path):
    names = []
    for _ in range(2):
        made = Outbox(directory, exclusive=True)
        names.append(made.host)
        made.close()
    assert names[0] == names[1]


def test_directory_and_lock_are_the_users_alone(directory: Path):
    Outbox(directory / "state", exclusive=True).close()
    assert (directory / "state").stat().st_mode & 0o777 == 0o700


# Pruning


def test_nothing_is_pruned_while_there_is_room(outbox: Outbox):
    assert filled(outbox, 700, 700, 700).prune(PLENTY) == 0 and len(bodies(outbox)) == 700


def test_of_too_many_entries_the_oldest_reconciled_ones_go_step_by_step(outbox: Outbox):
    filled(outbox, 1_000, sent=900, settled=800)
    assert [outbox.prune(Usage(1_000, 10**9)) for _ in range(3)] == [500, 0, 0]  # 500 are left: under three quarters
    assert outbox.usage().rows == 500 and bodies(outbox)[0] == 501
    assert [outbox.prune(Usage(100, 10**9)) for _ in range(3)] == [300, 0, 0]
    assert states(outbox) == ["sent"] * 100 + ["unsent"] * 100 and len(bodies(outbox)) == 200


def test_of_too_many_bytes_the_bodies_of_the_oldest_reconciled_go_and_the_entries_stay(outbox: Outbox):
    filled(outbox, 1_000, sent=900, settled=800, body="x" * 1_000)
    limit = Usage(10**6, outbox.usage().bytes)
    assert [outbox.prune(limit) for _ in range(2)] == [500, 0]
    assert outbox.usage().bytes < limit.bytes * 0.75 and outbox.usage().rows == 1_000
    assert bodies(outbox) == list(range(501, 1_001))


def test_what_is_unsent_or_not_reconciled_is_never_pruned(outbox: Outbox):
    filled(outbox, 900, sent=600)
    outbox.settle(300)
    outbox.resend(range(1, 101))
    for _ in range(5):
        outbox.prune(Usage(1, 1))
    assert states(outbox) == ["unsent"] * 100 + ["sent"] * 300 + ["unsent"] * 300
    assert len(bodies(outbox)) == 700


def test_a_sequence_is_never_used_again(outbox: Outbox):
    filled(outbox, 5, 5, 5).prune(Usage(1, 1))
    assert states(outbox) == []
    (entry,) = outbox.add(Draft([message("a")]))
    assert entry.sequence == 6


# Settling and sending again


def test_settling_leaves_what_is_unsent(outbox: Outbox):
    filled(outbox, 10, sent=8)
    outbox.resend([3])
    assert outbox.settle(9) == 7
    assert states(outbox) == ["reconciled"] * 2 + ["unsent"] + ["reconciled"] * 5 + ["unsent"] * 2
    assert outbox.settle(9) == 0


def test_settling_goes_in_steps_that_leave_the_service_room_to_write(outbox: Outbox, monkeypatch: pytest.MonkeyPatch):
    filled(outbox, 1_200, sent=1_200)
    steps = []
    monkeypatch.setattr(Outbox, "_commit", lambda self: steps.append(1) or self._connection.execute("COMMIT"))
    assert outbox.settle(1_200) == 1_200 and len(steps) == 3


def test_what_is_sent_again_counts_its_sends(outbox: Outbox):
    filled(outbox, 2, sent=2)
    assert (outbox.resend([1, 2]), outbox.resend([1])) == (2, 0)
    outbox.mark({1: "again"})
    assert outbox._connection.execute("SELECT sends, message_id FROM entry WHERE sequence = 1").fetchone() == (2, "again")


def test_what_has_no_body_cannot_be_sent_again(outbox: Outbox):
    filled(outbox, 2, 2, 1).prune(Usage(10**6, 1))
    with pytest.raises(OutboxError, match="found 1 pruned or unknown"):
        outbox.resend([2, 1])
    assert states(outbox) == ["reconciled", "sent"]


def test_a_change_by_another_process_is_seen_once(outbox: Outbox, directory: Path):
    filled(outbox, 2, sent=2)
    assert not outbox.changed()
    other = Outbox(directory)
    other.resend([1])
    other.close()
    assert outbox.changed() and not outbox.changed()


# What can be wrong


def test_a_second_process_may_not_send_from_it(outbox: Outbox, directory: Path):
    with pytest.raises(OutboxError, match=f"outbox in use: .*: found process {os.getpid()} sends from it, expected no other") as trouble:
        Outbox(directory, exclusive=True)
    assert "stop that one" in trouble.value.what_to_do
    outbox.close()
    Outbox(directory, exclusive=True).close()  # and the refusal left no lock behind


def test_a_lock_of_another_writer_is_waited_for_and_named(outbox: Outbox, directory: Path, monkeypatch: pytest.MonkeyPatch):
    outbox._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(directory / program.FILE, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OutboxError, match=r"outbox locked: .*found SQLITE_BUSY \(database is locked\), expected a moment") as trouble:
        outbox.add(Draft([message("a")]))
    assert trouble.value.transient
    other.execute("ROLLBACK")
    other.close()
    assert len(outbox.add(Draft([message("a")]))) == 1


def test_another_writer_is_waited_for_five_seconds(outbox: Outbox):
    assert outbox._connection.execute("PRAGMA busy_timeout").fetchone() == (5_000,)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 512 KiB, where one can be mounted."""
    made = in_memory()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(made)], capture_output=True, check=False)
    if mounted.returncode != 0:
        made.rmdir()
        pytest.skip("only root may mount a disk")
    yield made
    subprocess.run(["umount", "--lazy", str(made)], check=True)
    made.rmdir()


def test_a_full_disk_is_named_with_its_room_loses_nothing_and_passes(small_disk: Path):
    outbox, committed = Outbox(small_disk, exclusive=True), 0
    try:
        with pytest.raises(OutboxError, match=r"disk full: .*found SQLITE_FULL .*, [0-9]+ bytes free, expected room for") as trouble:
            for _ in range(1_000):
                committed += len(outbox.add(Draft([message("a", body="x" * 1_000)])))
        assert trouble.value.transient and "continues by itself" in trouble.value.what_to_do
        assert outbox.count_unsent() == committed > 10
        subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
        assert len(outbox.add(Draft([message("b")]))) == 1 and outbox.count_unsent() == committed + 1
    finally:
        outbox.close()


@pytest.mark.parametrize(("content", "code"), [(b"not a database at all, " * 100, "SQLITE_NOTADB"), (None, "SQLITE_CORRUPT")])
def test_a_damaged_file_is_named_with_the_way_to_recover(content: bytes | None, code: str, directory: Path):
    outbox = filled(Outbox(directory, exclusive=True), 500)
    outbox.close()
    path = directory / program.FILE
    whole = path.read_bytes()
    path.write_bytes(content or whole[:4_096] + b"\xff" * (len(whole) - 4_096))
    with pytest.raises(OutboxError, match=f"outbox damaged: .*found {code} .*, expected a whole SQLite database") as trouble:
        list(Outbox(directory, exclusive=True).unsent(0))
    assert not trouble.value.transient and "docs/outbox.md" in trouble.value.what_to_do


def test_sqlite_finds_damage_that_nobody_has_met_yet(directory: Path):
    outbox = filled(Outbox(directory, exclusive=True), 500)
    assert outbox.integrity_errors() == []
    outbox.close()
    path = directory / program.FILE
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4_096 * 4_096)
        file.write(b"\xff" * 1_024)
    outbox = Outbox(directory)
    assert outbox.integrity_errors() != []
    outbox.close()


def test_a_database_of_something_else_is_left_alone(directory: Path):
    other = sqlite3.connect(directory / program.FILE)
    other.execute("CREATE TABLE mine (a)")
    other.close()
    with pytest.raises(OutboxError, match=r"not an outbox of this program: .*: found application 0x0, version 0, expected app"):
        Outbox(directory, exclusive=True)


def test_a_command_makes_no_outbox(directory: Path):
    with pytest.raises(OutboxError, match=r"no outbox: .*: found no file, expected one that a producer made"):
        Outbox(directory)
    assert list(directory.iterdir()) == []


def test_a_directory_that_may_not_be_written_is_named_with_user_and_mode():
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        state = Path(parent) / "state"
        Outbox(state, exclusive=True).close()
        os.chmod(state, 0o755)
        os.chmod(state / program.LOCK, 0o666)
        os.seteuid(65_534)
        try:
            with pytest.raises(OutboxError, match=r"outbox not writable: .*for user 65534, expected a file that this") as trouble:
                Outbox(state, exclusive=True)
            with pytest.raises(
                OutboxError, match=r"state directory not usable: .*Permission denied.*, expected a directory that this user"
            ):
                Outbox(Path(parent) / "other", exclusive=True)
        finally:
            os.seteuid(0)
    assert "mode 0700" in trouble.value.what_to_do and "read-only" in trouble.value.what_to_do


@pytest.mark.parametrize("jump", [timedelta(days=-3_000), timedelta(days=3_000)])
def test_a_clock_that_jumps_changes_no_order_and_no_state(jump: timedelta, directory: Path):
    # given a clock that jumps after every transaction
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    jumps = iter([moment, moment, moment + jump, moment, moment + jump, moment, moment + jump, moment, moment])
    outbox = Outbox(directory, exclusive=True, now=lambda: next(jumps))
    for name in ("a", "b", "c"):
        outbox.add(Draft([message(name)]))
    outbox.mark({1: "m"})
    # then order is that of the sequence
    assert [entry.transaction_id for entry in outbox.unsent(0)] == ["b", "c"]
    outbox.settle(1)
    assert states(outbox) == ["reconciled", "unsent", "unsent"]
    outbox.close()
