"""Replaying what is quarantined: what is sent, what is left where it is, and at what pace."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.pipeline.quarantine import actions as quarantine_actions
from ansible.module_utils.pipeline.quarantine import replay as quarantine_replay
from fakes import FakeClock
from quarantine_fakes import World, record, text

REPAIR = ["parse amount"]
BLOB = {"blob": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}


def history(message: dict[str, Any]) -> list[dict[str, Any]]:
    return json.loads(message["MessageAttributes"]["history"]["StringValue"])


def test_a_replay_sends_the_body_as_it_was_with_its_attributes_and_history(world: World):
    quarantined = world.add_dead_letter(record(1) + " ", None, BLOB, outbox_id="web-1/1")
    report = world.act("replay")
    (sent,) = world.take(world.queue)
    attributes = sent["MessageAttributes"]
    assert sent["Body"] == record(1) + " "
    assert (attributes["outbox_id"]["StringValue"], attributes["blob"]["BinaryValue"]) == ("web-1/1", b"\x00\xff")
    assert set(attributes) == {"outbox_id", "blob", "history"}
    (entry,) = history(sent)
    assert (entry["quarantine_message_id"], entry["reason"], entry["repairs"]) == (quarantined, "retries_exhausted", [])
    assert world.take(world.dead_letters) == []
    assert (report.facts["sent"], report.facts["sent_by_reason"], report.changed) == (1, {"retries_exhausted": 1}, True)


def test_what_the_dead_letter_message_said_is_in_the_history_and_no_longer_beside_the_body(world: World):
    world.add_dead_letter(record(1, amount="12.50"), "amount_not_a_number", detail='{"found": "S"}', source_message_id="m-9")
    world.act("replay", REPAIR)
    (sent,) = world.take(world.queue)
    assert set(sent["MessageAttributes"]) == {"history"}
    (entry,) = history(sent)
    assert {name: entry[name] for name in ("reason", "detail", "source_message_id", "repairs")} == {
        "reason": "amount_not_a_number",
        "detail": '{"found": "S"}',
        "source_message_id": "m-9",
        "repairs": REPAIR,
    }


def test_a_replay_that_is_not_confirmed_shows_each_amount_before_and_after(world: World):
    ids = [world.add_dead_letter(record(number, amount=f"1.{number:03},50"), "amount_not_a_number") for number in range(30)]
    doubtful = world.add_dead_letter(record(99, amount="1.234"), "amount_not_a_number")
    lines = "\n".join(world.act("replay", ["parse amount ,"], confirmed=False).lines)
    for number, one in enumerate(ids):
        assert f'    {one}, t-{number}: amount "1.{number:03},50" becomes 1{number:03}.50\n' in lines
    assert f"left where it is: {doubtful}, t-99: the repair does not apply: its amount '1.234' can be read in two ways" in lines
    assert "becomes 1234\n" not in lines
    both = world.act("replay", ["parse amount . ,"], confirmed=False, ids=["t-99"]).lines
    assert f'    {doubtful}, t-99: amount "1.234" becomes 1.234' in both


def test_a_history_grows_to_its_bound_and_loses_its_oldest_first(world: World):
    old = [{"replayed_at": str(number)} for number in range(10)]
    world.add_dead_letter(record(1), "conflict", history=json.dumps(old))
    world.act("replay")
    (sent,) = world.take(world.queue)
    assert history(sent)[:-1] == old[1:] and history(sent)[-1]["reason"] == "conflict"
    world.add_dead_letter(record(1), "conflict", history=json.dumps([{"x": "y" * 8000}, {"z": 1}]))
    world.act("replay")
    (sent,) = world.take(world.queue)
    assert history(sent)[0] == {"z": 1} and len(history(sent)) == 2


def test_an_attribute_of_that_name_that_is_no_history_is_kept_in_it(world: World):
    world.add_dead_letter(record(1), "conflict", history="long")
    world.act("replay")
    assert history(world.take(world.queue)[0])[0] == {"found": "long"}


def test_a_message_without_room_for_a_history_is_replayed_all_the_same(world: World):
    world.add_dead_letter(record(1), None, text(**{f"a{number}": "x" for number in range(10)}))
    whole = record(2)
    room = 262144 - len("a") - len("String") - len("x")
    world.add_dead_letter(whole + " " * (room - len(whole)), None, a="x")
    assert world.act("replay").facts["sent"] == 2
    sent = {len(message["MessageAttributes"]): message for message in world.take(world.queue)}
    assert set(sent) == {1, 10} and all("history" not in message["MessageAttributes"] for message in sent.values())


def test_a_repair_that_leaves_no_room_in_the_queue_is_not_done(world: World):
    whole = record(1, amount="1")
    world.add_dead_letter(whole + " " * (262144 - len(whole)), None)
    report = world.act("replay", ["parse amount", f"set note {json.dumps('x' * 262144)}"])
    assert "the queue takes 262144 and 10" in report.facts["left"][0]["why"]
    assert len(world.take(world.dead_letters)) == 1


def test_a_repair_turns_a_text_into_money_to_the_cent(world: World):
    world.add_dead_letter(record(1, amount="1.234,10"), "amount_not_a_number")
    world.act("replay", ["parse amount ,"])
    assert '"amount": 1234.10' in world.bodies(world.queue)[0]


def test_what_would_be_refused_is_left_where_it_is_and_named(world: World):
    bodies = [record(1, amount="abc"), record(2, amount=-1), "nope"]
    for body in bodies:
        world.add_dead_letter(body, "amount_not_a_number")
    report = world.act("replay", REPAIR)
    assert sorted(one["why"].split(":")[0] for one in report.facts["left"]) == ["the repair does not apply"] * 3
    report = world.act("replay")
    assert sorted(one["why"] for one in report.facts["left"])[0] == (
        'as it is, it would be refused: amount_negative {"transaction_id": "t-2", "amount": "-1"}'
    )
    assert (report.facts["left_count"], report.facts["sent"], report.changed, report.errors) == (3, 0, False, [])
    assert (world.take(world.queue), world.bodies(world.dead_letters)) == ([], sorted(bodies))


def test_a_limit_and_a_selection_hold_for_a_replay(world: World):
    for number in range(12):
        world.add_dead_letter(record(number), "conflict")
    world.add_dead_letter(record(99), None)
    assert world.act("replay", reasons=["conflict"], limit=5).facts["sent"] == 5
    assert len(world.take(world.queue)) == 5
    assert len(world.take(world.dead_letters)) == 8


@pytest.mark.parametrize("how", [{"confirmed": False}, {"write": False}])
@pytest.mark.parametrize("action", ["replay", "purge"])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(world: World, action: str, how: dict[str, bool]):
    world.add_dead_letter(record(1), None)
    world.add_dead_letter("nope", "not_json")
    report = world.act(action, **how)
    assert (report.changed, report.lines[-1]) == ("confirmed" not in how, quarantine_actions.NOTHING_DONE)
    assert "would be" in report.lines[0]
    assert not world.directory.exists()
    assert (len(world.take(world.dead_letters)), world.take(world.queue)) == (2, [])


def test_check_mode_writes_no_archive(world: World):
    world.add_dead_letter(record(1), None)
    assert world.act("archive", write=False).lines == ["1 messages would be archived"]
    assert not world.directory.exists()


def test_a_replay_keeps_to_its_rate(world: World):
    world.clock = FakeClock()
    for number in range(25):
        world.add_dead_letter(record(number), None)
    world.act("replay", rate=2, seconds=600)
    assert (world.clock.passed, len(world.take(world.queue))) == (10.0, 25)


def test_a_replay_ends_in_time_and_leaves_the_rest(world: World):
    world.clock = FakeClock()
    for number in range(25):
        world.add_dead_letter(record(number), None)
    report = world.act("replay", rate=1, seconds=25)
    assert report.errors == ["the time is up; what is left stays in the quarantine for the next run"]
    assert (report.facts["sent"], len(world.take(world.queue)), len(world.take(world.dead_letters))) == (20, 20, 5)


def test_large_messages_go_in_calls_of_at_most_a_mebibyte(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quarantine_replay, "MAX_CALL_BYTES", 500_000)
    sizes: list[int] = []
    send = world.sqs.send_message_batch
    monkeypatch.setattr(world.sqs, "send_message_batch", lambda **a: sizes.append(len(a["Entries"])) or send(**a))
    for number in range(5):
        world.add_dead_letter(record(number, note="x" * 200_000), None)
    world.act("replay")
    assert sizes == [2, 2, 1]


def test_what_comes_back_at_once_is_not_sent_again_and_again(world: World, monkeypatch: pytest.MonkeyPatch):
    send = world.sqs.send_message_batch

    def send_and_quarantine(**arguments: Any) -> Any:
        answer = send(**arguments)
        for entry in answer["Successful"]:
            world.add_dead_letter(record(1), "conflict", source_message_id=entry["MessageId"])
        return answer

    monkeypatch.setattr(world.sqs, "send_message_batch", send_and_quarantine)
    for number in range(20):
        world.add_dead_letter(record(number), "conflict")
    report = world.act("replay")
    assert (report.facts["sent"], report.facts["came_back"]) == (20, 10)  # of the last ten there was nothing more to read
    assert len(world.take(world.dead_letters)) == 20
