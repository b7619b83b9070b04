"""The feed: lines pass to the byte, each exactly once, whatever happens to its files; what cannot be found again is named."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import feed_files
import pytest
from feed import Feed
from feed_reader import Reader, line, names, write
from feed_stdin import StdinFeed
from hypothesis import given, settings
from hypothesis import strategies as st
from outbox_error import OutboxError
from outbox_records import Draft, Position
from producer_fakes import World, in_memory, wanted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40)), st.booleans())
def test_of_any_bytes_each_line_is_sent_or_kept_aside(lines: list[bytes], ended: bool):
    # given any bytes as a file
    directory = in_memory()
    content = b"{}\n" + b"\n".join(lines) + (b"\n" if ended and lines else b"")
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


def test_the_start_of_a_line_that_is_written_anew_is_read_anew(directory: Path):
    # given a feed whose last line has no end yet, and was looked at
    path = directory / "feed"
    path.write_text(line("a") + line("first")[:-3])
    reader = Reader(path)
    assert [each.transaction_id for each in reader.draw().messages] == ["a"] and not reader.draw()
    # when its writer writes that line anew
    path.write_text(line("a") + line("another"))
    # then that is what is sent, and nothing of what stood there
    draft = reader.draw()
    assert [each.transaction_id for each in draft.messages] == ["another"] and not draft.rejected


def test_a_line_of_any_length_is_read_in_bounded_memory(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed_files, "KEPT_BYTES", 1_000)
    monkeypatch.setattr(feed_files, "CHUNK_BYTES", 100)
    path = directory / "feed"
    path.write_text(line("a") + "x" * 500_000 + "\n" + line("b"))
    reader = Reader(path)
    tracemalloc.start()
    drafts = [reader.draw(1) for _ in range(10)]
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (rejected,) = [each for draft in drafts for each in draft.rejected]
    assert (rejected.length, rejected.reason, rejected.content, rejected.offset) == (500_000, "too_large", b"x" * 1_000, len(line("a")))
    assert [each.transaction_id for draft in drafts for each in draft.messages] == ["a", "b"] and largest < 100_000


def test_a_long_line_without_an_end_is_read_once_and_what_is_before_it_as_often_as_it_is_not_taken(
    directory: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feed_files, "KEPT_BYTES", 1_000)
    path, read, pread = directory / "feed", [], os.pread
    path.write_text(line("a") + "x" * 5_000)
    file = feed_files.FeedFile(os.open(path, os.O_RDONLY), Position(str(path), 1, 1, str(path)))
    monkeypatch.setattr(feed_files.os, "pread", lambda *of: read.append(pread(*of)) or read[-1])
    # given that nothing is taken, then both are there again
    first, long = file.lines()
    assert (first.ended, long.ended, long.start, long.length) == (True, False, len(line("a")), 5_000)
    assert list(file.lines()) == [first, long]
    # given that the first is taken, then of the other one only what is added is read
    file.go_to(first.after, first.number)
    assert list(file.lines()) == [long]
    read.clear()
    with path.open("a") as more:
        more.write("y\n" + line("b"))
    whole, last = file.lines()
    assert (whole.number, whole.length, whole.content, last.number, last.ended) == (2, 5_001, b"x" * 1_000, 3, True)
    assert sum(map(len, read)) == len("y\n" + line("b"))
    file.close()


# The place in a file


def test_it_goes_on_where_it_was_left(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 25))
    reader = Reader(path)
    assert [each.transaction_id for each in reader.draw(10).messages] == names(1, 10)
    assert reader.restart().read() == names(11, 25)
    write(path, *names(26, 30))
    assert reader.restart().read() == names(26, 30)
    assert reader.reasons().count("resumed") == 2 and reader.log[-1]["line"] == 25 and reader.lost == []


def test_what_was_not_committed_is_read_again(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 25))
    reader = Reader(path)
    reader.draw(10)
    reader.draw(10, commit=False)
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
    with pytest.raises(OutboxError, match=r"no source: .*feed: found no file, expected a file of JSON lines"):
        Reader(directory / "feed", follow=False).read()


def test_a_pipe_or_a_directory_is_refused(directory: Path):
    os.mkfifo(directory / "pipe")
    for path in (directory / "pipe", directory):
        with pytest.raises(OutboxError, match=r"source not usable: .*: found no regular file") as trouble:
            Reader(path).read()
    assert "--source -" in trouble.value.what_to_do


def test_a_file_that_cannot_be_read_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch):
    write(directory / "feed", "a")
    reader = Reader(directory / "feed")
    monkeypatch.setattr(feed_files.os, "pread", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OutboxError, match=r"source not readable: .*/feed: found \[Errno 5\] Input/output error, expected a file that"):
        reader.draw()


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
    feed = StdinFeed(262_144)
    assert feed.draw(0.0, 10) == Draft() and feed.next_moment(0.0) == pytest.approx(0.2)
    os.write(pipe, (line("a") + '{"transaction_id":').encode())
    draft = feed.draw(1.0, 10)
    assert [each.transaction_id for each in draft.messages] == ["a"] and draft.positions == []
    os.write(pipe, b'"b"}')
    assert feed.draw(2.0, 10) == Draft()
    os.close(pipe)
    assert [each.transaction_id for each in feed.draw(3.0, 10).messages] == ["b"]
    feed.draw(4.0, 10)
    assert feed.next_moment(5.0) == float("inf")


def test_nothing_is_taken_from_stdin_while_there_is_no_room(pipe: int):
    feed = StdinFeed(262_144)
    os.write(pipe, (line("a") + line("b")).encode())
    os.close(pipe)
    assert feed.draw(0.0, 0) == Draft()
    assert [each.transaction_id for each in feed.draw(1.0, 1).messages] == ["a"]
    assert feed.draw(2.0, 0) == Draft() and feed.next_moment(2.0) < float("inf")
    assert [each.transaction_id for each in feed.draw(3.0, 9).messages] == ["b"]
    assert feed.draw(4.0, 9) == Draft() and feed.next_moment(4.0) == float("inf")


# With the producer


def test_a_feed_is_sent_to_the_byte_and_its_place_committed_with_it(directory: Path):
    texts = ['{"transaction_id":"a","amount":1.10}', '{ "transaction_id" : "b", "amount": 2e0, "é": 1 }']
    (directory / "feed").write_text("".join(f"{text}\n" for text in texts) + "junk\n")
    world, bodies = World(), []
    take = world.send_message_batch
    world.send_message_batch = lambda **request: bodies.extend(each["MessageBody"] for each in request["Entries"]) or take(**request)  # type: ignore[method-assign]
    source = Feed(wanted(source=str(directory / "feed"), follow=False), lambda _: [], world.say)
    assert world.run_from(source) == 0
    assert bodies == texts and world.lines("stopped")[0]["reason"] == "end of source"
    assert [(each["line"], each["reason"]) for each in world.lines("rejected")] == [(3, "not_json")]
    outbox = world.outbox()
    (position,) = [each for each in outbox.positions(str(directory / "feed")) if each.inode]
    assert (position.offset, position.line) == ((directory / "feed").stat().st_size, 3)
    assert outbox.count_rejected() == 1
    outbox.close()


def test_too_many_rejected_lines_stop_the_reading_until_some_are_removed(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sending.REJECTED_LINES", 20)
    (directory / "feed").write_text("junk\n" * 45 + line("a"))

    class Removing(World):
        def wait(self, event, seconds):
            super().wait(event, seconds)
            if self.now() >= 100 and not self.removed:
                other = self.outbox()
                self.removed = other.remove("rejected", 20)
                other.close()

    world = Removing(stop_at=300.0)
    world.removed = 0
    source = Feed(wanted(source=str(directory / "feed"), follow=False), lambda _: [], world.say)
    assert world.run_from(source) == 0
    outbox = world.outbox()
    assert world.removed == 20 and outbox.count_rejected() == 20 and outbox.count_unsent() == 0
    outbox.close()
    assert "rejected" in world.lines("full")[0]["what_to_do"]
