"""The permissions that a request to MiniStack needs: AWS's names and resources, where MiniStack asks for others or for fewer.

The source of every name, resource and dependent action is AWS's Service Authorization Reference. What is corrected:

- Lambda's actions are those of the API's own routes (MiniStack takes reading one mapping for listing them, and knows no action for
  changing or deleting one), CreateFunction is for the function it names, and calls about a mapping carry `lambda:FunctionArn`.
- IAM's calls about an instance profile or a new policy are for that profile or policy, not for a role or for everything.
- CloudWatch Logs' calls are for `log-group:<name>:*` ("LogGroup" in its API reference: all but the three that tag by ARN).
- SNS's calls about tags are for the topic that they name.
- DynamoDB's calls that name a resource by ARN are for that resource.
- A call to Lambda that names a version or an alias of the function is for that version or alias ("Fine-tuning the Resources and
  Conditions sections of policies", Lambda's developer guide; AWS does not list the calls for which this holds).
- Attaching a policy to a role and detaching it carry `iam:PolicyARN`.
- Tagging a new resource needs the permission to tag; giving a role to a function or a profile needs iam:PassRole.
"""

import contextvars
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

from ministack.core import iam_actions, iam_evaluator, responses
from ministack.services import lambda_svc

from embedded_cloud.base.messages import json_object
from embedded_cloud.base.patching import replace, wrap
from embedded_cloud.iam import permission_record

Check = tuple[str, str, dict[str, Any]]

# Operations whose permission has another name.
_LAMBDA_ACTIONS = {"Invoke": "InvokeFunction", "InvokeWithResponseStream": "InvokeFunction"}
_LOGS_BY_PLAIN_ARN = ("TagResource", "UntagResource", "ListTagsForResource")
# The permission that tags at creation need, in addition to the creation itself.
_TAGGED_WHEN_MADE = {
    "dynamodb:CreateTable": "dynamodb:TagResource",
    "iam:CreateInstanceProfile": "iam:TagInstanceProfile",
    "iam:CreatePolicy": "iam:TagPolicy",
    "iam:CreateRole": "iam:TagRole",
    "lambda:CreateFunction": "lambda:TagResource",
    "logs:CreateLogGroup": "logs:TagResource",
    "sns:CreateTopic": "sns:TagResource",
    "sqs:CreateQueue": "sqs:TagQueue",
}
_ROLE_GIVEN_TO = {
    "iam:AddRoleToInstanceProfile": "ec2.amazonaws.com",
    "lambda:CreateFunction": "lambda.amazonaws.com",
    "lambda:UpdateFunctionConfiguration": "lambda.amazonaws.com",
}
# The parameter that names the role by name or ARN, where it is not `Role`.
_ROLE_IN = {"iam:AddRoleToInstanceProfile": "RoleName"}
_POLICY_GIVEN = ("iam:AttachRolePolicy", "iam:DetachRolePolicy")
# The dependent permission that was missing, for the text of the refusal.
_missing: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar("missing_dependent_permission", default=None)


def action_by_route(original: Callable[[str, str], str | None], method: str, path: str) -> str | None:
    operation = iam_actions._match_rest_action("lambda", method, path)
    return _LAMBDA_ACTIONS.get(operation, operation) if operation else original(method, path)


def resource_as_in_aws(original: Callable[..., str], *request: Any) -> str:
    service, _method, path, headers, body, parameters, region, account = request
    found = original(*request)
    if service == "iam":
        return _iam_resource(parameters, account) or found
    if service == "logs" and found.startswith("arn:"):
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        return found if action in _LOGS_BY_PLAIN_ARN else f"{found}:*"
    qualifier = iam_actions._query_param(parameters, "Qualifier") if service == "lambda" else ""
    if qualifier and ":function:" in found and found.count(":") == 6:
        return f"{found}:{qualifier}"
    if found != "*":
        return found
    if service == "sns":
        return iam_actions._query_param(parameters, "ResourceArn") or found
    named = json_object(body)
    if service == "dynamodb":
        return str(named.get("ResourceArn") or found)
    if service == "lambda" and path.rstrip("/").endswith("/functions") and "FunctionName" in named:
        return _function_arn(named["FunctionName"], region, account)
    return found


def _iam_resource(parameters: dict[str, Any], account: str) -> str:
    """The profile or the policy that a call is about; empty for every other call. The path is assumed to be `/`."""
    profile = iam_actions._query_param(parameters, "InstanceProfileName")
    if profile:
        return f"arn:aws:iam::{account}:instance-profile/{profile}"
    if iam_actions._query_param(parameters, "Action") == "CreatePolicy":
        return f"arn:aws:iam::{account}:policy/{iam_actions._query_param(parameters, 'PolicyName')}"
    return ""


def enforce_dependent_permissions(
    original: Callable[..., Any],
    key: str,
    action: str,
    service: str,
    region: str,
    resource_arn: str = "*",
    service_context: dict[str, Any] | None = None,
) -> Any:
    _missing.set(None)
    context = dict(service_context or {}) | _mapping_context(action, resource_arn, region) | _policy_context(action)
    for needed, resource, keys in [(action, resource_arn, context), *_dependent(action, resource_arn, context)]:
        denied = original(key, needed, service, region, resource_arn=resource, service_context=keys)
        if not isinstance(denied, iam_evaluator.AuthError):
            permission_record.add(key, needed, resource, keys)
        if denied:
            if needed != action:
                _missing.set((needed, resource))
            return denied
    return None


def name_missing_permission(
    original: Callable[..., Any], service: str, action: str, principal: str, request_id: str, **options: Any
) -> Any:
    missing = _missing.get()
    if missing:
        action, options = missing[0], options | {"resource_arn": missing[1]}
    return original(service, action, principal, request_id, **options)


def _dependent(action: str, resource: str, context: dict[str, Any]) -> Iterator[Check]:
    if action in _TAGGED_WHEN_MADE and context.get("aws:TagKeys"):
        yield _TAGGED_WHEN_MADE[action], resource.removesuffix(":*"), context
    role = _sent(_ROLE_IN.get(action, "Role")) if action in _ROLE_GIVEN_TO else ""
    if role:
        account = resource.split(":")[4]
        arn = role if role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}"
        yield "iam:PassRole", arn, {"iam:PassedToService": _ROLE_GIVEN_TO[action]}


def _sent(name: str) -> str:
    """A parameter of the request under way, in a JSON body or in a form; empty when there is none."""
    request = iam_evaluator._signed_request.get()
    if request is None:
        return ""
    in_form: list[str] = parse_qs(request.body.decode("utf-8", "replace")).get(name, [""])
    return str(json_object(request.body).get(name) or in_form[0])


def _policy_context(action: str) -> dict[str, Any]:
    """The policy that a call attaches or detaches, as AWS's condition key."""
    return {"iam:PolicyARN": _sent("PolicyArn")} if action in _POLICY_GIVEN else {}


def _mapping_context(action: str, resource: str, region: str) -> dict[str, Any]:
    """The function of the mapping that a call makes, reads, changes or deletes, as AWS's condition key."""
    if not action.startswith("lambda:") or not action.endswith("EventSourceMapping"):
        return {}
    mapping = lambda_svc._esms.get(resource.rpartition(":")[2])
    if mapping:
        return {"lambda:FunctionArn": mapping["FunctionArn"]}
    named = _sent("FunctionName")
    return {"lambda:FunctionArn": _function_arn(named, region, responses.get_account_id())} if named else {}


def _function_arn(name: str, region: str, account: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:lambda:{region}:{account}:function:{name}"


PATCHES = (
    replace(iam_actions._BOTOCORE_SERVICE_MAP, "lambda", ["lambda"]),
    wrap(iam_actions, "_lambda_action", action_by_route),
    wrap(iam_actions, "extract_resource_arn", resource_as_in_aws),
    wrap(iam_actions, "access_denied_response", name_missing_permission),
    wrap(iam_evaluator, "enforce", enforce_dependent_permissions),
)
