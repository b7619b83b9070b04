"""What a person sees of a play: what changed or failed, what is said to them, and how long a wait still takes."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.playbook.block import Block
from ansible.plugins.callback import CallbackBase
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.template import Templar
from ansible.utils import color
from ansible.utils.display import Display

DOCUMENTATION = """
name: pipeline
type: stdout
short_description: Prints what changed, what failed and what is said to a person
description:
  - Prints a line for each play with its time, and below it only what changed, what failed, its C(table), warnings, and what
    C(ansible.builtin.debug) says.
  - Names a task that takes long, with the C(line) of its last attempt, the time that it has taken and, by its retries or its option
    C(timeout) or C(wait_timeout), may still take. On a terminal that line is rewritten each second, elsewhere there is one every half
    minute.
  - C(NO_COLOR) or C(CI) in the environment turns colour and rewriting off. C(-v) gives the output of C(ansible.builtin.default).
extends_documentation_fragment: [default_callback, result_format_callback]
"""

# A plugin of the controller cannot import what modules share.
TERMINAL = Path(__file__).resolve().parents[1] / "module_utils/pipeline/core/terminal.py"
printable: Callable[[str], str] = run_path(str(TERMINAL))["printable"]

FIRST_PROGRESS = 15  # seconds, where the output is not a terminal
NEXT_PROGRESS = 30
TIME_COLUMN = 70
END_OF_DIFF = re.compile(r"\n(\x1b\[[\d;]*m|\s)*$")
# A command: broken, its lines would be other commands. It ends where no option follows and no playbook, or with , ; . or ).
COMMAND = re.compile(
    r"""((?<!\S)[(`]?(?:[A-Z_]+=(?:'[^']*'|\S)+[ ])?(?:
        ssh[ ]-.*
        | (?:aws[ ]\S+[ ]\S+ | ansible[ ]\S+ | ansible-playbook\b)
          (?:(?<![,;.)])[ ](?:
              \S+\.yml\S*
              | -\S+ (?:(?<![,;.)])[ ](?!-)(?:'[^']*'\S*|\S+))? (?:(?<![,;.)])[ ]i-\S+)*  # an option, its value, more instances
          ))*
    ))""",
    re.VERBOSE,
)
# What a text that is said has in a colour.
COLOURED = re.compile(r"(?P<green>(?<=\| )pass\b|\b\d+ passed\b)|(?P<red>(?<=\| )FAIL\b|\b\d+ FAILED\b)|(?P<yellow>\b(?:\d+ )?unchecked\b)")
# amazon.aws.lambda warns so of every new function.
NOISE = ("Arch Change",)
COUNTS = ("failures", "unreachable", "ok", "changed", "ignored", "rescued")  # of a recap, as Ansible names them


def clock(seconds: float) -> str:
    """4:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def lasted(since: float) -> str:
    """3.2 s, or 4:05 min."""
    seconds = time.monotonic() - since
    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} min"


def lines_of(value: Any) -> list[str]:
    """A text, or a list of texts, as printable lines."""
    texts = value if isinstance(value, list) else [value]
    return [printable(line.rstrip().expandtabs()) for text in texts for line in str(text).rstrip().split("\n")]


@dataclass
class Wait:
    """A task that runs on a host; `limit` is the most that it takes, in seconds, where that is known; `said` its last attempt's C(line)."""

    name: str
    limit: float | None
    began: float
    next_progress: float = FIRST_PROGRESS
    said: str = ""

    def progress(self) -> str:
        """What its last attempt found, and the time that it has taken and may still take."""
        elapsed = time.monotonic() - self.began
        left = f", about {clock(self.limit - elapsed)} more at most" if self.limit and self.limit > elapsed else ""
        return f"{self.said}{clock(elapsed)} elapsed{left}"


class Wrapper(textwrap.TextWrapper):
    """Breaks a line between words, and not within a command: whoever copies it runs all of it."""

    def _split(self, text: str) -> list[str]:
        parts = COMMAND.split(text)  # every second one is a command
        return [chunk for n, part in enumerate(parts) for chunk in ([part] if n % 2 else super(Wrapper, self)._split(part))]


class Screen:
    """Lines, each wrapped at the terminal's width; on a terminal also a last line that is rewritten."""

    def __init__(self, display: Display) -> None:
        self._display = display
        if "CI" in os.environ and not constants.ANSIBLE_FORCE_COLOR:
            color.ANSIBLE_COLOR = False
        # A question of --step would be overwritten.
        self.rewrites = color.ANSIBLE_COLOR and sys.stdout.isatty() and not context.CLIARGS.get("step")
        self._erase = ""

    @property
    def width(self) -> int:
        return shutil.get_terminal_size((100, 24)).columns

    def line(self, text: str, indent: int = 0, hang: int = 4, paint: Callable[[str], str] = str) -> None:
        """A line; what does not fit continues below, indented `hang` more than the line itself."""
        words = text.lstrip()
        margin = " " * (indent + len(text) - len(words))
        wrap = Wrapper(self.width, margin, margin + " " * hang, break_long_words=False, break_on_hyphens=False)
        self.write(paint(wrap.fill(words)))

    def write(self, text: str) -> None:
        self._display.display(self._erase + text)
        self._erase = ""
        sys.stdout.flush()

    def status(self, text: str) -> None:
        """Rewrite the last line. The cursor stays at its start, for a warning that Ansible itself prints."""
        self._display.display(f"\r\033[K{text[: self.width - 1]}\r", screen_only=True, newline=False)
        self._erase = "\033[K"
        sys.stdout.flush()


class CallbackModule(CallbackBase):
    """What Ansible tells of a play, made lines of a screen. A lock keeps them apart from those of the thread that shows progress."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    _play: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._screen = Screen(self._display)
        self._lock = threading.RLock()
        self._waits: dict[tuple[str, str], Wait] = {}
        self._warned: set[str] = set()
        self._counted = dict.fromkeys(COUNTS, 0)

    def v2_playbook_on_start(self, playbook: Any) -> None:
        if hasattr(self, "_over"):
            self._screen.write("")
        self._began, self._over = time.monotonic(), threading.Event()
        threading.Thread(target=self._show_progress, args=(self._over,), daemon=True).start()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        with self._lock:
            self._end_play()
            self._play, self._title, self._titled = play, printable(play.get_name().strip()), False
            self._play_began = time.monotonic()
        self._many_hosts = len(play.get_variable_manager().get_vars(play=play)["ansible_play_hosts_all"]) > 1

    def v2_playbook_on_no_hosts_matched(self) -> None:
        self._end_play("no hosts")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with self._lock:
            self._end_play()
            self._over.set()
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        bad = ", ".join(printable(host) for host, one in hosts.items() if one["failures"] or one["unreachable"])
        # Ansible counts on from one playbook of a command to the next.
        before, self._counted = self._counted, {key: sum(one[key] for one in hosts.values()) for key in COUNTS}
        sums = {key: count - before[key] for key, count in self._counted.items()}
        counts = ", ".join(f"{count} {key}" for key, count in sums.items() if count or key in ("ok", "changed"))
        if context.CLIARGS["check"]:
            counts = counts.replace("changed", "would change") + "; nothing was changed (--check)"
        tone = constants.COLOR_ERROR if bad else constants.COLOR_CHANGED if sums["changed"] else constants.COLOR_OK
        text = f"{f'FAILED on {bad}' if bad else 'Done'} in {lasted(self._began)}: {counts.replace('failures', 'failed')}"
        self._screen.write("")
        self._screen.line(text, paint=lambda line: color.stringc(line, tone))

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        limit = task.args.get("timeout", task.args.get("wait_timeout"))
        if limit is not None:
            variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, task=task)
            try:
                limit = float(Templar(loader=self._play.get_loader(), variables=variables).template(limit))
            except (AnsibleError, TypeError, ValueError):
                limit = None
        with self._lock:
            self._waits[host.get_name(), task._uuid] = Wait(self._name(task), limit, time.monotonic())

    def v2_runner_retry(self, result: Any) -> None:
        wait = self._waits[self._key(result)]
        elapsed, delay, attempts = time.monotonic() - wait.began, result.task_fields["delay"], result.result["attempts"]
        attempt = max(elapsed - (attempts - 1) * delay, 0) / attempts
        wait.said = f"{printable(result.result['line'])}, " if result.result.get("line") else ""
        wait.limit = elapsed + (result.result["retries"] - attempts) * (delay + attempt)

    def v2_runner_on_ok(self, result: Any) -> None:
        items = self._ended(result)
        if result.task.action in constants._ACTION_DEBUG:
            for item in items:
                self._say([] if item.get("skipped") else self._debugged(item))
        else:
            self._tell_changed(result, [item for item in items if item.get("changed")])
        self._handle_warnings(result.result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        word, tone = "FAILED", constants.COLOR_ERROR
        if ignore_errors or self._is_rescued(result.task):
            word, tone = ("failed, ignored" if ignore_errors else "failed, rescued"), constants.COLOR_WARN
        items = self._ended(result)
        # ansible-core 2.19 says of each item whether it failed; 2.21 gives those that did an exception.
        failed = [item for item in items if item.get("failed", "exception" in item)] or items
        self._tell_changed(result, [item for item in items if item.get("changed") and item not in failed])
        for item in failed:
            place = str(result.task.get_path()).removeprefix(f"{Path.cwd()}/")
            tries = f", {item['attempts']} attempts" if item.get("attempts", 1) > 1 else ""
            which = self._labels(result, [item]) + self._where(result, self._many_hosts)
            self._tell(word, tone, f"{self._name(result.task)}{which} [{place}{tries}]")
            self._say(self._failure(item), indent=4)
            self._say(["", *lines_of(item["table"])] if item.get("table") else [])
        self._handle_warnings(result.result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        word = "unreachable, ignored" if result.task.ignore_unreachable else "UNREACHABLE"
        self._tell(word, constants.COLOR_UNREACHABLE, self._name(result.task) + self._where(result, True))
        for item in self._ended(result):
            self._say(self._failure(item), indent=4)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._handle_warnings(result.result)

    v2_runner_item_on_failed = v2_runner_item_on_ok

    def _end_play(self, instead_of_time: str = "") -> None:
        if self._play:
            took = instead_of_time or lasted(self._play_began)
            if self._titled:
                self._screen.line(f"took {took}", indent=2, paint=lambda line: color.stringc(line, constants.COLOR_SKIP))
            else:
                self._screen.line(f"{self._title:<{TIME_COLUMN}} {took:>9}")
        self._play = None

    def _show_progress(self, over: threading.Event) -> None:
        while not over.wait(1):
            with self._lock:
                wait = min(self._waits.values(), key=lambda one: one.began, default=None)
                if wait and self._screen.rewrites:
                    name = wait.name if self._titled else f"{self._title}: {wait.name}"
                    room = self._screen.width - len(wait.progress()) - 6
                    self._screen.status(f"  {name if len(name) <= room else f'{name[: room - 1]}…'}: {wait.progress()}")
                elif wait and time.monotonic() - wait.began >= wait.next_progress:
                    wait.next_progress += NEXT_PROGRESS
                    self._tell("waiting", constants.COLOR_SKIP, f"{wait.name}: {wait.progress()}")

    def _below(self, lines: list[str], indent: int, hang: int, paint: Callable[[str], str]) -> None:
        with self._lock:
            if lines and not self._titled:
                self._titled = True
                self._screen.line(self._title)
            for line in lines:
                self._screen.line(line, indent, hang, paint)

    def _tell(self, word: str, tone: str, text: str) -> None:
        self._below([f"{word:<7}  {text}"], 2, 9, lambda line: line.replace(word, color.stringc(word, tone), 1))

    def _tell_changed(self, result: Any, items: list[Mapping[str, Any]]) -> None:
        if not items:
            return
        word = "would change" if result.task.check_mode else "changed"
        where = self._where(result, self._many_hosts and not self._play.strategy.endswith("free"))
        self._tell(word, constants.COLOR_CHANGED, self._name(result.task) + self._labels(result, items) + where)
        for diff in [item["diff"] for item in items if result.task.diff and item.get("diff")]:
            self._screen.write(textwrap.indent(END_OF_DIFF.sub("", self._get_diff(diff)), "    "))

    def _say(self, lines: list[str], indent: int = 2) -> None:
        self._below(lines, indent, 4, lambda line: COLOURED.sub(lambda found: color.stringc(found[0], str(found.lastgroup)), line))

    def _debugged(self, result: Mapping[str, Any]) -> list[str]:
        shown = {key: value for key, value in result.items() if key not in self._hide_in_debug}
        value = result.get("censored", result.get("msg", shown))
        return lines_of(textwrap.dedent(self._dump_results(value).strip("\n")) if isinstance(value, dict) else value)

    def _failure(self, result: Mapping[str, Any]) -> list[str]:
        said = result.get("censored", result.get("msg", "It failed without a message."))
        texts = [said, *(result.get(key) for key in ("stderr", "stdout", "module_stderr", "module_stdout"))]
        return [line for text in texts if text for line in lines_of(text)]

    def _handle_warnings(self, res: Any) -> None:
        for warning in self._current_task_result.warnings if res.get("warnings") else []:
            text = " ".join(lines_of(warning.event.msg))
            if text not in self._warned and text not in NOISE:
                self._warned.add(text)
                self._tell("warning", constants.COLOR_WARN, text)

    def _get_diff(self, difflist: Any) -> str:
        def safe(value: Any) -> Any:
            return "\n".join(map(printable, value.expandtabs().split("\n"))) if isinstance(value, str) else value

        diffs = difflist if isinstance(difflist, list) else [difflist]
        return str(super()._get_diff([{key: safe(value) for key, value in diff.items()} for diff in diffs]))

    def _ended(self, result: Any) -> list[Mapping[str, Any]]:
        """The results of a loop's items, or the one result. The task is no longer waited for."""
        with self._lock:
            self._waits.pop(self._key(result), None)
        return list(result.result["results"] if result.task.loop and "results" in result.result else [result.result])

    v2_runner_on_skipped = _ended

    def _key(self, result: Any) -> tuple[str, str]:
        return result.host.get_name(), result.task._uuid

    def _name(self, task: Any) -> str:
        return printable((task.name or task.action).strip())

    def _labels(self, result: Any, items: list[Mapping[str, Any]]) -> str:
        return "" if items == [result.result] else f": {', '.join(printable(str(self._get_item_label(item))) for item in items)}"

    def _where(self, result: Any, matters: bool) -> str:
        return f" ({printable(self.host_label(result))})" if matters else ""

    def _is_rescued(self, task: Any) -> bool:
        """True if the task is in a block, not in its rescue, that has a rescue."""
        below, above = task, task._parent
        while above:
            if isinstance(above, Block) and above.rescue and any(one._uuid == below._uuid for one in above.block):
                return True
            below, above = above, above._parent
        return False


if Display().verbosity:
    CallbackModule = Default  # type: ignore[misc]
