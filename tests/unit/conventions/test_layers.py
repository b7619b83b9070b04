"""The parts of module_utils import each other down the layers only, and no file imports itself in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
PARTS = PLUGINS / "module_utils" / "pipeline"
PACKAGE = "ansible.module_utils.pipeline."

# Each part, and the parts right below it. It may import these, what is below them, and itself.
BELOW = {
    "core": (),
    "aws": ("core",),
    "report": ("core",),
    "probe": ("aws",),
    "release": ("probe",),
    "drift": ("release",),
    "quarantine": ("aws",),
    "reconciliation": ("quarantine",),
    "export": ("reconciliation",),
}


def allowed(part: str) -> set[str]:
    """The parts that a part may import."""
    return {part}.union(*map(allowed, BELOW.get(part, ())))


def imports(file: Path, parts: Path) -> Iterator[str]:
    """The dotted names below `parts` that a file imports, such as core.clock."""
    package = file.parent.relative_to(parts).parts if file.is_relative_to(parts) else ()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            name = f"{node.module or ''}."
            if node.level:
                name = ".".join((*package[: len(package) + 1 - node.level], name)).replace("..", ".").lstrip(".")
            elif name.startswith(PACKAGE):
                name = name.removeprefix(PACKAGE)
            else:
                continue
            for one in node.names:
                # `from .. import part` and `from . import file` name a file, other imports something in one.
                target = f"{name}{one.name}"
                yield target if (parts / target.replace(".", "/")).with_suffix(".py").exists() else name.rstrip(".")


def graph(parts: Path) -> dict[str, set[str]]:
    """By file, as in core.clock, the files that it imports."""
    files = {".".join(file.relative_to(parts).with_suffix("").parts): file for file in sorted(parts.glob("*/*.py"))}
    return {name: set(imports(file, parts)) for name, file in files.items()}


def violations(found: dict[str, set[str]]) -> list[str]:
    """Each import of a part that is not below, and a circle of files if there is one."""
    part = {name: name.partition(".")[0] for name in [*found, *(target for targets in found.values() for target in targets)]}
    wrong = [
        f"{name} imports {target}"
        for name, targets in found.items()
        for target in sorted(targets)
        if part[target] not in allowed(part[name])
    ]
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        wrong.append("a circle: " + " <- ".join(error.args[1]))
    return wrong


def drawing(found: dict[str, set[str]]) -> str:
    """One line a part, the lowest first, with the parts that it imports."""
    order = [*BELOW, *sorted({name.partition(".")[0] for name in found} - BELOW.keys())]
    lines = []
    for part in order:
        targets = {target.partition(".")[0] for name, names in found.items() if name.startswith(f"{part}.") for target in names} - {part}
        lines.append(f"{part:>14} -> {', '.join(one for one in order if one in targets) or '(nothing)'}")
    return "\n".join(lines)


def test_no_import_goes_up_the_layers() -> None:
    found = graph(PARTS)
    wrong = violations(found)
    assert not wrong, "\n".join(["Imports go down only:", *wrong, "The layers as the imports draw them:", drawing(found)])


def test_every_part_has_its_place_in_the_layers() -> None:
    assert {folder.name for folder in PARTS.iterdir() if (folder / "__init__.py").exists()} == BELOW.keys()


def test_a_module_imports_parts_and_never_another_module() -> None:
    modules = sorted((PLUGINS / "modules").glob("*.py"))
    names = {module.stem for module in modules}
    for module in modules:
        tree = ast.parse(module.read_text())
        plain = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
        relative = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.level or node.module in names)]
        assert not plain & names and not relative, module.name
        for target in imports(module, PARTS):
            assert (PARTS / target.replace(".", "/")).with_suffix(".py").exists(), f"{module.name} imports {target}"


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("core/clock.py", "from ..aws.paging import pages", "core.clock imports aws.paging"),
        ("aws/paging.py", "from ansible.module_utils.pipeline.export.run import export", "aws.paging imports export.run"),
        ("report/table.py", "from ..aws import paging", "report.table imports aws.paging"),
        ("probe/run.py", "    from ..quarantine.replay import Replay", "probe.run imports quarantine.replay"),
        ("probe/run.py", "from .odd import one", "a circle: "),
    ],
)
def test_a_planted_import_up_or_in_a_circle_is_found(tmp_path: Path, file: str, line: str, said: str) -> None:
    planted = {"core/clock": "", "aws/paging": "", "report/table": "", "export/run": "", "quarantine/replay": ""}
    planted |= {"probe/run": "", "probe/odd": "from .run import two\n"}
    for name, text in planted.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).with_suffix(".py").write_text(text)
    assert violations(graph(tmp_path)) == []

    (tmp_path / file).write_text(f"if True:\n{line}\n" if line.startswith(" ") else f"{line}\n")
    (wrong,) = violations(graph(tmp_path))
    assert wrong.startswith(said)


def test_the_drawing_has_a_line_for_each_part_with_what_it_imports() -> None:
    lines = drawing({"core.clock": {"core.errors"}, "odd.file": {"core.clock", "aws.paging"}}).splitlines()
    assert lines[0].split() == ["core", "->", "(nothing)"]
    assert lines[-1].split() == ["odd", "->", "core,", "aws"]
