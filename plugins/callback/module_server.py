"""Does once, before the play, what each task would do anew: loads filters and tests, and starts the process that runs modules."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: module_server
type: aggregate
short_description: Starts the process that runs modules on the controller, and loads what every task needs
description:
  - Half of the time of a play were the imports of its modules, most of all of boto3. The process that this starts,
    C(plugins/serve_modules.py), imports all of it once, while Ansible reads the playbook, and forks for each module that the connection
    C(this_machine) brings. It ends with the play.
  - Where it does not run, modules are packed and run as by Ansible alone.
"""

SERVER = Path(__file__).resolve().parents[1] / "serve_modules.py"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_server"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        # Else each task would load all filters and tests anew, as it runs in a fork of this process.
        for loader in (filter_loader, test_loader):
            list(loader.all())
        # Ansible deletes the directory when the play ends. Nobody else can enter it; its path can be too long for a socket.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{constants.DEFAULT_LOCAL_TMP}/modules")
            listener.listen(128)
            paths = ["\n".join(constants.DEFAULT_MODULE_PATH), "\n".join(constants.DEFAULT_MODULE_UTILS_PATH)]
            # The server ends when its input does, which is when this process and all its workers have ended.
            self.server = subprocess.Popen(
                [sys.executable, "-P", str(SERVER), str(listener.fileno()), *paths],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
