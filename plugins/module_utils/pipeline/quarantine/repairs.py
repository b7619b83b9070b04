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

import importlib.util
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..core.bounded_json import check_levels, decode

Member = tuple[str, str]  # a name, and the text of its value

_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s"]+)(?=\s|$)')
_SPACE = re.compile(r"[ \t\n\r]*")
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
        words, rest = _words(text, 2)
        kind, name = (*words, "", "")[:2]
        argument = rest.strip()
        if kind == "rename" and name:
            arguments, rest = _words(argument, 1)
            if arguments and not rest.strip():
                return cls(kind, name, arguments[0], text)
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
            rest = [(at, member) for at, member in enumerate(members) if at not in places]
            before, after = [member for at, member in rest if at < place], [member for at, member in rest if at > place]
            return [*before, (self.name, self.argument), *after]
        if len(places) != 1:
            raise NotRepairableError(f"it has {len(places) or 'no'} {self.name}")
        (place,) = places
        if self.kind == "rename":
            if any(name == self.argument for name, _ in members):
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
    """Up to `count` words at the beginning, and what follows. Raises ValueError."""
    words: list[str] = []
    while len(words) < count and (match := _WORD.match(text)):
        words.append(str(json.loads(match[1])) if match[1].startswith('"') else match[1])
        text = text[match.end() :]
    return words, text


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

    def expect(sign: str, at: int) -> int:
        """The position after this sign and the space around it."""
        at = _space(body, at)
        if body[at : at + 1] != sign:
            raise ValueError
        return _space(body, at + 1)

    found: list[Member] = []
    try:
        check_levels(body)
        at = expect("{", 0)
        while body[at : at + 1] != "}" or found:
            if body[at : at + 1] != '"':
                raise ValueError
            name, end = _DECODER.raw_decode(body, at)
            at = expect(":", end)
            _, end = _DECODER.raw_decode(body, at)
            found.append((name, body[at:end]))
            at = _space(body, end)
            if body[at : at + 1] == "}":
                break
            at = expect(",", at)
        if expect("}", at) != len(body):
            raise ValueError
    except ValueError as error:
        raise NotRepairableError(f"it is no JSON object{f': {error}' if str(error) else ''}") from None
    return found


def _space(body: str, at: int) -> int:
    match = _SPACE.match(body, at)
    return match.end() if match else at


class Rules:
    """The function's own rules, from its source (transaction.py): what it would refuse, and how two versions of a record differ.

    The deployed function decides in the end: what it refuses comes back to the quarantine.
    """

    def __init__(self, path: Path) -> None:
        spec = importlib.util.spec_from_file_location("_rules_of_the_function", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python file")
        self._module: Any = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = self._module
        spec.loader.exec_module(self._module)

    def refusal(self, body: str) -> str:
        """The reason and the detail with which the function would refuse this body, or ""."""
        try:
            self._module.check_size(self._module.parse(body))
        except self._module.InvalidRecord as error:
            return f"{error.reason} {json.dumps(error.detail)}"
        return ""

    def differences(self, body: str, stored: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
        """Of each field in which a valid body differs from a stored item: the DynamoDB values of both, None where one has no such field."""
        item = self._module.parse(body)
        return {name: (item.get(name), stored.get(name)) for name in self._module.differing_fields(item, stored)}
