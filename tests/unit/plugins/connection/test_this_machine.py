"""Modules run in the process that waits for them as packed ones do; packed where that process may not or cannot run them."""

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
from plays import wait_until

ROOT = Path(__file__).resolve().parents[4]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
MODULE = """
import atexit, os, signal, sys, tempfile, threading, time
from ansible.module_utils import basic
from ansible.module_utils.pipeline.core.canonical import as_text
module = basic.AnsibleModule({"do": {"default": ""}}, supports_check_mode=True)
do = module.params["do"]
def process(number):  # its parent, or that one's parent
    return number if number < 2 else int(open(f"/proc/{os.getppid()}/stat").read().rsplit(")", 1)[1].split()[1])
if do == "raise":
    raise RuntimeError("so it is")
if do == "warn":
    module.warn("look out")
    module.deprecate("no longer", version="9.9", collection_name="ansible.builtin")
if do == "garbage":
    print("garbage before\\n")
    print("garbage", file=sys.stderr)
if do == "fail":
    module.fail_json(msg="it failed", why=[1, {"é": None}])
if do == "end":
    sys.exit(3)
if do == "end with a text":
    sys.exit("the end")
if do == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if do == "late":
    atexit.register(lambda: open("at exit", "w"))
    threading.Thread(target=lambda: time.sleep(0.5) or open("by a thread", "w")).start()
if do == "interrupt the server":
    os.kill(process(2), signal.SIGINT)
if do == "kill the server":
    os.kill(process(2), signal.SIGKILL)
if do == "kill the waiting process":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1)
told = {name: os.environ.get(name) for name in ("SAID", "HOME", "TZ")}
module.exit_json(changed=True, packed="payload" in basic.__file__, do=do, environment=told, directory=os.getcwd(), check=module.check_mode,
    diff={"before": "a", "after": do}, path=[part for part in sys.path if "payload" not in part], text=as_text([1]), arguments=sys.argv[1:],
    temporary=tempfile.gettempdir(), zone=time.tzname, input=sys.stdin.read(), handlers=[str(signal.getsignal(one)) for one in (2, 15, 17)],
    encoding=[sys.stdout.encoding, sys.stderr.encoding], others=len(os.listdir("/proc/self/fd")) < 9, umask=oct(os.umask(0o22)))
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
    "an end with a text": {"say": {"do": "end with a text"}},
    "a death": {"say": {"do": "die"}},
    "an unknown option": {"say": {"dont": 1}},
    "check and diff mode": {"say": {"do": "x"}, "check_mode": True, "diff": True},
    "environment": {"say": {}, "environment": {"SAID": 'it\'s "so" $HOME = x', "TZ": "Asia/Tokyo", "TMPDIR": "/var/tmp"}},
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


def environment(**given: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "AWS_"))} | given


def inventory(hosts: dict[str, str]) -> dict[str, Any]:
    """Hosts with their connections."""
    variables = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    return {"all": {"hosts": {host: {"ansible_connection": connection} for host, connection in hosts.items()}, "vars": variables}}


def run(clone: Path, tasks: list[dict[str, Any]], hosts: dict[str, str], **given: str) -> dict[str, Any]:
    """The results of the tasks by host."""
    noted = [task | {"register": f"result_{number}", "ignore_errors": True} for number, task in enumerate(tasks)]
    results = "{{ hostvars[inventory_hostname] | dict2items | selectattr('key', 'match', 'result_') | items2dict | to_json }}"
    last = {"ansible.builtin.copy": {"content": results, "dest": f"{clone}/{{{{ inventory_hostname }}}}.json"}}
    play = {"hosts": "all", "gather_facts": False, "roles": ["own"], "tasks": [*noted, last]}
    (clone / "play.yml").write_text(yaml.safe_dump([play]))
    (clone / "hosts.yml").write_text(yaml.safe_dump(inventory(hosts)))
    command = [ANSIBLE, "-i", "hosts.yml", "--forks", "8", "play.yml"]
    done = subprocess.run(command, cwd=clone, env=environment(**given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {host: json.loads((clone / f"{host}.json").read_text()) for host in hosts}


def here(clone: Path, *tasks: dict[str, Any], **given: str) -> list[Any]:
    """The results of tasks on this machine."""
    return list(run(clone, list(tasks), {"here": "this_machine"}, **given)["here"].values())


def lasting(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: lasting(value) for name, value in found.items() if name not in FLEETING}
    if isinstance(found, list):
        return [lasting(value) for value in found]
    return found.replace("served.copied", "packed.copied") if isinstance(found, str) else found


@pytest.fixture(scope="module")
def results(clone: Path) -> dict[str, Any]:
    return run(clone, list(TASKS.values()), {"packed": "local", "served": "this_machine"})


@pytest.mark.parametrize("task", TASKS)
def test_a_module_does_what_a_packed_one_does(results: dict[str, Any], task: str):
    name = f"result_{list(TASKS).index(task)}"
    packed, served = results["packed"][name], results["served"][name]
    assert lasting(served) == lasting(packed)
    if "say" in TASKS[task] and "packed" in served:
        assert (packed["packed"], served["packed"]) == (True, False)


OWN, COLLECTION = {"say": {}}, {"our.own.say": {}}
WAYS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "as another user": (OWN | {"become": True, "become_method": "ansible.builtin.su"}, {}),
    "another interpreter": (OWN | {"vars": {"ansible_python_interpreter": "{clone}/python"}}, {}),
    "an environment for the interpreter": (OWN | {"environment": {"PYTHONPATH": "/nonexistent"}}, {}),
    "a role's own module": ({"shout": {}}, {}),
    "a collection elsewhere": (COLLECTION, {"ANSIBLE_COLLECTIONS_PATH": "{clone}/elsewhere"}),
    "kept for debugging": (OWN, {"ANSIBLE_KEEP_REMOTE_FILES": "1"}),
    "without pipelining": (OWN, {"ANSIBLE_PIPELINING": "0"}),
    "in the background": (OWN | {"async": 30, "poll": 1}, {}),
    "no server": (OWN, {"ANSIBLE_CALLBACKS_ENABLED": "module_cache"}),
    "no room for a socket": (OWN, {"ANSIBLE_LOCAL_TEMP": f"{{clone}}/{'long' * 30}"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_module_is_packed_where_the_server_may_not_or_cannot_run_it(clone: Path, way: str):
    if way == "as another user" and os.getuid():
        pytest.skip("only root becomes another user without a password")
    python = clone / "python"
    python.unlink(missing_ok=True)
    python.symlink_to(sys.executable)
    task, given = json.loads(json.dumps(WAYS[way]).replace("{clone}", str(clone)))
    (found,) = here(clone, task, **given)
    assert found["packed"] is True, found


def doing(word: str) -> dict[str, Any]:
    return {"say": {"do": word}}


def test_an_interrupted_server_goes_on(clone: Path):
    """A person may interrupt a pause, and continue."""
    assert [one["packed"] for one in here(clone, doing("interrupt the server"), doing(""))] == [False, False]


def test_without_its_server_a_play_goes_on_with_packed_modules(clone: Path):
    assert [one["packed"] for one in here(clone, doing("kill the server"), doing(""))] == [False, True]


def test_a_module_whose_end_is_not_known_failed_and_is_not_run_again(clone: Path):
    (found,) = here(clone, doing("kill the waiting process"))
    assert found["failed"] and "The process that waited for the module ended." in found["module_stderr"]


def test_a_module_ends_as_any_python(clone: Path):
    here(clone, doing("late"))
    assert (clone / "at exit").exists()
    assert (clone / "by a thread").exists()


def test_hosts_side_by_side_get_their_own_answers(clone: Path):
    loop = {"say": {"do": "{{ inventory_hostname }} {{ item }}"}, "loop": ["a", "b", "c"]}
    hosts = {f"host{number}": "this_machine" for number in range(8)}
    for host, found in run(clone, [loop], hosts).items():
        assert [one["do"] for one in found["result_0"]["results"]] == [f"{host} {item}" for item in "abc"]


@pytest.mark.parametrize("ending", ["as it should", "killed"])
def test_the_server_ends_with_its_play(clone: Path, ending: str):
    def servers() -> list[str]:
        found = [path.read_bytes().decode().split("\0") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        return [words for words in found if str(clone / "plugins" / "serve_modules.py") in words]

    play = [{"hosts": "all", "gather_facts": False, "tasks": [OWN, {"ansible.builtin.wait_for": {"path": f"{clone}/go", "timeout": 20}}]}]
    (clone / "play.yml").write_text(yaml.safe_dump(play))
    (clone / "hosts.yml").write_text(yaml.safe_dump(inventory({"one": "this_machine"})))
    (clone / "go").unlink(missing_ok=True)
    process = subprocess.Popen([ANSIBLE, "-i", "hosts.yml", "play.yml"], cwd=clone, env=environment(), stdout=subprocess.DEVNULL)
    wait_until(lambda: len(servers()) >= 3, 30, "the server, who waits for the module, and the module")
    if ending == "killed":
        process.kill()
    (clone / "go").touch()
    process.wait(30)
    wait_until(lambda: not servers(), 30, "no server")


INSTALLED = ["ansible.modules.copy", "ansible_collections.amazon.aws.plugins.modules.iam_role", "ansible.legacy.lambda_package"]


@pytest.mark.parametrize("name", INSTALLED)
def test_every_module_of_the_installation_is_served(name: str, monkeypatch: pytest.MonkeyPatch):
    spec = spec_from_file_location("this_machine", ROOT / "plugins" / "connection" / "this_machine.py")
    assert spec and spec.loader
    plugin = module_from_spec(spec)
    spec.loader.exec_module(plugin)
    monkeypatch.setattr(plugin.constants, "DEFAULT_MODULE_PATH", [str(ROOT / "plugins" / "modules")])
    assert plugin.is_installed(name)


def test_the_collections_of_a_home_are_not_used(clone: Path):
    """They may be other versions than the pinned ones."""
    home = clone / "home"
    shutil.copytree(clone / "elsewhere", home / ".ansible" / "collections")
    with pytest.raises(AssertionError, match=r"couldn't resolve module/action 'our\.own\.say'"):
        here(clone, COLLECTION, HOME=str(home))


@pytest.mark.parametrize("name", ["local", "rehearsal", "aws"])
def test_the_operators_hosts_have_this_connection(name: str):
    told = yaml.safe_load((ROOT / "inventories" / name / "hosts.yml").read_text())
    text = json.dumps(told)
    assert '"ansible_connection": "this_machine"' in text
    assert '"ansible_connection": "local"' not in text
