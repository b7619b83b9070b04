"""A release: what goes live, what does not, and where it ends when it is interrupted, refused, or the answers are lost."""

from __future__ import annotations

import pytest
from ansible.module_utils.pipeline.release.run import RefusedError, roll_back
from ansible.module_utils.pipeline.release.versions import Note, ReleaseError
from release_fakes import BUSY, World, refuse

ROUNDS = "probe: cents are stored exactly"


@pytest.fixture
def world() -> World:
    return World()


def refused(call) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        call()
    return error.value


def test_the_first_version_goes_live_once_it_was_probed_directly(world: World):
    outcome = world.release()
    assert (outcome.changed, outcome.version, outcome.previous) == (True, "1", "")
    assert (world.live, world.probed) == ("1", [("direct", "1")])


def test_a_release_that_nothing_changed_since_makes_no_call_that_changes_anything(world: World):
    world.deploy("one")
    world.lambda_.calls.clear()
    assert (world.release().changed, world.confirm().changed, world.lambda_.calls) == (False, False, [])


@pytest.mark.parametrize("setting", [{"CodeSha256": "two"}, {"MemorySize": 512}, {"Environment": {"Variables": {"HIGH": "2"}}}])
def test_a_change_of_code_or_configuration_is_a_new_version(world: World, setting: dict):
    world.deploy("one")
    world.lambda_.change(**setting)
    assert (world.release().changed, world.live) == (True, "2")


def test_a_version_that_a_direct_probe_finds_wrong_never_is_live(world: World):
    world.deploy("one")
    world.lambda_.change(CodeSha256="two")
    world.direct = [ROUNDS]
    error = refused(world.release)
    assert world.live == "1"
    assert f"Version 2 of f was refused before it went live: {ROUNDS}: expected right, found wrong." in str(error)
    assert "Version 1 is live as before." in str(error)
    assert [check["check"] for check in error.outcome.checks if not check["passed"]] == [ROUNDS]


def test_a_first_version_that_is_wrong_leaves_nothing_live(world: World):
    world.direct = [ROUNDS]
    assert "No version is live: the queue keeps its messages until one is." in str(refused(world.release))
    assert world.lambda_.aliases == {}


def test_a_refused_version_is_refused_again_without_another_one_being_made(world: World):
    world.deploy("one")
    world.lambda_.change(CodeSha256="two")
    world.direct = [ROUNDS]
    for _ in range(3):
        refused(world.release)
    assert (sorted(world.lambda_.versions), world.live) == (["1", "2"], "1")


def test_what_was_changed_and_changed_back_is_no_other_version(world: World):
    world.deploy("one")
    world.lambda_.change(CodeSha256="two")
    world.direct = [ROUNDS]
    refused(world.release)
    world.lambda_.change(MemorySize=512)
    world.lambda_.change(MemorySize=256)
    refused(world.release)
    assert sorted(world.lambda_.versions) == ["1", "2"]


def test_a_version_that_fails_behind_the_alias_is_moved_back_from_and_what_it_wrote_is_named(world: World):
    world.deploy("one")
    world.lambda_.change(CodeSha256="two")
    world.release()
    assert world.live == "2"
    world.behind = [ROUNDS]
    text = str(refused(world.confirm))
    assert world.live == "1"
    for words in (
        f"Version 2 of f failed behind alias live: {ROUNDS}",
        "version 1 is live again",
        "Version 2 wrote 2 of the records in the table: a, b; all are in /records (a scan of 7.5 read units).",
        "ansible-playbook reconcile.yml -e reconcile_repair_altered=true -e reconcile_resend_lost=true",
    ):
        assert words in text
    world.behind = []
    assert world.confirm().changed is False


def test_a_first_version_that_fails_behind_the_alias_has_none_to_go_back_to(world: World):
    world.release()
    world.behind = [ROUNDS]
    assert "There is no version before it to go back to, so it stays live." in str(refused(world.confirm))
    assert world.live == "1"


def test_many_failed_checks_are_counted_and_not_all_named(world: World):
    world.direct = [f"check {number}" for number in range(8)]
    assert str(refused(world.release)).count("check ") == 5
    assert "; and 3 more" in str(refused(world.release))


def test_a_release_that_was_interrupted_before_its_check_is_checked_by_the_next_run(world: World):
    world.deploy("one")
    world.lambda_.change(CodeSha256="two")
    world.release()
    world.probed.clear()
    assert world.release().changed is False
    assert world.confirm().changed is True
    assert world.probed == [("behind", "2")]


def test_a_version_that_was_never_checked_is_none_to_go_back_to(world: World):
    world.deploy("one")
    for code in ("two", "three"):
        world.lambda_.change(CodeSha256=code)
        world.release()
    world.behind = [ROUNDS]
    refused(world.confirm)
    assert world.live == "1"


def test_an_alias_that_was_moved_by_hand_is_moved_to_what_is_deployed_and_checked(world: World):
    world.deploy("one")
    world.deploy("two")
    world.lambda_.move_by_hand("1")
    world.probed.clear()
    world.release()
    world.confirm()
    assert (world.live, world.probed, sorted(world.lambda_.versions)) == ("2", [("direct", "2"), ("behind", "2")], ["1", "2"])


@pytest.mark.parametrize("to", ["$LATEST", "99"])
def test_an_alias_that_somebody_pointed_elsewhere_is_moved_to_a_version(world: World, to: str):
    world.deploy("one")
    world.lambda_.move_by_hand(to)
    world.release()
    assert world.live == "1"


def test_versions_that_share_the_alias_are_taken_away_without_a_new_version(world: World):
    world.deploy("one")
    world.lambda_.move_by_hand("1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    outcome = world.release()
    assert (outcome.changed, outcome.before, sorted(world.lambda_.versions)) == (True, {"weights": {"2": 0.5}}, ["1"])
    assert "RoutingConfig" not in world.lambda_.aliases["live"]


@pytest.mark.parametrize("operation", ["publish_version", "create_alias", "update_alias", "delete_function"])
def test_an_answer_that_is_lost_after_the_effect_makes_nothing_twice(world: World, operation: str):
    world.deploy("one", kept=1)
    del world.lambda_.aliases["live"]
    for code in ("two", "three"):
        world.lambda_.lose = [operation]
        world.deploy(code, kept=1)
    assert (world.live, sorted(world.lambda_.versions)) == ("3", ["2", "3"])
    assert Note.of(world.lambda_.aliases["live"]).previous == "2"


def test_an_update_in_progress_is_waited_for(world: World):
    world.lambda_.refuse["publish_version"] = [refuse("ResourceConflictException", BUSY)] * 3
    world.release()
    assert world.live == "1"


def test_an_update_that_never_ends_is_named(world: World):
    world.lambda_.change(LastUpdateStatus="InProgress")
    with pytest.raises(ReleaseError, match=r"Waited 60 seconds for f \(\$LATEST\) to be active"):
        world.release()


def test_a_function_that_failed_is_named_with_lambdas_reason(world: World):
    world.lambda_.change(State="Failed", StateReason="no such image")
    with pytest.raises(ReleaseError, match="failed: no such image"):
        world.release()


def test_a_function_that_somebody_else_changes_meanwhile_does_not_go_live(world: World):
    world.deploy("one")
    world.lambda_.change(MemorySize=512)
    publish = world.lambda_._publish

    def changed_meanwhile(code: str) -> dict:
        world.lambda_.change(MemorySize=1024)
        return publish(code)

    world.lambda_._publish = changed_meanwhile  # type: ignore[method-assign]
    with pytest.raises(ReleaseError, match="differs from what was deployed in MemorySize"):
        world.release()
    assert world.live == "1"


def test_an_alias_that_somebody_else_moves_meanwhile_is_left_as_it_is(world: World):
    world.deploy("one")
    world.deploy("two")
    releases = world.releases()
    read = releases.alias()
    world.lambda_.move_by_hand("1")
    with pytest.raises(ReleaseError, match="was changed by somebody else meanwhile: it points to version 1, not to 2"):
        releases.move(read, "2", Note())
    assert world.live == "1"


def test_old_versions_are_deleted_but_the_newest_so_many(world: World):
    for number in range(1, 8):
        world.deploy(f"code {number}", kept=3)
    assert sorted(world.lambda_.versions) == ["5", "6", "7"]


def test_what_is_live_was_live_before_or_has_an_alias_is_never_deleted(world: World):
    for number in range(1, 6):
        world.deploy(f"code {number}")
    world.lambda_.create_alias("f", "other", "1", "")
    roll_back(world.releases(), "2", check_mode=False)
    world.deploy("code 6", kept=1)
    note = Note.of(world.lambda_.aliases["live"])
    assert (world.live, note.previous, note.withdrawn) == ("6", "2", "5")
    assert sorted(world.lambda_.versions) == ["1", "2", "5", "6"]


def test_check_mode_changes_nothing_and_says_so(world: World):
    world.deploy("one")
    world.lambda_.change(CodeSha256="two")
    world.lambda_.calls.clear()
    outcome = world.release(check_mode=True)
    assert (outcome.changed, outcome.before, outcome.after) == (True, {"version": "1"}, {"version": "a new one"})
    assert (world.lambda_.calls, world.probed[-1]) == ([], ("behind", "1"))


def test_check_mode_works_where_there_is_no_alias(world: World):
    assert world.release(check_mode=True).changed and world.confirm(check_mode=True).changed
    assert world.lambda_.calls == []


def test_a_rollback_moves_to_the_version_before_and_only_once(world: World):
    world.deploy("one")
    world.deploy("two")
    assert roll_back(world.releases(), "", check_mode=False) == ("1", "2", True)
    assert roll_back(world.releases(), "", check_mode=False) == ("1", "2", False)
    assert world.live == "1"


def test_a_rollback_moves_to_the_version_that_is_named(world: World):
    for code in ("one", "two", "three"):
        world.deploy(code)
    assert roll_back(world.releases(), "1", check_mode=False) == ("1", "3", True)


def test_a_rollback_in_check_mode_moves_nothing(world: World):
    world.deploy("one")
    world.deploy("two")
    assert roll_back(world.releases(), "", check_mode=True) == ("1", "2", True)
    assert world.live == "2"


@pytest.mark.parametrize(("version", "words"), [("", "The version before of f is not known"), ("9", "Version 9 of f is not known")])
def test_a_rollback_to_what_is_not_there_says_what_there_is(world: World, version: str, words: str):
    world.deploy("one")
    with pytest.raises(ReleaseError, match=f"{words}. Live is 1; there are: 1. Say which with -e rollback_version=N"):
        roll_back(world.releases(), version, check_mode=False)


def test_a_rollback_of_what_is_not_deployed_says_so(world: World):
    with pytest.raises(ReleaseError, match="nothing is live"):
        roll_back(world.releases(), "", check_mode=False)


def test_a_withdrawn_version_does_not_go_live_again_by_itself(world: World):
    world.deploy("one")
    world.deploy("two")
    roll_back(world.releases(), "", check_mode=False)
    with pytest.raises(ReleaseError, match=r"a rollback took it out of service.*rollback_version=2"):
        world.release()
    assert world.live == "1"
    roll_back(world.releases(), "2", check_mode=False)
    assert (world.release().changed, world.live) == (False, "2")


def test_what_mends_a_withdrawn_version_goes_live(world: World):
    world.deploy("one")
    world.deploy("two")
    roll_back(world.releases(), "", check_mode=False)
    world.deploy("three")
    assert world.live == "3"
