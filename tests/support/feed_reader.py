"""Reads a feed as the producer does, and writes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from feed import Feed
from outbox_records import Draft, LostPlace, Position
from producer_fakes import wanted

QUIET = 5.0


class Reader:
    """Reads a feed as the producer does, and remembers what is committed; `restart` begins anew from that."""

    def __init__(self, path: Path, **changes: Any) -> None:
        self.path = path
        self.settings = wanted(**({"source": str(path), "source_quiet": QUIET, "state_directory": str(path.parent)} | changes))
        self.positions: dict[tuple[int, int], Position] = {}
        self.lost: list[LostPlace] = []
        self.log: list[dict[str, Any]] = []
        self.restart()

    def restart(self) -> Reader:
        self.feed = Feed(self.settings, lambda _: list(self.positions.values()), self.say)
        self.now = 0.0
        return self

    def say(self, event: str, **fields: Any) -> None:
        self.log.append({"event": event} | fields)

    def reasons(self) -> list[str]:
        return [line["reason"] for line in self.log]

    def draw(self, limit: int = 10, commit: bool = True) -> Draft:
        draft = self.feed.draw(self.now, limit)
        if commit:
            for each in draft.forgotten:
                self.positions.pop(each.key, None)
            self.positions |= {each.key: each for each in draft.positions}
            self.lost += draft.lost
        self.now += 1
        return draft

    def read(self, limit: int = 10, looks: int = 3) -> list[str]:
        """The ids of what there is now: until it has looked so often without finding any."""
        found: list[str] = []
        empty = 0
        while empty < looks:
            draft = self.draw(limit)
            empty = 0 if draft.size else empty + 1
            found += [each.transaction_id for each in draft.messages]
        return found

    def wait(self) -> list[str]:
        """What it reads when nothing has changed for as long as a file must be quiet."""
        self.now += QUIET
        found = self.read()
        self.now += QUIET
        return found + self.read()

    def ended(self) -> bool:
        return self.feed.next_moment(self.now) == float("inf")


def line(name: str) -> str:
    return json.dumps({"transaction_id": name}) + "\n"


def write(path: Path, *names: str, mode: str = "a") -> None:
    with path.open(mode) as file:
        file.writelines(line(name) for name in names)


def names(first: int, last: int) -> list[str]:
    return [f"t-{number}" for number in range(first, last + 1)]
