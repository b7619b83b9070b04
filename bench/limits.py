"""Where the time of a run that changes nothing goes, and what Ansible itself takes of it."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

from bench.deploy import BIN, Pipeline, run
from bench.measuring import interleaved, seconds, spread

TASKS = 20
PLAY = re.compile(r"(?m)^(\S.*?) +([0-9.]+) s$")
ALONE = {"ANSIBLE_CALLBACKS_ENABLED": "module_cache"}  # without the server of modules
KINDS: dict[str, dict[str, Any]] = {
    "a task without a module (assert)": {"ansible.builtin.assert": {"that": True, "quiet": True}},
    "a module without boto3 (command)": {"ansible.builtin.command": {"argv": ["true"]}, "changed_when": False},
    "a module with boto3 (aws_caller_info)": {"amazon.aws.aws_caller_info": {}, "environment": "{{ aws_environment }}"},
}


def plays(output: str) -> dict[str, float]:
    """Seconds of each play, by what a playbook writes."""
    return {title: float(took) for title, took in PLAY.findall(output)}


def measure(rounds: int, small: bool) -> dict[str, Any]:
    count = 3 if small else TASKS
    with Pipeline() as pipeline:
        pipeline.play("site")

        def playbook(name: str, tasks: list[dict[str, Any]]) -> str:
            path = pipeline.directory / f"{name}.yml"
            path.write_text(json.dumps([{"hosts": "operator[0]", "tasks": tasks}]))
            return str(path)

        def timed(path: str, environment: dict[str, str]) -> float:
            command = [str(BIN / "ansible-playbook"), path, *pipeline.options, "-e", json.dumps(pipeline.settings)]
            return seconds(lambda: run(command, pipeline.environment | environment))

        empty = playbook("empty", [])
        works: dict[str, Any] = {
            "start": lambda: seconds(lambda: run([str(BIN / "ansible-playbook"), "--version"], pipeline.environment)),
            "empty": partial(timed, empty, {}),
            "run": lambda: plays(pipeline.run("site.yml")),
            "whole": partial(pipeline.play, "site"),
        }
        for number, (kind, task) in enumerate(KINDS.items()):
            path = playbook(f"kind-{number}", [task] * count)
            works[kind] = partial(timed, path, {})
            works[f"{kind}, Ansible alone"] = partial(timed, path, ALONE)
        found = interleaved(rounds, works)
    each = {
        name: spread([(whole - nothing) / count for whole, nothing in zip(found[name], found["empty"], strict=True)])
        for name in works
        if name.removesuffix(", Ansible alone") in KINDS
    }
    titles = [title for title, took in found["run"][0].items() if took >= 0.1]
    return {
        "whole": {name: spread(found[name]) for name in ("start", "empty", "whole")},
        "plays": {title: spread([one.get(title, 0.0) for one in found["run"]]) for title in titles},
        "each": each,
    }
