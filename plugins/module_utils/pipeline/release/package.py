"""Byte-for-byte reproducible zip files of Lambda source code."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ..core.files import atomic_file

# The earliest time a zip file can hold. Source: APPNOTE.TXT 4.4.6, MS-DOS date.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
FIXED_MODE = stat.S_IFREG | 0o644
UNIX = 3  # "version made by" in APPNOTE.TXT 4.4.2: says that the attributes are Unix modes, on whatever system the file is made
COMPILED = frozenset({".pyc", ".pyo"})


class PackageError(Exception):
    """Source code that cannot be packaged. The text names the file and what to do."""


def collect(sources: Sequence[str | Path]) -> dict[str, Path]:
    """The files to package by their name in the zip: below a folder relative to it, a file by its own name.

    Raises PackageError when a source is missing, two files would have the same name, or there is no Python file.
    """
    files: dict[str, Path] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise PackageError(f"{source} does not exist: name a folder or files that do.")
        for path in source.rglob("*") if source.is_dir() else [source]:
            within = path.relative_to(source)
            if not path.is_file() or (source.is_dir() and ("__pycache__" in within.parts or path.suffix in COMPILED)):
                continue
            name = within.as_posix() if source.is_dir() else path.name
            if name in files:
                raise PackageError(f"{files[name]} and {path} would both be {name} in the package: rename or leave out one.")
            files[name] = path
    if not any(name.endswith(".py") for name in files):
        raise PackageError(f"No Python file (*.py) in {', '.join(map(str, sources))}: a function needs one.")
    return files


def build(files: dict[str, Path]) -> bytes:
    """The zip: sorted names, one time, one mode, nothing compressed, since compressors differ from machine to machine.

    Raises PackageError, naming file and line, when a Python file does not compile.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as package:
        for name in sorted(files):
            content = files[name].read_bytes()
            if name.endswith(".py"):
                _require_valid(files[name], content)
            entry = zipfile.ZipInfo(name, FIXED_TIME)
            entry.create_system = UNIX
            entry.external_attr = FIXED_MODE << 16
            package.writestr(entry, content)
    return buffer.getvalue()


def _require_valid(path: Path, content: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(content, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        what = f", line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else f": {error}"
        raise PackageError(f"{path}{what}. Fix it: the function could not be imported.") from error


def code_sha256(package: bytes) -> str:
    """The SHA-256 of a package in base64, which Lambda calls CodeSha256."""
    return base64.b64encode(hashlib.sha256(package).digest()).decode()


def write(package: bytes, destination: Path) -> None:
    """Put the package at `destination` in one step, making its folder if needed: a reader sees the old one or the new one whole."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(destination) as file:
        os.fchmod(file.fileno(), stat.S_IMODE(FIXED_MODE))
        file.write(package)
