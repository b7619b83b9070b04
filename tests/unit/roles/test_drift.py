"""A role that is to be absent does its own work: nothing is skipped because all is as expected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
STATES = sorted(f"{path.parents[1].name}_state" for path in ROOT.glob("roles/*/tasks/absent.yml"))


def assertion(asked: bool, **states: str) -> dict[str, Any]:
    return {"ansible.builtin.assert": {"that": "__drift_is_asked" if asked else "not __drift_is_asked"}, "vars": states}


def test_all_resources_are_compared_unless_a_role_is_to_be_absent(tmp_path: Path):
    present = dict.fromkeys(STATES, "present")
    tasks = [assertion(True), assertion(True, **present), assertion(True, __other_state="absent")]
    tasks += [assertion(False, **{state: "absent"}) for state in STATES]
    tasks += [assertion(False, **present | {state: "absent"}) for state in STATES]
    play = {"hosts": "localhost", "vars_files": [str(ROOT / "roles/drift/vars/main.yml")], "tasks": tasks}
    file = tmp_path / "play.yml"
    file.write_text(json.dumps([play]))
    ansible = str(Path(sys.executable).parent / "ansible-playbook")
    run = subprocess.run([ansible, "-i", "localhost,", "-c", "local", str(file)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert len(STATES) > 5 and run.returncode == 0, run.stdout + run.stderr
    assert f"{len(tasks)} ok" in run.stdout
