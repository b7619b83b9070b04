"""Functions: what Lambda refuses and MiniStack accepts."""

from ministack.core import responses
from ministack.services import iam, lambda_svc

from embedded_cloud.base.calls import Call
from embedded_cloud.base.rules import Refusal, RuleContext
from embedded_cloud.iam import authorization
from embedded_cloud.services.iam.rules import PROPAGATION_SECONDS

# How long an update is in progress: AWS says "seconds"; a small package takes about this long.
UPDATE_SECONDS = 5.0


def role_cannot_be_assumed(call: Call, context: RuleContext) -> Refusal | None:
    """A function's role must exist and trust Lambda, and Lambda must have seen it since it was made. AWS Lambda Developer Guide,
    "Troubleshoot configuration issues in Lambda"; IAM User Guide, "Troubleshoot IAM": "Changes that I make are not always immediately
    visible"."""
    if "Role" not in call.parameters:
        return None
    name = call.value("Role").rpartition("/")[2]
    role = iam._roles.get(name)
    known = role is not None and not context.times.is_within("role made", name, PROPAGATION_SECONDS)
    account, region = responses.get_account_id(), responses.get_region()
    # AWS documents neither key for execution roles; public reports have both, the function's ARN without a version.
    keys = {"aws:SourceAccount": account, "aws:SourceArn": f"arn:aws:lambda:{region}:{account}:function:{function_name(call)}"}
    if known and authorization.trusts_service(role, "lambda.amazonaws.com", account, region, keys):
        return None
    return invalid("The role defined for the function cannot be assumed by Lambda.")


def update_in_progress(call: Call, context: RuleContext) -> Refusal | None:
    """A function that is being made or updated cannot be updated, published or deleted. AWS Lambda Developer Guide, "Lambda function
    states"; AWS Lambda API Reference, DeleteFunction, ResourceConflictException: "another operation is in progress"."""
    function = lambda_svc._functions.get(function_name(call))
    if function is None:
        return None
    config = function["config"]
    if config.get("LastUpdateStatus") == "InProgress" and config.get("StateReasonCode") == "Updating":
        reason = f"An update is in progress for resource: {config['FunctionArn']}"
    elif config.get("State") == "Pending":
        reason = "The function is currently in the following state: Pending"
    else:
        return None
    return Refusal("ResourceConflictException", f"The operation cannot be performed at this time. {reason}", 409)


def function_name(call: Call) -> str:
    """The function that a call names by name, partial ARN or ARN, without its version or alias."""
    return str(lambda_svc._resolve_name(call.value("FunctionName")))


def invalid(message: str) -> Refusal:
    return Refusal("InvalidParameterValueException", message)
