"""The parts of the embedded cloud import each other down the layers only, and no file imports itself in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "embedded_cloud"
# From the lowest. A part may import itself and the layers below its own, not the other parts of its layer.
LAYERS = (
    ("base",),
    ("iam",),
    ("services", "faults", "imds"),
    ("control", "rulebook"),
    ("registry",),
    ("router",),
    ("server",),
    ("__main__",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# One service may use what another one says of itself: here, what uses it.
SERVICES = {"iam": {"ec2", "lambda_"}}


def imported(file: Path) -> Iterator[str]:
    """The dotted names of this package that a file imports, without the package's own."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports of the embedded cloud are absolute"
            names = [f"{node.module}.{one.name}" for one in node.names]
        elif isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        else:
            continue
        yield from (name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}."))


def graph(root: Path) -> dict[str, set[str]]:
    """By file, as in base.calls, the files that it imports."""
    files = {".".join(file.relative_to(root / PACKAGE).with_suffix("").parts): file for file in (root / PACKAGE).rglob("*.py")}
    files = {name: file for name, file in files.items() if not name.endswith("__init__")}

    def file_of(name: str) -> str:
        return name if name in files else name.rpartition(".")[0]

    return {name: {file_of(one) for one in imported(file)} for name, file in files.items()}


def is_allowed(importer: str, target: str) -> bool:
    ours, theirs = importer.split("."), target.split(".")
    if ours[0] != theirs[0]:
        return LEVEL[theirs[0]] < LEVEL[ours[0]]
    return ours[0] != "services" or ours[1] == theirs[1] or ours[1] in SERVICES.get(theirs[1], set())


def violations(found: dict[str, set[str]]) -> list[str]:
    wrong = [f"{name} imports {target}" for name, targets in found.items() for target in sorted(targets) if not is_allowed(name, target)]
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        wrong.append("a circle: " + " <- ".join(error.args[1]))
    return wrong


def test_no_import_of_the_embedded_cloud_goes_up_the_layers() -> None:
    assert violations(graph(ROOT)) == []


def test_every_part_of_the_embedded_cloud_has_its_place_in_the_layers() -> None:
    assert {name.partition(".")[0] for name in graph(ROOT)} == set(LEVEL)


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("base/calls.py", "from embedded_cloud.iam import authorization", "base.calls imports iam.authorization"),
        ("faults/injector.py", "from embedded_cloud.services.sqs.rules import RULES", "faults.injector imports services.sqs.rules"),
        ("services/sqs/rules.py", "import embedded_cloud.registry", "services.sqs.rules imports registry"),
        ("services/sqs/rules.py", "from embedded_cloud.services.ec2 import rules", "services.sqs.rules imports services.ec2.rules"),
        ("iam/authorization.py", "def f():\n    from embedded_cloud.router import Router", "iam.authorization imports router"),
        ("base/calls.py", "from embedded_cloud.base.messages import Request", "a circle: "),
    ],
)
def test_a_planted_import_up_or_in_a_circle_is_found(tmp_path: Path, file: str, line: str, said: str) -> None:
    planted = dict.fromkeys(("base/calls", "iam/authorization", "faults/injector", "services/sqs/rules", "services/ec2/rules"), "")
    planted |= {
        "registry": "from embedded_cloud.services.sqs import rules\n",
        "router": "",
        "base/messages": "import embedded_cloud.base.calls",
    }
    for name, text in planted.items():
        path = (tmp_path / PACKAGE / name).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert violations(graph(tmp_path)) == []

    (tmp_path / PACKAGE / file).write_text(f"{line}\n")
    assert violations(graph(tmp_path))[0].startswith(said)
