"""The producer: a program on an EC2 instance that takes in transactions, keeps them in its outbox and sends them to an SQS queue."""

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
from outbox_trouble import OutboxTrouble
from producer_settings import EXIT_OUTBOX, EXIT_REFUSED, Settings, read_drain, read_settings, say

PR_SET_PDEATHSIG = 1  # prctl(2), <linux/prctl.h>


def produce(settings: Settings) -> int:
    """Take in and send until the end or a signal; gives the exit code."""
    # The other commands need no botocore: they must work where the virtual environment is broken.
    from queue_link import Trouble, connect
    from sending import Producer

    if settings.end_with_parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    stop, signals = threading.Event(), {signal.SIGTERM, signal.SIGINT}
    # A thread takes the signals: a handler that sets an event can meet the lock that the same thread holds.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=lambda: stop.set() if signal.sigwait(signals) else None, daemon=True).start()
    outbox = Outbox(settings.state_directory, alone=True)
    source: StdinFeed | Feed | None = None
    if settings.source:
        source = StdinFeed(settings.message_bytes) if settings.source == "-" else Feed(settings, outbox.positions, say)
    producer = Producer(settings, outbox, lambda: connect(settings), say, stop, source=source)
    say("started", **asdict(settings), ledger=outbox.host, unsent=outbox.count_unsent())
    try:
        return producer.run()
    except Trouble as trouble:
        say("error", error=trouble.detail, code=trouble.code, what_to_do=trouble.what_to_do, unsent=outbox.count_unsent())
        return EXIT_REFUSED


COMMANDS: dict[str, Callable[[Sequence[str], Mapping[str, str]], int]] = {
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
    """Run the program with the process's arguments and environment, and give its exit code."""
    name, *arguments = sys.argv[1:] if sys.argv[1:2] and sys.argv[1] in COMMANDS else ["run", *sys.argv[1:]]
    if name not in ("run", "drain"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # who reads a list may have seen enough of it
    try:
        return COMMANDS[name](arguments, os.environ)
    except OutboxTrouble as trouble:
        say("error", error=str(trouble), what_to_do=trouble.what_to_do)
        return EXIT_OUTBOX
