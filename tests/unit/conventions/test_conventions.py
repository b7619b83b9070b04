"""The rules of the house that a reader relies on, held by reading the files themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
# These do something with the pipeline; every other role owns resources.
ACTIONS = ("account_guard", "drift", "probe", "quarantine", "reconciliation", "report", "teardown")
OWNERS = [role for role in ROLES if role not in ACTIONS]
PLAYBOOKS = ROOT / "playbooks"
EVERY_PLAYBOOK = sorted(path.name for path in PLAYBOOKS.glob("*.yml"))


def read(path: Path):
    return yaml.safe_load(path.read_text())


def entries(role: str) -> dict:
    return read(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]


def options(role: str, entry: str = "main") -> dict:
    return entries(role)[entry].get("options", {})


def steps(playbook: str) -> list[dict]:
    """Every role that a playbook lists, in order: {role, tasks_from, tags, hosts, vars}."""
    found = []
    for play in read(PLAYBOOKS / playbook):
        of_tasks = [(task["ansible.builtin.import_role"], task) for task in play.get("tasks", [])]  # a play may be another playbook
        for imported, step in [({"name": role["role"]}, role) for role in play.get("roles", [])] + of_tasks:
            found.append(
                {
                    "role": imported["name"],
                    "tasks_from": imported.get("tasks_from", "main"),
                    "tags": step.get("tags"),
                    "hosts": play["hosts"],
                    "vars": play.get("vars", {}),
                }
            )
    return found


@pytest.mark.parametrize("role", OWNERS)
def test_a_value_stands_in_the_settings_or_in_the_defaults_of_its_role(role: str):
    settings, defaults = (read(ROOT / file) for file in ("inventories/shared/settings.yml", f"roles/{role}/defaults/main.yml"))
    own = {name: spec for name, spec in options(role).items() if name.startswith(f"{role}_")}
    optional = {name for name, spec in own.items() if not spec.get("required") and not spec.get("derived")}
    assert set(defaults) == optional - set(settings)
    assert [name for entry in entries(role) for name, spec in options(role, entry).items() if "default" in spec] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_names_every_setting_that_it_reads(role: str):
    settings = {name for other in ROLES for entry in entries(other) for name in entries(other)[entry].get("options", {})}
    folders = ("tasks", "vars", "defaults", "templates", "handlers")
    texts = [file.read_text() for folder in folders for file in (ROOT / "roles" / role / folder).rglob("*")]
    found = {name for text in texts for name in re.findall(r"(?<!-e )\b([a-z_]+)\b(?!:)", text)} & settings
    handed_on = {name for text in texts for name in re.findall(r"(?m)^ +([a-z_]+): ", text)}  # to another role, or a fact
    named = {name for entry in entries(role).values() for name in entry.get("options", {})}
    assert found - handed_on - named == set()


def test_only_reconcile_yml_can_be_told_to_delete_altered_items():
    # As an extra variable the switch would hold in every play: in verify.yml, and in the comparison of teardown.yml.
    files = [*PLAYBOOKS.glob("*.yml"), *(ROOT / "roles").glob("*/[tv]a*/*.yml")]
    readers = [file.name for file in files if re.search(r"{{[^}]*\breconcile_repair_altered\b", file.read_text())]
    assert readers == ["reconcile.yml"]
    assert entries("reconciliation")["main"]["options"]["reconciliation_repair_altered"]["derived"] is True


@pytest.mark.parametrize("role", OWNERS)
def test_what_a_role_reads_of_others_is_required_and_stands_in_an_inventory(role: str):
    files = [file for file in (ROOT / "inventories").rglob("*.yml") if file.parent.name in ("shared", "all")]
    settings = {name for file in files for name in read(file)}
    others = {name: spec for name, spec in options(role).items() if not name.startswith(f"{role}_")}
    assert set(others) - settings == set()
    assert [name for name, spec in others.items() if not spec.get("required")] == []


@pytest.mark.parametrize("role", ROLES)
def test_every_internal_begins_with_the_name_of_its_role(role: str):
    variables = ROOT / "roles" / role / "vars" / "main.yml"
    names = list(read(variables)) if variables.exists() else []
    assert [name for name in names if not name.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", OWNERS)
def test_every_role_can_be_present_absent_and_verified(role: str):
    tasks = {path.name for path in (ROOT / "roles" / role / "tasks").iterdir()}
    assert {"main.yml", "verify.yml"} <= tasks
    assert any(name.endswith("present.yml") for name in tasks)
    assert any(name.endswith("absent.yml") for name in tasks)
    assert options(role)[f"{role}_state"]["choices"] == ["present", "absent"]


@pytest.mark.parametrize("role", OWNERS)
def test_a_role_is_under_150_lines_of_tasks(role: str):
    lines = {path.stem: len(path.read_text().splitlines()) for path in (ROOT / "roles" / role / "tasks").iterdir()}
    managers = options(role).get(f"{role}_manager", {}).get("choices", [])
    # Where a role has several ways to do the same, a reader follows one of them, to one state.
    ways = [name for name in lines if name.partition("_")[0] in managers]
    # What is run beside deployment and verification is read for itself.
    beside = set(entries(role)) - {"main", "verify"}
    shared = sum(count for name, count in lines.items() if name not in {*ways, *beside})
    for way in ways:
        other = 0 if way.endswith("_verify") else lines["verify"]
        assert shared - other + lines[way] < 150, way
    assert shared < 150
    assert max((lines[name] for name in beside), default=0) < 75


def test_a_path_is_no_pattern_where_a_task_depends_on_a_file():
    # `removes` reads *, ? and [ as a pattern: an outbox that is not found would be taken for none, and deleted unsent.
    variables = (ROOT / "roles" / "producer_service" / "vars" / "main.yml").read_text()
    given = {line for file in (ROOT / "roles").glob("*/tasks/*.yml") for line in re.findall(r"(?m)^ +removes: (.*)$", file.read_text())}
    assert given
    for one in given:
        (name,) = re.findall(r"__\w+", one)
        defined = "".join(re.findall(rf"(?m)^{name}: (.*)$", variables))
        assert "regex_replace('([*?[])', '[" in one + defined, one


def imported(node: Any) -> Iterator[tuple[str, str]]:
    """(role, entry point) of every role that a playbook or a role's tasks import or include."""
    if isinstance(node, list):
        for item in node:
            yield from imported(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
                yield value["name"], value.get("tasks_from", "main")
            elif key == "roles":
                yield from ((role["role"], "main") for role in value)
            else:
                yield from imported(value)


def test_every_entry_point_has_an_argument_spec_and_every_spec_is_of_an_entry_point():
    files = [*PLAYBOOKS.glob("*.yml"), *(ROOT / "roles").glob("*/tasks/*.yml")]
    used = {entry for file in files for entry in imported(read(file))}
    assert used == {(role, entry) for role in ROLES for entry in entries(role)}


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_a_readme_of_a_screen_that_names_its_entry_points(role: str):
    lines = (ROOT / "roles" / role / "README.md").read_text().splitlines()
    assert len(lines) <= 50
    assert [entry for entry in entries(role) if f"`{entry}`" not in "\n".join(lines)] == []


ACTION = re.compile(r"\b(?:sqs|dynamodb|lambda|logs|cloudwatch|sns|ec2|iam|ssm):[A-Z]\w+")


def test_the_readmes_name_the_actions_of_the_operators_policies_and_no_others():
    named = {action for role in ROLES for action in ACTION.findall((ROOT / "roles" / role / "README.md").read_text())}
    allowed = set()
    for path in (ROOT / "files").glob("operator-*.json.j2"):
        for statement in json.loads(re.sub(r"{{.*?}}", "x", path.read_text()))["Statement"]:
            allowed |= set(ACTION.findall(json.dumps(statement["Action"])))
    assert named == allowed


def test_the_instances_that_aws_is_asked_for_are_those_that_site_tags():
    asked = read(ROOT / "inventories" / "aws" / "instances.aws_ec2.yml")["filters"]
    assert asked["tag:Pipeline"] == read(ROOT / "inventories" / "shared" / "settings.yml")["pipeline_inventory_tags"]["Pipeline"]


def test_teardown_is_site_reversed():
    pipeline = [step["role"] for step in steps("site.yml") if step["role"] in OWNERS and step["tasks_from"] == "main"]
    removed = [step["role"] for step in steps("teardown.yml") if step["vars"].get(f"{step['role']}_state") == "absent"]
    assert removed == list(reversed(pipeline))


def test_verify_looks_at_every_role_of_site():
    deployed = {step["role"] for step in steps("site.yml")} & set(OWNERS)
    verified = {step["role"] for step in steps("verify.yml") if step["tasks_from"] == "verify"}
    assert deployed <= verified


@pytest.mark.parametrize("playbook", ["site.yml", "verify.yml"])
def test_the_comparison_that_lets_roles_be_skipped_has_all_that_they_expect(playbook: str):
    """What a role compares for itself, in either state of its resources, is what the whole comparison compares."""
    lists: dict[str, set[str]] = {}
    for role in OWNERS:
        files = [ROOT / "roles" / role / "tasks" / f"{name}.yml" for name in ("present", "verify")]
        compared = re.findall(r"(?m)^ +resources: +(.*)$", "".join(file.read_text() for file in files if file.exists()))
        if compared:
            lists[role] = set(re.findall(r"__\w+", " ".join(compared)))
    (files,) = [play["vars_files"] for play in read(PLAYBOOKS / playbook) if "vars_files" in play]
    assert sorted(files) == [f"../roles/{role}/vars/main.yml" for role in sorted(lists)]
    drift = read(ROOT / "roles" / "drift" / "vars" / "main.yml")
    named = set(re.findall(r"__\w+", f"{drift['__drift_expected']} {drift['__drift_alarms']} __observability_verified"))
    # Parts of a list that is there as a whole.
    parts = {"__stream_processor_expected_latest", "__stream_processor_expected_live"}
    assert set().union(*lists.values()) - parts <= named


@pytest.mark.parametrize("role", sorted({step["role"] for step in steps("verify.yml")} - {"account_guard", "report"}))
def test_what_verify_finds_is_a_fact_that_the_report_gathers_by_its_name(role: str):
    tasks = "".join(path.read_text() for path in (ROOT / "roles" / role / "tasks").iterdir())
    assert re.search(rf"(register: {role}_verification$|^ +{role}_verification:)", tasks, re.MULTILINE)


@pytest.mark.parametrize("playbook", EVERY_PLAYBOOK)
def test_the_account_guard_comes_before_anything_else_that_calls_the_cloud(playbook: str):
    calls = [step for step in steps(playbook) if step["hosts"] != "embedded_cloud"]
    assert (calls[0]["role"], calls[0]["tasks_from"], calls[0]["tags"]) == ("account_guard", "main", ["always"])


@pytest.mark.parametrize("playbook", EVERY_PLAYBOOK)
def test_a_tag_is_the_name_of_a_role(playbook: str):
    """Its own, or that of the role whose work it prepares or ends; or the step is always done."""
    assert [step for step in steps(playbook) if len(step["tags"]) != 1 or step["tags"][0] not in [*ROLES, "always"]] == []


@pytest.mark.parametrize("playbook", ["site.yml", "verify.yml", "teardown.yml"])
@pytest.mark.parametrize("role", OWNERS)
def test_the_tag_of_a_role_that_owns_resources_is_on_every_step_that_deploys_verifies_or_removes_it(playbook: str, role: str):
    of_role = [step for step in steps(playbook) if step["role"] == role and step["tasks_from"] in ("main", "verify")]
    assert of_role and {tag for step in of_role for tag in step["tags"]} == {role}


@pytest.mark.parametrize("playbook", sorted(path.name for path in PLAYBOOKS.iterdir()))
def test_the_root_playbook_imports_its_namesake(playbook: str):
    assert [play["ansible.builtin.import_playbook"] for play in read(ROOT / playbook)] == [f"playbooks/{playbook}"]


# What tells one environment or cloud from another: the inventory, its groups, endpoints, profiles and accounts, and the settings' names
# for them. That a host is one of several which work side by side says nothing of the kind.
TELLING = re.compile(
    r"inventory_dir|inventory_file|inventory_sources|pipeline_(environment|region|account_id|partition|suffix)|group_names|is_local"
    r"|embedded_cloud_endpoint|endpoint_url|aws_connection|aws_environment|aws_instances|ansible_connection|ansible_host\b"
    r"|groups *(\[|\.get\(|\.) *['\"]?(embedded_cloud|producers)|127\.0\.0\.1|localhost|amazonaws"
)
CONDITIONS = ("when", "that", "failed_when", "changed_when", "until")
# The guard's files: all they decide is whether to stop, and what to say.
GUARD = {
    f"roles/{name}.yml" for name in ("account_guard/tasks/main", "account_guard/vars/main", "teardown/tasks/confirm", "teardown/vars/main")
}


def conditions(node, inside: str = "") -> list[str]:
    """Every condition of the tasks in a file, and every choice that a template makes: what decides what is done."""
    if isinstance(node, dict):
        return [text for key, value in node.items() for text in conditions(value, key if key in CONDITIONS else "")]
    if isinstance(node, list):
        return [text for value in node for text in conditions(value, inside)]
    if inside or (isinstance(node, str) and re.search(r"{{.*\bif\b|{%-? *(el)?if\b", node, re.DOTALL)):
        return [str(node)]
    return []


def decisions() -> list[tuple[str, str]]:
    files = [*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "roles").glob("*/*/*.yml")]
    found = [(str(path.relative_to(ROOT)), text) for path in sorted(files) for text in conditions(read(path))]
    for template in sorted((ROOT / "roles").glob("*/templates/*")) + sorted((ROOT / "files").iterdir()):
        found += [(str(template.relative_to(ROOT)), text) for text in re.findall(r"{%-? *(?:el)?if\b.*?%}", template.read_text())]
    return found


def test_no_task_no_playbook_and_no_template_asks_which_environment_or_cloud_it_is_in():
    assert [(path, text) for path, text in decisions() if path not in GUARD and TELLING.search(text)] == []


@pytest.mark.parametrize(
    "task",
    [
        {"when": "pipeline_environment == 'default'"},
        {"when": ["true", "groups['embedded_cloud'] | length > 0"]},
        {"when": "'producers' in group_names"},
        {"block": [{"failed_when": "aws_connection.endpoint_url is defined"}]},
        {"vars": {"size": "{{ 8 if inventory_dir is match('.*/aws') else 1 }}"}},
    ],
)
def test_a_question_of_that_kind_would_be_seen(task: dict):
    assert any(TELLING.search(text) for text in conditions([task]))


def test_no_wildcard_resource_in_a_policy():
    # The operator's policies are held by test_policies_lint.py: `*` where the action knows no resource.
    for path in sorted(set((ROOT / "files").glob("*-policy.json*")) - set((ROOT / "files").glob("operator-*"))):
        assert not re.search(r'"Resource": *"\*"', path.read_text()), path.name
        assert not re.search(r'"Action": *("\*"|\[\s*"\*")', path.read_text()), path.name


def test_requirements_carry_no_index_address():
    for path in sorted([*ROOT.glob("requirements*"), *(ROOT / "producer_src").glob("requirements*")]):
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", path.read_text()), path.name
