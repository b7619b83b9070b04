"""Every module runs as Ansible ships it: packed by Ansible with what it imports, and run in a process that knows nothing of this folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
MODULES = sorted(module.stem for module in (PLUGINS / "modules").glob("*.py"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each module says to a task without any argument."""
    folder = tmp_path_factory.mktemp("elsewhere")
    tasks: list[dict[str, Any]] = [{"action": {"module": name}, "register": name, "ignore_errors": True} for name in MODULES]
    content = "{{ " + "{" + ", ".join(f"'{name}': {name}" for name in MODULES) + "} | to_json }}"
    tasks.append({"ansible.builtin.copy": {"content": content, "dest": str(folder / "results.json"), "mode": "0600"}})
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (folder / "play.json").write_text(json.dumps([play]))
    (folder / "ansible.cfg").touch()
    settings = {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_LIBRARY": str(PLUGINS / "modules"),
        "ANSIBLE_MODULE_UTILS": str(PLUGINS / "module_utils"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "play.json"]
    # Of the environment only what any process has.
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ} | settings
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr
    found: dict[str, dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_begins_where_it_is_shipped_to(results: dict[str, dict[str, Any]], module: str) -> None:
    # It got past its imports and its documentation, as far as the arguments that it requires.
    assert results[module]["msg"].startswith("missing required arguments: "), results[module]


def test_every_folder_of_the_helpers_is_a_package() -> None:
    folders = {file.parent for file in (PLUGINS / "module_utils").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
