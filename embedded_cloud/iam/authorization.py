"""Who may do what. MiniStack's own code decides it, also for the requests that moto answers."""

import uuid
from typing import Any

from ministack import app as ministack_app
from ministack.core import iam_actions, iam_evaluator, lambda_runtime, responses
from ministack.core.router import detect_service, extract_access_key_id, extract_region
from ministack.services import iam, lambda_svc, sts

from embedded_cloud.base.calls import Call
from embedded_cloud.base.messages import Request, Response
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.base.patching import Patch, replace
from embedded_cloud.iam import ec2_permissions


def one_root_key(root_access_key: str) -> list[Patch]:
    """One key is root's, and its signature is verified like any other. MiniStack by itself takes `test`, twelve digits and no key at all
    for root's, with any secret, and derives the secret of a function's session from the names of the function and its role."""
    return [
        *(replace(owner, "is_root_access_key", lambda key: key == root_access_key) for owner in (iam_evaluator, sts)),
        *(replace(owner, "execution_credentials", _function_credentials) for owner in (lambda_runtime, lambda_svc)),
        replace(iam_evaluator, "_is_root_key", lambda access_key_id: False),
    ]


def unauthenticated(request: Request, service: str) -> Response | None:
    """The refusal of a request whose signature is not by a key of this cloud; None for all others. MiniStack verifies signatures too, but
    not those of calls that it takes for anonymous ones."""
    try:
        found = iam_evaluator.authenticate(_pin(request), responses.get_account_id())
    except iam_evaluator.AmbiguousAccessKeyError:
        found = None
    if isinstance(found, iam_evaluator.ResolvedCredential):
        return None
    return _authentication_failure(request, service, found or iam_evaluator._unknown_access_key())


def missing_signature(request: Request) -> Response:
    """The refusal of an unsigned request, in the form of the service that it seems to be meant for."""
    named = ministack_app._routing_params(request.method, request.path, request.headers, request.body, request.query)
    service = detect_service(request.method, request.path, request.headers, named)
    failure = iam_evaluator.AuthError("MissingAuthenticationToken", "Request is missing Authentication Token")
    return _authentication_failure(request, service, failure)


def expired_token(request: Request, service: str) -> Response:
    """The refusal of an expired session."""
    failure = iam_evaluator.AuthError("ExpiredTokenException", "The security token included in the request is expired")
    return _authentication_failure(request, service, failure)


def new_session(arn: str, user_id: str, account: str, expires: float | None) -> dict[str, str]:
    """New credentials of a role's session, registered with MiniStack: AccessKeyId, SecretAccessKey and SessionToken. `expires` is in
    seconds since the epoch; None means a session for as long as the cloud runs."""
    key = iam._gen_session_access_key()
    made = {"SecretAccessKey": iam._gen_secret(), "SessionToken": iam._gen_session_token()}
    owner = {"Arn": arn, "UserId": user_id, "AccountId": account, "PrincipalType": "AssumedRole"}
    sts.register_session(key, owner | made | ({} if expires is None else {"Expiration": expires}))
    return {"AccessKeyId": key} | made


async def refusal(request: Request, call: Call, moto: MotoBackend) -> Response | None:
    """AWS's answer to a call that its signature or the policies do not allow; None when it is allowed."""
    region = extract_region(request.headers, request.query)
    tags = await moto.run(lambda: ec2_permissions.tags_of_named(call, moto, region))
    key = _pin(request)
    for action, arn, context in _checks(request, call, region, responses.get_account_id(), tags):
        denied = iam_evaluator.enforce(key, action, call.service, region, resource_arn=arn, service_context=context)
        if isinstance(denied, iam_evaluator.AuthError):
            return _authentication_failure(request, call.service, denied)
        if denied:
            said = {"headers": request.headers, "resource_arn": arn, "explicit_deny": denied.decision == "Deny"}
            told = iam_actions.access_denied_response(call.service, action, denied.principal_arn, str(uuid.uuid4()), **said)
            return _response(request.headers, *told)
    return None


def error(request_headers: dict[str, str], service: str, code: str, message: str, status: int = 400) -> Response:
    """An error of the service itself, in the protocol of the request."""
    said = {"error_code": code, "message": message, "headers": request_headers}
    _status, headers, body = iam_actions.access_denied_response(service, "", "", str(uuid.uuid4()), **said)
    return _response(request_headers, status, headers, body)


def trusts_service(role: dict[str, Any], service: str, account: str, region: str, keys: dict[str, str] | None = None) -> bool:
    """Whether the trust policy of a role lets a service (ec2.amazonaws.com) assume it. `keys` are the condition keys that the service
    sends: EC2 none that AWS documents; for Lambda see function_rules."""
    context = iam_evaluator.EvalContext(
        principal_arn=service,
        principal_type="Service",
        principal_account=account,
        action="sts:AssumeRole",
        resource_arn=role["Arn"],  # a trust policy names no resource, and so is about this one
        region=region,
        service_context={name.lower(): value for name, value in (keys or {}).items()},
    )
    decided = iam_evaluator.evaluate_resource_policy(role["AssumeRolePolicyDocument"], context, service=service)
    return bool(decided.decision == "Allow")


def role_may(role: str, session: str, action: str, resource: str) -> bool:
    """Whether a service may do something in a session of the role: by the role's policies and boundary, and the resource's policy. No
    session is made, so that one may ask at every invocation."""
    account = responses.get_account_id()
    limits = iam_evaluator._permissions_boundary(iam._roles, role, account)
    context = iam_evaluator.EvalContext(
        principal_arn=f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
        principal_type="AssumedRole",
        principal_account=account,
        action=action,
        resource_arn=resource,
        region=responses.get_region(),
        secure_transport=True,  # Lambda calls over TLS, however the request came
    )
    by_identity = iam_evaluator.evaluate(context, iam_evaluator._gather_role_policies(role, account), *limits)
    policy = iam_evaluator._resource_policy(action.partition(":")[0], resource)
    decided = iam_evaluator.combine_resource_policy(by_identity, context, *policy, limits=tuple(limits)) if policy else by_identity
    return bool(decided.decision == "Allow")


def _function_credentials(config: dict[str, Any]) -> dict[str, str]:
    """The environment variables that give a function's worker a session of its role. `config` is the function's configuration."""
    account, _region = lambda_runtime._account_region_from_function_config(config)
    role, function = config.get("Role", "").rpartition("/")[2], config["FunctionName"][:64]
    made = new_session(f"arn:aws:sts::{account}:assumed-role/{role}/{function}", f"{role}:{function}", account, None)
    names = {"AWS_ACCESS_KEY_ID": "AccessKeyId", "AWS_SECRET_ACCESS_KEY": "SecretAccessKey", "AWS_SESSION_TOKEN": "SessionToken"}
    return {variable: made[name] for variable, name in names.items()}


def _pin(request: Request) -> str:
    """Tell MiniStack's evaluator about this request, as its own front end does; returns the access key that the request claims."""
    key: str = extract_access_key_id(request.headers, request.query)
    responses.set_request_account_id(ministack_app._request_account_scope(key))
    responses.set_request_region(extract_region(request.headers, request.query))
    responses.set_request_client_ip(request.client)
    iam_evaluator.pin_request_origin(request.client, request.headers.get("x-forwarded-proto", "https") == "https")
    iam_evaluator.pin_signed_request(request.method, request.raw_path, request.query, request.raw_headers)
    iam_evaluator.pin_signed_body(request.body)
    iam_evaluator.pin_request_caller(request.headers, request.query)
    return key


def _checks(request: Request, call: Call, region: str, account: str, tags: ec2_permissions.Tags) -> list[ec2_permissions.Check]:
    """Every (action, ARN, condition keys) that must be allowed for the call to be made."""
    request_tags = iam_actions.request_tag_context(call.service, call.iam_action, request.body, call.parameters)
    if call.service == "ec2":
        checks = ec2_permissions.checks(call, region, account, tags, request_tags)
    else:
        checks = [(call.iam_action, arn, request_tags) for arn in _resources(call, region, account)]
    profile = call.value("IamInstanceProfile.Name") or call.value("IamInstanceProfile.Arn").rpartition("/")[2]
    for role in (iam._instance_profiles.get(profile) or {}).get("Roles", []):
        role_arn = (iam._roles.get(role) or {}).get("Arn", "*")
        checks.append(("iam:PassRole", role_arn, {"iam:PassedToService": "ec2.amazonaws.com"}))
    return checks


def _resources(call: Call, region: str, account: str) -> list[str]:
    if call.service == "ssm":
        # Public parameters belong to no account.
        names = call.values("Name") + call.values("Names") + call.values("Path")
        return [f"arn:aws:ssm:{region}::parameter/{name.strip('/')}" for name in names] or ["*"]
    alarms = call.values("AlarmName") + call.values("AlarmNames") or (["*"] if call.action == "DescribeAlarms" else [])
    boards = call.values("DashboardName") + call.values("DashboardNames")
    named = [f"arn:aws:cloudwatch:{region}:{account}:alarm:{name}" for name in alarms]
    named += [f"arn:aws:cloudwatch::{account}:dashboard/{name}" for name in boards]
    return named + call.values("ResourceARN") or ["*"]


def _authentication_failure(request: Request, service: str, failure: Any) -> Response:
    return _response(request.headers, *ministack_app._credential_failure(service, "", str(uuid.uuid4()), failure, request.headers))


def _response(request_headers: dict[str, str], status: int, headers: dict[str, str], body: bytes) -> Response:
    code = headers.get("x-amzn-errortype", "")
    if code and "x-amzn-query-mode" in request_headers:
        # A client in query-compatible mode reads the code that the query protocol would have given.
        headers = headers | {"x-amzn-query-error": f"{'AccessDenied' if code == 'AccessDeniedException' else code};Sender"}
    return Response(status, headers, body)
