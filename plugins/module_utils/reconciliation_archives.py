"""Which entries an archive of the quarantine has: what was purged there is nowhere else, and not lost."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

from ansible.module_utils.bounded_json import decode


class ArchiveError(ValueError):
    """An archive that is not whole. The message says which, and what to do."""


def archived_ids(path: str) -> Iterator[str]:
    """The outbox ids in an archive of quarantined messages, gzip of JSON lines with a last one that proves it whole.

    Raises ArchiveError.
    """
    count, closing = 0, None
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                document = decode(line)
                if "archive" in document:
                    closing = document["messages"]
                    continue
                count += 1
                if document["outbox_id"] is not None:
                    yield document["outbox_id"]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"archive {path} cannot be read: {error}. Move it elsewhere if it is none.") from error
    if closing != count:
        raise ArchiveError(f"archive {path} is not whole: it has {count} messages, and closes with {closing}. Move it elsewhere.")
