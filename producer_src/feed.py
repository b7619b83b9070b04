"""A real feed: a file of JSON lines that is read as it grows, whatever its writer and a rotation do to it. Lines are sent unchanged.

Device, inode and content identify a file, never its name. Every file beside the feed whose name begins with the feed's name belongs to it.
The place in each file is committed with the lines up to there. A place that is not found again is reported as lost, never skipped.
"""

import contextlib
import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from feed_files import HASHED_BYTES, POLL_SECONDS, FeedFile, Unreadable
from outbox_error import OutboxError
from outbox_records import Draft, LostPlace, Message, Position
from producer_settings import Settings

OPEN_FILES = 200  # at most; the others wait until those are read
CUT = "cut off at its end"
KNOWN_FILES = 1_000  # at most, that are gone and would be recognised
LOOK = "give the lines after it that the ledger does not have to run --source -; then settle it: lost --remove-through N (docs/outbox.md)"

BEGUN = (0, 0)  # in place of device and inode: a record that this feed was begun
NOT_FOUND = "not found"  # the stamp of that record, while the service sees no file of the feed

Key = tuple[int, int]
Entry = tuple[str, os.stat_result]


def _stamp(entry: Entry) -> str:
    return f"{entry[1].st_size}:{entry[1].st_mtime_ns}"


class Feed:
    """The lines of `settings.source`. `positions(path)` returns how far its files were read; `log` writes log lines."""

    def __init__(self, settings: Settings, positions: Callable[[str], Iterable[Position]], log: Callable[..., None]) -> None:
        assert settings.source
        self.path = str(Path(settings.source).absolute())
        self._settings, self._log = settings, log
        self._quiet = settings.source_quiet if settings.follow else 0.0
        self._known: dict[Key, Position] = {each.key: each for each in positions(self.path)}
        self._open: dict[Key, FeedFile] = {}  # in the order in which they are read
        self._missing: dict[Key, float] = {}  # known files that are not there: since when
        self._unclear: dict[Key, tuple[str, float, str]] = {}  # files that cannot be read: their stamp, since when, and why
        self._moment = self._look_at = -math.inf
        self.found = False  # whether the last look found a file of the feed
        self._waits = False  # whether the log says that there is none

    def next_moment(self, now: float) -> float:
        return self._moment

    def draw(self, now: float, limit: int) -> Draft:
        """The next lines, `limit` at most, and the news of the files; an empty draft if there is nothing now.

        Raises OutboxError if they cannot be read.
        """
        draft = Draft()
        try:
            if now >= self._look_at:
                self._look_at = now + POLL_SECONDS
                self._look(now, draft)
            for file in list(self._open.values()):
                if draft.size < limit and not draft.size and file.unread:
                    self._read(file, limit, now, draft)
        except (OSError, Unreadable) as error:
            raise OutboxError("source not readable", self.path, str(error), "a file that this user may read",
                                "correct --source (variable PRODUCER_SOURCE), or the permissions of the file and its directory; "
                                "see the kernel's log (dmesg) too") from error  # fmt: skip
        if not draft.size:
            ended = not self._settings.follow and limit and not draft and not any(file.unread for file in self._open.values())
            self._moment = math.inf if ended else now + POLL_SECONDS
        return draft

    def unread(self) -> tuple[int, int]:
        """Bytes and lines that are not read yet; the last line may have no end."""
        self._look(0.0, Draft())
        size = lines = 0
        for file in self._open.values():
            start, unread = file.position.offset, file.unread
            end, complete = file.count_lines(start + unread, start)
            size, lines = size + unread, lines + complete + (end < start + unread)
        return size, lines

    # --- lines -------------------------------------------------------------------------------------------------------

    def _read(self, file: FeedFile, limit: int, now: float, draft: Draft) -> None:
        found, line = Draft(), None
        quiet = self._is_quiet(file, now)
        final = file.packed or not self._settings.follow or (file.away and quiet)
        for each in file.lines():
            complete = each.ended or final
            if not complete and not (file.left_behind and quiet):
                break
            parsed = each.parsed(file.position.name, self._settings.message_bytes)
            # It seems that nobody writes to it any more. A whole transaction without a line end is taken; a fragment waits for its rest.
            if not complete and not isinstance(parsed, Message):
                break
            line = each
            found.take(parsed)
            if found.size == limit:
                break
        file.stuck = line is None
        if line is None:
            return
        if file.size < line.after or not file.begins_as(file.position):  # the file may have other content now
            self._look_at = now
            return
        file.go_to(line.after, line.number)
        self._keep(file.position, draft)
        draft.messages.extend(found.messages)
        draft.rejected.extend(found.rejected)

    def _is_quiet(self, file: FeedFile, now: float) -> bool:
        return now - file.changed >= self._quiet

    # --- files -------------------------------------------------------------------------------------------------------

    def _look(self, now: float, draft: Draft) -> None:
        """Check the known files, and take in the new ones."""
        there = self._scan()
        if not self._known:
            self._begin(there, draft)
        for file in list(self._open.values()):
            self._look_at_open(file, there, now, draft)
        for row in [each for key, each in self._known.items() if key in there and key not in self._open and each.state != "copy"]:
            self._look_at_closed(row, there[row.key], now, draft)
        new = {key for key in there if key not in self._known or self._known[key].state == "copy"}
        for key in sorted(new, key=lambda key: (there[key][0] == self.path, -there[key][1].st_size, key)):  # the longest copy first
            if len(self._open) < OPEN_FILES:
                self._take_in(key, there, now, draft)
        if new:
            self._sort(new, there)
        self._look_for_missing(there, now, draft)
        done = any(row.state == "done" for key, row in self._known.items() if key in there)
        self.found = done or bool(self._open) or any(name == self.path for name, _ in there.values())
        begun, stamp = self._known[BEGUN], "" if self.found else NOT_FOUND
        if begun.stamp != stamp:
            self._keep(replace(begun, stamp=stamp), draft)
        if self.found:
            return
        if not self._settings.follow:
            raise OutboxError("no source", self.path, "no file", "a file of JSON lines", "correct --source (variable PRODUCER_SOURCE)")
        if not self._waits:
            self._waits = True
            self._log("source", source=self.path, reason="waiting for the file", file=self.path)

    def _sort(self, new: set[Key], there: dict[Key, Entry]) -> None:
        """Put the files in their order: those that were begun, then the new ones from the oldest, then the one with the feed's name."""

        def order(file: FeedFile) -> tuple[bool, bool, int]:
            position = file.position
            is_new = position.key in new and not position.offset
            return position.name == self.path, is_new, there[position.key][1].st_mtime_ns if is_new else 0

        self._open = {file.position.key: file for file in sorted(self._open.values(), key=order)}

    def _scan(self) -> dict[Key, Entry]:
        """The files of the feed in the directory now."""
        found: dict[Key, Entry] = {}
        directory, name = os.path.split(self.path)
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
            for each in entries:
                if not each.name.startswith(name):
                    continue
                try:
                    its = os.stat(each.path)
                except FileNotFoundError:
                    continue  # it was renamed, or a link leads nowhere
                if stat.S_ISREG(its.st_mode):
                    key = its.st_dev, its.st_ino
                    found[key] = (self.path if key in found and found[key][0] == self.path else each.path, its)
                elif each.name == name:
                    raise OutboxError("source not usable", self.path, "no regular file", "a file of JSON lines",
                                        "correct --source (variable PRODUCER_SOURCE); a pipe goes to stdin, with --source -")  # fmt: skip
        return found

    def _begin(self, there: dict[Key, Entry], draft: Draft) -> None:
        """Record that the feed was begun, and skip the files that older rotations left beside it."""
        self._keep(Position(self.path, *BEGUN, self.path, state="passed"), draft)
        for key, entry in there.items():
            if entry[0] != self.path:
                position = Position(self.path, *key, entry[0], state="passed", stamp=_stamp(entry))
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    file = FeedFile(os.open(entry[0], os.O_RDONLY | os.O_CLOEXEC), position)
                    position = replace(position, offset=(size := file.size), mark=size, fingerprint=file.print_of(size))
                    file.close()
                self._keep(position, draft)

    def _look_at_open(self, file: FeedFile, there: dict[Key, Entry], now: float, draft: Draft) -> None:
        """Check that an open file is still the one that was read. Close it when it is read, left behind and quiet."""
        before, size = file.position, file.size
        file.away = before.key not in there
        if not file.away:
            file.position = replace(before, name=there[before.key][0])
        file.left_behind = file.away or (file.position.name != self.path and any(name == self.path for name, _ in there.values()))
        if size < before.offset or not file.begins_as(before):
            self._set_aside(before, draft)
            file.go_to(0, 0)
            file.changed, file.stuck = now, False
        elif size < before.seen:
            self._lose(before, CUT, draft)
        elif not before.offset and before.mark < min(size, HASHED_BYTES):
            file.go_to(0, 0)
        if size != before.seen:
            file.position = replace(file.position, seen=size)
            file.changed, file.stuck = now, False
        if self._is_quiet(file, now) and file.stuck and file.unread and not file.position.waiting:
            file.position = replace(file.position, waiting=file.unread)
            self._log("source", source=self.path, reason="no line end", file=file.position.name, offset=file.position.offset,
                      line=file.position.line + 1, bytes=file.unread,
                      what_to_do="see why its writer does not end that line: it is taken when it has an end")  # fmt: skip
        if file.left_behind and not file.unread and self._is_quiet(file, now):
            stamp = "" if file.away else file.stamp if file.packed else _stamp(there[before.key])
            file.position = replace(file.position, state="done", stamp=stamp)
            del self._open[before.key]
            file.close()
        if file.position != before:
            self._keep(file.position, draft)

    def _look_at_closed(self, row: Position, entry: Entry, now: float, draft: Draft) -> None:
        """Open a known file that has grown or was left in the middle; set the record of a file aside if its content is another now."""
        if row.stamp == _stamp(entry):
            return
        file = self._opened(row.key, entry, now, draft, raw=row.state == "passed")
        if not file:
            return
        if not file.begins_as(row) or (file.size and not row.mark):  # an empty file cannot be recognised
            self._set_aside(row, draft)
            self._forget(row, draft)
        elif row.state == "open" or (row.state == "done" and file.unread):
            if file.size < row.seen:
                self._lose(row, CUT, draft)
            file.position = replace(row, name=entry[0], state="open", stamp="")
            self._follow(file, now, "resumed", draft)
            return
        else:
            self._known[row.key] = replace(row, name=entry[0], stamp=_stamp(entry))
        file.close()

    def _take_in(self, key: Key, there: dict[Key, Entry], now: float, draft: Draft) -> None:
        """Take in an unknown file: a copy of another one (perhaps all that is left of it), or a new file."""
        entry, copy = there[key], self._known.get(key)
        gone = [row for row in self._known.values() if row.key not in there and row.key not in self._open and row.mark]
        if copy and copy.stamp == _stamp(entry) and not any(row.state == "open" for row in gone):
            return
        file = self._opened(key, entry, now, draft)
        if not file:
            return
        same = [row for row in gone if file.begins_as(row) and (row.state == "open" or file.size == row.offset or file.packed)]
        if same:
            row = max(same, key=lambda row: (row.state == "open", row.mark))
            self._forget(row, draft)
            file.position = replace(row, device=key[0], inode=key[1], name=entry[0], stamp="")
            if row.state == "open" or (row.state == "done" and file.unread):
                if file.size < row.seen:
                    self._lose(row, "its copy has less than it had", draft)
                self._follow(file, now, "resumed", draft)
            else:
                self._keep(replace(file.position, stamp=_stamp(entry)), draft)
                file.close()
            return
        known = max((each.size for each in self._alike(file, there, now, draft)), default=0)
        if copy and entry[0] != self.path and file.begins_as(copy):  # in the feed itself the same lines may be new ones
            known = max(known, copy.offset)
        if known and (size := file.size) <= known:
            file.go_to(size, 0)
            self._keep(replace(file.position, state="copy", stamp=_stamp(entry)), draft)
        elif self._is_calm(there):
            file.go_to(*file.count_lines(known))
            self._follow(file, now, "opened", draft)
            return
        file.close()

    def _alike(self, file: FeedFile, there: dict[Key, Entry], now: float, draft: Draft) -> Iterator[FeedFile]:
        """The known files that start like this one, as far as both go; closed ones are opened meanwhile."""
        yield from (each for each in self._open.values() if file.same_start(each))
        mine = file.position.key
        for row in [each for key, each in self._known.items() if key in there and key not in self._open and key != mine]:
            head = min(HASHED_BYTES, row.mark)
            if file.size < head or file.print_of(head)[:64] == row.fingerprint[:64]:
                other = self._opened(row.key, there[row.key], now, draft, raw=row.state == "passed" or file.size < head)
                if other:
                    if file.same_start(other):
                        yield other
                    other.close()

    def _is_calm(self, there: dict[Key, Entry]) -> bool:
        """Whether no file has changed since this look began; otherwise a copy may be taken for a new file."""
        return there.keys() <= self._scan().keys() and all(file.begins_as(file.position) for file in self._open.values())

    def _look_for_missing(self, there: dict[Key, Entry], now: float, draft: Draft) -> None:
        """Report missing files that were not read to their ends as lost; keep the records of the others for some time."""
        gone = [row for key, row in self._known.items() if key not in there and key not in self._open and key != BEGUN]
        missing = [row for row in gone if row.state == "open"]
        self._missing = {row.key: self._missing.get(row.key, now) for row in missing}
        for row in missing:
            if now - self._missing[row.key] >= self._quiet and not self._unclear and len(self._open) < OPEN_FILES:
                self._lose(row, "truncated, overwritten, removed or moved away", draft)
                self._forget(row, draft)
        for row in [each for each in gone if each.state != "open"][:-KNOWN_FILES]:
            self._forget(row, draft)

    def _opened(self, key: Key, entry: Entry, now: float, draft: Draft, raw: bool = False) -> FeedFile | None:
        """That file, open; None if it is gone or cannot be read. If it stays unreadable, it is a lost place, and skipped from then on."""
        position = self._known.get(key, Position(self.path, *key, entry[0]))
        stamp, since, why = self._unclear.get(key, ("", now, ""))
        if stamp != _stamp(entry) or raw:
            try:
                handle = os.open(entry[0], os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                its = os.fstat(handle)
                if (its.st_dev, its.st_ino) != key:  # it was renamed in between
                    os.close(handle)
                    return None
                file = FeedFile(handle, position)
                file = file if raw else file.unpacked(self._settings.state_directory)
                file.stamp = _stamp(entry)
                self._unclear.pop(key, None)
                return file
            except FileNotFoundError:
                return None
            except (PermissionError, Unreadable) as error:
                if entry[0] == self.path:
                    raise
                since, why = now, str(error)
        self._unclear[key] = (_stamp(entry), since, why)  # it may not be whole yet
        if now - since >= self._quiet:
            del self._unclear[key]
            self._lose(position, why, draft)
            self._keep(replace(position, name=entry[0], state="passed", stamp=_stamp(entry)), draft)
        return None

    # --- what is known -----------------------------------------------------------------------------------------------

    def _follow(self, file: FeedFile, now: float, reason: str, draft: Draft) -> None:
        file.position = replace(file.position, seen=file.size, stamp="")
        file.changed = now
        self._open[file.position.key] = file
        self._keep(file.position, draft)
        place = {"offset": file.position.offset, "line": file.position.line} if file.position.offset else {}
        self._log("source", source=self.path, reason=reason, file=file.position.name, **place)

    def _keep(self, position: Position, draft: Draft) -> None:
        self._known[position.key] = position
        draft.positions.append(position)

    def _forget(self, row: Position, draft: Draft) -> None:
        self._known.pop(row.key, None)
        draft.positions[:] = [each for each in draft.positions if each.key != row.key]  # positions are committed after forgotten ones
        draft.forgotten.append(row)

    def _set_aside(self, row: Position, draft: Draft) -> None:
        """Keep the record of a file whose content is another now: a copy of the old content may be there, or come."""
        if row.mark:
            self._keep(replace(row, device=0, inode=min(0, *(key[1] for key in self._known)) - 1, stamp=""), draft)

    def _lose(self, row: Position, reason: str, draft: Draft) -> None:
        draft.lost.append(LostPlace(self.path, row.name, row.offset, row.line, reason))
        self._log("source", source=self.path, reason="lost place", file=row.name, offset=row.offset, line=row.line, found=reason,
                  what_to_do=LOOK)  # fmt: skip
