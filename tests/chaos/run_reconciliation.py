"""Runs the module of reconciliation in a process of its own, with the options given as one JSON object, to measure what it takes.

Prints one JSON object: what the module returned, `seconds`, `cpu_seconds`, and `peak_mib`, the most memory that the process ever had.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import time
from pathlib import Path

import ansible.module_utils
from ansible.module_utils.testing import patch_module_args

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def peak_kib() -> int:
    """getrusage would say no less than what the process had that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def main() -> None:
    ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))
    returned, started = io.StringIO(), time.monotonic()
    with patch_module_args(json.loads(sys.argv[1])), contextlib.redirect_stdout(returned), contextlib.suppress(SystemExit):
        runpy.run_path(str(PLUGINS / "modules" / "pipeline_reconciliation.py"), run_name="__main__")
    taken = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time(), "peak_mib": peak_kib() / 1024}
    print(json.dumps(json.loads(returned.getvalue()) | {name: round(value, 1) for name, value in taken.items()}))


if __name__ == "__main__":
    main()
