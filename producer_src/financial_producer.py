"""The producer: a program on an EC2 instance that takes in transactions, keeps them in its outbox, and sends them to an SQS queue."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import outbox_commands
from feed import Feed
from feed_stdin import StdinFeed
from outbox import Outbox
from outbox_error import OutboxError
from producer_settings import EXIT_OK, EXIT_OUTBOX, EXIT_REFUSED, Settings, read_drain, read_settings, say

PR_SET_PDEATHSIG = 1  # prctl(2), <linux/prctl.h>


def produce(settings: Settings) -> int:
    """Take in and send until the end or a signal; return the exit code."""
    # Imported here, because the other commands must work without botocore, where the virtual environment is broken.
    from sending import Producer
    from sqs_client import SendError, connect

    if settings.end_with_parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    stop, signals = threading.Event(), {signal.SIGTERM, signal.SIGINT}
    # A thread takes the signals: a signal handler that sets an event could wait for a lock that its own thread holds.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=lambda: stop.set() if signal.sigwait(signals) else None, daemon=True).start()
    outbox = Outbox(settings.state_directory, exclusive=True)
    source: StdinFeed | Feed | None = None
    if settings.source:
        source = StdinFeed(settings.message_bytes) if settings.source == "-" else Feed(settings, outbox.positions, say)
    producer = Producer(settings, outbox, lambda: connect(settings), say, stop, source=source)
    say("started", **asdict(settings), ledger=outbox.host, unsent=outbox.count_unsent())
    try:
        return producer.run()
    except SendError as error:
        say("error", error=error.detail, code=error.code, what_to_do=error.what_to_do, unsent=outbox.count_unsent())
        return EXIT_REFUSED


COMMANDS: dict[str, Callable[[Sequence[str], Mapping[str, str]], int | None]] = {
    "run": lambda arguments, environment: produce(read_settings(arguments, environment)),
    "drain": lambda arguments, environment: produce(read_drain(arguments, environment)),
    "ledger": outbox_commands.ledger,
    "outbox": outbox_commands.outbox,
    "resend": outbox_commands.resend,
    "reconciled": outbox_commands.reconciled,
    "rejected": outbox_commands.rejected,
    "lost": outbox_commands.lost,
}


def main() -> int:
    """Run the program with the arguments and the environment of the process; return the exit code."""
    name, *arguments = sys.argv[1:] if sys.argv[1:2] and sys.argv[1] in COMMANDS else ["run", *sys.argv[1:]]
    if name not in ("run", "drain"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the reader of a list may stop early
    try:
        return COMMANDS[name](arguments, os.environ) or EXIT_OK
    except OutboxError as error:
        say("error", error=str(error), what_to_do=error.what_to_do)
        return EXIT_OUTBOX
