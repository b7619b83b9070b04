"""Lets unit tests import code under its name where it runs: the helpers in plugins/module_utils as Ansible offers them to modules, and the
function's files as top-level modules, which they are in its package."""

import sys
from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parents[2]
HELPERS = ROOT / "plugins" / "module_utils"

ansible.module_utils.__path__.append(str(HELPERS))
sys.path.insert(0, str(ROOT / "lambda_src"))
