"""The key of root: random, made once for an installation, in a file that only its user can read."""

import configparser
import contextlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROFILE = "profile embedded-cloud"
_ACCESS_KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class UnsafeKeyError(Exception):
    """The file is not private or has no key; the text names the file and says what to do."""


@dataclass(frozen=True)
class RootKey:
    access_key: str
    secret_key: str


def read_or_make(path: Path) -> RootKey:
    """The key in a configuration file of the AWS CLI. A missing file is made, with mode 0600.

    Raises UnsafeKeyError for a file that others can read or write, that belongs to another user, or that has no key.
    """
    if not os.path.lexists(path):
        _make(path)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            about, text = os.fstat(file.fileno()), file.read()
        config = configparser.ConfigParser(interpolation=None)
        config.read_string(text)
        key = RootKey(config[PROFILE]["aws_access_key_id"], config[PROFILE]["aws_secret_access_key"])
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        raise UnsafeKeyError(f"cannot read a key in {path} ({error!r}). {_REMEDY}") from error
    if about.st_uid != os.getuid() or about.st_mode & 0o077:
        mode = f"{about.st_mode & 0o777:04o}"
        raise UnsafeKeyError(f"{path} has mode {mode} and owner {about.st_uid}, expected 0600 and {os.getuid()}. {_REMEDY}")
    return key


_REMEDY = "Remove it; the next start makes a new key."


def _make(path: Path) -> None:
    access_key = "AKIA" + "".join(secrets.choice(_ACCESS_KEY_CHARACTERS) for _ in range(16))
    text = (
        "# The key of the embedded cloud's root, made for this installation. It opens nothing else.\n"
        f"[{PROFILE}]\naws_access_key_id = {access_key}\naws_secret_access_key = {secrets.token_urlsafe(30)}\n"
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The file appears complete or not at all, also when two clouds start at once. Files of mkstemp have mode 0600.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".aws.cfg-")
    with open(handle, "w") as file:
        file.write(text)
    with contextlib.suppress(FileExistsError):  # the other cloud's file, which is read next
        os.link(temporary, path)
    os.unlink(temporary)
