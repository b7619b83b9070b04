"""Readers of Lambda functions and of the event source mappings that concern one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..aws.paging import unless_missing
from ..core.canonical import boolean, number, structure, text, text_map, text_set
from ..core.terminal import aws_command
from ..release.mapping import describe, list_mappings
from ..release.versions import LATEST, Note, differing, is_checked, weights
from .resource_type import ResourceType, agreed, always, canonicals, found_in, kept_id, page, put_or_delete

# The tag with the id of the role that the function was made for: its grant to read its environment is for that id, not for the name.
ROLE_TAG = "RoleId"

FUNCTION = {
    "alias": (text, ""),
    "runtime": (text, "Runtime"),
    "handler": (text, "Handler"),
    "role": (text, "Role"),
    "role_id": (text, ""),
    "memory_size": (number, "MemorySize"),
    "timeout": (number, "Timeout"),
    "code_sha256": (text, "CodeSha256"),
    "environment": (text_map, "Environment.Variables"),
    "architectures": (text_set, "Architectures"),
    "layers": (text_set, ""),
    "package_type": (text, "PackageType"),
    "state": (text, "State"),
    "last_update_status": (text, "LastUpdateStatus"),
    "reserved_concurrency": (number, ""),
    "tracing": (text, "TracingConfig.Mode"),
    "log_group": (text, "LoggingConfig.LogGroup"),
    "description": (text, "Description"),
    "tags": (text_map, ""),
}


def read_function(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """With an alias, code and configuration are those of the alias's version, or of $LATEST if there is no such alias."""
    client, alias = clients["lambda"], expected.get("alias")
    answer = unless_missing(client.get_function, FunctionName=name)
    if answer is None:
        return None
    behind = unless_missing(client.get_function_configuration, FunctionName=name, Qualifier=alias) if alias else None
    settings = behind or answer["Configuration"]
    tags = answer.get("Tags") or {}
    role = (expected.get("role") or settings["Role"]).rpartition("/")[2]
    now = unless_missing(clients["iam"].get_role, RoleName=role) if "role_id" in expected else None
    return found_in(settings, FUNCTION) | {
        "role_id": kept_id(tags.get(ROLE_TAG), now["Role"]["RoleId"] if now else None),
        "alias": alias,
        "layers": [layer["Arn"] for layer in settings.get("Layers") or []],
        "reserved_concurrency": (answer.get("Concurrency") or {}).get("ReservedConcurrentExecutions"),
        "tags": {key: value for key, value in tags.items() if key != ROLE_TAG},
    }


def read_alias(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    """An alias named as Lambda qualifies a function: name, colon, alias."""
    client = clients["lambda"]
    function, _, alias_name = name.partition(":")
    alias = unless_missing(client.get_alias, FunctionName=function, Name=alias_name)
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
    commands = [aws_command(f"lambda delete-event-source-mapping --uuid {uuid}") for uuid in found["foreign"]]
    return f"If somebody else does not need it: {'; '.join(commands)}" if commands else ""


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
        properties=canonicals(FUNCTION),
        menders={
            # Of $LATEST, from which the next version is published.
            "layers": lambda clients, name, wanted, found: clients["lambda"].update_function_configuration(
                FunctionName=name, Layers=wanted
            ),
            # An update without a change ends a failed one. While one is in progress, Lambda answers that it is busy.
            "last_update_status": lambda clients, name, *_: clients["lambda"].update_function_configuration(FunctionName=name),
            "reserved_concurrency": put_or_delete(
                "lambda", "FunctionName", "ReservedConcurrentExecutions", "put_function_concurrency", "delete_function_concurrency"
            ),
        },
        remedies={"package_type": page("the-function")},
        stops=dict.fromkeys(("exists", "state", "handler", "role"), always) | {"reserved_concurrency": lambda wanted, found: found == 0},
    ),
    "lambda_alias": ResourceType(
        label="alias",
        services=("lambda",),
        read=read_alias,
        properties={"function_version": text, "published": boolean, "checked": text, "weights": structure, "latest_differs_in": text_set},
        stops={"exists": always},
    ),
    "event_source_mappings": ResourceType(
        label="mapping",
        services=("lambda",),
        read=read_mappings,
        properties={"count": number, **MAPPING_PROPERTIES},
        implied={"count": 1},
        remedies=dict.fromkeys(("count", *MAPPING_PROPERTIES), delete_foreign_mappings),
        # A second mapping may work, and receives a part of the messages.
        stops={"exists": always, "state": lambda wanted, found: wanted not in found, "filters": always},
    ),
}
