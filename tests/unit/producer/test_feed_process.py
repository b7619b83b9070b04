"""The real program on a feed whose files are moved about while its outbox is full, and which is killed: each line arrives."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from feed_reader import names, write
from outbox import Outbox
from producer_process import Cloud, Program


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_feed_that_is_moved_about_while_the_outbox_is_full_and_the_program_killed_arrives_whole(cloud: Cloud, directory: Path):
    path, state = directory / "feed", directory / "state"
    write(path, *names(1, 1_200))
    options = ["--source", str(path), "--source-quiet", "1", "--outbox-rows", "1000", "--linger", "0"]
    # given a producer whose outbox is full
    program = Program(cloud, *options, state=state)
    until(lambda: len(cloud.received) >= 1_000)
    outbox = Outbox(state)
    until(lambda: any(each.seen == path.stat().st_size for each in outbox.positions(str(path))))
    # when the feed is copied and truncated, the copy compressed, the feed renamed while its writer holds it, and a new one made
    shutil.copy(path, directory / "feed.1")
    os.truncate(path, 0)
    until(lambda: any(each.name == str(directory / "feed.1") for each in outbox.positions(str(path))))
    (directory / "feed.1.gz").write_bytes(gzip.compress((directory / "feed.1").read_bytes()))
    (directory / "feed.1").unlink()
    writer = path.open("a")
    path.rename(directory / "feed.2026-11-24_10")
    write(path, *names(1_221, 1_240))
    writer.write("".join(f'{{"transaction_id": "{name}"}}\n' for name in names(1_201, 1_220)))
    writer.close()
    # and it is killed, and there is room again
    program.process.kill()
    program.finish()
    outbox.settle(1_000)
    program = Program(cloud, *options, state=state)
    until(lambda: len(set(cloud.received)) >= 1_240)
    # then each line has arrived, and nothing is called lost
    assert program.stop_when(lambda: outbox.count_unsent() == 0)[1] == 0
    assert set(cloud.received) == set(names(1, 1_240)) and len(cloud.received) <= 1_280
    assert outbox.number("SELECT max(sequence) FROM entry") == 1_240
    assert outbox.number("SELECT count(*) FROM lost_place") == outbox.count_rejected() == 0
    outbox.close()


def test_a_lost_place_is_mended_as_its_line_says(cloud: Cloud, directory: Path):
    # given a feed that was read up to its tenth line, and is gone when the program is started again
    path, state = directory / "feed", directory / "state"
    write(path, *names(1, 12))
    assert Program(cloud, "--source", str(path), "--count", "10", "--linger", "0", state=state).finish()[0] == 0
    rest = path.read_text().splitlines(keepends=True)[10:]
    path.unlink()
    write(path, "t-13")
    program = Program(cloud, "--source", str(path), "--source-quiet", "1", "--linger", "0", state=state)
    outbox = Outbox(state)
    until(lambda: outbox.number("SELECT count(*) FROM lost_place"))
    _, code, out, _ = program.stop_when(lambda: len(cloud.received) == 11)
    (said,) = [line for line in out if line.get("reason") == "lost place"]
    assert code == 0 and (said["file"], said["line"]) == (str(path), 10) and "run --source -" in said["what_to_do"]
    # when the lines after that place are given to it, and the entry is removed
    program = Program(cloud, "run", "--source", "-", "--linger", "0", state=state)
    assert program.process.stdin
    program.process.stdin.writelines(rest)
    assert program.finish()[0] == 0
    assert Program(cloud, "lost", "--remove-through", "1", state=state).finish()[0] == 0
    # then nothing is missing, and nothing is lost
    assert sorted(cloud.received) == sorted(names(1, 13)) and outbox.number("SELECT count(*) FROM lost_place") == 0
    outbox.close()
