"""Functions, versions and mappings as Lambda keeps them, where MiniStack differs."""

import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id
from ministack.services import cloudwatch_logs, lambda_svc

from embedded_cloud.base.ministack_backend import Answer, json_answer, json_error
from embedded_cloud.base.patching import Patch, replace, wrap
from embedded_cloud.base.rules import Times
from embedded_cloud.iam import authorization
from embedded_cloud.services.lambda_.function_rules import UPDATE_SECONDS
from embedded_cloud.services.lambda_.mapping_rules import missing_action
from embedded_cloud.services.lambda_.version_rules import LATEST, weights_of

logger = logging.getLogger(__name__)

# How long it is remembered whether a role may read a queue: a mapping polls many times a second.
PERMISSION_SECONDS = 1.0

_permissions: dict[tuple[str, str, str], tuple[float, bool]] = {}


def pending_at_first(original: Callable[..., Answer], name: str, data: dict[str, Any]) -> Answer:
    """A version that was just published is Pending for a while ("Lambda function states")."""
    known = set((lambda_svc._functions.get(name) or {}).get("versions", ()))
    answer = original(name, data)
    version = json.loads(answer[2]).get("Version")
    if answer[0] >= 300 or version in known:
        return answer
    config = lambda_svc._functions[name]["versions"][version]["config"]
    config |= {"State": "Pending", "StateReason": "The function is being created.", "StateReasonCode": "Creating"}
    answer = json_answer(config, answer[0])  # before the transition, which may come at once
    lambda_svc._schedule_state_transition(name, lambda_svc._LAMBDA_STATE_TRANSITION_DELAY)
    return answer


def publish_like_publish_version(original: Callable[..., Answer], *arguments: Any) -> Answer:
    """`Publish` at CreateFunction and UpdateFunctionCode "has the same effect as calling PublishVersion separately" (UpdateFunctionCode,
    Lambda API reference): no new version when nothing changed, and the version's ARN has its number."""
    *names, data = arguments
    answer = original(*names, data | {"Publish": False})
    if not data.get("Publish") or answer[0] >= 300:
        return answer
    function = json.loads(answer[2])
    published = lambda_svc._publish_version(function["FunctionName"], {})
    return json_answer(function | {"Version": json.loads(published[2])["Version"]}, answer[0])


def run_by_weight(original: Callable[..., None], mapping: dict[str, Any], record: dict[str, Any], *batch: Any) -> None:
    """A mapping's invocations are split by the weights of its alias ("Implement Lambda canary deployments using a weighted alias"). The
    function is told the ARN that the mapping has."""
    function = lambda_svc._functions.get(mapping["FunctionName"])
    weights = weights_of(function["aliases"].get(mapping.get("Qualifier"), {})) if function else {}
    drawn = random.random()
    for version, weight in weights.items():
        if drawn < weight and version in function["versions"]:
            record = function["versions"][version]
    original(mapping, record | {"config": record["config"] | {"FunctionArn": mapping["FunctionArn"]}}, *batch)


def share_reserved_concurrency(original: Callable[..., int | None], _record: Any, config: dict[str, Any]) -> int | None:
    """Reserved concurrency belongs to the function; all its versions share it ("Configuring reserved concurrency for a function")."""
    return original(lambda_svc._functions.get(config.get("FunctionName", "")), {})


def poll_as_the_role(
    original: Callable[..., int], mapping: dict[str, Any], function: dict[str, Any], _config: Any, queue: dict[str, Any] | None = None
) -> int:
    """How many batches a mapping may have in flight: none when the function's role lost a permission on the queue. A function at its
    reserved concurrency is polled all the same ("Configuring scaling behavior for SQS event source mappings": messages that were received
    and then throttled show again after their visibility timeout). MiniStack would stop polling, and so hide that a throttled invocation
    counts as a receive."""
    role, arn, now = function["config"]["Role"].rpartition("/")[2], mapping["EventSourceArn"], time.monotonic()
    key = get_account_id(), role, arn
    asked, may = _permissions.get(key, (-PERMISSION_SECONDS, False))
    if now - asked >= PERMISSION_SECONDS:
        may = missing_action(role, mapping["FunctionArn"].split(":")[6], arn) is None
        _permissions[key] = now, may
    return original(mapping, {}, {}, queue) if may else 0  # without the function: its reserve must not count


def list_by_qualifier(original: Callable[..., Answer], query: dict[str, Any]) -> Answer:
    """ListEventSourceMappings with a function's plain name lists what invokes the plain name, and with an alias what invokes that alias.
    AWS's documentation does not say so: this is the narrower reading, so that nobody relies on the wider one."""
    answer, asked = original(query), lambda_svc._qp_first(query, "FunctionName")
    if not asked:
        return answer
    wanted, listed = _qualifier(asked), json.loads(answer[2])
    mappings = [mapping for mapping in listed["EventSourceMappings"] if _qualifier(mapping["FunctionArn"]) == wanted]
    return json_answer(listed | {"EventSourceMappings": mappings}, answer[0])


def refuse_second_mapping(original: Callable[..., Answer], data: dict[str, Any]) -> Answer:
    """A second mapping of the same queue and function is refused: CreateEventSourceMapping, ResourceConflictException, with AWS's text."""
    name, qualifier, _refusal = lambda_svc._resolve_existing_esm_function(data.get("FunctionName", ""))
    wanted = data.get("EventSourceArn"), name, qualifier
    for mapping in lambda_svc._esms.values():
        if (mapping["EventSourceArn"], mapping["FunctionName"], mapping.get("Qualifier")) == wanted:
            message = (
                f'An event source mapping with SQS arn (" {wanted[0]} ") and function (" {name} ") already exists. '
                f"Please update or delete the existing mapping with UUID {mapping['UUID']}"
            )
            return json_error("ResourceConflictException", message, 409)
    return original(data)


def write_log_as_the_role(original: Callable[..., None], function: dict[str, Any], *arguments: Any, **options: Any) -> None:
    """A function writes its log with the permissions of its role. MiniStack always writes it, and makes the log group too. The calls and
    their resources are those of "Lambda execution role" and of AWS's denials: CreateLogGroup when there is no group, then CreateLogStream
    on the group's streams, and PutLogEvents on the one stream. When one is denied nothing is written; the invocation goes on."""
    config = function.get("config") or function
    _arn, partition, _lambda, region, account, *_rest = config["FunctionArn"].split(":")
    group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
    arn = f"arn:{partition}:logs:{region}:{account}:log-group:{group}"
    needed = [] if group in cloudwatch_logs._log_groups else [("logs:CreateLogGroup", f"{arn}:log-stream:")]
    needed += [("logs:CreateLogStream", f"{arn}:log-stream:"), ("logs:PutLogEvents", f"{arn}:log-stream:of-this-invocation")]
    role = config["Role"].rpartition("/")[2]
    denied = next((action for action, arn in needed if not authorization.role_may(role, config["FunctionName"], action, arn)), None)
    if denied is None:
        original(function, *arguments, **options)
    else:
        logger.warning("A function's log was not written: its role may not %s", denied)


def _qualifier(function: str) -> str:
    """What follows a function's name; empty for $LATEST, which is what the plain name invokes."""
    found = lambda_svc._resolve_name_and_qualifier(function)[1]
    return "" if found in (None, LATEST) else str(found)


def update_time(times: Times) -> Patch:
    return replace(lambda_svc, "_LAMBDA_STATE_TRANSITION_DELAY", times.scaled(UPDATE_SECONDS))


PATCHES = (
    wrap(lambda_svc, "_publish_version", pending_at_first),
    wrap(lambda_svc, "_create_function", publish_like_publish_version),
    wrap(lambda_svc, "_update_code", publish_like_publish_version),
    wrap(lambda_svc, "_run_sqs_batch", run_by_weight),
    wrap(lambda_svc, "_reserved_concurrency", share_reserved_concurrency),
    wrap(lambda_svc, "_sqs_esm_concurrency", poll_as_the_role),
    wrap(lambda_svc, "_list_esms", list_by_qualifier),
    wrap(lambda_svc, "_create_esm", refuse_second_mapping),
    wrap(lambda_svc, "_emit_lambda_logs", write_log_as_the_role),
)
