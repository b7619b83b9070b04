"""The environment variables of the function, validated when a process first needs them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any


class SettingsError(ValueError):
    """An environment variable is missing or wrong; the message names it, what was found and what was expected."""


@dataclass(frozen=True)
class Settings:
    """The function's environment. Thresholds are amounts, in whatever currency; each belongs to the higher category.

    `processor_version` is the version of the function that this process runs, which Lambda itself sets: a number, or $LATEST.
    """

    table_name: str
    dead_letter_queue_url: str
    high_value: Decimal
    medium_value: Decimal
    processor_version: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Raises SettingsError for the first variable that is missing or wrong."""

        def variable(name: str, valid: Callable[[str], Any], expected: str) -> str:
            found = environment.get(name, "")
            if not valid(found):
                raise SettingsError(f"{name} is {found!r}, expected {expected}; set it in the function's environment")
            return found

        def is_amount(text: str) -> bool:
            try:
                return Decimal(text).is_finite() and Decimal(text) >= 0
            except InvalidOperation:
                return False

        table = variable("TABLE_NAME", re.compile(r"[A-Za-z0-9_.-]{3,255}").fullmatch, "a table name: 3 to 255 letters, digits, _ . -")
        queue = variable("DEAD_LETTER_QUEUE_URL", re.compile(r"https?://\S+").fullmatch, "the URL of the dead-letter queue")
        high = Decimal(variable("HIGH_VALUE_THRESHOLD", is_amount, "a decimal number, 0 or more"))
        medium = Decimal(variable("MEDIUM_VALUE_THRESHOLD", is_amount, "a decimal number, 0 or more"))
        version = variable("AWS_LAMBDA_FUNCTION_VERSION", re.compile(r"\$LATEST|[0-9]+").fullmatch, "a version, which Lambda sets")
        if medium > high:
            raise SettingsError(f"MEDIUM_VALUE_THRESHOLD is {medium}, expected at most HIGH_VALUE_THRESHOLD, which is {high}")
        return cls(table, queue, high, medium, version)

    def category(self, amount: Decimal) -> str:
        """high_value, medium_value or standard; an amount on a threshold is in the higher category."""
        if amount >= self.high_value:
            return "high_value"
        return "medium_value" if amount >= self.medium_value else "standard"


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings.read(os.environ)
