"""Patches: each gives one name of an emulator a new value. The emulators look these names up at every call."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Patch:
    """`owner` is a module, a class or a dictionary of an emulator; `make` gets the present value of `name` and returns the new one."""

    owner: Any
    name: str
    make: Callable[[Any], Any]

    def apply(self) -> None:
        if isinstance(self.owner, dict):
            self.owner[self.name] = self.make(self.owner.get(self.name))
        else:
            setattr(self.owner, self.name, self.make(getattr(self.owner, self.name)))


def wrap(owner: Any, name: str, function: Callable[..., Any]) -> Patch:
    """Call `function` instead, with the original as its first argument. Several wraps of one name nest: the last one is asked first."""

    def make(original: Any) -> Callable[..., Any]:
        if not callable(original):
            raise TypeError(f"cannot wrap {name}: the emulator has no such function")

        @functools.wraps(original)
        def replacement(*arguments: Any, **named: Any) -> Any:
            return function(original, *arguments, **named)

        return replacement

    return Patch(owner, name, make)


def replace(owner: Any, name: str, value: Any) -> Patch:
    """Use `value`, whatever was there."""
    return Patch(owner, name, lambda _original: value)
