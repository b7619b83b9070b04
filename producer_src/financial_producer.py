"""Sends made-up financial transactions to an SQS queue, at random moments, as a program on an EC2 instance.

Transactions are cut into batches, and what SQS does not take is sent again. Nothing that was drawn is dropped: it is
sent, or named in the last line on stderr. Each line of output is one JSON object; errors go to stderr.
"""

import argparse
import contextlib
import json
import math
import os
import random
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.credentials import CredentialResolver, InstanceMetadataProvider
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.session import Session
from botocore.utils import METADATA_BASE_URL, InstanceMetadataFetcher, is_valid_endpoint_url

MAX_ENTRIES = 10  # of one SendMessageBatch (SQS quota)
MAX_BYTES = 1_048_576  # of one SendMessageBatch in all, and of one message: bodies and attributes (SQS quota)
MAX_PENDING = 1_000  # transactions in memory; while SQS takes none, no more than these are drawn
CATCH_UP_SECONDS = 60.0  # after a longer pause the moments that passed are let go instead of sent in one burst
CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS, REQUEST_SECONDS = 2, 5, 7  # of one request
DRAIN_SECONDS = 20.0  # after a stop and the request under way, for all that is pending; with both less than the 30 s of a service manager
BACKOFF_SECONDS, BACKOFF_LIMIT_SECONDS, DRAIN_BACKOFF_LIMIT_SECONDS = 0.2, 30.0, 2.0
SEEDED_START = datetime(2026, 1, 1, tzinfo=UTC)  # the timestamps of a seeded stream count from here
EXIT_OK, EXIT_UNSENT, EXIT_USAGE, EXIT_REFUSED = 0, 1, 2, 3

# (name, currency, weight, lowest and highest amount in cents): every category (< 1,000, >= 1,000, >= 10,000) is hit.
MERCHANTS = (
    ("Corner Coffee", "USD", 32, 275, 1_850),
    ("Fresh Fields Market", "USD", 18, 640, 24_000),
    ("Café de l'Étoile", "EUR", 12, 310, 6_400),
    ("Northern Power & Light", "CAD", 8, 3_800, 41_000),
    ("Skyline Airways", "USD", 7, 8_900, 450_000),
    ("Alpine Electronics Outlet", "CHF", 5, 2_900, 390_000),
    ("Harbour Jewellers", "GBP", 4, 12_000, 2_800_000),
    ("Prime Auto Gallery", "USD", 3, 450_000, 9_500_000),
    ("Meridian Wealth Transfers", "EUR", 3, 1_000_000, 75_000_000),
    ("Summit Property Partners", "USD", 1, 2_500_000, 120_000_000),
)


@dataclass(frozen=True)
class Settings:
    """What the program was asked to do. `rate` is transactions per second, `linger` seconds; `count` None is endless."""

    queue_url: str
    region: str
    rate: float
    linger: float
    count: int | None
    seed: int | None


EPILOG = """A flag wins over its variable; an empty variable counts as not set.
Credentials come from the EC2 instance metadata service alone (IMDSv2; AWS_EC2_METADATA_SERVICE_ENDPOINT says where else
it is); keys in the environment or in ~/.aws are never looked at.
SIGTERM or SIGINT ends it: what is pending is sent first, for 20 seconds at most.
Exit codes: 0 all sent; 1 something could not be sent, the last line on stderr has the ids; 2 wrong usage; 3 nothing was sent:
no queue, no credentials or no permission."""


def say(event: str, **fields: Any) -> None:
    """Write one log line, a JSON object: errors to stderr, all else to stdout."""
    line = json.dumps({"event": event, "time": utc(datetime.now(UTC))} | fields)
    print(line, file=sys.stderr if event == "error" else sys.stdout, flush=True)


def utc(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond, with a Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        say("error", error=message, what_to_do="correct this option or its variable; --help lists them all")
        sys.exit(EXIT_USAGE)


def _checked(convert: Callable[[str], Any], valid: Callable[[Any], object], expected: str) -> Callable[[str], Any]:
    def check(found: str) -> Any:
        with contextlib.suppress(ValueError):
            if valid(value := convert(found.strip())):
                return value
        shown = re.sub("//[^/]*@", "//***@", found)[:200]  # no password of a URL
        raise argparse.ArgumentTypeError(f"found {shown!r}, expected {expected}")

    return check


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Take each option from its flag, else its variable, else its default; a bad one ends the program with exit code 2."""
    parser = _Parser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def option(flag: str, variables: tuple[str, ...], default: str | None, convert: Callable[[str], Any], text: str) -> None:
        found = next((environment[name] for name in variables if environment.get(name, "").strip()), default)
        about = f"{text} [variable {' or '.join(variables)}{f'; default {default}' if default else ''}]"
        parser.add_argument(flag, type=convert, default=found, help=about, metavar=flag.upper().strip("-").replace("-", "_"))

    def queue(value: str) -> bool:
        shaped = re.fullmatch(r"https?://[^/@?#]+/[0-9]{12}/[A-Za-z0-9_-]{1,80}", value)
        return bool(shaped and is_valid_endpoint_url(value)) and urlsplit(value).port != 0  # a port over 65535 is a ValueError

    form = "the URL of a standard queue, as https://sqs.<region>.amazonaws.com/<12-digit account>/<name> (variable QUEUE_URL)"
    option("--queue-url", ("QUEUE_URL",), None, _checked(str, queue, form), "URL of the queue; its scheme, host and port are the endpoint")
    rate = _checked(float, lambda value: 0.0001 <= value <= 10_000, "a number from 0.0001 to 10000 (variable PRODUCER_RATE)")
    option("--rate", ("PRODUCER_RATE",), "1", rate, "mean transactions a second, at random (Poisson) moments")
    count = _checked(int, lambda value: value >= 1, "a whole number, 1 or more (variable PRODUCER_COUNT)")
    option("--count", ("PRODUCER_COUNT",), None, count, "stop after so many transactions (default: endless)")
    seed = _checked(int, lambda value: True, "a whole number (variable PRODUCER_SEED)")
    same = "whole number: the same stream every time, ids and all, timestamps counted from 2026-01-01 by the gaps of --rate"
    option("--seed", ("PRODUCER_SEED",), None, seed, f"{same}; so a restart sends the same again (default: a new stream)")
    linger = _checked(float, lambda value: 0 <= value <= 300, "a number from 0 to 300 (variable PRODUCER_LINGER)")
    option("--linger", ("PRODUCER_LINGER",), "5", linger, "seconds at most that a transaction waits for its batch to fill")
    region = _checked(str, re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]").fullmatch, "a region such as us-east-1 (variable AWS_REGION)")
    option("--region", ("AWS_REGION", "AWS_DEFAULT_REGION"), None, region, "region to sign for (default: that of an amazonaws.com URL)")
    found = parser.parse_args(arguments)
    if not found.queue_url:
        parser.error("argument --queue-url: found nothing, expected the URL of a queue (or the variable QUEUE_URL)")
    found.region = found.region or next(iter(re.findall(r"^https?://sqs\.([a-z0-9-]+)\.amazonaws\.com[.:/]", found.queue_url)), None)
    if not found.region:
        parser.error("argument --region: found nothing, expected a region (or the variable AWS_REGION): this queue URL does not tell it")
    return Settings(**vars(found))


@dataclass(frozen=True)
class Message:
    """One message for the queue. `size` is in bytes as SQS counts them: body, and name, type and text of the attributes."""

    transaction_id: str
    body: str
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        texts = [text for name, parts in self.attributes.items() for text in (name, *parts.values())]
        return sum(len(text.encode()) for text in (self.body, *texts))


class TransactionStream:
    """Random transactions and the gaps between them; the same `seed` (None: a new stream) gives the same of both."""

    def __init__(self, rate: float, seed: int | None) -> None:
        self._rate = rate
        self._seeded = seed is not None
        self._elapsed = 0.0
        # Two generators, so that the rate (which draws gaps) leaves the contents alone. Nothing here guards a secret.
        self._contents = random.Random(f"{seed} contents" if self._seeded else None)
        self._gaps = random.Random(f"{seed} gaps" if self._seeded else None)

    def gap(self) -> float:
        """Seconds until the next transaction: exponential, of mean 1 / rate."""
        gap = self._gaps.expovariate(self._rate)
        self._elapsed += gap
        return gap

    def draw(self) -> Message:
        """The next transaction: id (UUID4), user, amount (two decimals, never a float), currency, UTC timestamp, merchant."""
        contents = self._contents
        name, currency, _, low, high = contents.choices(MERCHANTS, weights=[each[2] for each in MERCHANTS])[0]
        cents = min(contents.randint(low, high), contents.randint(low, high))  # small purchases are commoner than large ones
        cents = cents // 100 * 100 if contents.random() < 0.15 else cents  # and some prices are round
        transaction_id = str(uuid.UUID(int=contents.getrandbits(128), version=4))
        moment = SEEDED_START + timedelta(seconds=self._elapsed) if self._seeded else datetime.now(UTC)
        user, amount = f"user-{contents.randint(1, 5_000):05d}", Decimal(cents).scaleb(-2)
        # json.dumps knows no Decimal: the amount is written as its own text, which is a JSON number.
        body = f'{{"transaction_id":"{transaction_id}","user_id":"{user}","amount":{amount},"currency":"{currency}",'
        body += f'"timestamp":"{utc(moment)}","merchant":{json.dumps(name, ensure_ascii=False)}}}'
        return Message(transaction_id, body)


@dataclass
class Batch:
    """Messages for one request, at most MAX_ENTRIES and MAX_BYTES; `due` is when to send it, `attempts` how often that failed."""

    due: float
    messages: list[Message] = field(default_factory=list)
    size: int = 0
    attempts: int = 0

    def add(self, message: Message) -> bool:
        """Append the message if it fits, and say whether it did."""
        if len(self.messages) >= MAX_ENTRIES or self.size + message.size > MAX_BYTES:
            return False
        self.messages.append(message)
        self.size += message.size
        return True


class Trouble(Exception):
    """Why a request failed, and what to do; `refused`: trying again does not help unless somebody changes something."""

    def __init__(self, code: str, detail: str, what_to_do: str, refused: bool) -> None:
        self.code, self.detail, self.what_to_do, self.refused = code, detail, what_to_do, refused


# Codes (without prefix) of what only a person can mend, what they mean, and what to do
REFUSALS = (
    ("NoCredentialsError CredentialRetrievalError MetadataRetrievalError InvalidIMDSEndpointError", "no credentials from instance metadata",
     "attach an instance profile with a role to the instance, allow IMDSv2, and check AWS_EC2_METADATA_SERVICE_ENDPOINT"),
    ("NonExistentQueue QueueDoesNotExist", "no such queue", "create the queue, or correct --queue-url (name, account, region)"),
    ("AccessDenied AccessDeniedException KmsAccessDenied UnauthorizedOperation", "no permission",
     "allow the instance's role sqs:SendMessage on this queue (and the use of its KMS key, if it has one)"),
    ("ExpiredToken ExpiredTokenException IncompleteSignature InvalidAccessKeyId InvalidClientTokenId InvalidSecurity"
     " InvalidSignatureException MissingAuthenticationToken RequestExpired SignatureDoesNotMatch UnrecognizedClientException",
     "credentials not accepted", "check that the instance's role still exists, the clock is right and --region is the queue's region"),
)  # fmt: skip


def plain(text: object) -> str:
    """The first line of a text from outside, bounded, without anything as long as a secret key or a session token."""
    line = str(text).partition("\n")[0].partition("Canonical String")[0]
    return re.sub(r"[A-Za-z0-9/+=%]{40,}", "***", line)[:300]


def explain(error: Exception, settings: Settings) -> Trouble:
    """Turn an exception of botocore into what went wrong and what to do about it."""
    code, detail, status = type(error).__name__, plain(error), 0
    if isinstance(error, ClientError):
        code = re.split(r"[.#]", error.response["Error"].get("Code", "Unknown"))[-1]
        detail = plain(error.response["Error"].get("Message", ""))
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
    where = f"{settings.queue_url} in {settings.region}"
    for codes, meaning, what_to_do in REFUSALS:
        if code in codes.split():
            return Trouble(code, f"{meaning}: {where}: {detail}", what_to_do, refused=True)
    if 400 <= status < 500 and status not in (408, 429) and not re.search("Throttl|Limit", code):
        return Trouble(code, f"request refused: {where}: {detail}", "check that --queue-url is the URL of an SQS queue", refused=True)
    return Trouble(code, f"{where}: {detail}", "if it lasts, check the network, the endpoint and the quotas", refused=False)


def connect(settings: Settings) -> Any:
    """Build an SQS client whose credentials come from instance metadata alone and are refreshed before they expire.

    The session ignores AWS_* variables and ~/.aws, but for AWS_CA_BUNDLE. Raises NoCredentialsError or another BotoCoreError.
    """
    variables: dict[str, Any] = {name: (None, None, *rest) for name, (_, _, *rest) in Session.SESSION_VARIABLES.items()}
    variables |= dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    variables["ca_bundle"] = (None, "AWS_CA_BUNDLE", None, None)
    session = Session(session_vars=variables)
    metadata = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA_BASE_URL
    fetcher = InstanceMetadataFetcher(timeout=1, num_attempts=3, base_url=metadata, env={}, config={"ec2_metadata_v1_disabled": True})
    session.register_component("credential_provider", CredentialResolver([InstanceMetadataProvider(fetcher)]))
    if session.get_credentials() is None:
        raise NoCredentialsError()
    retries = {"total_max_attempts": 1, "mode": "standard"}  # the producer retries, and can be stopped meanwhile
    config = Config(connect_timeout=CONNECT_TIMEOUT_SECONDS, read_timeout=READ_TIMEOUT_SECONDS, retries=retries)
    endpoint = settings.queue_url.rsplit("/", 2)[0]  # scheme, host and port
    return session.create_client("sqs", region_name=settings.region, endpoint_url=endpoint, config=config)


@dataclass
class Producer:
    """Draws, batches and sends. `link` gives an SQS client, `log` takes log lines, `now` and `wait(event, seconds)` are the clock."""

    settings: Settings
    link: Callable[[], Any]
    log: Callable[..., None]
    stop: threading.Event
    now: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], object] = threading.Event.wait

    def __post_init__(self) -> None:
        self._stream = TransactionStream(self.settings.rate, self.settings.seed)
        self._client: Any = None
        self._open: Batch | None = None  # still filling
        self._ready: list[Batch] = []  # closed, in order; each is sent when it is due
        self._drawn = self._sent = self._outage = 0  # the last: requests that failed in a row
        self._hold = -math.inf  # no request before this moment
        self._backoff_limit = BACKOFF_LIMIT_SECONDS

    def pending(self) -> list[str]:
        """Ids of the transactions that were drawn and that SQS has not taken yet."""
        return [each.transaction_id for batch in (*self._ready, self._open) if batch for each in batch.messages]

    def run(self) -> int:
        """Work until the count is reached or `stop` is set, and all is sent; gives the exit code, raises Trouble if refused."""
        try:
            self._client = self.link()  # before the first transaction, so that a lack of credentials shows at once
        except BotoCoreError as error:
            raise explain(error, self.settings) from error
        now = self.now()
        arrival, wake, last_start = now + self._stream.gap(), self.stop, math.inf
        while (self._more() or self._drawn > self._sent) and now <= last_start:
            if self.stop.is_set() and last_start == math.inf:  # send all that is pending, at shorter intervals
                wake, last_start = threading.Event(), now + DRAIN_SECONDS - REQUEST_SECONDS
                self._hold, self._outage, self._backoff_limit = now, 0, DRAIN_BACKOFF_LIMIT_SECONDS
                for batch in self._ready:
                    batch.due, batch.attempts = now, 0
            arrival = max(arrival, now - CATCH_UP_SECONDS)
            while arrival <= now and self._room() and not self._sendable(now):
                self._add(self._stream.draw(), now)
                arrival += self._stream.gap()
            if self._open and (self._open.due <= now or len(self._open.messages) == MAX_ENTRIES or not self._more()):
                self._close()
            if (due := self._sendable(now)) is not None:
                self._send(due)
            else:
                moments = [max(each.due, self._hold) for each in self._ready] + ([self._open.due] if self._open else [])
                self.wait(wake, min([*moments, arrival if self._room() else math.inf, last_start + 0.001]) - now)
            now = self.now()
        unsent = self.pending()
        self.log("stopped", sent=self._sent, unsent=len(unsent), reason="signal" if self.stop.is_set() else "count")
        if unsent:
            what = f"{len(unsent)} transactions could not be sent within {DRAIN_SECONDS:g} s of the stop"
            self.log("error", error=what, what_to_do="mend what the lines before this one name", transaction_ids=unsent)
        return EXIT_UNSENT if unsent else EXIT_OK

    def _more(self) -> bool:
        return not self.stop.is_set() and (self.settings.count is None or self._drawn < self.settings.count)

    def _room(self) -> bool:
        return self._more() and self._drawn - self._sent < MAX_PENDING

    def _add(self, message: Message, now: float) -> None:
        self._drawn += 1
        if not (self._open and self._open.add(message)):
            self._close()
            self._open = Batch(now + self.settings.linger, [message], message.size)

    def _close(self) -> None:
        if self._open:
            self._open.due = -math.inf
            self._ready.append(self._open)
            self._open = None

    def _sendable(self, now: float) -> Batch | None:
        return next((batch for batch in self._ready if batch.due <= now), None) if self._hold <= now else None

    def _send(self, batch: Batch) -> None:
        """Send one of the ready batches; if the request fails it stays there, else the messages that failed do, alone."""
        entries = [{"Id": str(n), "MessageBody": each.body, "MessageAttributes": each.attributes} for n, each in enumerate(batch.messages)]
        try:
            self._client = self._client or self.link()
            answer = self._client.send_message_batch(QueueUrl=self.settings.queue_url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            trouble = explain(error, self.settings)
            if trouble.refused and not self._sent:
                raise trouble from error
            self._client = None if trouble.refused else self._client  # to read the credentials anew
            self._outage += 1
            self._hold = self._retry(self._outage, batch, reason=trouble.code, detail=trouble.detail, what_to_do=trouble.what_to_do)
            return
        self._outage = 0
        taken = {each["Id"] for each in answer.get("Successful", [])}
        reasons = {each["Id"]: each for each in answer.get("Failed", [])}
        done = [each.transaction_id for n, each in enumerate(batch.messages) if str(n) in taken]
        left = {str(n): each for n, each in enumerate(batch.messages) if str(n) not in taken}
        if done:
            self._sent += len(done)
            self.log("sent", count=len(done), transaction_ids=done, total=self._sent)
        if not left:
            self._ready.remove(batch)
            return
        batch.messages, batch.attempts = list(left.values()), batch.attempts + 1
        whys = {n: {key: plain(value) for key, value in reasons.get(n, {"Code": "NoAnswer"}).items()} for n in left}
        failed = [{"transaction_id": each.transaction_id} | whys[n] for n, each in left.items()]
        advice = "if it lasts, see the code and message of each; for a SenderFault, check the queue's maximum message size"
        batch.due = self._retry(batch.attempts, batch, reason="FailedEntries", failed=failed, what_to_do=advice)

    def _retry(self, attempt: int, batch: Batch, **why: Any) -> float:
        """Log that a batch will be sent again, and give the moment: backoff doubles up to its limit, with jitter."""
        delay: float = min(self._backoff_limit, BACKOFF_SECONDS * 2 ** min(attempt - 1, 16)) * random.uniform(0.5, 1)
        self.log("retrying", count=len(batch.messages), attempt=attempt, delay_seconds=round(delay, 3), **why)
        return self.now() + delay


def main() -> int:
    """Run the program with the process's arguments and environment, and give its exit code."""
    settings = read_settings(sys.argv[1:], os.environ)
    stop, signals = threading.Event(), {signal.SIGTERM, signal.SIGINT}
    # A thread takes the signals: a handler that sets an event can meet the lock that the same thread holds.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=lambda: stop.set() if signal.sigwait(signals) else None, daemon=True).start()
    producer = Producer(settings, lambda: connect(settings), say, stop)
    say("started", **asdict(settings))
    try:
        return producer.run()
    except Trouble as trouble:
        say("error", error=trouble.detail, code=trouble.code, what_to_do=trouble.what_to_do, transaction_ids=producer.pending())
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
