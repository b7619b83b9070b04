"""What can be wrong with the outbox, in words: what, where, what was found, what was expected, and what to do."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path


class OutboxTrouble(Exception):
    """`passing`: it may be over in a moment, as another process's lock or a full disk may."""

    def __init__(self, what: str, where: str, found: str, expected: str, what_to_do: str, passing: bool = False) -> None:
        super().__init__(f"{what}: {where}: found {found}, expected {expected}")
        self.what, self.what_to_do, self.passing = what, what_to_do, passing


RECOVERY = (
    "stop the service and move the files of its state directory away: the next start makes a new outbox under a new name. What the old "
    "one had unsent is read with sqlite3's .recover; docs/outbox.md says how"
)


def free_bytes(directory: Path) -> str:
    """How much room the disk has, as text."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(directory)
        return f"{disk.f_bavail * disk.f_frsize} bytes free"
    return "an unknown number of bytes free"


def explain_sqlite(error: sqlite3.Error, path: Path) -> OutboxTrouble:
    """Turn an error of SQLite into what is wrong; https://sqlite.org/rescode.html has the codes."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    where, said = str(path), f"{getattr(error, 'sqlite_errorname', type(error).__name__)} ({error})"
    user = f"user {os.geteuid()}"
    if code == sqlite3.SQLITE_FULL:
        return OutboxTrouble("disk full", where, f"{said}, {free_bytes(path.parent)}", "room for the next commit",
                             "free some of that disk; it goes on by itself", passing=True)  # fmt: skip
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OutboxTrouble("outbox locked", where, said, "a moment without another process that writes",
                             "end that process (fuser names it); it goes on by itself", passing=True)  # fmt: skip
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return OutboxTrouble("outbox not writable", where, f"{said} for {user}", "what this user may write",
                             f"give {path.parent} to the service's user, mode 0700; see that it is not mounted read-only")  # fmt: skip
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return OutboxTrouble("outbox damaged", where, said, "a whole SQLite database", RECOVERY)
    if code == sqlite3.SQLITE_IOERR:
        return OutboxTrouble(
            "disk error", where, said, "a disk that takes what is written", "see the kernel's log (dmesg), and replace the disk"
        )
    return OutboxTrouble("outbox not usable", where, said, "an outbox of this program", RECOVERY)


@contextlib.contextmanager
def read_as_trouble(path: Path) -> Iterator[None]:
    """Raise what SQLite and the file system raise inside as OutboxTrouble."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain_sqlite(error, path) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what, what_to_do = (
            ("disk full", "free some of that disk")
            if full
            else (
                "state directory not usable",
                f"give {path.parent} to the service's user, mode 0700; see that it is not mounted read-only",
            )
        )
        raise OutboxTrouble(what, str(path.parent), str(error), "what this user may write", what_to_do, passing=full) from error
