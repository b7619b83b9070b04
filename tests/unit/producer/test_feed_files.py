"""Files of a feed that are rotated, compressed, copied, overwritten and removed: each line once, and what is not found again is named."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from feed_files import FeedFile, Line
from feed_reader import Reader, line, names, write

# Files that come and go


def test_a_rotation_is_followed_and_nothing_is_lost_between(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 5))
    reader = Reader(path)
    assert reader.read() == names(1, 5)
    # given a writer that goes on with the old file, also when there is a new one, and after it was quiet
    path.rename(directory / "feed.1")
    write(directory / "feed.1", *names(6, 7))
    write(path, *names(8, 9))
    assert reader.read() == names(6, 9)
    write(directory / "feed.1", "t-10")
    write(path, "t-11")
    assert reader.read() == names(10, 11) and reader.wait() == []
    write(directory / "feed.1", "t-12")
    assert reader.read() == ["t-12"] and reader.wait() == [] and reader.lost == []


@pytest.mark.parametrize("suffix", [".1", "-20261124", ".2026-11-24_10", ".old", "-20261124-1764", "~", "1"])
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_rotation_of_any_name_is_read_to_its_end(suffix: str, running: bool, directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    path.rename(directory / f"feed{suffix}")
    write(path, *names(13, 14))
    assert (reader if running else reader.restart()).read() == names(11, 14) and reader.wait() == [] and reader.lost == []


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_several_rotations_during_a_backlog_are_all_read_and_in_order(running: bool, directory: Path):
    # given an outbox that is full, and a feed that is rotated four times meanwhile
    path = directory / "feed"
    reader = Reader(path)
    expected, moment = names(1, 308), 1_000
    for first in range(1, 308, 77):
        write(path, *names(first, first + 76))
        os.utime(path, (moment := moment + 1, moment))
        if running:
            reader.draw(0)
        for number in range(9, 0, -1):
            if (directory / f"feed.{number}").exists():
                (directory / f"feed.{number}").rename(directory / f"feed.{number + 1}")
        path.rename(directory / "feed.1")
        if first == 1 and not running:
            reader.draw(0)
            reader.positions = {each.key: each for each in reader.positions.values() if each.state == "passed" and not each.inode}
    write(path, "t-309")
    # then
    assert (reader if running else reader.restart()).read() == [*expected, "t-309"] and reader.wait() == [] and reader.lost == []


def test_files_of_the_same_time_and_of_a_clock_that_was_set_back_are_all_read(directory: Path):
    path = directory / "feed"
    reader = Reader(path)
    reader.draw()
    for number, moment in enumerate((5_000, 5_000, 3_000, 5_000)):
        write(directory / f"feed.{number}", f"t-{number}")
        os.utime(directory / f"feed.{number}", (moment, moment))
    assert sorted(reader.restart().read()) == names(0, 3)


def test_a_first_start_reads_the_feed_alone_and_passes_over_what_older_rotations_left(directory: Path):
    path = directory / "feed"
    write(directory / "feed.1", *names(1, 3))
    (directory / "feed.2.gz").write_bytes(gzip.compress(line("old").encode()))
    write(path, *names(4, 5))
    reader = Reader(path)
    assert reader.read() == names(4, 5)
    # also when they grow, are renamed or compressed later
    write(directory / "feed.1", "late")
    (directory / "feed.2.gz").rename(directory / "feed.3.gz")
    assert reader.read() == [] and reader.restart().wait() == []
    (directory / "feed.2.gz").write_bytes(gzip.compress((directory / "feed.1").read_bytes()))
    (directory / "feed.1").unlink()
    assert reader.restart().wait() == [] and reader.lost == []


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("kind", PACKERS)
def test_a_file_that_is_compressed_before_it_was_read_is_read_on_where_it_was_left(kind: str, running: bool, directory: Path):
    # given a feed that was left in the middle, and two files that were rotated and compressed since
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    write(directory / "other", *names(13, 15))
    for source, target in ((path, "feed.2"), (directory / "other", "feed.1")):
        (directory / f"{target}.{kind}").write_bytes(PACKERS[kind](source.read_bytes()))
        source.unlink()
    write(path, "t-16")
    assert sorted((reader if running else reader.restart()).read()) == sorted(names(11, 16))
    assert reader.wait() == [] and reader.restart().wait() == [] and reader.lost == []


@pytest.mark.parametrize("content", [gzip.compress(b"x" * 999)[:-9], b"\x28\xb5\x2f\xfd rest"], ids=["cut off", "zstd"])
def test_a_compressed_file_that_cannot_be_read_is_waited_for_and_then_named(content: bytes, directory: Path):
    reader = Reader(directory / "feed")
    reader.draw()
    (directory / "feed.1.z").write_bytes(content)
    assert reader.read() == [] and reader.lost == []
    assert reader.wait() == [] and [(each.file, each.offset) for each in reader.lost] == [(str(directory / "feed.1.z"), 0)]
    reader.restart().wait()
    assert len(reader.lost) == 1


def test_a_compressed_file_that_is_being_written_is_read_when_it_is_whole(directory: Path):
    reader, content = Reader(directory / "feed"), gzip.compress("".join(map(line, names(1, 3))).encode())
    reader.draw()
    (directory / "feed.1.gz").write_bytes(content[:20])
    assert reader.read() == []
    (directory / "feed.1.gz").write_bytes(content)
    assert reader.read() == names(1, 3) and reader.wait() == [] and reader.lost == []


def test_what_is_added_to_a_compressed_file_is_read(directory: Path):
    reader, packed = Reader(directory / "feed"), directory / "feed.all.gz"
    write(directory / "feed", "a")
    assert reader.read() == ["a"]
    for number in range(3):
        with packed.open("ab") as file:
            file.write(gzip.compress(line(f"b-{number}").encode()))
        assert (reader.wait() if number % 2 else reader.read() + reader.wait()) == [f"b-{number}"]
    assert reader.lost == []


def test_a_feed_of_which_only_older_rotations_are_there_is_waited_for(directory: Path):
    write(directory / "feed.1", "old")
    reader = Reader(directory / "feed")
    assert reader.read() == [] and reader.reasons() == ["waiting for the file"] and not reader.feed.found
    write(directory / "feed", "a")
    assert reader.read() == ["a"] and reader.feed.found


def test_a_file_that_is_found_nowhere_is_a_lost_place_and_the_new_one_read_from_its_start(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    path.unlink()
    write(path, *names(13, 14))
    assert reader.restart().read() == names(13, 14) and reader.wait() == []
    (lost,) = reader.lost
    assert (lost.feed, lost.file, lost.offset, lost.line) == (str(path), str(path), sum(len(line(each)) for each in names(1, 10)), 10)
    (said,) = [each for each in reader.log if each["reason"] == "lost place"]
    assert (said["file"], said["offset"], said["line"]) == (lost.file, lost.offset, 10) and "run --source -" in said["what_to_do"]


def test_what_is_removed_while_it_is_held_is_read_to_its_end(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    path.unlink()
    write(path, "t-13")
    assert reader.read() == names(11, 13) and reader.wait() == [] and reader.restart().wait() == [] and reader.lost == []


def test_a_copy_with_another_inode_is_the_same_file(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(10)
    shutil.copy(path, directory / "copy")
    (directory / "copy").rename(path)
    assert reader.restart().read() == names(11, 12) and reader.wait() == [] and reader.lost == []


def test_a_copy_beside_it_is_not_read_and_one_that_goes_on_is_from_there(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 5))
    reader = Reader(path)
    assert reader.read() == names(1, 5)
    shutil.copy(path, directory / "feed.copy")
    assert reader.read() == []
    write(directory / "feed.copy", "t-6")
    assert reader.read() == ["t-6"]


def test_a_second_copy_of_what_was_truncated_is_not_read_though_the_feed_begins_alike(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 5))
    reader = Reader(path)
    assert reader.read() == names(1, 5)
    for copy in ("feed.1", "feed.copy"):
        shutil.copy(path, directory / copy)
    path.write_text("{")
    assert reader.read() == [] and reader.wait() == [] and reader.lost == []


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_an_old_copy_of_what_was_overwritten_is_not_read_again(running: bool, directory: Path):
    path = directory / "feed"
    write(path, *names(1, 3))
    reader = Reader(path)
    assert reader.read() == names(1, 3)
    shutil.copy(path, directory / "feed.copy")
    write(path, *names(4, 6))
    assert reader.read() == names(4, 6)
    write(path, "new", mode="w")
    os.utime(directory / "feed.copy", (1_000, 1_000))
    assert (
        (reader if running else reader.restart()).read() == ["new"] and reader.wait() == [] and [each.line for each in reader.lost] == [6]
    )


@pytest.mark.parametrize("others", [3, 10, 12, 40], ids=["shorter", "as-long", "as-long-as-it-is", "longer"])
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_a_file_that_is_overwritten_in_place_is_read_from_its_start_and_the_place_named(running: bool, others: int, directory: Path):
    # given a feed of twelve lines of which ten are read
    path = directory / "feed"
    write(path, *names(11, 22))
    reader = Reader(path)
    reader.draw(10)
    # when other lines are written over it
    new = [f"n-{number}" for number in range(11, 11 + others)]
    write(path, *new, mode="r+")
    os.truncate(path, sum(len(line(each)) for each in new))
    # then those are read, all of them, and where the old ones were left is named
    assert (reader if running else reader.restart()).read() == new and reader.wait() == []
    assert [(each.file, each.line) for each in reader.lost] == [(str(path), 10)]


def test_a_file_that_is_overwritten_while_it_is_read_gives_no_line_of_two_contents(directory: Path, monkeypatch: pytest.MonkeyPatch):
    # given a writer that writes other lines over a file just when its third line is read
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(1)
    new, lines = [f"new-{number}" for number in range(20)], FeedFile.lines

    def overwrite(file: FeedFile) -> Iterator[Line]:
        for each in lines(file):
            yield each
            if each.number == 3:
                write(path, *new, mode="r+")

    with monkeypatch.context() as patched:
        patched.setattr(FeedFile, "lines", overwrite)
        assert reader.draw().messages == []
    assert reader.read() == new and reader.wait() == [] and [each.line for each in reader.lost] == [1]


@pytest.mark.parametrize("read", [0, 10, 12])
def test_copytruncate_while_the_outbox_is_full_loses_nothing(read: int, directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    found = [each.transaction_id for _ in range(read) for each in reader.draw(1).messages]
    # given an outbox that is full while the file is copied and truncated, and then has room again
    reader.draw(0)
    shutil.copy(path, directory / "feed.1")
    reader.draw(0)
    os.truncate(path, 0)
    write(path, *names(13, 30))
    reader.draw(0)
    assert found + reader.read() == names(1, 30) and reader.wait() == [] and reader.lost == []


def test_a_truncated_file_of_which_there_is_no_copy_is_named(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    assert reader.read() == names(1, 12)
    write(path, "t-13", mode="w")
    assert reader.read() == ["t-13"] and reader.wait() == []
    assert [(each.line, each.reason) for each in reader.lost] == [(12, "truncated, overwritten, removed or moved away")]


def test_a_file_that_is_cut_at_its_end_is_named_at_once(directory: Path):
    path = directory / "feed"
    write(path, *names(1, 12))
    reader = Reader(path)
    reader.draw(1)
    os.truncate(path, len(line("t-1")) * 3)
    assert reader.read() == names(2, 3) and [each.line for each in reader.lost] == [1]


# Ends of lines


def test_bytes_that_wait_for_a_line_end_are_said_once_and_taken_when_it_comes(directory: Path):
    path = directory / "feed"
    path.write_text(line("a") + line("b").rstrip())
    reader = Reader(path)
    assert reader.read() == ["a"] and "no line end" not in reader.reasons()
    assert reader.wait() == [] and reader.wait() == []
    (said,) = [each for each in reader.log if each["reason"] == "no line end"]
    assert (said["file"], said["offset"], said["line"], said["bytes"]) == (str(path), len(line("a")), 2, len(line("b")) - 1)
    assert [each.waiting for each in reader.positions.values() if each.inode] == [len(line("b")) - 1]
    with path.open("a") as file:
        file.write("\n")
    assert reader.read() == ["b"] and [each.waiting for each in reader.positions.values() if each.inode] == [0]


@pytest.mark.parametrize(("last", "found"), [('{"transaction_id": "b"}', ["b"]), ('{"transaction_id"', [])], ids=["whole", "fragment"])
def test_the_last_line_of_a_rotated_file_needs_no_end_if_it_is_whole(last: str, found: list[str], directory: Path):
    path = directory / "feed"
    path.write_text(line("a") + last)
    reader = Reader(path)
    assert reader.read() == ["a"]
    path.rename(directory / "feed.1")
    write(path, "c")
    assert reader.read() + reader.wait() == ["c", *found]
    # a fragment waits for its rest, whenever that comes
    with (directory / "feed.1").open("a") as file:
        file.write("\n" if found else ': "b"}\n')
    assert found + reader.restart().read() == ["b"] and reader.wait() == [] and reader.lost == []


def test_a_byte_order_mark_at_the_start_of_a_file_is_passed_over(directory: Path):
    path = directory / "feed"
    path.write_bytes(b"\xef\xbb\xbf" + line("a").encode() + b"\xef\xbb\xbf" + line("b").encode())
    reader = Reader(path)
    draft = reader.draw()
    assert [each.body for each in draft.messages] == [line("a").strip()]
    assert [(each.line, each.reason) for each in draft.rejected] == [(2, "not_json")]
