"""Runs the modules of a play on this machine: a process that has imported what modules import, and forks for each of them.

plugins/callback/module_server.py starts it, and plugins/connection/this_machine.py asks it. A connection to its socket is a request: a byte
comes with two open files, for the module's output and its errors, and then the request as JSON. The answer is the exit status as text. The
server ends when its input does: no process of the play is left then.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from types import ModuleType
from typing import Any, NoReturn

# What is not installed is not imported here, and fails in the module that wants it.
IMPORTS = (
    "ansible.module_utils._internal._ansiballz._loader",
    "ansible_collections.amazon.aws.plugins.module_utils.modules",
    "zipfile",
)


def main(descriptor: str, module_paths: str, utility_paths: str) -> NoReturn:
    """Serve; the paths are where Ansible looks for the clone's modules and for what they import, separated by line ends."""
    importlib.import_module("ansible.module_utils").__path__ += utility_paths.splitlines()
    legacy = sys.modules["ansible.legacy"] = ModuleType("ansible.legacy")
    legacy.__path__ = module_paths.splitlines()
    for name in IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # else each fork's first collection copies all of it
    run(next_request(socket.socket(fileno=int(descriptor))))


def next_request(listener: socket.socket) -> dict[str, Any]:
    """Return, in a new process for each, the requests that come, with their files as output and errors."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a person may interrupt a pause, and go on
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, outputs, _, _ = socket.recv_fds(connection, 1, 2)
        if child := os.fork():
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            status = status if status >= 0 else 128 - status  # as a shell has it
            with contextlib.suppress(OSError):  # who asked may have ended
                connection.sendall(str(status).encode())
            os._exit(0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with connection, connection.makefile("rb") as file:
            request: dict[str, Any] = json.load(file)
        for number, open_file in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
            os.dup2(open_file, number)
            os.close(open_file)
        return request


def run(request: dict[str, Any]) -> NoReturn:
    """Run a script as Python runs its input, and end. Ending as Python does takes ten times as long: it deletes all that was imported."""
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    time.tzset()
    sys.argv = [""]
    module = sys.modules["__main__"] = ModuleType("__main__")
    status: Any = 0
    try:
        exec(compile(request["script"], "<stdin>", "exec"), module.__dict__)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
