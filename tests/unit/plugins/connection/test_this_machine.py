"""Modules of this machine run from the installation as packed ones do, and packed where Ansible found others than the installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[4]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
MODULE = """
import os, sys
from ansible.module_utils import basic
from ansible.module_utils.pipeline.core.canonical import as_text
module = basic.AnsibleModule({"do": {"default": ""}}, supports_check_mode=True)
do = module.params["do"]
if do == "raise":
    raise RuntimeError("so it is")
if do == "warn":
    module.warn("look out")
    module.deprecate("no longer", version="9.9", collection_name="ansible.builtin")
if do == "garbage":
    print("garbage before\\n")
if do == "fail":
    module.fail_json(msg="it failed", why=[1, {"é": None}])
if do == "end":
    sys.exit(3)
told = {name: os.environ.get(name) for name in ("SAID", "HOME")}
module.exit_json(changed=True, packed="payload" in basic.__file__, do=do, environment=told, directory=os.getcwd(), check=module.check_mode,
    diff={"before": "a", "after": do}, path=[part for part in sys.path if "payload" not in part], text=as_text([1]), arguments=sys.argv[1:])
"""
HARD = "' \" \\ \n \u2028 é { zip_data='AAAA',\n)\n extensions={},\nzip_data='x'"
TASKS: dict[str, dict[str, Any]] = {
    "nothing": {"say": {}},
    "a hard text": {"say": {"do": HARD}},
    "a long text": {"say": {"do": "long " * 50000}},
    "a failure": {"say": {"do": "fail"}},
    "an exception": {"say": {"do": "raise"}},
    "a warning": {"say": {"do": "warn"}},
    "other output": {"say": {"do": "garbage"}},
    "an end without a result": {"say": {"do": "end"}},
    "an unknown option": {"say": {"dont": 1}},
    "check and diff mode": {"say": {"do": "x"}, "check_mode": True, "diff": True},
    "environment": {"say": {}, "environment": {"SAID": 'it\'s "so" $HOME', "OTHER": "x y"}},
    "a loop": {"say": {"do": "{{ item }}"}, "loop": ["a", "b"]},
    "one of Ansible's": {"ansible.builtin.stat": {"path": "/etc/passwd"}},
    "an action with modules": {"ansible.builtin.copy": {"content": HARD, "dest": "{{ inventory_hostname }}.copied"}, "diff": True},
    "a command": {"ansible.builtin.command": {"argv": ["printf", "%s", HARD]}},
    "a collection's": {"amazon.aws.aws_caller_info": {"region": "us-east-1", "endpoint_url": "http://127.0.0.1:9", "aws_config": {}}},
}
# What may differ from run to run.
FLEETING = {"start", "end", "delta", "atime", "mtime", "ctime", "src", "packed"} | {"stderr", "module_stderr", "stderr_lines", "exception"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("a clone's")
    shutil.copy(ROOT / "ansible.cfg", made)
    shutil.copytree(ROOT / "plugins", made / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    (made / "requirements.txt").touch()
    for place in ("plugins/modules/say.py", "roles/own/library/shout.py", "elsewhere/ansible_collections/our/own/plugins/modules/say.py"):
        (made / place).parent.mkdir(parents=True, exist_ok=True)
        (made / place).write_text(MODULE)
    return made


def run(clone: Path, tasks: list[dict[str, Any]], *hosts: str, **environment: str) -> dict[str, Any]:
    """The results of each task by host: hosts are named by their connection."""
    noted = [task | {"register": f"result_{number}", "ignore_errors": True} for number, task in enumerate(tasks)]
    results = "{{ hostvars[inventory_hostname] | dict2items | selectattr('key', 'match', 'result_') | items2dict | to_json }}"
    last = {"ansible.builtin.copy": {"content": results, "dest": f"{clone}/{{{{ inventory_hostname }}}}.json"}}
    play = {"hosts": "all", "gather_facts": False, "roles": ["own"], "tasks": [*noted, last | {"become": False}]}
    variables = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    told = {"all": {"hosts": {host: {"ansible_connection": host} for host in hosts}, "vars": variables}}
    (clone / "play.yml").write_text(yaml.safe_dump([play]))
    (clone / "hosts.yml").write_text(yaml.safe_dump(told))
    unset = ("ANSIBLE_", "AWS_")
    given = {name: value for name, value in os.environ.items() if not name.startswith(unset)} | environment
    done = subprocess.run([ANSIBLE, "-i", "hosts.yml", "play.yml"], cwd=clone, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {host: json.loads((clone / f"{host}.json").read_text()) for host in hosts}


def lasting(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: lasting(value) for name, value in found.items() if name not in FLEETING}
    if isinstance(found, list):
        return [lasting(value) for value in found]
    return found.replace("this_machine.copied", "local.copied") if isinstance(found, str) else found


@pytest.fixture(scope="module")
def results(clone: Path) -> dict[str, Any]:
    return run(clone, list(TASKS.values()), "local", "this_machine")


@pytest.mark.parametrize("task", TASKS)
def test_a_module_does_what_a_packed_one_does(results: dict[str, Any], task: str):
    name = f"result_{list(TASKS).index(task)}"
    packed, installed = results["local"][name], results["this_machine"][name]
    assert lasting(installed) == lasting(packed)
    if "say" in TASKS[task] and "packed" in installed:
        assert (packed["packed"], installed["packed"]) == (True, False)


INSTALLED = ["ansible.modules.copy", "ansible_collections.amazon.aws.plugins.modules.iam_role", "ansible.legacy.lambda_package"]


@pytest.mark.parametrize("name", INSTALLED)
def test_every_module_of_the_installation_runs_so(name: str, monkeypatch: pytest.MonkeyPatch):
    spec = spec_from_file_location("this_machine", ROOT / "plugins" / "connection" / "this_machine.py")
    assert spec and spec.loader
    plugin = module_from_spec(spec)
    spec.loader.exec_module(plugin)
    monkeypatch.setattr(plugin.constants, "DEFAULT_MODULE_PATH", [str(ROOT / "plugins" / "modules")])
    assert plugin.is_installed(name)


OWN, COLLECTION = {"say": {}}, {"our.own.say": {}}
WAYS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "as another user": (OWN | {"become": True, "become_method": "ansible.builtin.su"}, {}),
    "another interpreter": (OWN | {"vars": {"ansible_python_interpreter": "{clone}/python"}}, {}),
    "a role's own module": ({"shout": {}}, {}),
    "a collection elsewhere": (COLLECTION, {"ANSIBLE_COLLECTIONS_PATH": "{clone}/elsewhere"}),
    "kept for debugging": (OWN, {"ANSIBLE_KEEP_REMOTE_FILES": "1"}),
    "without pipelining": (OWN, {"ANSIBLE_PIPELINING": "0"}),
    "in the background": (OWN | {"async": 30, "poll": 1}, {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_module_is_packed_where_the_installation_may_be_another(clone: Path, way: str):
    if way == "as another user" and os.getuid():
        pytest.skip("only root becomes another user without a password")
    python = clone / "python"
    python.unlink(missing_ok=True)
    python.symlink_to(sys.executable)
    task, environment = json.loads(json.dumps(WAYS[way]).replace("{clone}", str(clone)))
    (found,) = run(clone, [task], "this_machine", **environment)["this_machine"].values()
    assert found["packed"] is True, found


def test_the_collections_of_a_home_are_not_used(clone: Path):
    """They may be other versions than the pinned ones."""
    home = clone / "home"
    shutil.copytree(clone / "elsewhere", home / ".ansible" / "collections")
    with pytest.raises(AssertionError, match=r"couldn't resolve module/action 'our\.own\.say'"):
        run(clone, [COLLECTION], "this_machine", HOME=str(home))


@pytest.mark.parametrize("inventory", ["local", "rehearsal", "aws"])
def test_the_operators_hosts_run_what_is_installed(inventory: str):
    told = yaml.safe_load((ROOT / "inventories" / inventory / "hosts.yml").read_text())
    text = json.dumps(told)
    assert '"ansible_connection": "this_machine"' in text
    assert '"ansible_connection": "local"' not in text
