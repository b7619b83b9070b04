"""Modules on the controller run from where they are installed, in a process that has imported what they import."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shlex
import socket
import sys
import tempfile
from pathlib import Path
from typing import IO

import ansible
from ansible import constants
from ansible.plugins.connection.local import Connection as LocalConnection

DOCUMENTATION = """
name: this_machine
short_description: Runs tasks on the controller, and modules in a process that has imported what they import
description:
  - Ansible's own connection C(local), with a faster way for modules. Ansible sends a module as an archive of source text with all that it
    imports, which is right for another machine. On this one Python need not start, nor compile, nor import anew for each.
  - The callback C(module_server) starts that process. A module is packed as elsewhere where it does not run, for another interpreter, for
    another user (become), with an environment for the interpreter, and where importing would not find the module that Ansible found.
options:
  become_success_timeout:
    description: Seconds to wait for become.
    type: int
    default: 10
    vars: [{name: ansible_local_become_success_timeout}]
  become_strip_preamble:
    description: Whether to leave out what become itself writes.
    type: bool
    default: true
    vars: [{name: ansible_local_become_strip_preamble}]
extends_documentation_fragment: [connection_pipelining]
"""

SITE_PACKAGES = Path(ansible.__file__).parents[1]
# How Ansible runs a packed module of Python: the command, which is another for another user, and the end of the script that is its input.
COMMAND = re.compile(rf"[ ']{re.escape(sys.executable)}( && sleep 0)?'?$")
SCRIPT = re.compile(rb"\nmodule_fqn='([\w.]+)',\n(?:.*\n)*extensions=\{\},\nzip_data='([^']+)',\n\)\n$")
# What Python reads when it starts.
INTERPRETER_VARIABLES = ("PYTHON", "LD_", "DYLD_")


def is_installed(name: str) -> bool:
    """Whether importing finds the module that Ansible packed, such as `ansible.modules.copy`."""
    parts = name.split(".")
    if parts[0] == "ansible_collections":
        return Path(importlib.import_module(".".join(parts[:3])).__path__[0]).is_relative_to(SITE_PACKAGES)
    return parts[1] == "modules" or any(Path(path, f"{parts[-1]}.py").exists() for path in constants.DEFAULT_MODULE_PATH)


def connected(server: socket.socket) -> bool:
    """Whether the server of this play takes a request."""
    with contextlib.suppress(OSError):
        server.connect(f"{constants.DEFAULT_LOCAL_TMP}/modules")
        return True
    return False


def in_memory() -> IO[bytes]:
    """A file without a name, of which nothing comes on a disk where the system has such files."""
    return open(os.memfd_create("module"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


class Connection(LocalConnection):
    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command, or a packed module that is its input."""
        module = SCRIPT.search(in_data) if in_data and COMMAND.search(cmd) else None
        if in_data and module and is_installed(module[1].decode()):
            words = shlex.split(shlex.split(cmd)[-1])
            environment = dict(word.split("=", 1) for word in words[: words.index(sys.executable)])
            with socket.socket(socket.AF_UNIX) as server:
                if not any(name.startswith(INTERPRETER_VARIABLES) for name in environment) and connected(server):
                    return self.serve(server, (in_data[: module.start(2)] + in_data[module.end(2) :]).decode(), os.environ | environment)
        done: tuple[int, bytes, bytes] = super().exec_command(cmd, in_data, sudoable)
        return done

    def serve(self, server: socket.socket, script: str, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
        """Let the server run a script. Returns its exit status, output and errors."""
        request = {"script": script, "environment": environment, "directory": os.fsdecode(self.cwd)}
        with in_memory() as output, in_memory() as errors:
            socket.send_fds(server, [b"."], [output.fileno(), errors.fileno()])
            server.sendall(json.dumps(request).encode())
            server.shutdown(socket.SHUT_WR)
            status = server.recv(16)
            output.seek(0)
            errors.seek(0)
            return int(status or 1), output.read(), errors.read() + (b"" if status else b"The process that waited for the module ended.")
