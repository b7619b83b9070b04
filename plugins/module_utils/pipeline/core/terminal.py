"""Text from outside on its way to a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with a code (\\x1b, \\n, \\u202e) for each character that is not printable: none moves a cursor or hides a line."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
