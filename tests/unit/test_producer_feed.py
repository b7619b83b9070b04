"""The feed: lines pass to the byte, each exactly once while the files are what they were, and none is skipped when they are not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import feed as program
import pytest
from feed import Feed, judge
from hypothesis import given, settings
from hypothesis import strategies as st
from outbox_records import Checkpoint, Draft
from outbox_trouble import OutboxTrouble
from producer_world import World, in_memory, wanted
from transaction_stream import Message

LIMIT = 262_144


@pytest.fixture
def directory() -> Iterator[Path]:
    made = in_memory()
    yield made
    shutil.rmtree(made)


class Reader:
    """Reads a feed as the producer does, and remembers the last checkpoint; `restart` begins anew from it."""

    def __init__(self, path: Path, **changes: Any) -> None:
        self.path, self.changes = path, changes
        self.checkpoint: Checkpoint | None = None
        self.log: list[dict[str, Any]] = []
        self.restart()

    def restart(self) -> Reader:
        self.feed = Feed(wanted(source=str(self.path), **self.changes), lambda _: self.checkpoint, self.say)
        self.now = 0.0
        return self

    def say(self, event: str, **fields: Any) -> None:
        self.log.append({"event": event} | fields)

    def reasons(self) -> list[str]:
        return [line["reason"] for line in self.log]

    def draw(self, limit: int = 10) -> Draft:
        draft = self.feed.draw(self.now, limit)
        self.checkpoint = draft.checkpoint or self.checkpoint
        self.now += 1
        return draft

    def read(self, limit: int = 10, looks: int = 6) -> list[str]:
        """The ids of what there is now: until it has looked so often without finding any."""
        found: list[str] = []
        empty = 0
        while empty < looks:
            draft = self.draw(limit)
            empty = 0 if draft.messages or draft.rejected else empty + 1
            found += [each.transaction_id for each in draft.messages]
        return found

    def ended(self) -> bool:
        return self.feed.next_moment(self.now) == float("inf")


def line(name: str) -> str:
    return json.dumps({"transaction_id": name}) + "\n"


def write(path: Path, *names: str, mode: str = "a") -> None:
    with path.open(mode) as file:
        file.writelines(line(name) for name in names)


def names(first: int, last: int) -> list[str]:
    return [f"t-{number}" for number in range(first, last + 1)]


# Lines


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\xff{}", "not_utf8"),
        (b'{"transaction_id": "a"', "not_json"),
        (b'{"transaction_id": "a", "amount": NaN}', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'\xef\xbb\xbf{"transaction_id": "a"}', "not_json"),
        (b'["transaction_id"]', "not_an_object"),
        (b"17", "not_an_object"),
        (b"{}", "id_missing"),
        (b'{"transaction_id": null}', "id_missing"),
        (b'{"transaction_id": 17}', "id_not_a_string"),
        (b'{"transaction_id": ["a"]}', "id_not_a_string"),
        (b'{"transaction_id": ""}', "id_empty"),
        (rb'{"transaction_id": "\ud800"}', "lone_surrogate"),
        ('{"transaction_id": "a", "x": "\uffff"}'.encode(), "character_not_allowed"),
        (b'{"transaction_id": "a", "x": "' + b"x" * LIMIT + b'"}', "too_large"),
    ],
)
def test_a_line_that_is_no_transaction_has_a_reason(text: bytes, reason: str):
    assert judge(text, LIMIT) == reason


@pytest.mark.parametrize(
    ("text", "amount", "timestamp"),
    [
        ('{"transaction_id":"a","amount":12.30,"timestamp":"2026-11-24T00:00:00Z"}', "12.30", "2026-11-24T00:00:00Z"),
        ('  {"transaction_id":"a" , "amount":1e3}', "1e3", None),
        ('{"transaction_id":"a","amount":99999999999999999999999999999999999.99}', "99999999999999999999999999999999999.99", None),
        ('{"transaction_id":"a","amount":"12.30","timestamp":17}', None, None),
        (r'{"transaction_id":"a","amount":null,"timestamp":"\ud800"}', None, None),
        ('{"transaction_id":"a","é":"\U0001f600","amount":-0.0}', "-0.0", None),
    ],
)
def test_a_transaction_passes_to_the_byte_and_its_amount_as_it_is_written(text: str, amount: str | None, timestamp: str | None):
    assert judge(text.encode(), LIMIT) == Message("a", text, amount, timestamp)


@settings(max_examples=300, deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_no_amount_ever_passes_through_a_float(amount):
    text = f'{{"transaction_id":"a","amount":{amount}}}'
    found = judge(text.encode(), LIMIT)
    assert isinstance(found, Message) and (found.body, found.amount) == (text, str(amount))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40)), st.booleans())
def test_of_any_bytes_each_line_is_sent_or_kept_aside(lines: list[bytes], ended: bool):
    # given any bytes as a file
    directory = in_memory()
    content = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    (directory / "feed").write_bytes(content)
    # when it is read
    reader, found = Reader(directory / "feed", follow=False), []
    while not reader.ended():
        draft = reader.draw(3)
        found += [each.content for each in draft.rejected] + [each.body.encode() for each in draft.messages]
    # then every line that is not blank came out once, without its ending
    expected = [each[:-1] if each.endswith(b"\r") else each for each in content.split(b"\n")]
    assert found == [each for each in expected if each.strip()]
    shutil.rmtree(directory)


def test_a_message_of_exactly_the_limit_is_taken_and_one_byte_more_is_not():
    beside = len("outbox_id") + len("String") + len("h" * 80 + "/" + "9" * 19)
    text = '{"transaction_id":"a","x":""}'
    fits = text[:-2] + "x" * (LIMIT - beside - len(text)) + text[-2:]
    assert isinstance(judge(fits.encode(), LIMIT), Message)
    assert judge((fits[:-2] + "x" + fits[-2:]).encode(), LIMIT) == "too_large"


def test_rejected_lines_are_told_by_number_and_place(directory: Path):
    path = directory / "feed"
    path.write_bytes(line("a").encode() + b"\n" + b"junk\r\n" + line("b").encode() + b"{}\n")
    reader = Reader(path)
    draft = reader.draw()
    assert [each.transaction_id for each in draft.messages] == ["a", "b"]
    found = [(each.source, each.line, each.offset, each.length, each.reason, each.content) for each in draft.rejected]
    first = len(line("a")) + 1
    last = first + len("junk\r\n") + len(line("b"))
    assert found == [(str(path), 3, first, 4, "not_json", b"junk"), (str(path), 5, last, 2, "id_missing", b"{}")]


def test_a_line_of_any_length_is_read_in_bounded_memory(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(program, "KEPT_BYTES", 1_000)
    monkeypatch.setattr(program, "CHUNK_BYTES", 100)
    path = directory / "feed"
    path.write_text(line("a") + "x" * 50_000 + "\n" + line("b"))
    reader, largest, drafts = Reader(path), 0, []
    for _ in range(10):
        drafts.append(reader.draw(1))
        largest = max(largest, len(reader.feed._buffer))
    (rejected,) = [each for draft in drafts for each in draft.rejected]
    assert (rejected.length, rejected.reason, rejected.content, rejected.offset) == (50_000, "too_large", b"x" * 1_000, len(line("a")))
    assert [each.transaction_id for draft in drafts for each in draft.messages] == ["a", "b"] and largest < 1_500


# The place in a file


def test_it_goes_on_where_it_was_left(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 25))
    reader = Reader(path)
    assert [each.transaction_id for each in reader.draw(10).messages] == names(1, 10)
    assert reader.restart().read() == names(11, 25)
    write(path, *names(26, 30))
    assert reader.restart().read() == names(26, 30)
    assert reader.reasons().count("resumed") == 2 and reader.log[-1]["line"] == 25


def test_what_was_not_committed_is_read_again(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 25))
    reader = Reader(path)
    reader.draw(10)
    committed = reader.checkpoint
    reader.draw(10)
    reader.checkpoint = committed
    assert reader.restart().read() == names(11, 25)


def test_a_line_without_an_end_waits_for_the_rest(directory: Path):
    path = directory / "feed"
    path.write_text(line("a") + '{"transaction_id": ')
    reader = Reader(path)
    assert reader.read() == ["a"]
    with path.open("a") as file:
        file.write('"b"}\n')
    assert reader.read() == ["b"]


def test_a_file_that_is_not_followed_ends_with_a_line_that_needs_no_end(directory: Path):
    path = directory / "feed"
    path.write_text(line("a") + line("b").rstrip())
    reader = Reader(path, follow=False)
    assert reader.read() == ["a", "b"] and reader.ended()


def test_a_file_that_is_not_there_yet_is_waited_for(directory: Path):
    reader = Reader(directory / "feed")
    assert reader.read() == [] and reader.reasons() == ["waiting for the file"]
    write(directory / "feed", "a")
    assert reader.read() == ["a"]


def test_a_file_that_is_not_there_is_an_error_where_nothing_is_followed(directory: Path):
    with pytest.raises(OutboxTrouble, match=r"no source: .*feed: found no file, expected a file of JSON lines"):
        Reader(directory / "feed", follow=False).read()


def test_a_pipe_or_a_directory_is_refused(directory: Path):
    os.mkfifo(directory / "pipe")
    for path in (directory / "pipe", directory):
        with pytest.raises(OutboxTrouble, match=r"source not usable: .*: found no regular file") as trouble:
            Reader(path).read()
    assert "--source -" in trouble.value.what_to_do


def test_a_file_that_cannot_be_read_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch):
    write(directory / "feed", "a")
    reader = Reader(directory / "feed")
    monkeypatch.setattr(program.os, "read", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OutboxTrouble, match=r"source not readable: .*/feed: found \[Errno 5\] Input/output error, expected a file that"):
        reader.draw()


# Files that come and go


def test_a_rotation_is_followed_and_nothing_is_lost_between(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 5))
    reader = Reader(path)
    assert reader.read() == names(1, 5)
    # given a writer that goes on with the old file for a moment
    path.rename(directory / "feed.1")
    assert reader.read() == []
    write(directory / "feed.1", *names(6, 7))
    write(path, *names(8, 9))
    assert reader.read() == names(6, 9)
    assert reader.checkpoint and reader.checkpoint.line == 2


def test_a_rotation_while_it_was_stopped_is_made_up_for(directory: Path):
    # given a feed that was left in the middle, and rotated twice since
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    path.rename(directory / "feed.2")
    write(directory / "feed.1", *names(13, 15))
    write(path, *names(16, 17))
    for number, each in enumerate(("feed.2", "feed.1", "feed")):
        os.utime(directory / each, (1_000 + number, 1_000 + number))
    (directory / "feed.1.gz").write_bytes(b"\x1f\x8b")  # not a file of lines
    # then the rest of the old one is read, the one between, and the new one
    assert reader.restart().read() == names(11, 17)


def test_a_rotated_file_that_is_found_nowhere_is_said_and_the_new_one_read_from_its_start(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    path.unlink()
    write(path, *names(13, 14))
    assert reader.restart().read() == names(13, 14)
    (said,) = [each for each in reader.log if each["reason"] == "another file"]
    assert said["line"] == 10 and "--source -" in said["what_to_do"]


def test_a_copy_with_another_inode_is_the_same_file(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    shutil.copy(path, directory / "copy")
    (directory / "copy").rename(path)
    assert reader.restart().read() == names(11, 12)


def test_another_content_under_the_same_inode_is_another_file(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    write(path, *[f"new-{number}" for number in range(1, 20)], mode="r+")
    assert reader.restart().read()[:3] == ["new-1", "new-2", "new-3"]
    assert "another file" in reader.reasons()


def test_a_truncated_file_is_said_and_read_from_its_start(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    assert reader.read() == names(1, 12)
    write(path, "t-13", mode="w")
    assert reader.read() == ["t-13"]
    (said,) = [each for each in reader.log if each["reason"] == "truncated"]
    assert said["found"] < said["expected"] and "renaming" in said["what_to_do"]


# stdin


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The writing end of a pipe whose reading end is stdin."""
    reading, writing = os.pipe()
    saved = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    yield writing
    os.dup2(saved, 0)
    os.close(saved)


def test_stdin_gives_what_there_is_never_waits_and_has_no_checkpoint(pipe: int):
    feed = Feed(wanted(source="-"), lambda _: None, lambda *_, **__: None)
    assert feed.draw(0.0, 10) == Draft() and feed.next_moment(0.0) == pytest.approx(0.2)
    os.write(pipe, (line("a") + '{"transaction_id":').encode())
    draft = feed.draw(1.0, 10)
    assert [each.transaction_id for each in draft.messages] == ["a"] and draft.checkpoint is None
    os.write(pipe, b'"b"}')
    assert feed.draw(2.0, 10) == Draft()
    os.close(pipe)
    assert [each.transaction_id for each in feed.draw(3.0, 10).messages] == ["b"]
    feed.draw(4.0, 10)
    assert feed.next_moment(5.0) == float("inf")


# With the producer


def test_a_feed_is_sent_to_the_byte_and_its_place_committed_with_it(directory: Path):
    texts = ['{"transaction_id":"a","amount":1.10}', '{ "transaction_id" : "b", "amount": 2e0, "é": 1 }']
    (directory / "feed").write_text("".join(f"{text}\n" for text in texts) + "junk\n")
    world, bodies = World(), []
    take = world.send_message_batch
    world.send_message_batch = lambda **request: bodies.extend(each["MessageBody"] for each in request["Entries"]) or take(**request)  # type: ignore[method-assign]
    source = Feed(wanted(source=str(directory / "feed"), follow=False), lambda _: None, world.say)
    assert world.run_from(source) == 0
    assert bodies == texts and world.lines("stopped")[0]["reason"] == "end of source"
    assert [(each["line"], each["reason"]) for each in world.lines("rejected")] == [(3, "not_json")]
    outbox = world.outbox()
    checkpoint = outbox.checkpoint(str(directory / "feed"))
    assert checkpoint and (checkpoint.offset, checkpoint.line) == ((directory / "feed").stat().st_size, 3)
    assert outbox.count_rejected() == 1
    outbox.close()


def test_too_many_rejected_lines_stop_the_reading_until_some_are_removed(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sending.REJECTED_LINES", 20)
    (directory / "feed").write_text("junk\n" * 45 + line("a"))

    class Removing(World):
        def wait(self, event, seconds):
            super().wait(event, seconds)
            if self.time >= 1_100 and not self.removed:
                other = self.outbox()
                self.removed = other.remove_rejected(20)
                other.close()

    world = Removing(stop_at=300.0)
    world.removed = 0
    source = Feed(wanted(source=str(directory / "feed"), follow=False), lambda _: None, world.say)
    assert world.run_from(source) == 0
    outbox = world.outbox()
    assert world.removed == 20 and outbox.count_rejected() == 20 and outbox.count_unsent() == 0
    outbox.close()
    assert "rejected" in world.lines("full")[0]["what_to_do"]
