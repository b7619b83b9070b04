"""Keeps the modules that Ansible packs, so that the next play need not pack them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import ansible
from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: module_cache
type: aggregate
short_description: Keeps the modules that Ansible packs for the next play
description:
  - Ansible packs each module with all that it imports into a file, and deletes these files when a play ends. Packing them is a fifth of the
    CPU time of a site.yml that changes nothing. This keeps them in C(.ansible/module_cache) of the clone.
  - A directory there is named by a hash of what the modules are packed from, and is deleted when no play has used it for a week.
"""

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".ansible" / "module_cache"
KEPT_SECONDS = 7 * 86400.0


def packed_from() -> str:
    """A hash of what modules are packed from: our plugins, and the versions of Ansible and its collections."""
    found = hashlib.sha256(f"{ansible.__file__} {version('ansible-core')}".encode())
    for path in [ROOT / "requirements.txt", *sorted(ROOT.glob("plugins/module*/**/*.py"))]:
        found.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_cache"

    def __init__(self) -> None:
        super().__init__()
        # Without the link, Ansible makes a directory of that name for this play.
        with contextlib.suppress(OSError):
            kept = KEPT / packed_from()
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            if kept.stat().st_uid == os.getuid() and os.access(kept, os.W_OK):
                os.utime(kept)
                Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(kept)
            for old in KEPT.iterdir():
                if old.stat().st_mtime < time.time() - KEPT_SECONDS:
                    shutil.rmtree(old)
