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
class Checkpoint:
    """How far a file was read: `offset` bytes, `line` lines. What tells the file: inode, and SHA-256 of the first and last line read."""

    path: str
    inode: int
    first_line: str
    offset: int
    line: int
    last_start: int
    last_line: str


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
    """What a source gives for one commit."""

    messages: list[Message] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Room:
    """What the outbox holds: rows, bytes of its file that are in use, and rejected lines."""

    rows: int
    bytes: int
    rejected: int = REJECTED_LINES
