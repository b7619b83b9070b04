"""Comparing resources with what is expected: what counts as the same, and the shape of checks, differences and diff."""

from __future__ import annotations

import copy
import dataclasses
import json
import threading
from typing import Any

import pytest
from ansible.module_utils.pipeline.core.canonical import as_text, boolean, document, number, rules, structure, text, text_map, text_set
from ansible.module_utils.pipeline.drift import compare as aws_drift
from ansible.module_utils.pipeline.drift.compare import ExpectationError, compare, required_services
from ansible.module_utils.pipeline.drift.resource_type import Disagreement, ResourceType, agreed, lacks
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

REMEDY = "Run site.yml again."


def resource(name: str = "q", **expected: Any) -> dict[str, Any]:
    return {"type": "fake", "name": name, "expected": expected, "remedy": None}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A resource type whose properties are what a test puts here, by name; an exception is raised instead."""
    world: dict[str, Any] = {}

    def read(clients: Any, name: str, expected: Any) -> Any:
        if isinstance(world.get(name), Exception):
            raise world[name]
        return world.get(name)

    properties = {"size": number, "names": text_set, "policy": document, "count": number}
    monkeypatch.setitem(aws_drift.TYPES, "fake", ResourceType("thing", ("fake",), read, properties))
    monkeypatch.setitem(aws_drift.TYPES, "fakes", ResourceType("things", ("fake",), read, properties, implied={"count": 1}))
    return world


def drift_of(*resources: dict[str, Any]) -> aws_drift.Drift:
    return compare(resources, {}, default_remedy=REMEDY)


# --- checks, differences and diff ------------------------------------------------------------------------------------------------


def test_a_resource_as_expected_gives_passed_checks_and_nothing_else(fake: dict[str, Any]):
    fake["q"] = {"size": "10", "names": ["b", "a"]}
    drift = drift_of(resource(size=10, names=["a", "b"]))
    assert [(check["check"], check["passed"]) for check in drift.checks] == [
        ("thing q: exists", True),
        ("thing q: size", True),
        ("thing q: names", True),
    ]
    assert (drift.differences, drift.before, drift.after, drift.unreadable) == ([], {}, {}, [])


def test_a_difference_shows_that_property_alone(fake: dict[str, Any]):
    fake["q"] = {"size": 10, "names": ["a"]}
    drift = drift_of(resource(size=20, names=["a"]))
    assert drift.before == {"thing q": {"size": 10}}
    assert drift.after == {"thing q": {"size": 20}}
    assert drift.differences == [{"resource": "thing q", "property": "size", "expected": 20, "found": 10}]


def test_a_check_has_the_shape_that_verify_collects(fake: dict[str, Any]):
    fake["q"] = {"size": 10}
    failed = drift_of(resource(size=20)).checks[1]
    assert failed.pop("cause") is False
    assert failed == {"check": "thing q: size", "passed": False, "expected": "20", "found": "10", "seconds": 0.0, "remedy": REMEDY}


def test_the_time_of_reading_is_told_once(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    fake["q"] = {"size": 1}
    times = iter([100.0, 102.5])
    monkeypatch.setattr(aws_drift.time, "monotonic", lambda: next(times))
    assert [check["seconds"] for check in drift_of(resource(size=1)).checks] == [2.5, 0.0]


def test_a_missing_resource_is_one_failed_check_and_a_diff_of_all_that_is_expected(fake: dict[str, Any]):
    drift = drift_of(resource(size="20", names=[]))
    assert [(check["check"], check["passed"], check["found"]) for check in drift.checks] == [("thing q: exists", False, "missing")]
    assert drift.before == {"thing q": {}}
    assert drift.after == {"thing q": {"size": 20, "names": []}}
    assert [difference["property"] for difference in drift.differences] == ["exists"]


def test_something_beside_what_is_expected_is_a_difference(fake: dict[str, Any]):
    fake["q"] = {"names": ["ours", "extra"]}
    drift = drift_of(resource(names=["ours"]))
    assert drift.checks[1]["found"] == '["extra", "ours"]'
    assert not drift.checks[1]["passed"]


def test_a_property_that_was_not_found_at_all_differs_from_a_value(fake: dict[str, Any]):
    fake["q"] = {}
    assert drift_of(resource(size=1)).before == {"thing q": {"size": None}}


def test_a_refused_read_is_a_failed_check_and_the_rest_is_compared(fake: dict[str, Any]):
    fake["q"] = ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized to perform: x"}}, "GetThing")
    fake["other"] = {"size": 1}
    drift = drift_of(resource(size=1), resource("other", size=1))
    assert [(check["check"], check["passed"], check["found"]) for check in drift.checks[:1]] == [
        ("thing q: exists", False, "AccessDenied: not authorized to perform: x")
    ]
    assert [check["passed"] for check in drift.checks[1:]] == [True, True]
    assert drift.unreadable == [{"resource": "thing q", "error": "AccessDenied: not authorized to perform: x"}]
    assert (drift.differences, drift.before) == ([], {})


def test_an_unreachable_service_is_a_failed_check(fake: dict[str, Any]):
    fake["q"] = EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    assert drift_of(resource(size=1)).checks[0]["found"].startswith("EndpointConnectionError: Could not connect")


def test_the_remedy_of_a_resource_goes_before_the_common_one(fake: dict[str, Any]):
    fake |= {"q": {}, "other": {}}
    drift = drift_of(resource() | {"remedy": "Mend q."}, resource("other"))
    assert [check["remedy"] for check in drift.checks] == ["Mend q.", REMEDY]


def test_results_come_in_the_order_of_the_resources(fake: dict[str, Any]):
    names = [f"r{number}" for number in range(30)]
    assert [check["check"] for check in drift_of(*map(resource, names)).checks] == [f"thing {name}: exists" for name in names]


def test_resources_are_read_at_the_same_time(monkeypatch: pytest.MonkeyPatch):
    meeting = threading.Barrier(4, timeout=10)

    def read(clients: Any, name: str, expected: Any) -> dict[str, Any]:
        meeting.wait()
        return {}

    monkeypatch.setitem(aws_drift.TYPES, "fake", ResourceType("thing", (), read, {}))
    assert len(drift_of(*[resource(str(number)) for number in range(4)]).checks) == 4


def test_an_implied_expectation_is_compared_unless_another_is_named(fake: dict[str, Any]):
    fake["q"] = {"count": 2}
    things = resource() | {"type": "fakes"}
    assert drift_of(things).before == {"things q": {"count": 2}}
    assert drift_of(things | {"expected": {"count": 2}}).before == {}


def test_values_that_several_resources_do_not_share_are_listed(fake: dict[str, Any]):
    fake["q"] = {"size": Disagreement(("1", "2"))}
    drift = drift_of(resource(size=1))
    assert drift.before == {"thing q": {"size": [1, 2]}}
    assert drift.checks[1]["found"] == "[1, 2]"


def test_a_value_that_all_share_is_that_value():
    assert agreed([["a"], ["a"]]) == ["a"]
    assert agreed(["a", "b", "a"]) == Disagreement(("a", "b"))


def test_an_unknown_type_is_named_with_those_that_exist():
    with pytest.raises(ExpectationError, match=r"no type 'sqs'. Types: .*sqs_queue"):
        required_services([{"type": "sqs", "name": "q"}])


def test_an_unknown_property_is_named_before_anything_is_read(fake: dict[str, Any]):
    fake["q"] = AssertionError("was read")
    with pytest.raises(ExpectationError, match=r"fake bad: there is no property colour. Properties: size, names"):
        drift_of(resource(), resource("bad", colour="red"))


def test_only_the_services_of_the_resources_are_needed():
    resources = [{"type": kind, "name": "x"} for kind in ("sqs_queue", "lambda_function", "event_source_mappings")]
    assert required_services(resources) == ["iam", "lambda", "sqs"]


def test_every_result_can_be_written_as_json(fake: dict[str, Any]):
    fake["q"] = {"size": 0.5, "names": {"a"}, "policy": '{"Statement": []}'}
    drift = drift_of(resource(size=1, names=("b",), policy=None))
    assert json.loads(json.dumps([drift.differences, drift.before, drift.after]))[1]["thing q"]["names"] == ["a"]


# --- what explains other failures -------------------------------------------------------------------------------------------------

SENDS = {"Effect": "Allow", "Action": ["sqs:SendMessage"], "Resource": ["q"]}
STORES = {"Effect": "Allow", "Action": ["dynamodb:PartiQLInsert"], "Resource": ["t"]}
DENIES = {"Effect": "Deny", "Action": ["*"], "Resource": ["*"]}


@pytest.mark.parametrize(
    ("wanted", "found", "stops"),
    [
        (["ours"], [], True),
        (["ours"], ["theirs"], True),
        (["ours"], ["ours", "theirs"], False),
        ({"Statement": [SENDS, STORES]}, {"Statement": [SENDS]}, True),
        ({"Statement": [SENDS]}, {"Statement": [SENDS, STORES]}, False),
        ({"Statement": [SENDS]}, {"Statement": [SENDS, DENIES]}, True),
        ({"Statement": [SENDS, DENIES]}, {"Statement": [SENDS]}, False),
        ({"Statement": [SENDS]}, None, True),
        ({"Statement": [DENIES]}, None, False),
        ({"Statement": [SENDS]}, "{no json", True),
    ],
)
def test_a_permission_that_is_missing_or_denied_stops_all_and_one_too_many_does_not(wanted: Any, found: Any, stops: bool):
    assert lacks(wanted, found) is stops


@pytest.mark.parametrize(
    ("kind", "name", "wanted", "found", "cause"),
    [
        ("lambda_function", "reserved_concurrency", None, 0, True),
        ("lambda_function", "reserved_concurrency", None, 5, False),
        ("event_source_mappings", "state", "Enabled", "Disabled", True),
        ("event_source_mappings", "state", "Enabled", Disagreement(("Enabled", "Disabled")), False),
        ("event_source_mappings", "batch_size", 10, 1, False),
        ("event_source_mappings", "filters", [], ["{}"], True),
        ("iam_role", "inline_policies", [], ["extra"], False),
        ("iam_role", "permissions_boundary", None, "arn", True),
        ("dynamodb_table", "write_capacity", 25, 5, False),
    ],
)
def test_a_cause_is_told_from_a_difference(monkeypatch: pytest.MonkeyPatch, kind: str, name: str, wanted: Any, found: Any, cause: bool):
    found = {"count": 1, "foreign": []} | {name: found}
    monkeypatch.setitem(aws_drift.TYPES, kind, dataclasses.replace(aws_drift.TYPES[kind], read=lambda *_: found, implied={}))
    (check,) = drift_of({"type": kind, "name": "x", "expected": {name: wanted}}).failed
    assert check["cause"] is cause


@pytest.mark.parametrize(
    "kind",
    ["iam_role", "iam_managed_policy", "dynamodb_table", "sqs_queue", "lambda_function", "lambda_alias", "event_source_mappings"],
)
@pytest.mark.parametrize("read", [None, ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "Get")], ids=["gone", "refused"])
def test_what_is_missing_or_cannot_be_read_on_the_way_of_a_transaction_is_a_cause(monkeypatch: pytest.MonkeyPatch, kind: str, read: Any):
    def reader(*_: Any) -> None:
        if read:
            raise read

    monkeypatch.setitem(aws_drift.TYPES, kind, dataclasses.replace(aws_drift.TYPES[kind], read=reader))
    assert [check["cause"] for check in drift_of({"type": kind, "name": "x"}).failed] == [True]


# --- when two values mean the same -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("canonical", "one", "other"),
    [
        (number, "30", 30),
        (number, 30.0, 30),
        (number, "", None),
        (text, "", None),
        (text, 14, "14"),
        (boolean, "true", True),
        (boolean, None, False),
        (boolean, "False", False),
        (text_set, ["b", "a", "a"], ["a", "b"]),
        (text_set, "a", ["a"]),
        (text_set, None, []),
        (text_map, None, {}),
        (text_map, {"threshold": 1000}, {"threshold": "1000"}),
        (text_map, {"aws:cloudformation:stack-name": "x", "a": "b"}, {"a": "b"}),
        (structure, {"max_receive_count": "5", "none": None}, {"max_receive_count": 5}),
        (structure, {"arns": ["b", "a"]}, {"arns": ["a", "b"]}),
        (structure, {}, None),
        (document, "", None),
        (document, {}, None),
    ],
)
def test_values_that_mean_the_same(canonical: Any, one: Any, other: Any):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("canonical", "one", "other"),
    [
        (number, "30", "31"),
        (number, 0, None),
        (number, "many", 1),
        (text, "a", "A"),
        (text, None, "none"),
        (boolean, "false", True),
        (text_set, ["a"], ["a", "b"]),
        (text_map, {"threshold": "1000"}, {"threshold": "1000.00"}),
        (text_map, {"a": "b"}, {"a": "b", "more": "x"}),
        (structure, {"max_receive_count": 5}, {"max_receive_count": 6}),
        (structure, {"a": 1}, {"a": 1, "b": 2}),
    ],
)
def test_values_that_do_not_mean_the_same(canonical: Any, one: Any, other: Any):
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "none"), ([], "none"), ({}, "none"), (0, "0"), (False, "false"), ({"a": 1}, '{"a": 1}')]
)
def test_values_in_a_table(value: Any, shown: str):
    assert as_text(value) == shown


POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "DenyPlainText",
            "Effect": "Deny",
            "Principal": {"AWS": ["*"]},
            "Action": ["sqs:SendMessage", "sqs:ReceiveMessage"],
            "Resource": ["arn:aws:sqs:us-east-1:123456789012:q"],
            "Condition": {"Bool": {"aws:SecureTransport": ["false"]}},
        },
        {"Effect": "Allow", "Principal": {"Service": ["lambda.amazonaws.com"]}, "Action": ["sts:AssumeRole"]},
    ],
}


@pytest.mark.parametrize(
    "spell",
    [
        lambda policy: policy["Statement"].reverse(),
        lambda policy: policy["Statement"][0]["Action"].reverse(),
        lambda policy: policy["Statement"][0].update(Resource="arn:aws:sqs:us-east-1:123456789012:q"),
        lambda policy: policy["Statement"][0].update(Principal="*"),
        lambda policy: policy["Statement"][0].update(Condition={"Bool": {"aws:SecureTransport": False}}),
        lambda policy: policy["Statement"][1].update(Principal={"Service": "lambda.amazonaws.com"}),
        lambda policy: policy["Statement"][1].update(Sid=""),
    ],
    ids=["statements", "actions", "one resource", "principal", "condition", "one service", "empty sid"],
)
def test_another_spelling_of_a_policy_is_the_same_policy(spell: Any):
    policy = copy.deepcopy(POLICY)
    spell(policy)
    assert document(json.dumps(policy)) == document(POLICY)


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: policy["Statement"].append({"Effect": "Allow", "Action": "*", "Resource": "*"}),
        lambda policy: policy["Statement"].pop(),
        lambda policy: policy["Statement"][0]["Action"].append("sqs:DeleteMessage"),
        lambda policy: policy["Statement"][0].update(Effect="Allow"),
        lambda policy: policy["Statement"][0].pop("Condition"),
        lambda policy: policy["Statement"][0].update(NotAction=policy["Statement"][0].pop("Action")),
        lambda policy: policy["Statement"][1]["Principal"].update(AWS="123456789012"),
        lambda policy: policy.update(Version="2008-10-17"),
    ],
    ids=["statement added", "statement removed", "action", "effect", "condition", "not action", "principal", "version"],
)
def test_a_change_of_a_policy_is_a_difference(change: Any):
    policy = copy.deepcopy(POLICY)
    change(policy)
    assert document(policy) != document(POLICY)


def test_an_account_and_its_root_are_the_same_principal():
    def policy(who: str) -> dict[str, Any]:
        return {"Statement": {"Effect": "Allow", "Principal": {"AWS": who}, "Action": "sts:AssumeRole"}}

    assert document(policy("123456789012")) == document(policy("arn:aws:iam::123456789012:root"))


def test_a_policy_that_is_no_json_is_shown_as_it_is():
    assert document("{not json") == "{not json"


@given(st.permutations(POLICY["Statement"]), st.permutations(POLICY["Statement"][0]["Action"]))
def test_no_order_changes_a_policy(statements: list[dict[str, Any]], actions: list[str]):
    shuffled = [item | {"Action": actions} if "Sid" in item else item for item in statements]
    assert document({"Version": "2012-10-17", "Statement": shuffled}) == document(POLICY)


def test_rules_are_the_same_however_they_are_grouped():
    one = [
        {"protocol": "tcp", "from_port": 22, "to_port": 22, "cidrs": ["10.0.0.0/8", "192.0.2.0/24"]},
        {"protocol": "all", "from_port": 0, "to_port": 0, "cidrs": "0.0.0.0/0"},
    ]
    other = [
        {"protocol": -1, "cidrs": ["0.0.0.0/0"]},
        {"protocol": "TCP", "from_port": "22", "to_port": "22", "cidrs": ["192.0.2.0/24"]},
        {"protocol": "tcp", "from_port": 22, "to_port": 22, "cidrs": ["10.0.0.0/8"]},
    ]
    assert rules(one) == rules(other)


def test_a_further_source_is_a_different_rule():
    rule = {"protocol": "tcp", "from_port": 22, "to_port": 22}
    assert rules([rule | {"cidrs": ["10.0.0.0/8"]}]) != rules([rule | {"cidrs": ["10.0.0.0/8", "0.0.0.0/0"]}])
