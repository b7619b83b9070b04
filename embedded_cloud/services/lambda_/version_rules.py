"""Versions and aliases of functions: what Lambda refuses and MiniStack accepts, or refuses with another text.

Where AWS's documentation names an exception without its text, the text is one that users have reported.
"""

from typing import Any

from ministack.services import lambda_svc

from embedded_cloud.base.calls import Call
from embedded_cloud.base.rules import Refusal, RuleContext
from embedded_cloud.services.lambda_.function_rules import function_name, invalid

LATEST = "$LATEST"


def version_missing(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, CreateAlias and UpdateAlias, ResourceNotFoundException: "The resource specified in the request does not
    exist"; an alias points to a version that is there."""
    function = _function(call)
    versions = [version for version in (call.value("FunctionVersion"), *weights_of(call.parameters)) if version]
    missing = next((version for version in versions if function and version != LATEST and version not in function["versions"]), None)
    if missing is None:
        return None
    return Refusal("ResourceNotFoundException", f"Function not found: {lambda_svc._func_arn(function_name(call))}:{missing}", 404)


def invalid_weights(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda Developer Guide, "Implement Lambda canary deployments using a weighted alias": at most two versions, both published."""
    weights, version = weights_of(call.parameters), _version(call)
    if len(weights) > 1:
        return invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    if weights and version == LATEST:
        return invalid("$LATEST is not supported for an alias pointing to more than 1 version")
    if version in weights:
        return invalid(f"Invalid function version {version}. Function version {version} is already included in routing configuration.")
    return None


def other_code(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, PublishVersion, CodeSha256: "Only publish a version if the hash value matches the value that's
    specified"."""
    function, wanted = _function(call), call.value("CodeSha256")
    found = function["config"].get("CodeSha256") if function else None
    if not wanted or function is None or wanted == found:
        return None
    return invalid(
        f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({found}). Please try again with the CodeSHA256 in $LATEST."
    )


def other_revision(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, PublishVersion, RevisionId: "Only update the function if the revision ID matches the ID that's specified";
    PreconditionFailedException: "The RevisionId provided does not match the latest RevisionId for the Lambda function or alias"."""
    function, wanted = _function(call), call.value("RevisionId")
    if not wanted or function is None or wanted == function["config"].get("RevisionId"):
        return None
    return Refusal(
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest "
        "Revision Id",
        412,
    )


def delete_of_latest(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, DeleteFunction, Qualifier: "Specify a version to delete. You can't delete a version that an alias
    references"; $LATEST cannot be deleted alone."""
    if _function(call) is None or _qualifier(call) != LATEST:
        return None
    return invalid("$LATEST version cannot be deleted without deleting the function.")


def delete_of_alias_as_version(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, DeleteFunction, Qualifier: a version; aliases have DeleteAlias."""
    qualifier = _qualifier(call)
    if _function(call) is None or not qualifier or qualifier == LATEST or qualifier.isdecimal():
        return None
    return invalid("Deletion of aliases is not currently supported.")


def version_in_use(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, DeleteFunction, Qualifier: "You can't delete a version that an alias references"."""
    function, version = _function(call), _qualifier(call)
    if function is None or not version:
        return None
    names = [name for name, alias in function["aliases"].items() if version in (alias["FunctionVersion"], *weights_of(alias))]
    if not names:
        return None
    return Refusal(
        "ResourceConflictException", f"Unable to delete version because the following aliases reference it: [{', '.join(names)}]", 409
    )


def version_pending(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda Developer Guide, "Lambda function states": while the state is Pending, invocations fail; a version that was just published
    is active after a while (the waiter published_version_active of AWS's SDKs waits for it)."""
    _record, config = lambda_svc._get_func_record_for_qualifier(function_name(call), _qualifier(call) or None)
    if config is None or (config.get("State"), config.get("StateReasonCode")) != ("Pending", "Creating"):
        return None
    text = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
    return Refusal("ResourceConflictException", text, 409)


def _function(call: Call) -> dict[str, Any] | None:
    function: dict[str, Any] | None = lambda_svc._functions.get(function_name(call))
    return function


def _qualifier(call: Call) -> str:
    """The version or alias that a call names, in a parameter of its own or in the function's name."""
    return call.value("Qualifier") or lambda_svc._resolve_name_and_qualifier(call.value("FunctionName"))[1] or ""


def _version(call: Call) -> str:
    """The version that the alias will point to after the call."""
    function = _function(call)
    alias = function["aliases"].get(call.value("Name"), {}) if function else {}
    return call.value("FunctionVersion") or str(alias.get("FunctionVersion", ""))


def weights_of(alias: dict[str, Any]) -> dict[str, float]:
    return (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
