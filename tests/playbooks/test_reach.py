"""A host that cannot be configured is reported before anything is changed on it, with what to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from plays import Pipeline, Run, free_port

PLAY = [
    {
        "hosts": "producers",
        "tasks": [
            {
                "name": "Host of the producer",
                "ansible.builtin.import_role": {"name": "producer_instance", "tasks_from": "wait_for_connection"},
            },
            {"name": "Change something", "ansible.builtin.debug": {"msg": "it went on"}},
        ],
    }
]


def reach(tmp_path: Path, host: dict[str, Any], **settings: Any) -> Run:
    every = {"pipeline_command_options": " -i inventories/aws", "producer_service_directory": "/opt/it"}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"vars": every, "children": {"producers": {"hosts": {"producer": host}}}}}))
    (tmp_path / "play.yml").write_text(json.dumps(PLAY))
    command = ("ansible-playbook", "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml"), "-e", json.dumps(settings))
    return Pipeline(tmp_path, 0).run(*command)


@pytest.fixture
def here() -> dict[str, Any]:
    return {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


def test_the_play_continues_on_a_reachable_host_with_free_space(tmp_path: Path, here: dict[str, Any]):
    assert "it went on" in reach(tmp_path, here).ended_well().output


def test_a_refused_login_says_where_as_whom_and_what_to_look_at(tmp_path: Path):
    refusing = {"ansible_host": "127.0.0.1", "ansible_port": free_port(), "ansible_user": "ec2-user"}
    run = reach(tmp_path, refusing | {"ansible_ssh_private_key_file": "/nowhere/key"}, __producer_instance_connection_seconds=2)
    said = run.message
    assert run.status != 0
    assert "producer (127.0.0.1) did not let this machine in within 2 s" in said
    assert "Connection refused" in said
    assert "a login as ec2-user with the key /nowhere/key" in said
    assert "ansible-playbook site.yml -i inventories/aws --tags producer_instance" in said
    assert "it went on" not in said


def test_a_full_disk_is_measured_before_anything_is_copied(tmp_path: Path, here: dict[str, Any]):
    run = reach(tmp_path, here, __producer_instance_needed_mebibytes=10**9)
    said = run.message
    assert run.status != 0
    assert "MiB free on /, the service needs 1000000000 MiB" in said
    assert "it went on" not in said


def test_the_message_has_the_advice_of_the_inventory(tmp_path: Path):
    unseen = {"ansible_host": "127.0.0.1", "ansible_port": free_port(), "ansible_user": "ec2-user"}
    run = reach(tmp_path, unseen | {"pipeline_reach_advice": "It has no public address."}, __producer_instance_connection_seconds=1)
    assert run.status != 0
    assert "It has no public address. Permission denied: the key is not the one" in run.message
