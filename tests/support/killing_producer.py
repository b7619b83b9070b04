"""Runs the producer so that it kills itself (SIGKILL) at a step of its work: the code that is tested has no such switch.

    python tests/support/killing_producer.py STEP[:N] [its own arguments ...]

STEP is one of STEPS (--list prints them); N is at which time it comes there, 1 by default. Where the step is never reached, it ends as it
would have. Everything else, environment too, is the producer's own.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRODUCER = Path(__file__).resolve().parents[2] / "producer_src"


@dataclass(frozen=True)
class Step:
    """Before or after a function ("module.Class.name") is run; `within`: only while that other one is."""

    moment: str
    function: str
    within: str = ""


def commit(moment: str, within: str) -> Step:
    return Step(moment, "outbox.Outbox._commit", f"outbox.Outbox.{within}")


# In the order of a transaction's life. Two that stand beside each other have one step of the program between them.
STEPS = {
    "before-the-outbox-is-made": commit("before", "_make"),
    "after-the-outbox-is-made": commit("after", "_make"),
    "before-the-start-is-recorded": commit("before", "record_start"),
    "after-the-start-is-recorded": commit("after", "record_start"),
    "before-it-is-drawn": Step("before", "sending.Producer._take_in"),
    "after-it-is-drawn": Step("before", "outbox.Outbox.add"),
    "after-it-is-inserted": Step("after", "outbox.Outbox._insert"),
    "before-the-rejected-are-kept-aside": Step("before", "outbox.Outbox._insert_rejected"),
    "after-the-rejected-are-kept-aside": Step("after", "outbox.Outbox._insert_rejected"),
    "before-the-checkpoint": Step("before", "outbox.Outbox._save_positions"),
    "after-the-checkpoint": Step("after", "outbox.Outbox._save_positions"),
    "before-it-is-committed": commit("before", "add"),
    "after-it-is-committed": commit("after", "add"),
    "before-its-batch-is-closed": Step("before", "sending.Producer._close"),
    "before-it-is-sent": Step("before", "sending.Producer._request"),
    "after-it-is-sent": Step("after", "sending.Producer._request"),
    "before-it-is-marked": Step("before", "outbox.Outbox.mark"),
    "in-the-middle-of-a-mark": Step("after", "outbox.Outbox._mark_sent"),
    "before-the-mark-is-committed": commit("before", "mark"),
    "after-the-mark-is-committed": commit("after", "mark"),
    "before-it-is-pruned": Step("before", "outbox.Outbox._delete"),
    "before-the-prune-is-committed": commit("before", "prune"),
    "after-the-prune-is-committed": commit("after", "prune"),
    "before-it-ends": Step("before", "sending.Producer._log_the_end"),
}
# Of the commands beside the service.
COMMAND_STEPS = {
    "before-a-resend-is-committed": commit("before", "resend"),
    "after-a-resend-is-committed": commit("after", "resend"),
    "before-a-settlement-is-committed": commit("before", "_settle_step"),
    "after-a-settlement-is-committed": commit("after", "_settle_step"),
}


def arm(step: Step, at: int) -> None:
    """Wrap the functions of a step, so that this process dies when it comes there for the `at`-th time."""
    running = 0
    times = 0

    def watch(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            nonlocal running
            running += 1
            try:
                return function(*arguments, **named)
            finally:
                running -= 1

        return watched

    def die() -> None:
        nonlocal times
        if running or not step.within:
            times += 1
            if times == at:
                os.kill(os.getpid(), signal.SIGKILL)

    def kill(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def killed(*arguments: Any, **named: Any) -> Any:
            if step.moment == "before":
                die()
            result = function(*arguments, **named)
            if step.moment == "after":
                die()
            return result

        return killed

    replace(step.function, kill)
    if step.within:
        replace(step.within, watch)


def replace(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module, owner, attribute = name.split(".")
    holder = getattr(importlib.import_module(module), owner)
    setattr(holder, attribute, wrap(getattr(holder, attribute)))


def main() -> int:
    if sys.argv[1:] == ["--list"]:
        print(*STEPS, *COMMAND_STEPS, sep="\n")
        return 0
    name, _, at = sys.argv[1].partition(":")
    sys.path.insert(0, str(PRODUCER))
    arm((STEPS | COMMAND_STEPS)[name], int(at or 1))
    sys.argv[:2] = [str(PRODUCER)]
    return int(importlib.import_module("financial_producer").main())


if __name__ == "__main__":
    sys.exit(main())
