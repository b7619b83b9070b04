"""JSON from outside: nesting that is too deep is a ValueError, not a RecursionError that ends the program."""

from __future__ import annotations

import json
import re
from typing import Any

# A stored transaction has 32 levels at most. Python ends at some 1,000 nested calls, those of the caller included.
LEVELS = 100

_PLAIN = json.JSONDecoder()
# A string; an unclosed one goes to the end of the text.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


def check_levels(text: str) -> None:
    """Raises ValueError for a text whose brackets are nested in more than LEVELS levels, whether it is JSON or not."""
    if text.count("[") + text.count("{") <= LEVELS:
        return
    level = 0
    for sign in _STRING.sub("", text):
        level += (sign in "[{") - (sign in "]}")
        if level > LEVELS:
            raise ValueError(f"it is nested in more than {LEVELS} levels")


def decode(text: str, decoder: json.JSONDecoder = _PLAIN) -> Any:
    """The value of a JSON text, by `decoder`. Raises ValueError for what is no JSON or is nested too deeply."""
    check_levels(text)
    return decoder.decode(text)
