"""Readers of Lambda functions and of the event source mappings that concern one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..aws.paging import unless_missing
from ..core.canonical import boolean, number, structure, text, text_map, text_set
from ..release.mapping import describe, list_mappings
from ..release.versions import LATEST, Note, differing, is_checked, weights
from .resource_type import ResourceType, agreed, always, kept_id, page

MISSING = ("ResourceNotFoundException",)
# The tag of a function that says which role it was made for: the grant by which it reads its environment is of that one, not of its name.
ROLE_TAG = "RoleId"


def read_function(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """With an alias, code and configuration are those of the version it points to, or of $LATEST while there is no such alias."""
    client, alias = clients["lambda"], expected.get("alias")
    answer = unless_missing(client.get_function, MISSING, FunctionName=name)
    if answer is None:
        return None
    behind = unless_missing(client.get_function_configuration, MISSING, FunctionName=name, Qualifier=alias) if alias else None
    settings = behind or answer["Configuration"]
    tags = answer.get("Tags") or {}
    role = (expected.get("role") or settings["Role"]).rpartition("/")[2]
    now = unless_missing(clients["iam"].get_role, ("NoSuchEntity",), RoleName=role) if "role_id" in expected else None
    return {
        "role_id": kept_id(tags.get(ROLE_TAG), now["Role"]["RoleId"] if now else None),
        "alias": alias,
        "runtime": settings.get("Runtime"),
        "handler": settings.get("Handler"),
        "role": settings.get("Role"),
        "memory_size": settings.get("MemorySize"),
        "timeout": settings.get("Timeout"),
        "code_sha256": settings.get("CodeSha256"),
        "environment": (settings.get("Environment") or {}).get("Variables"),
        "architectures": settings.get("Architectures"),
        "layers": [layer["Arn"] for layer in settings.get("Layers") or []],
        "package_type": settings.get("PackageType"),
        "state": settings.get("State"),
        "last_update_status": settings.get("LastUpdateStatus"),
        "reserved_concurrency": (answer.get("Concurrency") or {}).get("ReservedConcurrentExecutions"),
        "tracing": (settings.get("TracingConfig") or {}).get("Mode"),
        "log_group": (settings.get("LoggingConfig") or {}).get("LogGroup"),
        "description": settings.get("Description"),
        "tags": {key: value for key, value in tags.items() if key != ROLE_TAG},
    }


def read_alias(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """An alias named as Lambda qualifies a function: name, colon, alias."""
    client = clients["lambda"]
    function, _, alias_name = name.partition(":")
    alias = unless_missing(client.get_alias, MISSING, FunctionName=function, Name=alias_name)
    if alias is None:
        return None
    live, latest = (client.get_function_configuration(FunctionName=function, Qualifier=one) for one in (alias["FunctionVersion"], LATEST))
    note = Note.of(alias)
    by_hand = f", moved by hand from {note.version}" if note.version and note.version != alias["FunctionVersion"] else ""
    return {
        "function_version": alias["FunctionVersion"],
        "published": alias["FunctionVersion"] != LATEST,
        "checked": "yes" if is_checked(alias) else f"no{by_hand}",
        "weights": weights(alias),
        "latest_differs_in": differing(live, latest),
    }


def read_mappings(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    client = clients["lambda"]
    # A mapping of an alias or a version is listed for that, and AWS does not say whether for the function's plain name as well.
    targets = {name, expected.get("function_arn") or name}
    mappings = {mapping["UUID"]: mapping for target in sorted(targets) for mapping in list_mappings(client, FunctionName=target)}
    if expected.get("event_source_arn"):
        mappings |= {mapping["UUID"]: mapping for mapping in list_mappings(client, EventSourceArn=expected["event_source_arn"])}
    described = [describe(mapping) for mapping in mappings.values()]
    if not described:
        return None
    found = {"count": len(described)} | {name: agreed(mapping[name] for mapping in described) for name in MAPPING_PROPERTIES}
    return found | {"foreign": [mapping["uuid"] for mapping in described if not _is_ours(mapping, name, expected)]}


def _is_ours(mapping: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> bool:
    """Whether it is of the function, under any alias or version, and of its queue: lambda_event_source_mapping deletes no other."""
    queue = expected.get("event_source_arn") or mapping["event_source_arn"]
    return bool(mapping["function_arn"].split(":")[6] == name and mapping["event_source_arn"] == queue)


def delete_foreign_mappings(name: str, wanted: Any, found: Mapping[str, Any]) -> str:
    commands = [f"aws lambda delete-event-source-mapping --uuid {uuid}" for uuid in found["foreign"]]
    return f"If somebody else does not need it: {'; '.join(commands)}" if commands else ""


def set_layers(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
    """Of $LATEST: what goes live is released from there."""
    clients["lambda"].update_function_configuration(FunctionName=name, Layers=wanted)


def update_again(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
    """With nothing changed: a failed update is over then, and while one is under way Lambda answers that it is busy."""
    clients["lambda"].update_function_configuration(FunctionName=name)


def set_concurrency(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
    if wanted is None:
        clients["lambda"].delete_function_concurrency(FunctionName=name)
    else:
        clients["lambda"].put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=wanted)


MAPPING_PROPERTIES = {
    "event_source_arn": text,
    "function_arn": text,
    "state": text,
    "batch_size": number,
    "maximum_batching_window": number,
    "function_response_types": text_set,
    "maximum_concurrency": number,
    "filters": text_set,
}

TYPES = {
    "lambda_function": ResourceType(
        label="function",
        services=("lambda", "iam"),
        read=read_function,
        properties={
            "alias": text,
            "runtime": text,
            "handler": text,
            "role": text,
            "role_id": text,
            "memory_size": number,
            "timeout": number,
            "code_sha256": text,
            "environment": text_map,
            "architectures": text_set,
            "layers": text_set,
            "package_type": text,
            "state": text,
            "last_update_status": text,
            "reserved_concurrency": number,
            "tracing": text,
            "log_group": text,
            "description": text,
            "tags": text_map,
        },
        menders={"layers": set_layers, "last_update_status": update_again, "reserved_concurrency": set_concurrency},
        remedies={"package_type": page("the-function")},
        stops={
            "exists": always,
            "reserved_concurrency": lambda wanted, found: found == 0,
            "state": always,
            "handler": always,
            "role": always,
        },
    ),
    "lambda_alias": ResourceType(
        label="alias",
        services=("lambda",),
        read=read_alias,
        properties={
            "function_version": text,
            "published": boolean,
            "checked": text,
            "weights": structure,
            "latest_differs_in": text_set,
        },
        stops={"exists": always},
    ),
    "event_source_mappings": ResourceType(
        label="mapping",
        services=("lambda",),
        read=read_mappings,
        properties={"count": number, **MAPPING_PROPERTIES},
        implied={"count": 1},
        remedies=dict.fromkeys(("count", *MAPPING_PROPERTIES), delete_foreign_mappings),
        # A second mapping may be well, and takes a part of the messages.
        stops={"exists": always, "state": lambda wanted, found: wanted not in found, "filters": always},
    ),
}
