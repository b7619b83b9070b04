"""Checks from many registered results as one table, one summary and the list of what failed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..core.checks import Check, make_check
from ..core.terminal import printable

HEADINGS = ("check", "result", "found", "seconds")
WIDTH = 98  # terminal cells of a line
WIDEST_CHECK = 66
_PLAY = re.compile(r"ansible-playbook \S+\.yml")


@dataclass(frozen=True)
class Report:
    """`table` and `failed` are lists of lines, `summary` is one line, `message` says all that failed, or nothing when all is well.

    The table has one row for all that passed of a resource.
    """

    table: list[str]
    summary: str
    failed: list[str]
    message: str


def gather(results: list[Any]) -> list[Check]:
    """The checks of registered results: dicts with `checks`, results of loops, lists of either; failed ones that are a `cause` first.

    A result that failed or was unreachable without checks of its own becomes a failed check.
    """
    checks = [check for position, result in enumerate(results, start=1) for check in _checks_of(result, f"result {position}")]
    # What explains the others comes first.
    return sorted(checks, key=lambda check: check["passed"] or not check.get("cause"))


def make_report(results: list[Any], title: str, options: str = "") -> Report:
    """The table, the summary and the failures; `options` goes with every ansible-playbook command that a remedy names."""
    checks = gather(results)
    failed = [_PLAY.sub(lambda play: play[0] + options, in_full(check)) for check in checks if not check["passed"]]
    unchecked = sum(bool(check.get("unchecked")) for check in checks)
    summary = f"{len(checks)} check{'' if len(checks) == 1 else 's'}, {len(checks) - len(failed) - unchecked} passed"
    summary += f", {unchecked} unchecked" if unchecked else ""
    summary += f", {len(failed)} FAILED" if failed else ""
    summary += f" in {_seconds(checks):.1f} s"
    message = "\n".join([f"{title}: {summary}", *failed]) if failed else ""
    if not checks:
        summary = f"0 checks: nothing was verified ({len(results)} results without checks)"
        message = f"{summary}. Run verify.yml without a tag that skips every check."
    table = [*_draw(_fold(checks)), ""] if checks else []
    return Report([*table, f"{title}: {summary}"], summary, failed, message)


def _seconds(checks: list[Check]) -> float:
    return sum(float(check.get("seconds", 0)) for check in checks)


def _checks_of(result: Any, where: str) -> Iterator[Check]:
    if isinstance(result, list):
        for number, one in enumerate(result, start=1):
            yield from _checks_of(one, f"{where}.{number}")
    elif isinstance(result, dict):
        if isinstance(result.get("checks"), list):
            yield from map(_whole, result["checks"])
        elif isinstance(result.get("results"), list):
            yield from _checks_of(result["results"], where)
        elif result.get("failed") or result.get("unreachable"):
            found = _on_one_line(str(result.get("msg", "failed without a message")))
            remedy = "Read the message; the task itself is further up."
            yield make_check(f"verification step ({where})", False, "the step runs", found, remedy=remedy)


def _whole(check: Any) -> Check:
    if isinstance(check, dict) and isinstance(check.get("check"), str) and isinstance(check.get("passed"), bool):
        return check
    remedy = "A module returned a check of another shape."
    return make_check("verification step", False, "a check with a name and a result", _on_one_line(str(check)), remedy=remedy)


def in_full(check: Check) -> str:
    """A failed check on one line, and what to do on a second one."""
    lines = [f"{check['check']}: expected {check.get('expected', '')}, found {check.get('found', '')}"]
    lines += [f"what to do: {check['remedy']}"] if check.get("remedy") else []
    return ";\n  ".join(_on_one_line(line) for line in lines)


def _row(check: Check) -> tuple[str, ...]:
    result = "unchecked" if check.get("unchecked") else "pass" if check["passed"] else "FAIL"
    return (check["check"], result, str(check.get("found", "")), f"{float(check.get('seconds', 0)):.1f}")


def _fold(checks: list[Check]) -> list[tuple[str, ...]]:
    """Rows with the passing checks of a subject ("queue Q" in "queue Q: retention") as one, where the first of them was."""
    groups: dict[str, list[Check]] = {}
    for check in checks:
        subject, colon, _ = check["check"].partition(": ")
        foldable = colon and check["passed"] and not check.get("unchecked")
        groups.setdefault(subject if foldable else f"{len(groups)}: {check['check']}", []).append(check)
    return [
        _row(group[0]) if len(group) == 1 else (subject, "pass", f"{len(group)} checks", f"{_seconds(group):.1f}")
        for subject, group in groups.items()
    ]


def _draw(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines as wide as their content asks for, within WIDTH. None ends in a space, which would make YAML quote the whole text."""
    rows = [HEADINGS, *(tuple(map(_on_one_line, row)) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    widths[0] = min(widths[0], WIDEST_CHECK)
    widths[2] = min(widths[2], WIDTH - sum(widths[:2]) - widths[3] - len(" | ") * 3)
    lines = []
    for *texts, seconds in rows:
        lines.append(" | ".join([*map(_fit, texts, widths), seconds.rjust(widths[3])]))
    return [lines[0], "-+-".join("-" * width for width in widths), *lines[1:]]


def _on_one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _fit(text: str, width: int) -> str:
    """Cut or filled to so many cells."""
    if _width(text) > width:
        while _width(text) > width - 1:
            text = text[:-1]
        text = f"{text.rstrip()}…"
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Terminal cells: East Asian wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
