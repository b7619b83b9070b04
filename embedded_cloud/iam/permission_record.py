"""Which permissions each access key's requests have needed: GET /_embedded_cloud/permissions?access_key=<id>.

A request is recorded whether it was allowed or not, unless its signature was wrong. Kept in memory, for a bounded number of permissions.
"""

import json
from typing import Any

from embedded_cloud.base.messages import Request, Response, as_json, text

LIMIT = 20_000

# Condition keys that tell what a permission is needed for; others (the keys of an item, say) differ from request to request.
_KEPT_KEYS = ("iam:PassedToService", "iam:PolicyARN", "lambda:FunctionArn", "ec2:CreateAction")
_KEPT_PREFIX = "aws:ResourceTag/"
# IAM never denies it, so that nobody needs the permission.
_NEVER_DENIED = "sts:GetCallerIdentity"

_recorded: set[tuple[str, str, str, str]] = set()


def add(access_key: str, action: str, resource: str, context: dict[str, Any]) -> None:
    """Remember that a request of this key needed `action` on `resource`; the first LIMIT of them all are kept."""
    if action == _NEVER_DENIED or len(_recorded) >= LIMIT:
        return
    kept = {name: value for name, value in context.items() if name in _KEPT_KEYS or name.startswith(_KEPT_PREFIX)}
    _recorded.add((access_key, action, resource, json.dumps(kept, sort_keys=True)))


def answer(request: Request) -> Response:
    """The permissions of one key, sorted, as [{"action", "resource", "context"}]; 507 when some may be missing."""
    keys = request.query.get("access_key", [])
    if len(keys) != 1:
        return text(400, "Say whose permissions: ?access_key=<access key id>")
    if len(_recorded) >= LIMIT:
        return text(507, f"More than {LIMIT} permissions were needed so far, and not all were kept. Start the cloud anew.")
    found = sorted((action, resource, context) for key, action, resource, context in _recorded if key == keys[0])
    return as_json(200, [{"action": a, "resource": r, "context": json.loads(c)} for a, r, c in found])
