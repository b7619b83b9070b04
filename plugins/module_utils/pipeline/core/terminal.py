"""Text from outside on its way to a terminal, and commands for it."""

from __future__ import annotations

import os
from shlex import quote

# What the environment of a module says of the cloud that it works on, and how the AWS CLI is told so.
OPTIONS = {"AWS_PROFILE": "--profile", "AWS_REGION": "--region", "AWS_URL": "--endpoint-url"}


def printable(text: str) -> str:
    """The text with a code (\\x1b, \\n, \\u202e) for each character that is not printable: none moves a cursor or hides a line."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def aws_command(command: str) -> str:
    """A command of the AWS CLI (`sqs list-queues`) as the operator can run it: for the account, region and cloud of this module."""
    file = os.environ.get("AWS_CONFIG_FILE")
    options = [f"{option} {quote(os.environ[name])}" for name, option in OPTIONS.items() if os.environ.get(name)]
    return " ".join([*([f"AWS_CONFIG_FILE={quote(file)}"] if file else []), "aws", command, *options])
