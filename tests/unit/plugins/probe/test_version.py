"""The probe of one version that is invoked directly: judged as the whole pipeline is, without queue and mapping."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from ansible.module_utils.pipeline.core.checks import Check
from ansible.module_utils.pipeline.probe.run import Outcome
from botocore.exceptions import ReadTimeoutError
from probe_fakes import Function, World, refuse

TAKEN = "version 3 takes its transactions"


@pytest.fixture
def world(aws: None) -> World:
    return World()


def check(outcome: Outcome, name: str) -> Check:
    return next(check for check in outcome.checks if check["check"] == f"probe: {name}")


def test_a_right_version_passes_every_check_and_is_left_as_it_was(world: World) -> None:
    outcome = world.run(version="3")

    assert world.failed(outcome) == set()
    assert len(outcome.checks) == 23
    assert (world.items(), world.dead_letters(), outcome.left_behind) == ([], [], [])


def test_nothing_goes_through_the_queue(world: World) -> None:
    world.run(version="3")

    assert "send_message_batch" not in world.sqs.calls


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        ({"money": round}, {"cents are stored exactly"}),
        ({"version": "2"}, {"a published version processed them"}),
        ({"reason": "bad"}, {"invalid record is in the dead-letter queue with its reason"}),
    ],
    ids=["rounds money", "is another version", "other reason"],
)
def test_a_wrong_version_is_caught_by_the_same_checks(world: World, fault: dict[str, Any], caught_by: set[str]) -> None:
    world.function = Function(**fault)

    outcome = world.run(version="3")

    assert world.failed(outcome) == caught_by
    assert (world.items(), world.dead_letters(), outcome.left_behind) == ([], [], [])


def test_records_that_it_leaves_to_be_tried_again_are_sent_again_alone(world: World) -> None:
    """As with a role whose permissions do not work yet."""
    world.unsettled = [2, 10]

    assert world.failed(world.run(version="3")) == set()
    assert world.unsettled == []


def test_a_version_that_never_settles_a_record_fails_in_time_and_leaves_nothing(world: World) -> None:
    world.unsettled = [10] * 1000

    outcome = world.run(timeout=20, version="3")

    assert check(outcome, TAKEN)["found"] == "0 of 10 settled: it left 10 to be retried, for 20 s"
    assert outcome.left_behind == []
    assert 20 <= world.passed < 40


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"FunctionError": "Unhandled", "Payload": b'{"errorType": "ImportError"}'}, 'Unhandled error: {"errorType": "ImportError"}'),
        ({"Payload": b"null"}, "no partial batch response: null"),
        ({"Payload": b"[]"}, "no partial batch response: []"),
    ],
    ids=["fails", "answers nothing", "answers something else"],
)
def test_a_version_that_does_not_answer_as_it_must_fails_at_once(world: World, answer: dict[str, Any], found: str) -> None:
    world.invoke = lambda **_: answer | {"Payload": io.BytesIO(answer["Payload"])}  # type: ignore[method-assign]

    outcome = world.run(version="3")

    assert check(outcome, TAKEN)["found"] == f"0 of 10 settled: {found}"
    assert world.passed < 20


def test_a_version_that_may_not_be_invoked_says_so_at_once(world: World) -> None:
    def denied(**_: Any) -> Any:
        raise refuse("AccessDeniedException", "Invoke", 403)

    world.invoke = denied  # type: ignore[method-assign]

    assert "AccessDeniedException" in check(world.run(version="3"), TAKEN)["found"]
    assert world.passed < 20


@pytest.mark.parametrize("code", ["ResourceConflictException", "TooManyRequestsException"])
def test_a_version_that_cannot_be_invoked_yet_is_asked_again(world: World, code: str) -> None:
    refusals = [refuse(code, "Invoke", 409)] * 2
    invoke = world.invoke

    def busy(**arguments: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return invoke(**arguments)

    world.invoke = busy  # type: ignore[method-assign]

    assert world.failed(world.run(version="3")) == set()


def test_an_invocation_whose_answer_was_lost_passes_and_leaves_no_copy(world: World) -> None:
    """The function ran twice: the transactions are duplicates, the invalid record is in the dead-letter queue twice."""
    invoke, lost = world.invoke, []

    def lose_one(**arguments: Any) -> Any:
        answer = invoke(**arguments)
        if not lost:
            lost.append(json.loads(arguments["Payload"]))
            raise ReadTimeoutError(endpoint_url="lambda")
        return answer

    world.invoke = lose_one  # type: ignore[method-assign]

    outcome = world.run(version="3")

    assert world.failed(outcome) == set()
    assert (world.items(), world.dead_letters(), outcome.left_behind) == ([], [], [])
