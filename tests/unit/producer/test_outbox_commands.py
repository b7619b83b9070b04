"""The commands on the outbox: what they print, what they refuse, and that they never need much memory or the network."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import outbox_commands as program
import pytest
from feed import Feed
from outbox import Outbox
from outbox_error import OutboxError
from outbox_records import Draft, LostPlace, Rejected
from producer_fakes import message, wanted
from producer_process import PROGRAM, Cloud, Program
from producer_settings import say

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def outbox(directory: Path) -> Iterator[Outbox]:
    """Entries 1 to 6, recorded an hour apart: 1 and 2 reconciled, 3 and 4 sent, 5 and 6 unsent."""
    hours = itertools.count()
    made = Outbox(directory / "state", exclusive=True, now=lambda: START + timedelta(hours=next(hours)))
    made.add(Draft([message(f"t-{number}", amount=f"{number}.50", timestamp="2026-11-24T11:00:00Z") for number in range(1, 7)]))
    made.mark({number: f"m-{number}" for number in range(1, 5)})
    made.settle(2)
    yield made
    made.close()


Command = Callable[..., str]


def run(outbox: Outbox, name: str, *arguments: str) -> str:
    """What a command prints; it must end well."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert getattr(program, name)(arguments, {"PRODUCER_STATE_DIRECTORY": str(outbox.directory)}) is None
    return printed.getvalue()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def states(outbox: Outbox) -> str:
    """One letter for each entry: u, s or r."""
    query = "SELECT sequence, state FROM entry WHERE sequence > ? ORDER BY sequence LIMIT ?"
    return "".join(state[0] for _, state in outbox.pages(query))


def lost(outbox: Outbox, *sequences: object, host: str = "") -> str:
    path = outbox.directory.parent / "lost"
    path.write_text("".join(json.dumps({"outbox_id": f"{host or outbox.host}/{each}", "transaction_id": "x"}) + "\n" for each in sequences))
    return str(path)


# ledger


def test_the_ledger_as_json_has_every_field_and_ends_with_its_proof(outbox: Outbox):
    *entries, proof = lines(run(outbox, "ledger", "--json"))
    assert entries[3] == {
        "outbox_id": f"{outbox.host}/4",
        "transaction_id": "t-4",
        "amount": "4.50",
        "timestamp": "2026-11-24T11:00:00Z",
        "state": "sent",
        "recorded_at": "2026-11-24T16:00:00.000Z",
        "sent_at": "2026-11-24T20:00:00.000Z",
        "message_id": "m-4",
        "sends": 1,
    }
    assert [entry["state"][0] for entry in entries] == list("rrssuu") and entries[5]["sent_at"] is entries[5]["message_id"] is None
    assert {key: proof[key] for key in ("ledger", "entries", "first", "last")} == {
        "ledger": outbox.host,
        "entries": 6,
        "first": 1,
        "last": 6,
    }
    assert abs((datetime.now(UTC) - datetime.fromisoformat(proof["exported_at"])).total_seconds()) < 60


def test_bodies_come_on_request_and_are_null_once_pruned(outbox: Outbox):
    outbox._delete([(1,)], "body")
    entries = lines(run(outbox, "ledger", "--json", "--bodies"))[:-1]
    assert [entry["body"] for entry in entries[:2]] == [None, '{"transaction_id": "t-2"}']


@pytest.mark.parametrize(
    ("since", "first"),
    [
        ("2026-11-24T16:00:00Z", 4),
        ("2026-11-24T18:00:00+02:00", 4),
        ("2026-11-24T16:00:00.001Z", 5),
        ("2026-11-24", 1),
        ("2026-11-25", None),
    ],
)
def test_since_is_a_moment_at_which_entries_were_recorded(since: str, first: int | None, outbox: Outbox):
    *entries, proof = lines(run(outbox, "ledger", "--json", "--since", since))
    assert proof["first"] == first and proof["entries"] == len(entries) == (7 - first if first else 0)


def test_the_ledger_of_an_empty_outbox_is_its_proof(directory: Path):
    made = Outbox(directory / "state", exclusive=True)
    (proof,) = lines(run(made, "ledger", "--json"))
    assert (proof["entries"], proof["first"], proof["last"]) == (0, None, None)
    made.close()


def test_the_ledger_is_a_table_unless_told_otherwise(outbox: Outbox):
    text = run(outbox, "ledger")
    assert text == run(outbox, "ledger", "--table")
    assert len(text.splitlines()) == 8 and text.splitlines()[3].split() == [
        "3", "t-3", "3.50", "sent", "2026-11-24T15:00:00.000Z", "2026-11-24T20:00:00.000Z"]  # fmt: skip
    assert text.splitlines()[-1] == f"6 entries of ledger {outbox.host}"


@pytest.mark.parametrize("name", ["ledger.jsonl", "ledger.jsonl.gz"])
def test_the_ledger_goes_to_a_file_whole_and_for_nobody_elses_eyes(name: str, outbox: Outbox, directory: Path):
    (directory / name).write_text("an older one")
    assert run(outbox, "ledger", "--json", "--output", str(directory / name)) == ""
    content = (directory / name).read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode()
    assert lines(text)[:-1] == lines(run(outbox, "ledger", "--json"))[:-1]
    assert (directory / name).stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in directory.iterdir()) == [name, "state"]


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(outbox: Outbox, directory: Path, monkeypatch: pytest.MonkeyPatch):
    (directory / "ledger").write_text("the old one")
    monkeypatch.setattr(program, "_write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutboxError, match=r"not written: .*/ledger: found .*No space left on device"):
        run(outbox, "ledger", "--json", "--output", str(directory / "ledger"))
    assert (directory / "ledger").read_text() == "the old one" and len(list(directory.iterdir())) == 2


def test_a_long_ledger_streams_in_bounded_memory(directory: Path):
    made = Outbox(directory / "state", exclusive=True)
    for _ in range(100):
        made.add(Draft([message("t", body="x" * 20_000) for _ in range(10)]))
    tracemalloc.start()
    run(made, "ledger", "--json", "--bodies", "--output", str(directory / "ledger"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    made.close()
    assert (directory / "ledger").stat().st_size > 20_000_000 and peak < 2_000_000


def test_a_reader_that_is_slow_does_not_keep_the_log_from_being_used_again(outbox: Outbox, directory: Path):
    # given a reader of the ledger that has stopped after its first page
    for _ in range(20):
        outbox.add(Draft([message("t") for _ in range(100)]))
    other = Outbox(directory / "state")
    reader = other.pages("SELECT sequence FROM entry WHERE sequence > ? ORDER BY sequence LIMIT ?")
    next(reader)
    # when the service goes on writing
    outbox._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # then SQLite could write all of its log back
    assert (directory / "state" / "outbox.sqlite3-wal").stat().st_size == 0
    other.close()


# outbox


def test_the_outbox_says_what_is_unsent(outbox: Outbox):
    text = run(outbox, "outbox")
    shown = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith(" "))
    assert {key: shown[key] for key in ("ledger", "unsent", "sent", "reconciled", "entries")} == {
        "ledger": outbox.host, "unsent": "2", "sent": "2", "reconciled": "2", "entries": "6"}  # fmt: skip
    assert shown["unsent_bytes"] == str(2 * len('{"transaction_id": "t-5"}')) and shown["oldest_unsent"] == "2026-11-24T17:00:00.000Z"
    assert [line.split()[:2] for line in text.splitlines()[-2:]] == [[f"{outbox.host}/5", "t-5"], [f"{outbox.host}/6", "t-6"]]


def test_the_list_of_what_is_unsent_is_bounded(outbox: Outbox):
    outbox.add(Draft([message("t") for _ in range(100)]))
    text = run(outbox, "outbox")
    assert text.count(f"  {outbox.host}/") == 20 and text.endswith("  and 82 more: ledger --json lists them all\n")


def test_the_outbox_as_json_is_for_programs_and_checks_the_file_on_request(outbox: Outbox):
    (facts,) = lines(run(outbox, "outbox", "--json"))
    assert facts["unsent"] == 2 and "integrity_errors" not in facts and facts["bytes"] > 0
    assert lines(run(outbox, "outbox", "--json", "--check"))[0]["integrity_errors"] == []


def test_the_outbox_says_when_it_sent_the_oldest_of_what_it_has_sent_and_is_not_to_send_again(outbox: Outbox):
    *entries, _ = lines(run(outbox, "ledger", "--json"))
    assert lines(run(outbox, "outbox", "--json"))[0]["oldest_sent"] == entries[0]["sent_at"]
    run(outbox, "resend", "--lost", lost(outbox, 1, 2, 3))
    assert lines(run(outbox, "outbox", "--json"))[0]["oldest_sent"] == entries[3]["sent_at"]
    run(outbox, "resend", "--lost", lost(outbox, 4))
    assert lines(run(outbox, "outbox", "--json"))[0]["oldest_sent"] is None


def test_the_outbox_says_how_much_of_a_feed_is_not_in_the_ledger(outbox: Outbox, directory: Path):
    # given a feed that was read up to its second line and rotated since, beside a file that is not its own
    path = directory / "feed"
    path.write_bytes(b"one\ntwo\nthree\n")
    outbox.record_start(str(path))
    source = Feed(wanted(source=str(path), state_directory=str(outbox.directory)), outbox.positions, lambda *_, **__: None)
    outbox.add(source.draw(0.0, 2))
    path.rename(directory / "feed.1")
    path.write_bytes(b"four\nfi")
    (directory / "other").write_bytes(b"six\n")
    outbox.add(Draft(lost=[LostPlace(str(path), "/feed.9", 7, 1, "removed")]))
    # then the rest of both is counted, whether or not the last line has an end
    (facts,) = lines(run(outbox, "outbox", "--json"))
    assert {key: value for key, value in facts.items() if key.startswith("feed")} == {
        "feed": str(path), "feed_error": None, "feed_unread_bytes": 6 + 7, "feed_unread_lines": 1 + 2, "feed_waiting_bytes": 0,
        "feed_rejected_lines": 2, "feed_lost_places": 1}  # fmt: skip


def test_a_feed_that_was_not_begun_is_unread_as_a_whole(outbox: Outbox, directory: Path):
    (directory / "feed").write_bytes(b"one\ntwo\n")
    outbox.record_start(str(directory / "feed"))
    (facts,) = lines(run(outbox, "outbox", "--json"))
    assert (facts["feed_unread_bytes"], facts["feed_unread_lines"]) == (8, 2) and outbox.positions(str(directory / "feed")) == []


@pytest.mark.parametrize(
    ("path", "trouble", "unread"), [("nowhere", "no source", 0), ("", "source not usable", None)], ids=["none", "directory"]
)
def test_a_feed_that_cannot_be_read_is_said_by_the_outbox(path: str, trouble: str, unread: int | None, outbox: Outbox, directory: Path):
    outbox.record_start(str(directory / path))
    (facts,) = lines(run(outbox, "outbox", "--json"))
    assert facts["feed_error"].startswith(f"{trouble}: {directory / path}: found no ") and facts["feed_unread_bytes"] == unread


def test_a_feed_that_the_service_does_not_see_is_said_though_others_see_it(outbox: Outbox, directory: Path):
    # given a service that found no file, as of one that a link has in a directory that is hidden from it
    path = directory / "feed"
    outbox.record_start(str(path))
    source = Feed(wanted(source=str(path), state_directory=str(outbox.directory)), outbox.positions, lambda *_, **__: None)
    outbox.add(source.draw(0.0, 10))
    path.write_bytes(b"one\n")
    (facts,) = lines(run(outbox, "outbox", "--json"))
    assert facts["feed_error"].startswith(f"no source: {path}: the service found no file, though") and facts["feed_unread_lines"] == 1
    # until it finds it
    outbox.add(source.draw(1.0, 10))
    assert lines(run(outbox, "outbox", "--json"))[0]["feed_error"] is None


def test_without_a_feed_nothing_is_unread(outbox: Outbox):
    (facts,) = lines(run(outbox, "outbox", "--json"))
    assert (facts["feed"], facts["feed_unread_bytes"], facts["feed_error"]) == (None, 0, None)


@pytest.mark.parametrize(("recorded", "age"), [(timedelta(hours=-1), 3_600), (timedelta(hours=1), -3_600)], ids=["past", "future"])
def test_an_age_is_by_the_clock_of_now_also_when_that_was_set_back(recorded: timedelta, age: int, directory: Path):
    made = Outbox(directory / "state", exclusive=True, now=lambda: datetime.now(UTC) + recorded)
    made.add(Draft([message("a"), message("b")]))
    (never,) = lines(run(made, "outbox", "--json"))
    made.mark({1: "m-1"})
    (facts,) = lines(run(made, "outbox", "--json"))
    made.close()
    assert facts["oldest_unsent_seconds"] == pytest.approx(age, abs=30)
    assert (never["newest_sent_seconds"], facts["newest_sent_seconds"]) == (None, pytest.approx(age, abs=30))


# resend


def test_resend_makes_unsent_what_is_named_and_counts_the_rest(outbox: Outbox):
    path = lost(outbox, 1, 3, 5)
    with open(path, "a") as file:
        file.write(json.dumps({"outbox_id": "elsewhere/1"}) + "\n" + json.dumps({"outbox_id": "nonsense"}) + "\n")
    (said,) = lines(run(outbox, "resend", "--lost", path))
    assert {key: said[key] for key in ("named", "made_unsent", "already_unsent", "of_other_ledgers")} == {
        "named": 3, "made_unsent": 2, "already_unsent": 1, "of_other_ledgers": 2}  # fmt: skip
    assert states(outbox) == "urusuu"


def test_resend_takes_a_long_list(directory: Path):
    made = Outbox(directory / "state", exclusive=True)
    made.add(Draft([message("t") for _ in range(1_300)]))
    made.mark(dict.fromkeys(range(1, 1301), "m"))
    assert lines(run(made, "resend", "--lost", lost(made, *range(1, 1_301))))[0]["made_unsent"] == 1_300
    made.close()


@pytest.mark.parametrize("gone", [1, 99])
def test_resend_of_what_has_no_body_names_it_and_changes_nothing(gone: int, outbox: Outbox):
    outbox._delete([(1,)], "body")
    with pytest.raises(OutboxError, match=rf"found 1 pruned or unknown \({outbox.host}/{gone}\), expected a body of each") as trouble:
        run(outbox, "resend", "--lost", lost(outbox, 3, gone))
    assert "nothing was changed" in trouble.value.what_to_do and states(outbox) == "rrssuu"


def test_resend_that_races_a_prune_changes_nothing_and_says_so(directory: Path, monkeypatch: pytest.MonkeyPatch):
    # given a list of more entries than a step of pruning has, and a service that prunes the last one while the list is read
    made = Outbox(directory / "state", exclusive=True)
    made.add(Draft([message("t") for _ in range(1_300)]))
    made.mark(dict.fromkeys(range(1, 1_301), "m"))
    path, resend = lost(made, *range(1, 1_301)), Outbox.resend

    def race(other: Outbox, sequences: list[int]) -> int:
        made._delete([(1_300,)], "body")
        return resend(other, sequences)

    monkeypatch.setattr(Outbox, "resend", race)
    with pytest.raises(OutboxError, match=rf"no body to send any more: .*found 1 pruned or unknown \({made.host}/1300\)") as trouble:
        run(made, "resend", "--lost", path)
    assert "nothing was changed" in trouble.value.what_to_do and set(states(made)) == {"s"}
    made.close()


@pytest.mark.parametrize("content", ["junk\n", "[]\n", "{}\n", '{"outbox_id": 3}\n'])
def test_resend_of_no_list_says_in_which_line(content: str, outbox: Outbox):
    path = lost(outbox, 3)
    with open(path, "a") as file:
        file.write(content)
    with pytest.raises(OutboxError, match=r"not a list of entries: .*/lost, line 2: found "):
        run(outbox, "resend", "--lost", path)
    assert states(outbox) == "rrssuu"


def test_resend_of_no_file_says_so(outbox: Outbox):
    with pytest.raises(OutboxError, match=r"not readable: /nowhere: found .*No such file"):
        run(outbox, "resend", "--lost", "/nowhere")


# reconciled


def test_reconciled_settles_what_is_sent_and_says_what_is_not(outbox: Outbox):
    (said,) = lines(run(outbox, "reconciled", "--through", "5", "--ledger", outbox.host))
    assert (said["settled"], said["unsent"], said["through"]) == (2, 1, 5) and states(outbox) == "rrrruu"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--through", "7"], "argument --through: found 7, expected 6 at most"),
        (["--through", "3", "--ledger", "other"], "argument --ledger: found 'other', expected"),
        (["--through", "0"], "argument --through: found '0', expected a sequence"),
    ],
)
def test_reconciled_refuses_what_is_not_of_this_ledger(
    arguments: list[str], error: str, outbox: Outbox, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        run(outbox, "reconciled", *arguments)
    assert ended.value.code == 2 and json.loads(capsys.readouterr().err)["error"].startswith(error) and states(outbox) == "rrssuu"


# rejected


def test_rejected_lines_are_listed_and_removed(outbox: Outbox):
    outbox.add(Draft([], [Rejected("/feed", number, 10 * number, 3, "not_utf8", b"a\xff\n") for number in (1, 2, 3)]))
    listed = lines(run(outbox, "rejected"))
    assert {key: listed[0][key] for key in ("number", "source", "line", "offset", "length", "reason", "content")} == {
        "number": 1, "source": "/feed", "line": 1, "offset": 10, "length": 3, "reason": "not_utf8", "content": "a\\xff\n"}  # fmt: skip
    assert lines(run(outbox, "rejected", "--remove-through", "2"))[0]["rejected"] == 2
    assert [line["number"] for line in lines(run(outbox, "rejected"))] == [3]


def test_lost_places_are_listed_and_removed(outbox: Outbox):
    outbox.add(Draft(lost=[LostPlace("/feed", f"/feed.{number}", 10 * number, number, "removed") for number in (1, 2, 3)]))
    listed = lines(run(outbox, "lost"))
    assert {key: listed[0][key] for key in ("number", "feed", "file", "offset", "line", "reason")} == {
        "number": 1, "feed": "/feed", "file": "/feed.1", "offset": 10, "line": 1, "reason": "removed"}  # fmt: skip
    assert lines(run(outbox, "lost", "--remove-through", "2"))[0]["lost_place"] == 2
    assert [line["number"] for line in lines(run(outbox, "lost"))] == [3]


# What comes from outside

EVIL = "a\x1b[31m\x07\x9b2J\x7f\u202eb\n\r\udc9b"


@pytest.mark.parametrize("arguments", [
    ["ledger"], ["ledger", "--json", "--bodies"], ["outbox"], ["outbox", "--json"], ["rejected"], ["lost"]], ids=" ".join)  # fmt: skip
def test_nothing_from_outside_reaches_the_terminal_as_a_control_character(arguments: list[str], directory: Path):
    # given an id, an amount, a time, a body, a file's name and a rejected line, each with characters that a terminal obeys
    evil = EVIL[:-1]  # SQLite takes no lone surrogate
    made = Outbox(directory / f"state{evil.replace(chr(10), '')}x", exclusive=True)
    made.record_start(f"/feed{evil}")
    made.add(Draft([message(evil, amount=evil, timestamp=evil, body=json.dumps({"m": evil}, ensure_ascii=False))]))
    made.add(
        Draft([], [Rejected(f"/{evil}", 1, 2, 3, evil, EVIL.encode(errors="surrogatepass"))], lost=[LostPlace(evil, evil, 1, 1, evil)])
    )
    text = run(made, *arguments)
    made.close()
    # then there is nothing but characters that can be seen, and line ends
    assert all(character.isprintable() for character in text.replace("\n", "")) and len(text) > 50


def test_a_log_line_has_no_control_character(capsys: pytest.CaptureFixture[str]):
    say("rejected", source=EVIL, reason=EVIL)
    text = capsys.readouterr().out
    assert text.count("\n") == 1 and text.rstrip("\n").isprintable() and json.loads(text)["source"] == EVIL


# As programs


@pytest.mark.parametrize("name", ["run", "drain", "ledger", "outbox", "resend", "reconciled", "rejected", "lost"])
def test_every_command_has_its_help(name: str):
    done = subprocess.run([sys.executable, str(PROGRAM), name, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: financial_producer {name} ")
    assert "--state-directory" in done.stdout and "PRODUCER_STATE_DIRECTORY" in done.stdout


@pytest.mark.parametrize("name", ["run", "ledger", "outbox"])
def test_a_damaged_outbox_is_one_line_and_exit_code_4(name: str, cloud: Cloud, directory: Path):
    (directory / "outbox.sqlite3").write_bytes(b"not a database at all, " * 100)
    code, out, err = Program(cloud, name, state=directory).finish()
    assert (code, out, len(err)) == (4, [], 1) and err[0]["error"].startswith("outbox damaged: ") and err[0]["what_to_do"]


def test_a_second_producer_on_the_same_outbox_is_one_line_and_exit_code_4(cloud: Cloud, outbox: Outbox):
    code, out, err = Program(cloud, state=outbox.directory).finish()
    assert (code, out, len(err)) == (4, [], 1) and err[0]["error"].startswith("outbox in use: ")


@pytest.mark.parametrize("command", ["ledger --json", "ledger", "rejected"])
def test_a_reader_that_has_seen_enough_ends_a_list_quietly(command: str, directory: Path):
    # given more than a pipe holds
    made = Outbox(directory / "state", exclusive=True)
    made.add(Draft([message("t" * 100) for _ in range(2_000)], [Rejected("/feed", 1, 1, 1, "not_json", b"x" * 100)] * 2_000))
    made.close()
    shell = f"{sys.executable} {PROGRAM} {command} --state-directory {directory}/state | head -n 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_the_ledger_needs_nothing_but_python(outbox: Outbox):
    # given a Python without what was installed for the program
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import sys; sys.path[:0] = [sys.argv.pop(1)]; import financial_producer as p; sys.exit(p.main())",
    ]
    done = subprocess.run(
        [*command, str(PROGRAM), "ledger", "--json", "--state-directory", str(outbox.directory)], capture_output=True, text=True
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 7, done.stderr
