"""Each row of docs/claims.md names a page that is there and a test that is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs/claims.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| claim |")
]


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_row_has_a_claim_a_page_and_a_test() -> None:
    assert ROWS
    assert [row for row in ROWS if len(row) != 3 or not all(row)] == []


def test_each_claim_is_made_once() -> None:
    claims = [row[0] for row in ROWS]
    assert sorted(claims) == sorted(set(claims))


def test_each_page_is_there() -> None:
    pages = {page.strip() for row in ROWS for page in row[1].split(",")}
    assert [page for page in sorted(pages) if not (ROOT / page).is_file()] == []


def test_each_test_is_there() -> None:
    missing = []
    for row in ROWS:
        for name in re.findall(r"`([^`]+)`", row[2]) or [row[2]]:
            path, _, test = name.partition("::")
            if not (ROOT / path).is_file() or (path.endswith(".py") and test not in names_in(ROOT / path)):
                missing.append(name)
    assert missing == []
