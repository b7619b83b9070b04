"""The settings of the program (commands, flags and variables, each checked), and the lines that it prints."""

import argparse
import contextlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

from outbox_records import utc

MAX_BYTES = 1_048_576  # of one SendMessageBatch in all, and of one message: bodies and attributes (SQS quota)
Convert = Callable[[str], Any]
Valid = Callable[[Any], object]
EXIT_OK, EXIT_UNSENT, EXIT_USAGE, EXIT_REFUSED, EXIT_OUTBOX = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class Settings:
    """`rate` is transactions per second, `linger` and `within` seconds; `count` None is endless.

    `source` is a file of JSON lines, "-" for stdin, or None for synthetic transactions; `follow`: wait for more at its end. A file of the
    feed that was left behind and has not changed for `source_quiet` seconds has ended. The outbox takes `outbox_rows` and `outbox_bytes` at
    most, a message `message_bytes`. With `within`, nothing is taken in: what is unsent is sent.
    `end_with_parent`: end, as by a kill, when the parent ends.
    """

    queue_url: str
    region: str
    state_directory: str
    rate: float = 1.0
    linger: float = 5.0
    count: int | None = None
    seed: int | None = None
    source: str | None = None
    follow: bool = True
    source_quiet: float = 60.0
    message_bytes: int = 262_144
    outbox_rows: int = 2_000_000
    outbox_bytes: int = 1_073_741_824
    within: float | None = None
    end_with_parent: bool = False


COMMANDS = """Commands (each has its own --help):
  run         take in transactions, and send them (the default)
  drain       take in nothing, send what is unsent
  ledger      list what was recorded and sent
  outbox      show what is unsent
  resend      make entries unsent again, so that they are sent again
  reconciled  settle entries, whose bodies may then be pruned
  rejected    show the lines of a feed that were rejected
  lost        show the places of a feed that could not be found again"""

RUN = f"""Sends financial transactions to an SQS queue: synthetic ones at random moments, or those of a feed.

Each is committed to the outbox before it is sent, and marked after; whatever ends the program, the next start sends what is unsent first.
So a transaction may be sent twice, but is never lost. Each line of output is one JSON object; errors go to stderr.

{COMMANDS}"""

EPILOG = """A flag wins over its variable; an empty variable counts as not set.
Credentials come only from the EC2 instance metadata service (IMDSv2; AWS_EC2_METADATA_SERVICE_ENDPOINT says where else
it is); keys in the environment or in ~/.aws are never used.
SIGTERM or SIGINT ends it: what is unsent is sent first, for 20 seconds at most; the rest stays in the outbox.
Exit codes: 0 all sent; 1 something is unsent and stays in the outbox (the last line on stderr says how much); 2 wrong usage; 3 nothing was
sent: no queue, no credentials or no permission; 4 the outbox cannot be used."""


def json_line(fields: Mapping[str, Any]) -> str:
    """One line of JSON that is safe on a terminal: control characters are escaped."""
    return json.dumps(fields).replace("\x7f", "\\u007f")


def shown(text: object) -> str:
    """A text from outside, safe on a terminal: a character that is not printable is written as its code."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in str(text))


def say(event: str, **fields: Any) -> None:
    """Write one log line, a JSON object: errors to stderr, all else to stdout."""
    line = json_line({"event": event, "time": utc(datetime.now(UTC))} | fields)
    print(line, file=sys.stderr if event == "error" else sys.stdout, flush=True)


class Options(argparse.ArgumentParser):
    """The options of one command: each from its flag, else its variable, else its default."""

    def __init__(self, command: str, description: str, environment: Mapping[str, str], epilog: str = "") -> None:
        name, form = f"financial_producer {command}", argparse.RawDescriptionHelpFormatter
        super().__init__(prog=name, description=description, epilog=epilog, formatter_class=form, allow_abbrev=False)
        self._environment = environment
        self.add("--state-directory", "PRODUCER_STATE_DIRECTORY", None, str, bool, "the path of a directory",
                 "directory of the outbox, for this service only")  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """Print one line, and end the program with exit code 2."""
        say("error", error=message, what_to_do="correct this option or its variable; --help lists them all")
        sys.exit(EXIT_USAGE)

    def add(self, flag: str, variables: str, default: str | None, convert: Convert, valid: Valid, expected: str, about: str) -> None:
        """Add an option that has variables (the first one that is set counts), and a default unless that is None."""
        names = variables.split()
        value = next((self._environment[name] for name in names if self._environment.get(name, "").strip()), default)
        about = f"{about} [variable {' or '.join(names)}{f'; default {default}' if default else ''}]"
        check = checked(convert, valid, f"{expected} (variable {names[0]})")
        self.add_argument(flag, type=check, default=value, help=about, metavar=flag.upper().strip("-").replace("-", "_"))

    def add_queue(self) -> None:
        """Add the options for the queue."""

        def queue(value: str) -> bool:
            shaped = re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?/[0-9]{12}/[A-Za-z0-9_-]{1,80}", value)
            return bool(shaped) and urlsplit(value).port != 0  # a port over 65535 is a ValueError

        self.add("--queue-url", "QUEUE_URL", None, str, queue,
                 "the URL of a standard queue, as https://sqs.<region>.amazonaws.com/<12-digit account>/<name>",
                 "URL of the queue; it also says which endpoint to use")  # fmt: skip
        self.add("--region", "AWS_REGION AWS_DEFAULT_REGION", None, str, re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]").fullmatch,
                 "a region such as us-east-1", "region to sign for (default: that of an amazonaws.com URL)")  # fmt: skip

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The values; a bad or missing one ends the program with exit code 2."""
        found = self.parse_args(arguments)
        if not found.state_directory:
            self.error("argument --state-directory: found nothing, expected a directory (or the variable PRODUCER_STATE_DIRECTORY)")
        if "queue_url" not in found:
            return found
        if not found.queue_url:
            self.error("argument --queue-url: found nothing, expected the URL of a queue (or the variable QUEUE_URL)")
        found.region = found.region or next(iter(re.findall(r"^https?://sqs\.([a-z0-9-]+)\.amazonaws\.com[.:/]", found.queue_url)), None)
        if not found.region:
            self.error("argument --region: found nothing, expected a region (or the variable AWS_REGION): the URL has none")
        return found


def checked(convert: Convert, valid: Valid, expected: str) -> Convert:
    """A converter for argparse that says what was found and what was expected."""

    def check(found: str) -> Any:
        with contextlib.suppress(ValueError):
            if valid(value := convert(found.strip())):
                return value
        shown = re.sub("//[^/]*@", "//***@", found)[:200]  # no password of a URL
        raise argparse.ArgumentTypeError(f"found {shown!r}, expected {expected}")

    return check


def within(low: float, high: float = math.inf) -> Callable[[float], bool]:
    """Whether a number is from `low` to `high`."""
    return lambda value: low <= value <= high


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of `run`; a bad one ends the program with exit code 2."""
    options = Options("run", RUN, environment, EPILOG)
    options.add_queue()
    options.add("--rate", "PRODUCER_RATE", "1", float, within(0.0001, 10_000), "a number from 0.0001 to 10000",
                "mean synthetic transactions a second, at random (Poisson) moments")  # fmt: skip
    options.add("--count", "PRODUCER_COUNT", None, int, within(1), "a whole number, 1 or more",
                "stop after so many transactions (default: endless)")  # fmt: skip
    options.add("--seed", "PRODUCER_SEED", None, int, lambda value: True, "a whole number",
                "the same synthetic stream every time, ids and all, timestamps counted from 2026-01-01 by the gaps of --rate, "
                "so a restart draws the same again (default: a new stream)")  # fmt: skip
    options.add("--linger", "PRODUCER_LINGER", "5", float, within(0, 300), "a number from 0 to 300",
                "seconds at most that a transaction waits for its batch to fill")  # fmt: skip
    options.add("--source", "PRODUCER_SOURCE", None, str, lambda value: True, "a path",
                "JSON lines to send instead, a file or - for stdin; a file is read on from where it was left, also after a rotation "
                "(default: synthetic transactions)")  # fmt: skip
    options.add("--source-end", "PRODUCER_SOURCE_END", "wait", str, ("wait", "stop").__contains__, "wait or stop",
                "at the end of the file wait for more, or stop; stdin stops")  # fmt: skip
    options.add("--source-quiet", "PRODUCER_SOURCE_QUIET", "60", float, within(1, 86_400), "seconds, from 1 to 86400",
                "after so many seconds without a change a rotated file has ended, a missing one is lost, and a line without an end is "
                "reported")  # fmt: skip
    options.add("--message-bytes", "PRODUCER_MESSAGE_BYTES", "262144", int, within(1_024, MAX_BYTES), f"bytes, from 1024 to {MAX_BYTES}",
                "what the queue takes: a larger line of a feed is rejected")  # fmt: skip
    options.add("--outbox-rows", "PRODUCER_OUTBOX_ROWS", "2000000", int, within(1_000), "a whole number, 1000 or more",
                "entries in the outbox at most; when full, nothing is taken in")  # fmt: skip
    options.add("--outbox-bytes", "PRODUCER_OUTBOX_BYTES", "1073741824", int, within(16 * MAX_BYTES), f"bytes, {16 * MAX_BYTES} or more",
                "bytes of the outbox on disk at most, likewise")  # fmt: skip
    options.add_argument("--end-with-parent", action="store_true", help="end at once when the process that started this one ends (Linux): "
                         "nothing that takes its place finds the outbox in use")  # fmt: skip
    found = vars(options.read(arguments))
    return Settings(follow=found.pop("source_end") == "wait", **found)


def read_drain(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of `drain`; a bad one ends the program with exit code 2."""
    options = Options("drain", "Takes in nothing, sends what is unsent, and ends. The service must be stopped.", environment, EPILOG)
    options.add_queue()
    options.add("--within", "PRODUCER_DRAIN_SECONDS", "300", float, within(10, 86_400), "seconds, from 10 to 86400",
                "seconds at most; what is unsent then stays in the outbox")  # fmt: skip
    return Settings(count=0, **vars(options.read(arguments)))
