"""Which permissions the requests of each access key have needed.

A request is recorded whether it was allowed or not, unless its signature was wrong. The record is in memory and bounded.
"""

import json
from typing import Any

LIMIT = 20_000

# Condition keys that say what a permission is needed for. Others differ from request to request (the keys of an item, for example).
_KEPT_KEYS = ("iam:PassedToService", "iam:PolicyARN", "lambda:FunctionArn", "ec2:CreateAction")
_KEPT_PREFIX = "aws:ResourceTag/"
# IAM never denies it, so nobody needs the permission.
_NEVER_DENIED = "sts:GetCallerIdentity"

_recorded: set[tuple[str, str, str, str]] = set()


def add(access_key: str, action: str, resource: str, context: dict[str, Any]) -> None:
    """Remember that a request of this key needed `action` on `resource`. Only the first LIMIT permissions are kept."""
    if action == _NEVER_DENIED or is_full():
        return
    kept = {name: value for name, value in context.items() if name in _KEPT_KEYS or name.startswith(_KEPT_PREFIX)}
    _recorded.add((access_key, action, resource, json.dumps(kept, sort_keys=True)))


def is_full() -> bool:
    return len(_recorded) >= LIMIT


def of_key(access_key: str) -> list[dict[str, Any]]:
    """The permissions of one key, sorted, as [{"action", "resource", "context"}]."""
    found = sorted((action, resource, context) for key, action, resource, context in _recorded if key == access_key)
    return [{"action": action, "resource": resource, "context": json.loads(context)} for action, resource, context in found]
