"""The shape of a check, which the verifying modules share."""

from __future__ import annotations

from typing import Any

from .terminal import printable

Check = dict[str, Any]


def make_check(
    name: str, passed: bool, expected: str, found: str, *, seconds: float = 0.0, remedy: str = "", unchecked: bool = False
) -> Check:
    """One finding, printable. `seconds` is the time spent on this check alone, so that a sum over checks is honest.

    `unchecked`: the result was not known in time, which is no failure; `passed` is then true.
    """
    texts = {"check": name, "expected": expected, "found": found, "remedy": remedy}
    check: Check = {part: printable(text) for part, text in texts.items()} | {"passed": passed, "seconds": round(seconds, 3)}
    return check | {"passed": True, "unchecked": True} if unchecked else check
