"""The records of the outbox: what goes in and what comes out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

REJECTED_LINES = 10_000  # kept at most; then nothing more is read from the feed until some are removed
ATTRIBUTE = "outbox_id"
ATTRIBUTE_BYTES = len(ATTRIBUTE) + len("String") + 80 + 1 + 19  # at most, as SQS counts: name, type, and <host>/<sequence>


def utc(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond, with a Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Message:
    """One transaction. `body` is sent unchanged; the rest is read from it, `amount` and `timestamp` as they are written (or None)."""

    transaction_id: str
    body: str
    amount: str | None = None
    timestamp: str | None = None


@dataclass(frozen=True)
class Entry:
    """One transaction of the outbox. `size` is in bytes as SQS counts them: body, and name, type and text of the attribute."""

    sequence: int
    outbox_id: str
    transaction_id: str
    body: str

    @property
    def attributes(self) -> Mapping[str, Mapping[str, str]]:
        return {ATTRIBUTE: {"DataType": "String", "StringValue": self.outbox_id}}

    @property
    def size(self) -> int:
        return len(self.body.encode()) + len(ATTRIBUTE) + len("String") + len(self.outbox_id)


@dataclass(frozen=True)
class Position:
    """How far a file of `feed` was read: `offset` bytes (uncompressed), `line` lines.

    Device and inode identify the file, with the `fingerprint` of its first `mark` bytes. `name` and `seen` are its path and size at the
    last look. `state` is "open", "done" (read to its end, and nothing was added for a while), "passed" (it was there before the first
    start, or cannot be read) or "copy" (its first `offset` bytes are those of another file). `stamp` is the size and time of a file that is
    not open. `waiting` is the number of bytes that wait too long for a line end.
    """

    feed: str
    device: int
    inode: int
    name: str
    offset: int = 0
    line: int = 0
    mark: int = 0
    fingerprint: str = ""
    state: str = "open"
    stamp: str = ""
    waiting: int = 0
    seen: int = 0

    @property
    def key(self) -> tuple[int, int]:
        """What identifies the file."""
        return self.device, self.inode


@dataclass(frozen=True)
class LostPlace:
    """The content of `file` after `offset` bytes (`line` lines) may not have been read; `reason` says why."""

    feed: str
    file: str
    offset: int
    line: int
    reason: str


@dataclass(frozen=True)
class Rejected:
    """A line of a feed that is no transaction. It has `length` bytes; `content` has the first ones."""

    source: str
    line: int
    offset: int
    length: int
    reason: str
    content: bytes


@dataclass(frozen=True)
class Draft:
    """What a source gives for one commit: transactions, and news of the feed's files; `forgotten` are files that are gone."""

    messages: list[Message] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    forgotten: list[Position] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    lost: list[LostPlace] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything to commit."""
        return any((self.messages, self.rejected, self.forgotten, self.positions, self.lost))

    @property
    def size(self) -> int:
        """The number of its lines."""
        return len(self.messages) + len(self.rejected)

    def take(self, found: Message | Rejected | None) -> None:
        if isinstance(found, Message):
            self.messages.append(found)
        elif found:
            self.rejected.append(found)


@dataclass(frozen=True)
class Usage:
    """What the outbox holds, or may hold: rows, bytes of its file in use, and rejected lines."""

    rows: int
    bytes: int
    rejected: int = REJECTED_LINES
