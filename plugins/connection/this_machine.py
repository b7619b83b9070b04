"""Modules on the controller run from where they are installed."""

from __future__ import annotations

import base64
import importlib
import io
import re
import sys
import zipfile
from pathlib import Path

import ansible
from ansible import constants
from ansible.plugins.connection.local import Connection as LocalConnection

DOCUMENTATION = """
name: this_machine
short_description: Runs tasks on the controller, and modules from where they are installed
description:
  - Ansible's own connection C(local), except that Python need not compile each module anew. Ansible sends a module as an archive of source
    text with all that it imports, which is right for another machine, and half of a short module's time on this one.
  - A module runs packed, as elsewhere, for another interpreter, for another user (become), and where it is not of the installation.
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

INSTALLED = Path(ansible.__file__).parent
# The archive's only file: where its packages are instead.
PACKAGE = f"""
import sys, types
__path__ = [{str(INSTALLED)!r}]
from ansible import module_utils
module_utils.__path__ += {constants.DEFAULT_MODULE_UTILS_PATH!r}
legacy = sys.modules["ansible.legacy"] = types.ModuleType("ansible.legacy")
legacy.__path__ = {constants.DEFAULT_MODULE_PATH!r}
"""
# The command, which begins otherwise for another user, and the end of the script by which Ansible runs a packed module.
COMMAND = re.compile(rf"[ ']{re.escape(sys.executable)} && sleep 0'$")
SCRIPT = re.compile(rb"(?P<before>\nmodule_fqn='(?P<name>[\w.]+)',\n(?:.*\n)*extensions=\{\},\nzip_data=')[^']+(?P<after>',\n\)\n)$")


def archive() -> bytes:
    """An archive in place of a packed module, which imports it from the installation."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("ansible/__init__.py", PACKAGE)
    return base64.b64encode(file.getvalue())


def is_installed(name: str) -> bool:
    """Whether the module that Ansible packed, such as `ansible.modules.copy`, is what importing finds."""
    top, *rest = name.split(".")
    if top == "ansible_collections":
        return Path(importlib.import_module(".".join(name.split(".")[:3])).__path__[0]).is_relative_to(INSTALLED.parent)
    return rest[0] == "modules" or any(Path(path, f"{rest[-1]}.py").exists() for path in constants.DEFAULT_MODULE_PATH)


class Connection(LocalConnection):
    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command, or a packed module that is its input."""
        if in_data and COMMAND.search(cmd):
            found = SCRIPT.search(in_data)
            if found and is_installed(found["name"].decode()):
                in_data = in_data[: found.end("before")] + archive() + found["after"]
        done: tuple[int, bytes, bytes] = super().exec_command(cmd, in_data, sudoable)
        return done
