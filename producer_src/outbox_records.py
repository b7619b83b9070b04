"""What goes into the outbox and comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transaction_stream import Message

REJECTED_LINES = 10_000  # kept aside at most; then nothing more is read from the feed until some are removed
ATTRIBUTE = "outbox_id"
ATTRIBUTE_BYTES = len(ATTRIBUTE) + len("String") + 80 + 1 + 19  # at most, as SQS counts: name, type, and <host>/<sequence>


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

    The file is known by device and inode, and by the `fingerprint` of its first `mark` bytes; `name` is its path at the last look,
    and `seen` its size then.
    `state` is "open", "done" (read to its end, which nothing was added to for a while), "passed" (it was there before the first start, or
    cannot be read) or "copy" (its first `offset` bytes are another file's). `stamp` tells size and time of a file that is not open. So many
    bytes are `waiting` for a line end for too long.
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
        """What tells the file."""
        return self.device, self.inode


@dataclass(frozen=True)
class LostPlace:
    """What `file` had after `offset` bytes (`line` lines) may not have been read, for that reason."""

    feed: str
    file: str
    offset: int
    line: int
    reason: str


@dataclass(frozen=True)
class Rejected:
    """A line of a feed that is no transaction. `length` is in bytes, of which `content` has the first."""

    source: str
    line: int
    offset: int
    length: int
    reason: str
    content: bytes


@dataclass(frozen=True)
class Draft:
    """What a source gives for one commit: transactions, and what became of the feed's files; `forgotten` are files that are gone."""

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
        """How many lines it has."""
        return len(self.messages) + len(self.rejected)

    def take(self, found: Message | Rejected | None) -> None:
        """Add a line."""
        if isinstance(found, Message):
            self.messages.append(found)
        elif found:
            self.rejected.append(found)


@dataclass(frozen=True)
class Room:
    """What the outbox holds: rows, bytes of its file that are in use, and rejected lines."""

    rows: int
    bytes: int
    rejected: int = REJECTED_LINES
