"""Refuses what AWS refuses and the emulators accept: the list of the rules, and where they are asked.

A rule is a function of one call and the world: AWS's refusal, or None. All are in force. They are asked when a call is authenticated and
authorised, before an emulator acts on it: MiniStack's at its own table of services (and, for queues, of actions, where both protocols have
become one), moto's by the router.
"""

import asyncio
import contextvars
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from ministack import app as ministack_app
from ministack.core import responses
from ministack.services import dynamodb, lambda_svc, sqs

from embedded_cloud.base.calls import Call
from embedded_cloud.base.messages import Request, Response, json_object
from embedded_cloud.base.rules import Refusal, Rule, World
from embedded_cloud.iam import authorization
from embedded_cloud.services.cloudwatch import rules as cloudwatch_rules
from embedded_cloud.services.dynamodb import rules as dynamodb_rules
from embedded_cloud.services.ec2 import rules as ec2_rules
from embedded_cloud.services.iam import rules as iam_rules
from embedded_cloud.services.lambda_ import mapping_rules, version_rules
from embedded_cloud.services.lambda_ import rules as lambda_rules
from embedded_cloud.services.sqs import rules as sqs_rules

Answer = tuple[int, dict[str, str], bytes]
Note = Callable[[Call, bytes, World], None]

_MAPPING = (
    mapping_rules.batch_too_large,
    mapping_rules.batch_without_window,
    mapping_rules.queue_missing,
    mapping_rules.visibility_below_function_timeout,
    mapping_rules.role_may_not_receive,
)
_ALIAS = (version_rules.weights_that_cannot_be, version_rules.version_missing)
_WRITE = (dynamodb_rules.write_beyond_capacity,)

# The rules of an action, in the order in which they are asked.
RULES: dict[str, tuple[Rule, ...]] = {
    "lambda:CreateEventSourceMapping": _MAPPING,
    "lambda:UpdateEventSourceMapping": (mapping_rules.mapping_in_use, *_MAPPING),
    "lambda:DeleteEventSourceMapping": (mapping_rules.mapping_in_use,),
    "lambda:CreateFunction": (lambda_rules.role_cannot_be_assumed,),
    "lambda:UpdateFunctionConfiguration": (lambda_rules.update_in_progress, lambda_rules.role_cannot_be_assumed),
    "lambda:UpdateFunctionCode": (lambda_rules.update_in_progress,),
    "lambda:PublishVersion": (lambda_rules.update_in_progress, version_rules.revision_is_another, version_rules.code_is_another),
    "lambda:CreateAlias": _ALIAS,
    "lambda:UpdateAlias": _ALIAS,
    "lambda:DeleteFunction": (
        version_rules.latest_deleted_alone,
        version_rules.alias_deleted_as_version,
        version_rules.version_in_use,
        lambda_rules.update_in_progress,
    ),
    "lambda:Invoke": (version_rules.version_pending,),
    "sqs:CreateQueue": (sqs_rules.name_used_recently, sqs_rules.dead_letters_not_allowed),
    "sqs:SetQueueAttributes": (sqs_rules.dead_letters_not_allowed,),
    "sqs:SendMessage": (sqs_rules.message_too_long,),  # also of each message of a batch
    "sqs:SendMessageBatch": (sqs_rules.batch_too_long,),
    "sts:AssumeRole": (iam_rules.root_assumes_a_role,),
    "dynamodb:PutItem": _WRITE,
    "dynamodb:UpdateItem": _WRITE,
    "dynamodb:DeleteItem": _WRITE,
    "dynamodb:TransactWriteItems": _WRITE,
    "dynamodb:ExecuteStatement": _WRITE,
    "dynamodb:ExecuteTransaction": _WRITE,
    "ec2:RunInstances": (
        ec2_rules.image_unknown,
        ec2_rules.type_unknown,
        ec2_rules.type_not_in_zone,
        ec2_rules.type_not_in_free_plan,
        ec2_rules.key_unknown,
        ec2_rules.profile_unknown,
    ),
    "ec2:DeleteSecurityGroup": (ec2_rules.group_in_use,),
    "monitoring:PutDashboard": (cloudwatch_rules.dashboard_is_no_json,),
}

# What is remembered of an action that succeeded, for a rule to ask later.
NOTES: dict[str, Note] = {
    "iam:CreateRole": iam_rules.note_role,
    "iam:AttachRolePolicy": iam_rules.note_permissions,
    "iam:PutRolePolicy": iam_rules.note_permissions,
    "iam:CreateInstanceProfile": iam_rules.note_profile,
    "sqs:DeleteQueue": sqs_rules.note_deleted,
    "lambda:CreateEventSourceMapping": mapping_rules.note_mapping,
    "lambda:UpdateEventSourceMapping": mapping_rules.note_mapping,
    "lambda:DeleteEventSourceMapping": mapping_rules.note_mapping,
}

_JSON_SERVICES = ("lambda", "dynamodb")
_QUEUE_ACTIONS = ("CreateQueue", "DeleteQueue", "SetQueueAttributes", "SendMessage", "SendMessageBatch")
_MAPPINGS_PATH = re.compile(r"/2015-03-31/event-source-mappings/?(?P<UUID>[^/]*)/?")
_FUNCTION_PATH = re.compile(
    r"/2015-03-31/functions(/(?P<FunctionName>[^/]+)"
    r"(?P<rest>/code|/configuration|/versions|/invocations|/aliases(?=/|$))?(/(?P<Name>[^/]+))?)?/?"
)
_MAPPING_ACTIONS = {("POST", False): "Create", ("PUT", True): "Update", ("DELETE", True): "Delete", ("GET", True): "Get"}
_FUNCTION_ACTIONS = {
    ("PUT", "/code"): "UpdateFunctionCode",
    ("PUT", "/configuration"): "UpdateFunctionConfiguration",
    ("POST", "/versions"): "PublishVersion",
    ("POST", "/invocations"): "Invoke",
    ("POST", "/aliases"): "CreateAlias",
    ("PUT", "/aliases"): "UpdateAlias",
    ("DELETE", None): "DeleteFunction",
    ("POST", None): "CreateFunction",
}


class Fidelity:
    """Asks the rules. `install` does so for what MiniStack answers; the router calls `refusal` and `seen` for what moto answers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running_soon: set[asyncio.Task[None]] = set()

    def install(self) -> None:
        """Wrap what MiniStack looks up at each call. Before what authorises single statements, which so is asked first."""
        lambda_svc._LAMBDA_STATE_TRANSITION_DELAY = self._world.times.scaled(lambda_rules.UPDATE_SECONDS)
        for service in ("lambda", "dynamodb", "iam", "sts"):
            ministack_app.SERVICE_HANDLERS[service] = self._asked_first(service, ministack_app.SERVICE_HANDLERS[service])
        for action in _QUEUE_ACTIONS:
            sqs._HANDLERS[action] = self._asked_first_of_queue(action, sqs._HANDLERS[action])
        sqs._act_send_message = sqs._HANDLERS["SendMessage"]
        dynamodb_rules.measure_pages()
        dynamodb._batch_get_item = dynamodb_rules.keys_within_capacity(dynamodb._batch_get_item, self._world)
        dynamodb._batch_write_item = dynamodb_rules.batch_within_capacity(dynamodb._batch_write_item, self._world)
        dynamodb._batch_execute_statement = dynamodb_rules.statements_within_capacity(dynamodb._batch_execute_statement, self._world)

    async def refusal(self, request: Request, call: Call) -> Response | None:
        """AWS's refusal of a call that moto would carry out."""
        if _name(call) not in RULES:
            return None
        context = contextvars.copy_context()
        refused = await self._world.moto.run(lambda: context.run(self._first_refusal, call))
        if refused is None:
            return None
        return authorization.error_response(request, call.service, refused.code, refused.message, refused.status)

    async def seen(self, call: Call, response: Response) -> None:
        """moto carried out a call: an instance that was launched is pending for a while."""
        pending = self._world.times.scaled(ec2_rules.PENDING_SECONDS)
        instances = ec2_rules.launched(response.body) if (call.service, call.action) == ("ec2", "RunInstances") else []
        if not instances or not pending:
            return
        context = contextvars.copy_context()
        await self._world.moto.run(lambda: context.run(ec2_rules.make_pending, instances, self._world))

        async def run() -> None:
            await asyncio.sleep(pending)
            await self._world.moto.run(lambda: context.run(ec2_rules.make_running, instances, self._world))

        task = asyncio.get_running_loop().create_task(run())
        self._running_soon.add(task)
        task.add_done_callback(self._running_soon.discard)

    def _first_refusal(self, call: Call) -> Refusal | None:
        return next((refused for rule in RULES.get(_name(call), ()) if (refused := rule(call, self._world))), None)

    def _note(self, call: Call, answer: bytes) -> None:
        note = NOTES.get(_name(call))
        if note:
            note(call, answer, self._world)

    def _asked_first(self, service: str, original: Callable[..., Any]) -> Callable[..., Any]:
        async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]) -> Answer:
            call = _read_call(service, method, path, headers, body, query)
            refused = self._first_refusal(call)
            if refused:
                return _error(service, headers, refused)
            answer: Answer = await original(method, path, headers, body, query)
            if 200 <= answer[0] < 300:
                self._note(call, answer[2])
            if service == "dynamodb":
                return dynamodb_rules.read_within_capacity(call, answer, self._world)
            return mapping_rules.with_states_of_transition(call, answer, self._world) if "EventSourceMapping" in call.action else answer

        return handle

    def _asked_first_of_queue(self, action: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def handle(data: dict[str, Any], url: str) -> Any:
            call = Call("sqs", action, data | {"QueueUrl": data.get("QueueUrl") or url})
            refused = self._first_refusal(call)
            if refused:
                raise sqs._Err(refused.code, refused.message, refused.status)
            answer = original(data, url)
            self._note(call, b"")
            return answer

        return handle


def _name(call: Call) -> str:
    return f"{call.service}:{call.action}"


def _read_call(service: str, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]) -> Call:
    """The call as its service reads it; an action without a name is none that a rule is about."""
    if service == "lambda":
        action, named = _lambda_action(method, unquote(path))
        # What is invoked is sent an event, which names no parameters of the call.
        return Call(service, action, {**query, **(json_object(body) if action != "Invoke" else {}), **named})
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    if action:
        asked = f"{service}:{action}" in RULES or (service == "dynamodb" and action in dynamodb_rules.READS)
        return Call(service, action, json_object(body) if asked else {})
    form = {**query, **parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)}
    return Call(service, next(iter(form.get("Action", [])), ""), form)


def _lambda_action(method: str, path: str) -> tuple[str, dict[str, str]]:
    """AWS Lambda API Reference, the request syntax of each action: its name, and what the path names."""
    mapping = _MAPPINGS_PATH.fullmatch(path)
    if mapping:
        one = bool(mapping["UUID"])
        if (method, one) == ("GET", False):
            return "ListEventSourceMappings", {}
        return _MAPPING_ACTIONS.get((method, one), "") + "EventSourceMapping", {"UUID": mapping["UUID"]} if one else {}
    function = _FUNCTION_PATH.fullmatch(path)
    if function is None:
        return "", {}
    named = {parameter: function[parameter] for parameter in ("FunctionName", "Name") if function[parameter]}
    return _FUNCTION_ACTIONS.get((method, function["rest"]), ""), named


def _error(service: str, headers: dict[str, str], refused: Refusal) -> Answer:
    if service in _JSON_SERVICES:
        answer: Answer = responses.error_response_json(refused.code, refused.message, refused.status)
        return answer
    return authorization.error_answer(headers, service, refused.code, refused.message, refused.status)
