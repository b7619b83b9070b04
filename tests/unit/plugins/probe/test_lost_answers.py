"""The probe on a day when answers are lost: what it sent twice is judged once, and what it hid comes back in time."""

from __future__ import annotations

from typing import Any

import pytest
from probe_fakes import World


@pytest.fixture
def world(aws: None) -> World:
    return World()


@pytest.mark.parametrize("known", [0, 1], ids=["the-first-is-known", "the-second-is-known"])
def test_a_send_that_the_sdk_made_again_passes_and_leaves_no_copy(world: World, known: int) -> None:
    """Either copy may come out first; the message ids of one are known."""
    once = world.sqs.send_message_batch

    def twice(**arguments: Any) -> Any:
        answers = [once(**arguments), once(**arguments)]
        answers[known]["ResponseMetadata"]["RetryAttempts"] = 1
        return answers[known]

    world.sqs.send_message_batch = twice
    one_at_a_time(world)

    outcome = world.run()

    assert world.failed(outcome) == set()
    assert (world.items(), world.dead_letters(), outcome.left_behind) == ([], [], [])


def one_at_a_time(world: World) -> None:
    """Have the dead-letter queue give one message a call, as queues of several servers may."""
    receive = world.sqs.receive_message
    world.sqs.receive_message = lambda **arguments: receive(**arguments | {"MaxNumberOfMessages": 1})


def test_a_dead_letter_whose_answer_was_lost_is_met_when_it_shows_again(world: World) -> None:
    receive = world.sqs.receive_message
    hidden: list[tuple[str, float]] = []

    def lost_once(**arguments: Any) -> Any:
        answer = receive(**arguments)
        if answer.get("Messages") and not hidden:
            hidden.append((answer["Messages"][0]["ReceiptHandle"], world.passed + arguments["VisibilityTimeout"]))
            return {}
        return answer

    def show_again() -> None:
        handle, shows_at = hidden[0]
        if world.passed >= shows_at:
            world.sqs.change_message_visibility(QueueUrl=world.dead_letter_url, ReceiptHandle=handle, VisibilityTimeout=0)

    world.sqs.receive_message = lost_once
    world.on_wait = lambda: hidden and show_again()

    outcome = world.run(timeout=30)

    assert world.failed(outcome) == set()
    assert hidden
