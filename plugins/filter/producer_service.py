"""Reads what a producer's host answered, and turns it into the checks of verify.yml."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

Answer = Mapping[str, Any]  # the registered result of a task
Check = dict[str, Any]  # as the module verification_report takes it

# systemd hides these from the service: ProtectHome= and PrivateTmp= of its unit.
HIDDEN_DIRECTORIES = re.compile("/+(home|root|run/user|tmp|var/tmp)(/|$)")
# AWS refuses a signature that is 5 minutes off, SQS one of 15; and transactions carry the host's time.
CLOCK_SECONDS = 60
# From three quarters on the service prunes what is reconciled; above nine tenths there is nothing more to prune.
FULL_PERCENT = 90
SITE = "ansible-playbook site.yml --tags producer_service"


def answer(result: Answer) -> dict[str, Any]:
    """The last JSON line that a command of the program printed: of its errors if it failed. Empty if there is none."""
    lines = result.get("stderr_lines" if result.get("rc") else "stdout_lines") or ["{}"]
    return dict(json.loads(lines[-1])) if lines[-1].startswith("{") else {}


def feed_problem(feed: str, manager: str) -> str:
    """Why the service cannot see a feed of that path, whatever is there; empty if it can."""
    if not feed:
        return ""
    if not feed.startswith("/"):
        return f"{feed} is not an absolute path"
    if manager == "systemd" and HIDDEN_DIRECTORIES.match(os.path.normpath(feed)):
        return f"{feed} is in a directory that systemd hides from the service"
    return ""


def runs(status: Answer, manager: str) -> bool:
    """Whether the service's manager says that it runs."""
    if manager == "systemd":
        return _properties(status).get("ActiveState") == "active"
    # The exit status of supervisorctl is 0 also for a service that supervisord is about to start again.
    return str(status["stdout"]).split()[1:2] == ["RUNNING"]


def sends(outbox: Answer, options: Mapping[str, Any]) -> bool:
    """Whether the service sends. Synthetic transactions come without a pause; a feed may be quiet."""
    newest = answer(outbox).get("newest_sent_seconds")
    return bool(options["feed"]) or (newest is not None and newest < _longest_pause(options))


def outbox_checks(outbox: Answer, options: Mapping[str, Any]) -> list[Check]:
    """The checks of what the command `outbox --json --check` answered."""
    held = answer(outbox) if outbox.get("rc") == 0 else {}
    errors = held.get("integrity_errors", (outbox.get("stderr_lines") or ["no answer"])[-1:])
    whole = _check(options, "outbox is whole", not errors, "SQLite finds no error in it", "; ".join(errors) or "no error",
                   "docs/outbox.md, Recovery")  # fmt: skip
    if not held:
        return [whole]
    feed, newest, age = options["feed"], held["newest_sent_seconds"], held["oldest_unsent_seconds"] or 0
    full = max(held["entries"] / int(options["outbox_rows"]), held["bytes"] / int(options["outbox_bytes"])) * 100
    feed_error = feed_problem(feed, options["manager"]) or held["feed_error"]
    lost, waiting, rejected = held["feed_lost_places"], held["feed_waiting_bytes"], held["feed_rejected_lines"]
    rows: list[tuple[str, bool, str, str, str]] = [
        ("sends", sends(outbox, options),
         "what its feed has" if feed else f"something sent in the last {_longest_pause(options):.1f} s",
         "nothing yet" if newest is None else f"the last one {newest} s ago", f"see in its log what holds it up; {SITE}"),
        ("outbox is sent", age <= int(options["unsent_seconds"]), f"nothing unsent for more than {options['unsent_seconds']} s",
         f"{held['unsent']} unsent, the oldest for {age} s", "see why in the log of the service; what is unsent stays in the outbox"),
        ("outbox has room", full < FULL_PERCENT, f"under {FULL_PERCENT} % of its rows and bytes", f"{full:.1f} %",
         "reconcile, so that what has arrived may be pruned; or raise producer_service_outbox_rows or producer_service_outbox_bytes"),
        ("feed is there", not feed_error, "a file that the service can read, if there is a feed", feed_error or "no error",
         f"write the file, or correct producer_service_feed and run {SITE}"),
        ("feed is whole", lost == 0, "no place of it is lost", f"{lost} lost places",
         "look at them, send what is missing, and remove them: financial_producer.pyz lost (docs/outbox.md, Lost places)"),
        ("feed ends its lines", waiting == 0, f"no line without an end for more than {options['feed_quiet']} s",
         f"{waiting} bytes wait for a line end",
         "see why its writer does not end that line, which the log of the service names; the line is taken when it has an end"),
        ("feed", rejected == 0, "no rejected line is kept", f"{rejected} kept",
         "look at them, and remove what is settled: financial_producer.pyz rejected (docs/outbox.md)"),
    ]  # fmt: skip
    return [whole, *(_check(options, *row) for row in rows)]


def supervisord_checks(status: Answer, options: Mapping[str, Any]) -> list[Check]:
    """The check of what supervisorctl said."""
    passed, found = runs(status, "supervisord"), status["stdout"]
    return [_check(options, "running", passed, "RUNNING", found, f"{SITE}; its log is {options['log']}") | {"cause": True}]


def systemd_checks(seen: Mapping[str, Any], options: Mapping[str, Any]) -> list[Check]:
    """The checks of what systemd, the clock, the virtual environment and the files of the host say.

    `seen` has `before` and `after` (`systemctl show`, twice), `clock_offset` in seconds, `venv` (the answer about its `pins`), `package`
    (the zip that site.yml would deploy), and `files`: the `stat` of each file of the host, whose `item` has the expected content.
    """
    before, after, venv = _properties(seen["before"]), _properties(seen["after"]), seen["venv"]
    log = f"its log: journalctl -u {options['name']}"
    venv_error = (venv.get("stderr_lines") or [venv.get("msg", "no answer")])[-1]
    checks = [
        _check(options, "running", runs(seen["after"], "systemd"), "active (running)", f"{after['ActiveState']} ({after['SubState']})",
               f"{SITE}; {log}") | {"cause": True},
        _check(options, "starts at boot", after["UnitFileState"] == "enabled", "enabled", after["UnitFileState"] or "no unit", SITE),
        _check(options, "keeps running", after["InvocationID"] == before["InvocationID"], "no start while verify.yml looks",
               f"{before['NRestarts']} restarts before, {after['NRestarts']} after", f"see {log}"),
        _check(options, "packages", venv["rc"] == 0, ", ".join(seen["pins"]), "the same" if venv["rc"] == 0 else venv_error, SITE),
    ]  # fmt: skip
    for file in seen["files"]:
        content, found = file["item"].get("content"), file["stat"].get("checksum", "of no file")
        wanted = seen["package"]["sha256"] if content is None else hashlib.sha256(content.encode()).hexdigest()
        checks.append(_check(options, file["item"]["name"], found == wanted, f"checksum {wanted}", f"checksum {found}", SITE))
    offset = float(seen["clock_offset"])
    within = f"within {CLOCK_SECONDS} s of the controller's"
    remedy = "see that the host's time service runs (chronyc tracking, or timedatectl)"
    clock = _check(options, "clock", abs(offset) < CLOCK_SECONDS, within, f"{offset} s off", remedy)
    return [*checks, clock]


def _longest_pause(options: Mapping[str, Any]) -> float:
    """So many seconds without a synthetic transaction are a fault: ten times the mean, and the time that a batch takes."""
    return 10 / float(options["rate"]) + float(options["linger"]) + 10


def _properties(status: Answer) -> dict[str, str]:
    """What `systemctl show` said, by property."""
    return {name: value for name, _, value in (line.partition("=") for line in status["stdout_lines"])}


def _check(options: Mapping[str, Any], name: str, passed: bool, expected: str, found: str, remedy: str) -> Check:
    name = f"producer {options['name']}: {name}"
    return {"check": name, "passed": passed, "expected": expected, "found": found, "seconds": 0.0, "remedy": remedy}


class FilterModule:
    """What Ansible asks for the filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        filters = (answer, feed_problem, runs, sends, outbox_checks, supervisord_checks, systemd_checks)
        return {f"producer_{one.__name__}": one for one in filters}
