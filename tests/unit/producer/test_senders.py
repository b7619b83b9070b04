"""Several requests under way at once: on a clock that jumps, with answers that come in any order, and in real threads."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from fakes import client_error
from hypothesis import example, given, settings
from hypothesis import strategies as st
from outbox import Outbox
from outbox_records import Draft
from producer_fakes import SideBySide, World, fail, message, take_all
from senders import Senders
from sending import COMMIT_ENTRIES, SENDERS
from sqs_client import SendError

AWAY = client_error("ServiceUnavailable", "SendMessageBatch", 503)
REFUSED = client_error("AccessDenied", "SendMessageBatch", 403)
CUT = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
STEPS = st.sampled_from([take_all, fail("0"), fail("1", "3", "9"), AWAY, CUT])


def record(world: World, count: int) -> None:
    """What an earlier life of the producer committed and did not send."""
    outbox = Outbox(world.directory, exclusive=True)
    for first in range(1, count + 1, 500):
        outbox.add(Draft([message(f"old-{number}") for number in range(first, min(first + 500, count + 1))]))
    outbox.close()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(STEPS, max_size=25),
    st.lists(st.sampled_from([0.0, 0.01, 0.5, 3.0]), min_size=1, max_size=20),
    st.integers(0, 200),
    st.booleans(),
)
@example([take_all] * 12 + [AWAY] * 2, [0.01, 0.5, 0.5, 0.0, 0.5], 71, True)  # a success between two failures
def test_all_is_sent_and_marked_whatever_comes_back_when(plan: list[Any], durations: list[float], count: int, drawn: bool):
    # given entries of before, and more that are drawn, and a queue that in the end takes all
    world = World(*plan)
    record(world, count)
    senders = SideBySide(world.clock, itertools.cycle(durations))
    # when
    assert world.run_from(None, senders=senders, **({"count": 60, "rate": 100.0} if drawn else {"count": 0, "within": 86_400.0})) == 0
    # then all is marked, and each mark is of an entry that the queue took
    states = world.states()
    assert len(states) == count + 60 * drawn and set(states.values()) <= {"sent"}
    answers = [(sequences, answer) for _, _, sequences, answer in senders.spans if not isinstance(answer, Exception)]
    assert {sequences[int(one["Id"])] for sequences, answer in answers for one in answer["Successful"]} == set(states)
    refused = {(begin, end) for begin, end, _, answer in senders.spans if isinstance(answer, Exception)}
    for begin, end, sequences, _ in senders.spans:
        others = [each for each in senders.spans if each[0] < end - 1e-6 and begin < each[1] - 1e-6 and each[2] != sequences]
        assert not {one for each in others for one in each[2]} & set(sequences)  # no entry is in two requests at once
    for moment, *_ in senders.spans:
        assert sum(begin <= moment < end - 1e-6 for begin, end, *_ in senders.spans) <= SENDERS
    # and after a request that failed, one at a time until one succeeds
    for _, failed in refused:
        ends = [end for _, end, _, answer in senders.spans if not isinstance(answer, Exception) and end >= failed]
        until = min(ends, default=float("inf"))
        begun = [begin for begin, _, _, _ in senders.spans if failed < begin < until]
        assert all(sum(begin <= moment < end - 1e-6 and begin > failed for begin, end, *_ in senders.spans) <= 1 for moment in begun)


def test_the_first_request_of_each_is_in_order():
    world = World()
    record(world, 100)
    senders = SideBySide(world.clock, itertools.cycle([3.0, 1.0, 2.0]))
    world.run_from(None, senders=senders, count=0, within=600.0)
    assert [ids[0] for _, ids in world.requests] == [f"old-{number}" for number in range(1, 100, 10)]


def test_a_backlog_is_sent_by_several_requests_at_once_and_marked_by_few_commits(monkeypatch: pytest.MonkeyPatch):
    # given a queue that takes a tenth of a second for a batch
    world, marks = World(), []
    record(world, 4_000)
    mark = Outbox.mark
    monkeypatch.setattr(Outbox, "mark", lambda outbox, ids: marks.append(len(ids)) or mark(outbox, ids))
    # when
    world.run_from(None, senders=SideBySide(world.clock, itertools.repeat(0.1)), count=0, within=600.0)
    # then
    assert world.clock.passed == pytest.approx(4_000 / 10 / SENDERS * 0.1, rel=0.05)
    assert sum(marks) == 4_000 and max(marks) == COMMIT_ENTRIES and len(marks) <= 101


def test_what_comes_together_shares_a_commit():
    commits: list[int] = []

    class Flood:
        path = None

        def next_moment(self, now: float) -> float:
            return now

        def draw(self, now: float, limit: int) -> Draft:
            commits.append(limit)
            return Draft([message(f"new-{len(commits)}-{number}") for number in range(limit)])

    world = World()
    assert world.run_from(Flood(), senders=SideBySide(world.clock, itertools.repeat(0.1)), count=2_000) == 0
    assert commits == [COMMIT_ENTRIES] * (2_000 // COMMIT_ENTRIES)


def test_an_outage_counts_once_for_all_that_were_under_way():
    # given four requests under way as the queue goes away for a moment
    world = World(take_all, *[AWAY] * SENDERS)
    record(world, 100)
    world.run_from(None, senders=SideBySide(world.clock, itertools.repeat(1.0)), count=0, within=600.0)
    assert [line["attempt"] for line in world.lines("retrying")] == [1]


def test_a_failure_after_a_success_is_a_new_outage():
    # given four requests under way, of which one fails, then one succeeds, then one fails
    world = World(take_all, AWAY, take_all, AWAY)
    record(world, 100)
    senders = SideBySide(world.clock, itertools.chain([0.1, 1.0, 2.0, 3.0, 4.0], itertools.repeat(0.1)))
    assert world.run_from(None, senders=senders, count=0, within=600.0) == 0
    assert [line["attempt"] for line in world.lines("retrying")] == [1, 1]
    failed = [(end, sequences) for _, end, sequences, answer in senders.spans if isinstance(answer, Exception)]
    assert [end for end, _ in failed] == pytest.approx([1.1, 3.1])
    # then its batch waits, as after every failure
    (again,) = [begin for begin, _, sequences, answer in senders.spans if sequences == failed[1][1] and not isinstance(answer, Exception)]
    assert again > failed[1][0]


def test_what_was_taken_is_marked_although_another_request_was_refused():
    # given the first request of a life, which is taken, and another at its side, which is refused
    world = World(take_all, REFUSED, *[take_all] * 10)
    record(world, 20)
    senders = SideBySide(world.clock, itertools.repeat(1.0), 2)
    assert world.run_from(None, senders=senders, count=0, within=600.0) == 0
    assert set(world.states().values()) == {"sent"}
    assert world.clients == 2  # the credentials were read again


def test_credentials_that_cannot_be_read_for_a_while_are_an_outage():
    # given a queue that refuses once, and a metadata service that then gives nothing twice
    world, answers = World(take_all, REFUSED), [True, False, False]
    record(world, 20)
    connect = world.connect

    def sometimes() -> World:
        if answers and not answers.pop(0):
            raise NoCredentialsError
        return connect()

    world.connect = sometimes  # type: ignore[method-assign]
    assert world.run_from(None, senders=SideBySide(world.clock, itertools.repeat(1.0), 2), count=0, within=600.0) == 0
    assert set(world.states().values()) == {"sent"} and not answers
    assert [line["attempt"] for line in world.lines("retrying")] == [1, 2, 3]


def test_the_first_request_is_alone_until_it_succeeds():
    # given a first request that takes longer than a refusal would
    world = World(take_all, REFUSED)
    record(world, 100)
    senders = SideBySide(world.clock, itertools.chain([3.0], itertools.repeat(0.1)))
    assert world.run_from(None, senders=senders, count=0, within=600.0) == 0
    assert set(world.states().values()) == {"sent"} and sorted(begin for begin, *_ in senders.spans)[1] >= 3.0


def test_a_first_request_that_is_refused_ends_it():
    world = World(*[REFUSED] * 10)
    record(world, 100)
    with pytest.raises(SendError):
        world.run_from(None, senders=SideBySide(world.clock, itertools.repeat(1.0)), count=0, within=600.0)
    assert set(world.states().values()) == {"unsent"}


def test_an_error_that_is_none_of_the_queue_is_raised():
    world = World(KeyError("a bug"))
    record(world, 10)
    with pytest.raises(KeyError, match="a bug"):
        world.run_from(None, senders=SideBySide(world.clock, itertools.repeat(1.0)), count=0, within=600.0)


@pytest.mark.parametrize("seconds", [1.0, 7.0])
def test_a_stop_waits_for_what_is_under_way_and_marks_it(seconds: float):
    # given a stop while requests are under way that take long
    world = World(stop_at=0.5)
    record(world, 10_000)
    senders = SideBySide(world.clock, itertools.repeat(seconds))
    assert world.run_from(None, senders=senders, rate=0.001) == 1
    assert world.clock.passed <= 20.5
    assert senders.asked < 100  # it waits, and does not spin
    sent = sum(len(ids) for _, ids in world.requests)
    assert list(world.states().values()).count("sent") == sent > 0


# In threads


def test_requests_are_made_at_once_and_come_back_as_they_end():
    together, gate = threading.Barrier(3, timeout=30), threading.Event()
    senders = Senders(3)

    def request(name: str, wait: Callable[[], object]) -> Callable[[], str]:
        def make() -> str:
            together.wait()
            wait()
            return name

        return make

    senders.start(1, request("late", lambda: gate.wait(30)))
    senders.start(2, request("soon", lambda: None))
    senders.start(3, request("fails", lambda: 1 / 0))
    found: list[tuple[Any, Any]] = []
    while len(found) < 2:
        found += senders.finished(30)
    assert senders.under_way == 1 and {key for key, _ in found} == {2, 3}
    assert isinstance(dict(found)[3], ZeroDivisionError) and dict(found)[2] == "soon"
    began = time.monotonic()
    assert senders.finished(0.05) == [] and time.monotonic() - began >= 0.05
    assert senders.finished(-1.0) == []
    gate.set()
    assert senders.finished(30) == [(1, "late")] and senders.under_way == 0
