"""Errors of the outbox in words: what failed, where, what was found, what was expected, and what to do."""

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path


class OutboxError(Exception):
    """`transient`: it may be over in a moment, as another process's lock or a full disk may."""

    def __init__(self, what: str, where: str, found: str, expected: str, what_to_do: str, transient: bool = False) -> None:
        super().__init__(f"{what}: {where}: found {found}, expected {expected}")
        self.what, self.what_to_do, self.transient = what, what_to_do, transient


RECOVERY = (
    "stop the service and move the files of its state directory away: the next start makes a new outbox under a new name. Read the unsent "
    "entries of the old one with sqlite3's .recover; docs/outbox.md says how"
)


def free_bytes(directory: Path) -> str:
    """The free space of the disk, as text."""
    with contextlib.suppress(OSError):
        return f"{shutil.disk_usage(directory).free} bytes free"
    return "an unknown number of bytes free"


def explain_sqlite(error: sqlite3.Error, path: Path) -> OutboxError:
    """Put an error of SQLite into words; https://sqlite.org/rescode.html has the codes."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    where, said = str(path), f"{getattr(error, 'sqlite_errorname', type(error).__name__)} ({error})"
    if code == sqlite3.SQLITE_FULL:
        return OutboxError("disk full", where, f"{said}, {free_bytes(path.parent)}", "room for the next commit",
                           "free some of that disk; the service continues by itself", transient=True)  # fmt: skip
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OutboxError("outbox locked", where, said, "a moment without another process that writes",
                           "end that process (fuser names it); the service continues by itself", transient=True)  # fmt: skip
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return OutboxError("outbox not writable", where, f"{said} for user {os.geteuid()}", "a file that this user may write",
                           _allow(path.parent))  # fmt: skip
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return OutboxError("outbox damaged", where, said, "a whole SQLite database", RECOVERY)
    if code == sqlite3.SQLITE_IOERR:
        return OutboxError("disk error", where, said, "a disk that can be written", "see the kernel's log (dmesg), and replace the disk")
    return OutboxError("outbox not usable", where, said, "an outbox of this program", RECOVERY)


@contextlib.contextmanager
def raise_as_outbox_error(path: Path) -> Iterator[None]:
    """Raise the errors of SQLite and of the file system as OutboxError."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain_sqlite(error, path) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "disk full" if full else "state directory not usable"
        what_to_do = "free some of that disk" if full else _allow(path.parent)
        raise OutboxError(what, str(path.parent), str(error), "a directory that this user may write", what_to_do, full) from error


def _allow(directory: Path) -> str:
    return f"give {directory} to the service's user, mode 0700; see that it is not mounted read-only"
