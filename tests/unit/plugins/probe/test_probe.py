"""The end-to-end probe: every check fails for its own cause, passes otherwise, and nothing of the probe's stays behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from probe_fakes import HIGH, LOG_GROUP, MEDIUM, TABLE, Function, World, category, refuse

ALL_CATEGORIES = {
    "boundary 10000.00 is high_value",
    "boundary 9999.99 is medium_value",
    "boundary 1000.00 is medium_value",
    "boundary 999.99 is standard",
    "amount 5500.00 is medium_value",
    "amount 0.07 is standard",
    "amount 4.35 is standard",
    "amount 19.99 is standard",
    "amount 1234567.89 is high_value",
}
STORED, CENTS, FIELDS = "its transactions are stored", "cents are stored exactly", "every other field is stored as sent"
TIME, LOGS = "processed_at_utc is when it was processed", "function logs name every id"
INVALID_LOG, INVALID = (
    "invalid record is in the function's log with its reason",
    "invalid record is in the dead-letter queue with its reason",
)
MARKS, BODY = "invalid record keeps its detail, source_message_id and outbox_id", "invalid record's body is whole"
NOT_IN_TABLE, RELEASED, REMOVED = "invalid record is not in the table", "other dead-letter messages are released", "own records removed"
TAKEN, VERSION = "the queue takes its transactions", "a published version processed them"
EVERYTHING = ALL_CATEGORIES | {
    STORED,
    CENTS,
    FIELDS,
    TIME,
    LOGS,
    INVALID_LOG,
    INVALID,
    MARKS,
    BODY,
    NOT_IN_TABLE,
    RELEASED,
    REMOVED,
    TAKEN,
    VERSION,
}


@pytest.fixture
def world(aws: None) -> World:
    return World()


def raising(error: BaseException) -> Any:
    def call(**_arguments: Any) -> Any:
        raise error

    return call


def found(outcome: Any, name: str) -> str:
    return next(check["found"] for check in outcome.checks if check["check"] == f"probe: {name}")


def test_a_right_pipeline_passes_every_check(world: World) -> None:
    outcome = world.run()

    assert {check["check"].removeprefix("probe: ") for check in outcome.checks} == EVERYTHING
    assert [check for check in outcome.checks if not check["passed"]] == []


def test_a_right_pipeline_is_left_as_it_was(world: World) -> None:
    outcome = world.run()

    assert (world.items(), world.dead_letters(), outcome.left_behind) == ([], [], [])


def test_checks_have_exactly_the_shape_of_a_check(world: World) -> None:
    for check in world.run().checks:
        assert {name: type(value) for name, value in check.items()} == {
            "check": str,
            "passed": bool,
            "expected": str,
            "found": str,
            "seconds": float,
            "remedy": str,
        }


def only_over(amount: Decimal) -> str:
    return "high_value" if amount > HIGH else "medium_value" if amount >= MEDIUM else "standard"


def drop_merchant(item: dict[str, Any]) -> None:
    del item["merchant"]


def add_field(item: dict[str, Any]) -> None:
    item["ttl"] = 1


def forget_category(item: dict[str, Any]) -> None:
    del item["transaction_category"]


def number_for_truth(item: dict[str, Any]) -> None:
    item["verification"]["nested"]["kept"] = 1


def cents_by_float(amount: Decimal) -> Decimal:
    return Decimal(int(float(amount) * 100)) / 100


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        pytest.param({"category": only_over}, {"boundary 10000.00 is high_value"}, id="upper boundary in the lower category"),
        pytest.param(
            {"category": lambda amount: category(amount + Decimal("0.01"))},
            {"boundary 9999.99 is medium_value", "boundary 999.99 is standard"},
            id="a cent too early",
        ),
        pytest.param(
            {"category": lambda amount: category(round(amount))},
            {"boundary 9999.99 is medium_value", "boundary 999.99 is standard"},
            id="category of the rounded amount",
        ),
        pytest.param({"change": forget_category}, ALL_CATEGORIES, id="no category"),
        pytest.param({"money": round}, {CENTS}, id="money rounded to units"),
        pytest.param({"money": lambda amount: Decimal(f"{float(amount):.20f}")}, {CENTS}, id="money through a float"),
        pytest.param({"money": cents_by_float}, {CENTS}, id="cents by float multiplication"),
        pytest.param({"money": str}, {CENTS}, id="money as text"),
        pytest.param({"change": drop_merchant}, {FIELDS}, id="field dropped"),
        pytest.param({"change": add_field}, {FIELDS}, id="field added"),
        pytest.param({"change": number_for_truth}, {FIELDS}, id="true became 1"),
        pytest.param({"stamp": lambda: datetime.now().isoformat()}, {TIME}, id="time without zone"),
        pytest.param({"stamp": lambda: datetime.now(UTC).astimezone().isoformat()[:-6] + "+02:00"}, {TIME}, id="time of another zone"),
        pytest.param({"stamp": lambda: (datetime.now(UTC) - timedelta(minutes=11)).isoformat()}, {TIME}, id="time before the sending"),
        pytest.param({"stamp": lambda: (datetime.now(UTC) + timedelta(minutes=11)).isoformat()}, {TIME}, id="time to come"),
        pytest.param({"stamp": lambda: "yesterday"}, {TIME}, id="no time at all"),
        pytest.param({"version": "$LATEST"}, {VERSION}, id="not a published version"),
        pytest.param({"version": 3}, {VERSION}, id="version as a number"),
        pytest.param({"logged_reason": "bad"}, {INVALID_LOG}, id="other reason logged"),
        pytest.param({"outcome": "redrive"}, {INVALID_LOG}, id="other outcome logged"),
        pytest.param({"reason": "bad"}, {INVALID}, id="other reason in the dead-letter queue"),
        pytest.param({"reason": None}, {INVALID}, id="no reason in the dead-letter queue"),
        pytest.param({"keeps_attributes": False}, {MARKS}, id="outbox_id lost"),
        pytest.param({"names_source": False}, {MARKS}, id="source_message_id lost"),
        pytest.param({"detail": "amount"}, {MARKS}, id="detail is no JSON"),
        pytest.param({"detail": "[]"}, {MARKS}, id="detail is no object"),
        pytest.param({"detail": json.dumps({"x": "y" * 1100})}, {MARKS}, id="detail without bounds"),
        pytest.param({"body": lambda body: json.dumps(json.loads(body))}, {BODY}, id="body written anew"),
        pytest.param({"body": lambda body: body[:-1]}, {BODY}, id="body cut"),
        pytest.param({"stores_invalid": True}, {NOT_IN_TABLE}, id="invalid stored"),
        pytest.param({"quarantines": False}, {INVALID, MARKS, BODY, REMOVED}, id="invalid dropped"),
    ],
)
def test_each_fault_of_the_function_is_caught_by_its_own_checks(world: World, fault: dict[str, Any], caught_by: set[str]) -> None:
    world.function = Function(**fault)

    outcome = world.run()

    assert world.failed(outcome) == caught_by
    assert (world.items(), world.dead_letters()) == ([], [])


def test_a_dead_function_fails_all_but_what_does_not_depend_on_it(world: World) -> None:
    world.function = Function(alive=False)

    outcome = world.run()

    assert world.failed(outcome) == EVERYTHING - {TAKEN, NOT_IN_TABLE, RELEASED}


def test_a_dead_function_costs_the_timeout_and_short_waits_only(world: World) -> None:
    world.function = Function(alive=False)

    world.run(timeout=20, log_timeout=300)

    assert 20 <= world.passed < 20 + 2 * 5 + 10


def test_a_dead_function_points_to_the_mapping(world: World) -> None:
    world.function = Function(alive=False)

    stored = next(check for check in world.run().checks if check["check"] == f"probe: {STORED}")

    assert "event source mapping of FinancialTransactionQueue" in stored["remedy"] and LOG_GROUP in stored["remedy"]


def test_what_a_dead_function_may_still_store_is_named(world: World) -> None:
    world.function = Function(alive=False)

    outcome = world.run()

    assert set(outcome.left_behind) == set(outcome.transaction_ids)
    assert all(one in found(outcome, REMOVED) for one in outcome.transaction_ids)


def test_a_lost_transaction_is_named(world: World) -> None:
    world.function = Function(loses=1)

    outcome = world.run()

    lost = outcome.left_behind[0]
    assert lost in found(outcome, STORED) and lost in found(outcome, LOGS) and lost in found(outcome, REMOVED)
    assert STORED in world.failed(outcome)


def test_what_arrives_late_but_in_time_passes(world: World) -> None:
    world.function.alive = False

    def recover() -> None:
        if world.passed > 5:
            world.function.alive = True
            world.process()

    world.on_wait = recover
    assert world.failed(world.run()) == set()


def test_a_missing_table_ends_the_wait_at_once(world: World) -> None:
    world.function.alive = False
    world.dynamodb.delete_table(TableName=TABLE)

    outcome = world.run(timeout=600)

    assert "ResourceNotFoundException" in found(outcome, STORED)
    assert world.passed < 30


def test_a_missing_log_group_fails_the_log_checks_and_says_so(world: World) -> None:
    world.function.logs = False
    world.logs.delete_log_group(logGroupName=LOG_GROUP)

    outcome = world.run(log_timeout=600)

    assert world.failed(outcome) == {LOGS, INVALID_LOG}
    assert "ResourceNotFoundException" in found(outcome, INVALID_LOG) and world.passed < 30


def test_lines_that_are_late_are_unchecked_and_not_wrong(world: World) -> None:
    world.function.logs = False

    outcome = world.run(log_timeout=180)

    assert world.failed(outcome) == set()
    unchecked = [check["check"].removeprefix("probe: ") for check in outcome.checks if check.get("unchecked")]
    assert unchecked == [LOGS, INVALID_LOG]
    assert found(outcome, LOGS).startswith("unchecked within 18") and found(outcome, INVALID_LOG).startswith("unchecked within 18")
    assert 180 <= world.passed < 200


def test_a_missing_queue_fails_without_any_wait_and_leaves_nothing(world: World) -> None:
    world.sqs.delete_queue(QueueUrl=world.queue_url)

    outcome = world.run(timeout=600)

    assert world.failed(outcome) == EVERYTHING - {RELEASED, REMOVED}
    assert world.passed == 0 and outcome.left_behind == []


def test_a_missing_dead_letter_queue_says_so(world: World) -> None:
    world.function.quarantines = False
    world.sqs.delete_queue(QueueUrl=world.dead_letter_url)

    outcome = world.run(timeout=600)

    assert world.failed(outcome) == {INVALID, MARKS, BODY, REMOVED}
    assert "NonExistentQueue" in found(outcome, INVALID) and world.passed < 30


def test_entries_that_the_queue_refuses_for_now_are_sent_again_alone(world: World) -> None:
    sizes = []
    send = world.sqs.send_message_batch

    def refuse_one(**arguments: Any) -> Any:
        sizes.append(len(arguments["Entries"]))
        if len(sizes) > 1:
            return send(**arguments)
        first, *rest = arguments["Entries"]
        response = send(QueueUrl=arguments["QueueUrl"], Entries=rest)
        return response | {"Failed": [{"Id": first["Id"], "Code": "InternalError", "SenderFault": False}]}

    world.sqs.send_message_batch = refuse_one
    assert world.failed(world.run()) == set()
    assert sizes == [10, 1]


def test_strangers_in_the_dead_letter_queue_stay_there_and_visible(world: World) -> None:
    strangers = [f"stranger {number}" for number in range(25)]
    for body in strangers:
        world.sqs.send_message(QueueUrl=world.dead_letter_url, MessageBody=body)

    outcome = world.run()

    assert world.failed(outcome) == set()
    assert sorted(world.dead_letters()) == sorted(strangers)


def test_strangers_are_released_when_the_invalid_never_comes(world: World) -> None:
    world.function.quarantines = False
    world.sqs.send_message(QueueUrl=world.dead_letter_url, MessageBody="stranger")

    world.run()

    assert world.dead_letters() == ["stranger"]


def test_the_dead_letter_queue_is_read_no_further_than_needed(world: World) -> None:
    process = world.process

    def process_first() -> None:
        process()
        for number in range(25):
            world.sqs.send_message(QueueUrl=world.dead_letter_url, MessageBody=f"stranger {number}")

    world.process = process_first  # type: ignore[method-assign]
    received = []
    receive = world.sqs.receive_message
    world.sqs.receive_message = lambda **arguments: received.append(arguments) or receive(**arguments)

    assert world.failed(world.run()) == set()
    assert len(received) == 1


def test_a_stranger_that_cannot_be_released_fails_its_check(world: World) -> None:
    world.sqs.send_message(QueueUrl=world.dead_letter_url, MessageBody="stranger")
    world.sqs.change_message_visibility_batch = raising(refuse("AccessDenied", "ChangeMessageVisibilityBatch", 403))

    assert world.failed(world.run()) == {RELEASED}


@pytest.mark.parametrize("call", ["delete_item", "delete_message"])
def test_what_may_not_be_deleted_is_named(world: World, call: str) -> None:
    client = world.dynamodb if call == "delete_item" else world.sqs
    calls: list[Any] = []
    real = getattr(client, call)

    def refuse_own(**arguments: Any) -> Any:
        if arguments.get("QueueUrl") == world.queue_url:
            return real(**arguments)
        calls.append(arguments)
        raise refuse("AccessDenied", call, 403)

    setattr(client, call, refuse_own)
    outcome = world.run()

    assert world.failed(outcome) == {REMOVED}
    assert "AccessDenied" in found(outcome, REMOVED) and calls
    assert outcome.left_behind[-1] == outcome.transaction_ids[-1]


def test_a_throttled_deletion_is_tried_again(world: World) -> None:
    refusals = [refuse("ThrottlingException", "DeleteItem")] * 3
    delete = world.dynamodb.delete_item

    def throttled(**arguments: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return delete(**arguments)

    world.dynamodb.delete_item = throttled
    assert world.failed(world.run()) == set()


def test_a_record_that_comes_back_after_its_deletion_is_named(world: World) -> None:
    delete = world.dynamodb.delete_item

    def delivered_twice(**arguments: Any) -> Any:
        response = delete(**arguments)
        if not world.items():
            world.dynamodb.put_item(TableName=TABLE, Item=arguments["Key"])
        return response

    world.dynamodb.delete_item = delivered_twice
    outcome = world.run()

    assert world.failed(outcome) == {REMOVED} and len(outcome.left_behind) == 1
    assert f"{outcome.left_behind[0]} is in the table again" in found(outcome, REMOVED)


@pytest.mark.parametrize("moment", ["get_item", "receive_message", "filter_log_events"])
def test_an_interrupted_probe_removes_its_own_records(world: World, moment: str) -> None:
    client = {"get_item": world.dynamodb, "receive_message": world.sqs, "filter_log_events": world.logs}[moment]
    name = "batch_get_item" if moment == "get_item" else moment
    real = getattr(client, name)

    def interrupt(**arguments: Any) -> Any:
        setattr(client, name, real)
        raise KeyboardInterrupt

    setattr(client, name, interrupt)
    probe = world.probe()
    with pytest.raises(KeyboardInterrupt):
        probe.run(20, 20)

    assert (world.items(), world.dead_letters(), probe.outcome.left_behind) == ([], [], [])
