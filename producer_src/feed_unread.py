"""How much of a feed is not in the outbox yet: for whoever wants to stop, or remove, the producer."""

from pathlib import Path

from outbox import Outbox

CHUNK_BYTES = 1_048_576


def unread(held: Outbox) -> tuple[int, int]:
    """Bytes and lines of the feeds' files after the places up to which they are committed; a last line may have no end."""
    size = count = 0
    for path, inode, offset in held.rows("SELECT path, inode, offset FROM source"):
        for each in Path(path).parent.glob(f"{Path(path).name}*"):
            is_read = each.stat().st_ino == inode
            if is_read or str(each) == path:
                found = _count(each, offset if is_read else 0)
                size, count = size + found[0], count + found[1]
    return size, count


def _count(path: Path, offset: int) -> tuple[int, int]:
    size = count = 0
    last = b"\n"
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            size, count, last = size + len(chunk), count + chunk.count(b"\n"), chunk
    return size, count + (not last.endswith(b"\n"))
