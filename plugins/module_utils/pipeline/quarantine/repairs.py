"""Repairs of a message body. They change its JSON text, top-level members only, so that all other members keep every digit.

    rename OLD NEW        the member OLD gets the name NEW
    set NAME VALUE        the member NAME has this value, a JSON text; added if there is none, and one if there are several
    parse NAME [SIGN [GROUP]]
                          the text of the member NAME becomes the number that it spells. Without SIGN: only as 1234.56. SIGN is the decimal
                          sign, "." or ","; the other one may group the digits by threes: with "," 1.234,56 is 1234.56. A text that can be
                          read in two ways, 1.234 or 1,234, needs both: with ", ." 1.234 is 1234, with ". ," it is 1.234

A name with spaces is written as a JSON text. The same repair of the same body always gives the same text.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..core.bounded_json import check_levels, decode

Member = tuple[str, str]  # a name, and the text of its value

_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s"]+)(?=\s|$)')
_SIGN = re.compile(r"[ \t\n\r]*([{}:,])[ \t\n\r]*")
_NUMBERS = {
    "": re.compile(r"[0-9]+(\.[0-9]+)?"),
    ".": re.compile(r"([0-9]+|[1-9][0-9]{0,2}(,[0-9]{3})+)(\.[0-9]+)?"),
    ",": re.compile(r"([0-9]+|[1-9][0-9]{0,2}(\.[0-9]{3})+)(,[0-9]+)?"),
}
_NUMBERS |= {". ,": _NUMBERS["."], ", .": _NUMBERS[","]}
# One sign with three digits after it, and before it what may be a group: thousands or thousandths.
_IN_TWO_WAYS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
# Numbers stay text: no float, and no number too long for int().
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_STRICT_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant)


class NotRepairableError(Exception):
    """Why a repair does not apply to a body."""


@dataclass(frozen=True)
class Repair:
    """One repair; `argument` is the new name, the value's JSON text, or the signs of a number. `text` is how it was written."""

    kind: str
    name: str
    argument: str
    text: str

    @classmethod
    def read(cls, text: str) -> Repair:
        """Raises ValueError, which says what is wrong with it."""
        (kind, name), rest = _words(text, 2)
        argument = rest.strip()
        if kind == "rename" and name:
            (new,), rest = _words(argument, 1)
            if new and not rest.strip():
                return cls(kind, name, new, text)
        elif kind == "set" and name:
            try:
                decode(argument, _STRICT_DECODER)
            except ValueError:
                raise ValueError(f"a repair sets {name} to {argument!r}, expected JSON: a text stands in double quotes") from None
            return cls(kind, name, argument, text)
        elif kind == "parse" and name and " ".join(argument.split()) in _NUMBERS:
            return cls(kind, name, " ".join(argument.split()), text)
        raise ValueError(f"found the repair {text!r}, expected rename OLD NEW, set NAME VALUE, or parse NAME [SIGN [GROUP]]")

    def apply(self, members: list[Member]) -> list[Member]:
        """The members, repaired. Raises NotRepairableError."""
        places = [place for place, (name, _) in enumerate(members) if name == self.name]
        if self.kind == "set":
            place = places[0] if places else len(members)
            after = [member for member in members[place:] if member[0] != self.name]
            return [*members[:place], (self.name, self.argument), *after]
        if len(places) != 1:
            raise NotRepairableError(f"it has {len(places) or 'no'} {self.name}")
        (place,) = places
        if self.kind == "rename":
            if self.argument in dict(members):
                raise NotRepairableError(f"it has a {self.argument} already")
            member = (self.argument, members[place][1])
        else:
            member = (self.name, self._number(members[place][1]))
        return [*members[:place], member, *members[place + 1 :]]

    def _number(self, value: str) -> str:
        text = json.loads(value, parse_int=str, parse_float=str) if value.startswith('"') else None
        if text is None or not _NUMBERS[self.argument].fullmatch(text.strip()):
            raise NotRepairableError(f"its {self.name} is no text that spells a number in that way")
        if len(self.argument) < 2 and _IN_TWO_WAYS.fullmatch(text.strip()):
            which = f"say which sign is the decimal one and which groups: parse {self.name} . , or parse {self.name} , ."
            raise NotRepairableError(f"its {self.name} {text!r} can be read in two ways; {which}")
        sign = self.argument[:1] or "."
        grouping = "." if sign == "," else ","
        return format(Decimal(text.strip().replace(grouping, "").replace(sign, ".")), "f")


def _words(text: str, count: int) -> tuple[list[str], str]:
    """So many words at the beginning, "" for each that is not there, and what follows. Raises ValueError."""
    words: list[str] = []
    while len(words) < count and (match := _WORD.match(text)):
        words.append(str(json.loads(match[1])) if match[1].startswith('"') else match[1])
        text = text[match.end() :]
    return words + [""] * (count - len(words)), text


def repaired(body: str, repairs: Iterable[Repair], parsed: list[str] | None = None) -> str:
    """The body after all the repairs, in their order; unchanged if there are none. Raises NotRepairableError.

    `parsed` gets a line for each number that was made from a text: its name, the text, the number.
    """
    steps = list(repairs)
    if not steps:
        return body
    members = _members(body)
    for repair in steps:
        before, members = dict(members), repair.apply(members)
        if repair.kind == "parse" and parsed is not None:
            parsed.append(f"{repair.name} {before[repair.name]} becomes {dict(members)[repair.name]}")
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in members) + "}"


def _members(body: str) -> list[Member]:
    """The members of a body, each value as it is written."""

    def sign(expected: str, at: int) -> tuple[str, int]:
        """Which of the signs is here, and the position after it and the space around it."""
        match = _SIGN.match(body, at)
        if not match or match[1] not in expected:
            raise ValueError
        return match[1], match.end()

    found: list[Member] = []
    try:
        check_levels(body)
        last, at = sign("{", 0)
        if body.startswith("}", at):
            last, at = sign("}", at)
        while last != "}":
            if not body.startswith('"', at):
                raise ValueError
            name, end = _DECODER.raw_decode(body, at)
            _, at = sign(":", end)
            _, end = _DECODER.raw_decode(body, at)
            found.append((name, body[at:end]))
            last, at = sign(",}", end)
        if at != len(body):
            raise ValueError
    except ValueError as error:
        raise NotRepairableError(f"it is no JSON object{f': {error}' if str(error) else ''}") from None
    return found


class Rules:
    """What the function would refuse, by its own source (transaction.py). The deployed one decides: what it refuses comes back."""

    def __init__(self, path: Path) -> None:
        self._rules = runpy.run_path(str(path))

    def refusal(self, body: str) -> str:
        """The reason and the detail with which the function would refuse this body, or ""."""
        try:
            self._rules["check_size"](self._rules["parse"](body))
        except self._rules["InvalidRecord"] as error:
            return f"{error.reason} {json.dumps(error.detail)}"
        return ""
