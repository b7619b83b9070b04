"""What teardown, the reconciliation and the report gather from the facts of other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plugin_files import load_plugin

ROOT = Path(__file__).resolve().parents[4]


plugin = load_plugin("filter/producers.py")


def host(name: str, **facts: Any) -> dict[str, Any]:
    return {"inventory_hostname": name, "producer_service_instance": f"i-{name}", **facts}


def instance(identity: str, state: str = "running", name: str = "Producer") -> dict[str, str]:
    return {"id": identity, "name": name, "state": state, "line": f"instance {identity}: {state}"}


def test_ledgers_that_were_fetched_are_compared_and_those_that_were_not_are_missing():
    hosts = [
        host("never"),
        host("here", reconciliation_ledger="/ledgers/here", reconciliation_ledger_problem=""),
        host("broken", reconciliation_ledger="", reconciliation_ledger_problem="broken (Fetch it: no answer)"),
        host("empty", reconciliation_ledger="", reconciliation_ledger_problem=""),
    ]
    assert plugin.exported_ledgers(hosts) == {"paths": ["/ledgers/here"], "missing": ["broken (Fetch it: no answer)", "never"]}


def test_where_every_producer_answers_nothing_is_stopped_and_nothing_said():
    by_id, by_name = host("a", teardown_answers=True), host("b", teardown_answers=True) | {"producer_service_instance": "Named"}
    found = plugin.unreachable_producers([by_id, by_name], [instance("i-a"), instance("i-x", name="Named")])
    assert found == {"instances": [], "to_stop": [], "lines": []}


def test_an_instance_whose_host_does_not_answer_is_stopped_if_it_runs():
    hosts = [host("a", teardown_answers=True), host("b", teardown_answers=False)]
    found = plugin.unreachable_producers(hosts, [instance("i-a"), instance("i-b"), instance("i-unknown"), instance("i-off", "stopped")])
    assert [one["id"] for one in found["instances"]] == ["i-b", "i-unknown", "i-off"]
    assert [one["id"] for one in found["to_stop"]] == ["i-b", "i-unknown"]
    assert found["lines"] == [
        "b did not answer",
        "instance i-b: running, and no producer answered for it",
        "instance i-unknown: running, and no producer answered for it",
        "instance i-off: stopped, and no producer answered for it",
    ]


def test_a_host_that_limit_left_out_is_said_and_its_instance_is_not_stopped():
    found = plugin.unreachable_producers([host("a", teardown_answers=True), host("left")], [instance("i-a"), instance("i-left")])
    assert found["to_stop"] == []
    assert found["lines"] == ["left was not asked", "instance i-left: running, and no producer answered for it"]


def test_a_host_without_an_instance_needs_none_unless_it_answers():
    """A host that answers says which instance is its own; of one that does not, this may not be known."""
    nameless = {"inventory_hostname": "a", "teardown_answers": False}
    assert plugin.unreachable_producers([nameless], [])["lines"] == ["a did not answer"]


def test_a_producer_is_drained_only_where_its_host_says_so():
    hosts = [
        host("done", teardown_drained=True, teardown_rejected_lines="/ledgers/done.rejected", producer_service_unsent=0)
        | {"producer_service_feed_unread": 0, "producer_service_feed_rejected": 1},
        host("stuck", teardown_problem="stuck: it did not send"),
        host("silent"),
    ]
    assert plugin.drained_producers(hosts) == {
        "problems": ["stuck: it did not send"],
        "undrained": ["stuck was not drained", "silent was not drained"],
        "rejected": ["/ledgers/done.rejected"],
        "held": ["done has not sent 0 transactions", "done has not read 0 lines of its feed", "done keeps 1 rejected lines"],
    }


def test_every_verification_is_found_by_its_name_in_the_order_of_hosts_and_facts():
    hosts = [host("a", queue_verification=1, other="no", table_verification=2), host("b"), host("c", queue_verification=3)]
    assert plugin.verifications(hosts) == [1, 2, 3]
    assert plugin.verifications(hosts, ["queue"]) == [1, 3]


def test_ansible_finds_each_filter_by_its_name():
    assert set(plugin.FilterModule().filters()) == {"exported_ledgers", "unreachable_producers", "drained_producers", "verifications"}
