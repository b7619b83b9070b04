"""The rules of the house that a reader relies on, held by reading the files themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
PLAYBOOKS = ROOT / "playbooks"
# The role of whole-pipeline steps reads the settings themselves.
WITH_INPUTS = [role for role in ROLES if role != "pipeline"]


def read(path: Path):
    return yaml.safe_load(path.read_text())


def options(role: str, entry: str = "main") -> dict:
    return read(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"][entry]["options"]


def steps(playbook: str) -> list[dict]:
    """Every role that a playbook lists, in order: {role, tasks_from, tags, hosts}."""
    found = []
    for play in read(PLAYBOOKS / playbook):
        for task in play["tasks"]:
            imported = task["ansible.builtin.import_role"]
            found.append(
                {
                    "role": imported["name"],
                    "tasks_from": imported.get("tasks_from", "main"),
                    "tags": task.get("tags"),
                    "hosts": play["hosts"],
                    "vars": play.get("vars", {}),
                }
            )
    return found


@pytest.mark.parametrize("role", WITH_INPUTS)
def test_defaults_and_argument_specs_agree(role: str):
    defaults = read(ROOT / "roles" / role / "defaults" / "main.yml")
    specs = options(role)
    optional = {name for name, spec in specs.items() if not spec.get("required")}
    assert set(defaults) == optional
    for name, spec in specs.items():
        if isinstance(defaults.get(name), str) and "{{" in defaults[name]:
            continue  # computed: the specification describes it in words
        assert spec.get("default") == defaults.get(name), name


@pytest.mark.parametrize("role", WITH_INPUTS)
def test_every_input_begins_with_the_name_of_its_role(role: str):
    assert [name for name in options(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", WITH_INPUTS)
def test_every_internal_begins_with_the_name_of_its_role(role: str):
    variables = ROOT / "roles" / role / "vars" / "main.yml"
    names = list(read(variables)) if variables.exists() else []
    assert [name for name in names if not name.startswith(f"__{role}_")] == []


@pytest.mark.parametrize("role", WITH_INPUTS)
def test_every_role_can_be_present_absent_and_verified(role: str):
    tasks = {path.name for path in (ROOT / "roles" / role / "tasks").iterdir()}
    assert {"main.yml", "verify.yml"} <= tasks
    assert any(name.endswith("present.yml") for name in tasks)
    assert any(name.endswith("absent.yml") for name in tasks)
    assert options(role)[f"{role}_state"]["choices"] == ["present", "absent"]


@pytest.mark.parametrize("role", WITH_INPUTS)
def test_a_role_is_under_150_lines_of_tasks(role: str):
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "roles" / role / "tasks").iterdir())
    assert lines < 150


def test_every_shared_role_input_is_one_that_a_role_has():
    known = {name for role in WITH_INPUTS for name in options(role)}
    mapped = set(read(ROOT / "inventories" / "shared" / "role_inputs.yml"))
    assert mapped - known == set()


def test_teardown_is_site_reversed():
    pipeline = [step["role"] for step in steps("site.yml") if step["role"] != "pipeline"]
    removed = [step["role"] for step in steps("teardown.yml") if step["vars"].get(f"{step['role']}_state") == "absent"]
    assert removed == list(reversed(pipeline))


def test_verify_looks_at_every_role_of_site():
    deployed = {step["role"] for step in steps("site.yml")} - {"pipeline"}
    verified = {step["role"] for step in steps("verify.yml") if step["tasks_from"] == "verify"}
    assert deployed <= verified


def test_the_report_gathers_every_role_that_verify_looks_at():
    report = (ROOT / "roles" / "pipeline" / "tasks" / "report.yml").read_text()
    missing = [
        step["role"] for step in steps("verify.yml") if step["tasks_from"] == "verify" and f"{step['role']}_verification" not in report
    ]
    assert missing == []


@pytest.mark.parametrize("playbook", ["site.yml", "verify.yml", "teardown.yml"])
def test_the_account_guard_comes_before_anything_else_that_calls_the_cloud(playbook: str):
    calls = [step for step in steps(playbook) if step["hosts"] != "embedded_cloud"]
    assert (calls[0]["tasks_from"], calls[0]["tags"]) == ("guard", ["always"])


@pytest.mark.parametrize("playbook", ["site.yml", "verify.yml", "teardown.yml"])
def test_a_tag_is_the_name_of_a_role(playbook: str):
    assert [step for step in steps(playbook) if step["tags"] not in (["always"], [step["role"]])] == []


@pytest.mark.parametrize("playbook", ["site.yml", "verify.yml", "teardown.yml"])
def test_the_root_playbook_imports_its_namesake(playbook: str):
    assert [play["ansible.builtin.import_playbook"] for play in read(ROOT / playbook)] == [f"playbooks/{playbook}"]


def test_no_task_and_no_playbook_asks_which_environment_it_is_in():
    question = re.compile(r"when:.*(inventory_dir|inventory_file|pipeline_environment *(==|!=)|is_local|127\.0\.0\.1|localhost)")
    places = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("roles", "playbooks")
        for path in sorted((ROOT / folder).rglob("*.yml"))
        for line in path.read_text().splitlines()
        if question.search(line)
    ]
    assert places == []


def test_no_wildcard_resource_in_a_policy():
    for path in sorted((ROOT / "files").glob("*-policy.json*")):
        assert not re.search(r'"Resource": *"\*"', path.read_text()), path.name
        assert not re.search(r'"Action": *("\*"|\[\s*"\*")', path.read_text()), path.name


def test_requirements_carry_no_index_address():
    for path in sorted(ROOT.glob("requirements*")):
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", path.read_text()), path.name
