"""Packed modules are kept from play to play, are never older than their sources, and no play fails for want of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
CONFIGURATION = f"""
[defaults]
library = plugins/modules
module_utils = plugins/module_utils
callback_plugins = plugins/callback
callbacks_enabled = module_cache
interpreter_python = {sys.executable}
"""
PLAY = "[{hosts: localhost, connection: local, gather_facts: false, tasks: [{say: {}, register: said}, {debug: {var: said.text}}]}]"
MODULE = """
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pipeline.words import WORD
AnsibleModule({}).exit_json(text=f"the module says {WORD}")
"""
CHANGES = {
    "the module": ("plugins/modules/say.py", MODULE.replace("says", "cries"), "the module cries one"),
    "what it imports": ("plugins/module_utils/pipeline/words.py", "WORD = 'two'\n", "the module says two"),
    "another version": ("requirements.txt", "ansible==0\n", "the module says one"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with one module, which has run once."""
    made = tmp_path_factory.mktemp("original")
    (made / "ansible.cfg").write_text(CONFIGURATION)
    shutil.copytree(ROOT / "plugins", made / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    (made / "plugins/module_utils/pipeline/words.py").write_text("WORD = 'one'\n")
    (made / "plugins/modules/say.py").write_text(MODULE)
    (made / "requirements.txt").touch()
    (made / "play.yml").write_text(PLAY)
    run(made, "the module says one")
    return made


@pytest.fixture
def clone(original: Path, tmp_path: Path) -> Path:
    """A copy of it, with what it keeps."""
    return shutil.copytree(original, tmp_path / "clone")


def run(clone: Path, said: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    command = [ANSIBLE, "-i", "localhost,", "play.yml"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'"said.text": "{said}"' in done.stdout


def packed(clone: Path) -> dict[Path, tuple[int, int]]:
    """Inode and time of each packed module."""
    found = [path for path in (clone / ".ansible/module_cache").rglob("*say*") if not path.name.endswith(".lock")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_the_plays_of_this_clone_keep_their_modules():
    assert "\ncallbacks_enabled = module_cache, module_server\n" in (ROOT / "ansible.cfg").read_text()


def test_a_module_is_packed_once_for_all_plays(clone: Path):
    before = packed(clone)
    assert len(before) == 1
    run(clone, "the module says one")
    assert packed(clone) == before


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_packed_anew(clone: Path, change: str):
    before = packed(clone)
    name, text, says = CHANGES[change]
    (clone / name).write_text(text)
    run(clone, says)
    assert len(packed(clone)) == 2
    assert packed(clone).items() > before.items()


def test_what_no_play_used_for_a_week_is_deleted(clone: Path):
    used, old = next((clone / ".ansible/module_cache").iterdir()), clone / ".ansible/module_cache/old"
    for days, directory in ((6, used), (8, old)):
        directory.mkdir(exist_ok=True)
        os.utime(directory, (time.time() - days * 86400,) * 2)
    run(clone, "the module says one")
    assert list(old.parent.iterdir()) == [used]
    assert time.time() - used.stat().st_mtime < 60


@pytest.mark.parametrize("way", ["no directory can be made", "it is another user's"])
def test_a_play_runs_where_nothing_can_be_kept(clone: Path, way: str):
    kept = clone / ".ansible"
    shutil.rmtree(kept)
    if way == "no directory can be made":
        kept.write_text("")
    elif os.getuid() == 0:
        run(clone, "the module says one")
        (directory,) = (kept / "module_cache").iterdir()
        shutil.rmtree(directory)
        directory.mkdir()
        os.chown(directory, 12345, 12345)
    run(clone, "the module says one")
    assert os.getuid() != 0 or not packed(clone)
