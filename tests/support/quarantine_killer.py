"""Runs one action on many quarantines, each time in a process that kills itself, with SIGKILL, before a later one of its steps.

Standard input: JSON with "endpoint", "action", "repair" and "places", a list of [transaction queue, dead-letter queue, directory]; in the
first place the process dies before its first step, in the second before its second, and so on. Standard output: JSON, for each place the
step before which it died, by name, or "finished".
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "plugins" / "module_utils"))

from ansible.module_utils.pipeline.aws import dead_letter_queue as quarantine_messages  # noqa: E402
from ansible.module_utils.pipeline.core import files  # noqa: E402
from ansible.module_utils.pipeline.quarantine.journal import Journal  # noqa: E402
from quarantine_fakes import World  # noqa: E402


def steps(world: World) -> list[tuple[Any, str]]:
    """All that has an effect outside the process, and the ends of the transactions of the journal."""
    return [
        (files.os, "fsync"),
        (files.os, "replace"),
        (Journal, "begin"),
        (world.sqs, "send_message_batch"),
        (Journal, "sent"),
        (world.sqs, "delete_message_batch"),
        (Journal, "removed"),
        (world.sqs, "change_message_visibility_batch"),
    ]


def die_before(owner: Any, name: str, counter: Any, fatal: int, told: int) -> None:
    real = getattr(owner, name)

    def step(*arguments: Any, **options: Any) -> Any:
        if next(counter) == fatal:
            os.write(told, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(owner, name, step)


def act(world: World, request: dict[str, Any], place: list[str], fatal: int, told: int) -> None:
    world.queue, world.dead_letters, world.directory = place[0], place[1], Path(place[2])
    quarantine_messages.MAX_HIDDEN_SECONDS = 1  # so that what a killed process hid is soon there again
    counter = itertools.count(1)
    for owner, name in steps(world):
        die_before(owner, name, counter, fatal, told)
    report = world.act(request["action"], request["repair"])
    os.write(told, b"finished" if not report.errors else json.dumps(report.errors).encode())


def main() -> None:
    request = json.load(sys.stdin)
    world = World.connect(Path(), endpoint_url=request["endpoint"])  # once, since that takes a while; it is not connected before it is used
    ends = []
    for fatal, place in enumerate(request["places"], 1):
        reading, told = os.pipe()
        child = os.fork()
        if not child:
            try:
                act(world, request, place, fatal, told)
            except BaseException:
                os.write(told, traceback.format_exc().encode())
            os._exit(0)
        os.close(told)
        with os.fdopen(reading) as said:
            ends.append(said.read())
        os.waitpid(child, 0)
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
