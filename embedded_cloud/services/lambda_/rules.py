"""All rules of Lambda, by action, and how a request to Lambda is read as a call."""

import re

from ministack.core import iam_actions

from embedded_cloud.base.calls import Call
from embedded_cloud.base.messages import json_object
from embedded_cloud.base.rules import Note, Rewrite, Rule
from embedded_cloud.services.lambda_ import function_rules as functions
from embedded_cloud.services.lambda_ import mapping_rules as mappings
from embedded_cloud.services.lambda_ import version_rules as versions

_MAPPING = (
    mappings.batch_too_large,
    mappings.batch_without_window,
    mappings.queue_missing,
    mappings.visibility_below_function_timeout,
    mappings.role_may_not_receive,
)
_ALIAS = (versions.invalid_weights, versions.version_missing)

RULES: dict[str, tuple[Rule, ...]] = {
    "lambda:CreateEventSourceMapping": _MAPPING,
    "lambda:UpdateEventSourceMapping": (mappings.mapping_in_use, *_MAPPING),
    "lambda:DeleteEventSourceMapping": (mappings.mapping_in_use,),
    "lambda:CreateFunction": (functions.role_cannot_be_assumed,),
    "lambda:UpdateFunctionConfiguration": (functions.update_in_progress, functions.role_cannot_be_assumed),
    "lambda:UpdateFunctionCode": (functions.update_in_progress,),
    "lambda:PublishVersion": (functions.update_in_progress, versions.other_revision, versions.other_code),
    "lambda:CreateAlias": _ALIAS,
    "lambda:UpdateAlias": _ALIAS,
    "lambda:DeleteFunction": (
        versions.delete_of_latest,
        versions.delete_of_alias_as_version,
        versions.version_in_use,
        functions.update_in_progress,
    ),
    "lambda:Invoke": (versions.version_pending,),
}
NOTES: dict[str, Note] = {f"lambda:{verb}EventSourceMapping": mappings.note_mapping for verb in ("Create", "Update", "Delete")}
REWRITES: dict[str, Rewrite] = {
    f"lambda:{action}": mappings.with_states_of_transition
    for action in ("ListEventSourceMappings", *(f"{verb}EventSourceMapping" for verb in ("Create", "Get", "Update", "Delete")))
}

# What a path names, by the word before the name.
_NAMED = re.compile(r"/(functions|aliases|event-source-mappings)/([^/]+)")
_PARAMETERS = {"functions": "FunctionName", "aliases": "Name", "event-source-mappings": "UUID"}


def read_call(method: str, path: str, query: dict[str, list[str]], body: bytes) -> Call:
    """The action (empty for an unknown path) and its parameters: those of the query, of the body and of the path."""
    action = iam_actions._match_rest_action("lambda", method, path) or ""
    named = {_PARAMETERS[kind]: name for kind, name in _NAMED.findall(path)}
    # The body of an invocation is an event, which names no parameters of the call.
    return Call("lambda", action, {**query, **(json_object(body) if action != "Invoke" else {}), **named})
