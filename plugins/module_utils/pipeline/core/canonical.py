"""Canonical forms of property values: two values mean the same exactly when their canonical forms are equal.

Each function takes a value as a playbook wrote it or as AWS answered it, and returns something JSON can write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

Canonical = Callable[[Any], Any]

ACCOUNT_ID = re.compile(r"\d{12}")
# Elements of a statement whose order does not matter and where one string means a list of one. Source: IAM JSON policy grammar.
STATEMENT_LISTS = ("Action", "NotAction", "Resource", "NotResource")
# An account may be named by its id, but IAM stores its root. Source: "AWS JSON policy elements: Principal".
STATEMENT_PRINCIPALS = ("Principal", "NotPrincipal")


def number(value: Any) -> Any:
    """A number, also one written as text; whole ones as int. Anything else is returned as it is, so that it shows."""
    if isinstance(value, bool) or value in (None, ""):
        return value if isinstance(value, bool) else None
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        return value
    return int(parsed) if parsed.is_integer() else parsed


def text(value: Any) -> Any:
    """Text; empty means none."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None or value == "" else str(value)


def public_key(value: Any) -> Any:
    """An OpenSSH public key without its comment, which EC2 replaces."""
    return " ".join(str(value).split()[:2]) if str(value).startswith("ssh-") else text(value)


def boolean(value: Any) -> Any:
    """True or false, also when written as text; absent means false."""
    if isinstance(value, str):
        return {"true": True, "false": False, "": False}.get(value.lower(), value)
    return bool(value)


def text_set(value: Any) -> list[Any]:
    """A list whose order and repetitions do not matter; one value means a list of one."""
    if value is None or value == "":
        return []
    values = value if isinstance(value, list | tuple | set) else [value]
    return sorted({text(item) or "" for item in values})


def text_map(value: Any) -> dict[str, Any]:
    """Names and texts: tags (without AWS's own), environment variables, dimensions."""
    return {str(key): text(item) or "" for key, item in sorted((value or {}).items()) if not str(key).startswith("aws:")}


def structure(value: Any) -> Any:
    """Nested settings: keys without a value are none, numbers may be text, lists are sets."""
    if isinstance(value, dict):
        entries = {str(key): structure(item) for key, item in sorted(value.items())}
        return {key: item for key, item in entries.items() if item is not None} or None
    if isinstance(value, list):
        return sorted((structure(item) for item in value), key=_json) or None
    return number(value)


def document(value: Any) -> Any:
    """A policy document, as JSON text or as a dict, with its statements and lists in a fixed order."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except ValueError:
            return value
    if not value or not isinstance(value, dict):
        return value or None
    rest = {key: item for key, item in value.items() if key != "Statement" and item not in (None, "")}
    return {**rest, "Statement": sorted(map(_statement, _as_list(value.get("Statement", []))), key=_json)}


def _statement(statement: dict[str, Any]) -> dict[str, Any]:
    canonical: dict[str, Any] = {}
    for key, value in statement.items():
        if key in STATEMENT_LISTS:
            canonical[key] = sorted(str(item) for item in _as_list(value))
        elif key in STATEMENT_PRINCIPALS:
            kinds = value if isinstance(value, dict) else {"AWS": value}
            canonical[key] = {kind: sorted(_principal(item) for item in _as_list(who)) for kind, who in sorted(kinds.items())}
        elif key == "Condition":
            canonical[key] = {
                operator: {name: sorted(str(text(item)) for item in _as_list(wanted)) for name, wanted in sorted(tests.items())}
                for operator, tests in sorted(value.items())
            }
        elif value not in (None, ""):
            canonical[key] = value
    return dict(sorted(canonical.items()))


def _principal(principal: Any) -> str:
    who = str(principal)
    return f"arn:aws:iam::{who}:root" if ACCOUNT_ID.fullmatch(who) else who


def rules(value: Any) -> list[dict[str, Any]]:
    """Rules of a security group: one entry for each protocol and port range, its sources sorted."""
    sources: dict[tuple[str, Any, Any], set[str]] = {}
    for rule in value or []:
        protocol = str(rule.get("protocol", "")).lower()
        everything = protocol in ("-1", "all")
        ports = (None, None) if everything else (number(rule.get("from_port")), number(rule.get("to_port")))
        sources.setdefault(("-1" if everything else protocol, *ports), set()).update(text_set(rule.get("cidrs")))
    entries = [
        {"protocol": protocol, "from_port": first, "to_port": last, "cidrs": sorted(cidrs)}
        for (protocol, first, last), cidrs in sources.items()
    ]
    return sorted(entries, key=_json)


def as_text(value: Any) -> str:
    """A canonical value on one line, for a table: text as it is, the rest as JSON, `none` for none."""
    if value is None or value == [] or value == {}:
        return "none"
    return value if isinstance(value, str) else _json(value)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
