"""All rules of Lambda, by action, and how a request to Lambda is read as a call."""

import re

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

_PATH = re.compile(
    r"/2015-03-31/(?:(?P<mappings>event-source-mappings)(?:/(?P<UUID>[^/]+))?"
    r"|functions(?:/(?P<FunctionName>[^/]+)"
    r"(?P<rest>/code|/configuration|/versions|/invocations|/aliases(?=/|$))?(?:/(?P<Name>[^/]+))?)?)/?"
)
# AWS Lambda API Reference, the request syntax of each action: by method and path, for mappings by whether it names one.
_ACTIONS = {
    ("GET", False): "ListEventSourceMappings",
    ("POST", False): "CreateEventSourceMapping",
    ("GET", True): "GetEventSourceMapping",
    ("PUT", True): "UpdateEventSourceMapping",
    ("DELETE", True): "DeleteEventSourceMapping",
    ("PUT", "/code"): "UpdateFunctionCode",
    ("PUT", "/configuration"): "UpdateFunctionConfiguration",
    ("POST", "/versions"): "PublishVersion",
    ("POST", "/invocations"): "Invoke",
    ("POST", "/aliases"): "CreateAlias",
    ("PUT", "/aliases"): "UpdateAlias",
    ("DELETE", None): "DeleteFunction",
    ("POST", None): "CreateFunction",
}


def read_call(method: str, path: str, query: dict[str, list[str]], body: bytes) -> Call:
    """The action (empty when no rule is about it) and its parameters: those of the query, of the body and of the path."""
    found = _PATH.fullmatch(path)
    if found is None:
        return Call("lambda", "", {})
    action = _ACTIONS.get((method, bool(found["UUID"]) if found["mappings"] else found["rest"]), "")
    named = {name: found[name] for name in ("UUID", "FunctionName", "Name") if found[name]}
    # The body of an invocation is an event, which names no parameters of the call.
    return Call("lambda", action, {**query, **(json_object(body) if action != "Invoke" else {}), **named})
