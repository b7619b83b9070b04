"""Every setting has a type, a range and a meaning; as text or typed a value is the same; what does not fit is said in one sentence."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from plugin_files import load_plugin

ROOT = Path(__file__).resolve().parents[4]
INVENTORIES = ROOT / "inventories"


plugin = load_plugin("vars/settings.py")
OPTIONS = plugin.options()
DERIVED = sorted(name for name, spec in OPTIONS.items() if spec.get("derived"))
VALUED = sorted(set(OPTIONS) - set(DERIVED))
FILES = [
    INVENTORIES / "shared" / "settings.yml",
    INVENTORIES / "shared" / "embedded_cloud.yml",
    *sorted(file for file in INVENTORIES.glob("*/group_vars/**/*.yml") if not file.is_symlink()),
]
SET_IN_FILES = {name: value for file in FILES for name, value in (yaml.safe_load(file.read_text()) or {}).items()}

# What people type by mistake, and what no terminal, file or API would take.
TEXTS = [
    "", " ", "null", "6O", "60", " 60 ", "-1", "+5", "0", "1", "0.5", "10.5", "10000.50", "1e3", "1_000", "0x10", "NaN", "inf", "-inf", "٣",
    "9" * 39, "9" * 5000, "1,5", "true", "Yes", "off", "maybe", "True\n", "default", "live", "python3.13", "a b", "a\tb", "a\nb", "a\x00b",
    "\x1b[2J", "\x7f", "\u202eevil", "x" * 81, "x" * 5000, "{{ 6 * 7 }}", "{% if 1 %}", "[", "[]", '["1.2.3.4/32"]', "1.2.3.4/32",
    "1.2.3.4/32, 5.6.7.8/32", "0.0.0.0/0", "1.2.3.4/33", "{", "{}", '{"CostCenter": 4711, "Prod": true}', '{"aws:mine": "x"}', "[" * 3000,
    "../../etc", "/tmp/a",
    "~/a", "http://127.0.0.1:9", "ftp://x", "sg-1", "a;b", "$(id)", "-e", "list", "resolve:ssm:/a/b", "t3.micro", "é",
    "7", "2026-11-24T10:00:00Z",
]  # fmt: skip


TYPED = [
    0, 1, 2, 7, 30, 60, 65, 600, 1024, 10**12, 10**40, -1, 0.1, 0.5, 2.0, 10.5, -0.5, True, False, None, "list", "a", "/a/b",
    [], ["1.2.3.4/32"], ["/a", "b"], [1], [True], {}, {"CostCenter": "4711"}, {"a": {"b": 1}}, {"a": [1]},
    {"AWS_MAX_ATTEMPTS": 6, "AWS_X": True, "AWS_Y": None},
]  # fmt: skip


def outcome(name: str, value: Any, where: str = "-e") -> tuple[Any, str]:
    """What the plugin makes of a value, and what it has against it."""
    found = [(typed, problem) for one, typed, problem in plugin.judged({name: value}, where) if one == name]
    return found[0] if found else (value, "")


def kind(spec: dict[str, Any]) -> str:
    return "decimal" if spec.get("decimal") else spec["type"]


def is_number(name: str) -> bool:
    return kind(OPTIONS[name]) in ("int", "float", "decimal")


def fits(spec: dict[str, Any], value: Any) -> bool:
    """Whether a typed value is of its type and within its range, said without the plugin's own words."""
    if "empty" in spec and value == spec["empty"]:
        return True
    if kind(spec) in ("int", "float", "decimal"):
        number = Decimal(str(value))
        low, high = (number if end is None else Decimal(str(end)) for end in spec.get("range", (None, None)))
        return (
            isinstance(value, {"int": int, "float": int | float, "decimal": str}[kind(spec)])
            and not isinstance(value, bool)
            and math.isfinite(number)
            and low <= number <= high
            and number in spec.get("choices", [number])
            and number % spec.get("multiple_of", 1) in (0, number % 1)
        )
    if spec["type"] == "bool":
        return value is True or value is False
    parts = [value] if isinstance(value, str) else [part for pair in value.items() for part in pair] if isinstance(value, dict) else value
    clean = all(isinstance(part, str) and not re.search(r"[\x00-\x1f\x7f]", part) and len(part) <= 1000 for part in parts)
    return clean and isinstance(value, {"list": list, "dict": dict}.get(spec["type"], str)) and len(parts) <= 2 * spec.get("at_most", 1)


OF_INVENTORIES_ALONE = re.compile(r"__|ansible_|aws_|guest_")


def test_every_setting_of_the_inventories_is_specified_by_a_role():
    assert {name for name in SET_IN_FILES if not OF_INVENTORIES_ALONE.match(name)} - set(OPTIONS) == set()


def specified() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(role, or `pipeline`; name; specification) of every option of every entry point."""
    for role, file in plugin.specifications().items():
        for entry in yaml.safe_load(file.read_text())["argument_specs"].values():
            yield from ((role, name, spec) for name, spec in entry.get("options", {}).items())


def test_type_range_and_meaning_of_a_setting_stand_in_one_role():
    for role, name, spec in specified():
        owner = plugin.prefix(name) or role
        if role == owner:
            assert spec == OPTIONS[name], f"{role}: {name} is specified twice"
        else:
            assert set(spec) <= {"type", "required", "description"}, f"{role} only reads {name}: its range is for {owner} to say"
            assert spec["type"] == OPTIONS[name]["type"], f"{role}: {name}"


def test_a_name_that_begins_with_no_role_is_a_switch_of_one_play():
    assert {name for name in OPTIONS if not plugin.prefix(name)} == {
        *("confirm_teardown", "discard_data", "rollback_version"),
        *("reconcile_pause_producers", "reconcile_repair_altered", "reconcile_resend_lost"),
    }


def test_every_option_is_read_by_a_play_a_role_or_an_inventory():
    folders = ("playbooks", "roles", "files", "inventories", "plugins/filter")
    files = [
        file
        for folder in folders
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and file.parent.name not in ("meta", "__pycache__")
    ]
    read = {name for file in files for name in re.findall(r"\b[a-z_]+\b(?!:)", file.read_text())}
    assert set(OPTIONS) - read == set()


STANDARD = {"type", "elements", "required", "choices", "description"}
KEYS = STANDARD | {"range", "multiple_of", "matches", "format", "names", "at_most", "decimal", "empty", "whole"}


@pytest.mark.parametrize("name", VALUED)
def test_every_specification_says_what_it_is_and_where_it_ends(name: str):
    spec = OPTIONS[name]
    assert re.fullmatch(r"[A-Z0-9][^\n]*[.]", spec["description"].strip())
    assert set(spec) <= KEYS
    assert spec["type"] in ("int", "float", "str", "bool", "path", "list", "dict")
    assert not is_number(name) or "choices" in spec or "range" in spec
    if spec["type"] in ("list", "dict"):
        assert {"at_most", "matches"} <= set(spec)
    assert ("matches" in spec) == ("format" in spec)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(INVENTORIES)))
def test_what_the_inventories_say_is_already_of_its_type(file: Path):
    values = yaml.safe_load(file.read_text()) or {}
    found = list(plugin.judged(values, "file"))
    assert [problem for _, _, problem in found if problem] == []
    assert {name: typed for name, typed, _ in found} == {name: values[name] for name, _, _ in found}


@pytest.mark.parametrize("name", VALUED)
def test_any_text_becomes_a_value_that_fits_or_one_clear_sentence(name: str):
    for text in TEXTS:
        value, problem = outcome(name, text)
        if problem:
            assert problem.startswith(f"-e: {name} is ")
            assert "it must be " in problem or "-e takes a plain value" in problem
            assert not re.search(r"[\x00-\x1f\x7f\u202e]", problem) and len(problem) < 600
        else:
            assert fits(OPTIONS[name], value), (text, value)
            assert outcome(name, value) == (value, "")


@pytest.mark.parametrize("name", VALUED)
def test_as_text_or_typed_a_value_means_the_same(name: str):
    written = {"str": str | int, "path": str, "list": str | int | list}.get(kind(OPTIONS[name]), object)
    for value in TYPED:
        if not isinstance(value, written) or (isinstance(value, bool) and written is not object):
            continue  # YAML's `on` or 0.1 is no text: it must be quoted, and the sentence says so
        text = value if isinstance(value, str) else json.dumps(value)
        (typed, typed_problem), (read, text_problem) = outcome(name, value), outcome(name, text)
        assert bool(typed_problem) == bool(text_problem), (value, typed_problem, text_problem)
        assert typed_problem or (typed, type(typed)) == (read, type(read)), value


@pytest.mark.parametrize("name", [name for name in VALUED if kind(OPTIONS[name]) in ("int", "float")])
def test_the_ends_of_a_range_are_taken_and_what_is_beyond_is_refused(name: str):
    spec = OPTIONS[name]
    ends = spec.get("choices") or spec["range"]
    for end in ends:
        assert outcome(name, str(end)) == outcome(name, end) == outcome(name, f" {end} ") == (end, "")
    low, high = Decimal(str(min(ends))), Decimal(str(max(ends)))
    for beyond in (low - 1, high + 1, low - Decimal("0.00001")):
        _, problem = outcome(name, str(beyond))
        assert f"{name} is '{beyond}'; it must be " in problem


@pytest.mark.parametrize("spec", [*({"type": one} for one in plugin.CONVERTERS), {"type": "str", "decimal": True}], ids=kind)
@given(text=st.text(max_size=60) | st.integers().map(str) | st.floats().map(str) | st.decimals().map(str))
def test_no_text_is_an_error_of_the_plugin(spec: dict[str, Any], text: str):
    if spec["type"] in ("list", "dict"):
        spec = spec | {"at_most": 9, "names": ".{1,5}", "matches": ".{0,9}", "format": "texts"}
    try:
        value = plugin.typed(spec, text)
    except plugin.Refused:
        return
    assert plugin.typed(spec, value) == value


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("10000", "10000"),
        (10000, "10000"),
        (10000.5, "10000.5"),
        ("10000.50", "10000.5"),
        ("0", "0"),
        ("1234567890123456789012345678901234.5678", "1234567890123456789012345678901234.5678"),
        ("9" * 38, "9" * 38),
        ("-0.0", "0"),
        ("0010", "10"),
    ],
)
def test_a_threshold_is_kept_as_a_decimal_text_to_the_digit(given_: Any, kept: str):
    assert outcome("stream_processor_high_value_threshold", given_) == (kept, "")


@pytest.mark.parametrize("value", ["1e3", "-1", "NaN", "Infinity", math.nan, math.inf, 1e40, True, None, [], {}, "", "9" * 39])
def test_a_threshold_that_is_no_plain_decimal_number_is_refused(value: Any):
    assert (
        "it must be a plain decimal number of at least 0 (amounts from here up are high_value)."
        in outcome("stream_processor_high_value_threshold", value)[1]
    )


@pytest.mark.parametrize(
    "value", [{"CostCenter": 4711, "Prod": True}, '{"CostCenter": 4711, "Prod": true}', {"CostCenter": "4711", "Prod": "true"}]
)
def test_the_values_of_tags_become_text(value: Any):
    assert outcome("pipeline_tags", value) == ({"CostCenter": "4711", "Prod": "true"}, "")


def test_a_template_among_the_tags_of_a_file_stays_one():
    tags = {"Stage": "{{ pipeline_environment }}", "CostCenter": 4711}
    assert outcome("pipeline_tags", tags, "file") == ({"Stage": "{{ pipeline_environment }}", "CostCenter": "4711"}, "")


@pytest.mark.parametrize(
    "tags",
    [
        *({"aws:x": "y"}, {"AWS:x": "y"}, {"": "x"}, {"k" * 129: "v"}, {"k": "v" * 257}, {"k": "<b>"}),
        *({"k": ["v"]}, {"a\nb": "c"}, {str(number): "" for number in range(49)}, "x"),
    ],
    ids=["aws", "AWS", "no-name", "long-name", "long-value", "character", "nested", "control", "too-many", "no-tags"],
)
def test_tags_that_aws_would_not_take_are_refused(tags: Any):
    assert "pipeline_tags is " in outcome("pipeline_tags", tags)[1]


def test_the_largest_tags_that_aws_takes_are_taken():
    tags = {f"{number:02}é" + "k" * 125: "v" * 256 for number in range(48)}
    assert outcome("pipeline_tags", tags) == (tags, "")


@pytest.mark.parametrize(
    "value", ["1.2.3.4/32,5.6.7.8/24", '["1.2.3.4/32", "5.6.7.8/24"]', ["1.2.3.4/32", "5.6.7.8/24"], " 1.2.3.4/32 , 5.6.7.8/24"]
)
def test_a_list_may_be_json_or_divided_by_commas(value: Any):
    assert outcome("producer_instance_ssh_sources", value) == (["1.2.3.4/32", "5.6.7.8/24"], "")


@pytest.mark.parametrize("value", ["", None, "null"])
def test_an_empty_maximum_lets_lambda_scale_by_itself(value: Any):
    assert outcome("stream_processor_maximum_concurrency", value) == (None, "")


@pytest.mark.parametrize(
    ("name", "longest", "refused"),
    [
        ("pipeline_environment", 20, ["Blue", "a b", "a_b", "ä", "-a", "", "a;b", "a/b"]),
        ("transaction_queue_name", 80, ["", "a b", "a.fifo", "ä"]),
        ("transaction_queue_dead_letter_name", 80, ["", "a b", "a.fifo", "ä"]),
        ("stream_processor_name", 64, ["", "a b", "a.b", "ä"]),
        ("iam_roles_producer_role_name", 64, ["", "a b", "a/b", "ä"]),
        ("iam_roles_processor_role_name", 64, ["", "a b", "a/b", "ä"]),
        ("transaction_table_name", 255, ["", "ab", "a b", "ä"]),
        ("producer_service_name", 128, ["", "a b", "a/b", "sg-a", ".a", "a%b"]),
        ("stream_processor_alias", 128, ["", "7", "a b", "live!"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_name_that_aws_would_not_take_is_refused_and_the_longest_is_taken(name: str, longest: int, refused: list[str]):
    assert outcome(name, "n" * longest) == ("n" * longest, "")
    for value in [*refused, "n" * (longest + 1)]:
        assert f"{name} is '{value[:70]}" in outcome(name, value)[1]


def test_the_longest_environment_still_makes_names_that_aws_takes():
    for name, template in yaml.safe_load(FILES[0].read_text()).items():
        if "{{ pipeline_suffix }}" in str(template) and name in VALUED:
            assert outcome(name, template.replace("{{ pipeline_suffix }}", "-" + "e" * 20))[1] == "", name


@pytest.mark.parametrize("name", DERIVED)
def test_what_follows_from_other_settings_is_not_set_by_itself(name: str):
    assert f"{name} is 'x'; it must be left alone" in outcome(name, "x")[1]
    assert f"{name} is 'x'; it must be left alone" in outcome(name, "x", "file")[1]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("reconcile_resend_los", "reconcile_resend_lost"),
        ("pipeline_functon_timeout", "stream_processor_timeout"),
        ("comfirm_teardown", "confirm_teardown"),
        ("discard_dat", "discard_data"),
        ("producer_service_drain_second", "producer_service_drain_seconds"),
        ("embedded_cloud_fault_rat", "embedded_cloud_fault_rate"),
        ("PIPELINE_environment", "pipeline_environment"),
    ],
)
def test_a_name_that_nothing_reads_is_refused_with_the_nearest(name: str, meant: str):
    assert outcome(name, "true")[1] == f"-e: '{name}' is no setting. Did you mean {meant}?"


@pytest.mark.parametrize("name", ["pipeline_zzz", "quarantine_sentence", "pipeline_colour", "reconcile_zebra"])
def test_a_name_that_is_near_to_none_is_refused_and_the_list_of_those_there_are_is_named(name: str):
    assert outcome(name, "true")[1] == f"-e: '{name}' is no setting. The roles' meta/argument_specs.yml have those there are."


# What settings were called until they got the names of their roles, of every kind.
FORMER = {
    **{f"pipeline_table_{name}": f"transaction_table_{name}" for name in ("name", "read_capacity", "write_capacity")},
    **{f"pipeline_queue_{name}": f"transaction_queue_{name}" for name in ("name", "retention", "visibility_timeout", "settle_seconds")},
    **{f"pipeline_{name}": f"stream_processor_{name}" for name in ("batch_size", "high_value_threshold", "log_retention_days")},
    **{f"pipeline_function_{name}": f"stream_processor_{name}" for name in ("name", "alias", "memory", "runtime", "timeout", "read_units")},
    **{f"pipeline_producer_{name}": f"producer_instance_{name}" for name in ("image", "volume_size", "count", "key_name", "key_file")},
    **{f"pipeline_producer_{name}": f"producer_service_{name}" for name in ("name", "rate", "linger", "feed", "feed_quiet", "outbox_rows")},
    **{f"pipeline_alarm_{name}": f"observability_{name}" for name in ("message_age", "no_traffic", "in_flight", "email", "topic_arn")},
    **{f"pipeline_reconcile_{name}": f"reconciliation_{name}" for name in ("settle_seconds", "timeout", "read_rate", "directory")},
    **{f"pipeline_quarantine_{name}": f"quarantine_{name}" for name in ("rate", "timeout", "samples", "directory")},
    **{f"pipeline_{name}": f"teardown_{name}" for name in ("drain_timeout", "drain_quiet_seconds", "export_directory")},
    "pipeline_dead_letter_queue_name": "transaction_queue_dead_letter_name",
    "pipeline_dead_letter_retention": "transaction_queue_dead_letter_retention",
    "pipeline_ssh_sources": "producer_instance_ssh_sources",
    "pipeline_address_service": "producer_instance_address_service",
    "pipeline_ledger_directory": "producer_service_ledger_directory",
    "pipeline_log_timeout": "probe_log_timeout",
    "pipeline_verify_timeout": "probe_timeout",
    "pipeline_other_senders": "reconciliation_other_senders",
    "pipeline_producer_role_name": "iam_roles_producer_role_name",
}


@pytest.mark.parametrize(("name", "meant"), FORMER.items())
@pytest.mark.parametrize("where", ["-e", "90_own.yml"])
def test_a_name_of_former_times_is_refused_with_the_one_of_today(name: str, meant: str, where: str):
    refusal = rf"{where}: '{name}' is no setting[.] Did you mean ([a-z_]+ or ){{0,2}}{meant}( or [a-z_]+){{0,2}}[?]"
    assert re.fullmatch(refusal, outcome(name, "1", where)[1])


@pytest.mark.parametrize("name", ["transaction_queue_retentio", "embedded_cloud_prot", "probe_timout"])
def test_in_a_file_a_misspelt_name_of_any_role_is_refused(name: str):
    assert f"90_own.yml: '{name}' is no setting. Did you mean " in outcome(name, "1", "90_own.yml")[1]


@pytest.mark.parametrize("where", ["-e", "90_own.yml"])
@pytest.mark.parametrize("name", ["ansible_user", "__teardown_attempt_seconds", "guest_name", "my_own"])
def test_a_name_of_ansible_a_role_or_the_operator_is_left_alone(name: str, where: str):
    assert outcome(name, "6O", where) == ("6O", "")


def test_a_sentence_of_refusal_ends_with_the_meaning_without_markup():
    assert (
        plugin.meaning({"description": "Seconds that C(tasks_from=drain) sends. It then\ngives up."})
        == "seconds that tasks_from=drain sends"
    )
    assert plugin.meaning({"description": "URL of the queue."}) == "URL of the queue"
    assert outcome("stream_processor_timeout", "6O")[1] == (
        "-e: stream_processor_timeout is '6O'; it must be a whole number from 15 to 900"
        " (seconds that an invocation of the function may take)."
    )


def bare_sums(text: str, names: set[str]) -> list[str]:
    """The numbers among the names that a template reckons or compares with as they are; -e gives them as text."""
    name, typed = rf"(?:{'|'.join(sorted(names))})\b", r"(?! *\|(?: *default\([^)]*\) *\|)? *(?:int|float))"
    return re.findall(rf"{name} *[-+*/<>]|[-+*/<>]=? *{name}{typed}", text)


def test_no_template_reckons_with_a_number_that_may_be_a_text():
    names = {name for name in VALUED if is_number(name)}
    assert bare_sums("{{ teardown_drain_timeout / 2 }}", names) and bare_sums("{{ 2 * teardown_drain_timeout }}", names)
    assert bare_sums("when: age <= producer_service_unsent_seconds", names)
    assert not bare_sums("{{ teardown_drain_timeout | int / 2 + teardown_drain_timeout | int }}", names)
    files = [*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "roles").glob("*/[tv]a*/*.yml"), *(ROOT / "roles").glob("*/templates/*")]
    files += [*INVENTORIES.rglob("*.yml"), *(ROOT / "files").iterdir()]
    lines = [(file.name, line) for file in files for line in file.read_text().splitlines() if not re.search(r"^ *#|: *\|?$", line)]
    assert [(name, line.strip()) for name, line in lines if "{{" in line or "|" in line or ">=" in line if bare_sums(line, names)] == []


def inventory(directory: Path, own: str) -> Path:
    """An inventory of one host in which the operator's own file says `own`."""
    (directory / "group_vars" / "all").mkdir(parents=True)
    (directory / "hosts.yml").write_text("all: {hosts: {here: {}}}\n")
    (directory / "group_vars" / "all" / "00_settings.yml").symlink_to(INVENTORIES / "shared" / "settings.yml")
    (directory / "group_vars" / "all" / "90_own.yml").write_text(own)
    return directory


def asked(directory: Path, *options: str) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(directory), "--host", "here", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_files_and_extra_variables_come_out_typed(tmp_path: Path):
    made = inventory(tmp_path, 'transaction_queue_retention: "86400"\nproducer_service_rate: "2"\npipeline_tags: {CostCenter: 4711}\n')
    found = json.loads(
        asked(made, "-e", "stream_processor_timeout=60 producer_service_rate=0.50", "-e", "producer_instance_ssh_sources=1.2.3.4/32").stdout
    )
    assert (found["transaction_queue_retention"], found["stream_processor_timeout"], found["producer_service_rate"]) == (86400, 60, 0.5)
    assert (found["pipeline_tags"], found["producer_instance_ssh_sources"]) == ({"CostCenter": "4711"}, ["1.2.3.4/32"])


def test_all_that_cannot_be_used_is_said_at_once_with_the_file_also_of_a_host_that_is_not_asked(tmp_path: Path):
    made = inventory(tmp_path, "pipeline_verfy_timeout: 60\n")
    (made / "host_vars").mkdir()
    (made / "host_vars" / "elsewhere.yml").write_text("producer_service_rate: fast\n")
    run = asked(made, "-e", "stream_processor_timeout=6O", "-e", "reconcile_resend_los=true")
    assert run.returncode != 0
    for said in (
        "Nothing was changed",
        "-e: stream_processor_timeout is '6O'; it must be a whole number from 15 to 900 (seconds that an invocation",
        "-e: 'reconcile_resend_los' is no setting. Did you mean reconcile_resend_lost?",
        f"{made}/group_vars/all/90_own.yml: 'pipeline_verfy_timeout' is no setting. Did you mean reconciliation_verify_timeout or ",
        f"{made}/host_vars/elsewhere.yml: producer_service_rate is 'fast'; it must be a number from 0.0001 to 10000 (transactions",
    ):
        assert said in run.stderr
