"""Loads a plugin as Ansible does: a file, in no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def load_plugin(path: str) -> ModuleType:
    """The plugin at this path below plugins/, such as filter/producers.py."""
    specification = importlib.util.spec_from_file_location(f"{Path(path).stem}_plugin", PLUGINS / path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
