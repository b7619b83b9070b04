"""Event source mappings between queues and functions: what Lambda refuses and MiniStack accepts, and a mapping's states of transition."""

import json
import re
from typing import Any, cast

from ministack.services import lambda_svc, sqs

from embedded_cloud.base.calls import Call
from embedded_cloud.base.ministack_backend import Answer, json_answer
from embedded_cloud.base.rules import Refusal, RuleContext
from embedded_cloud.iam import authorization
from embedded_cloud.services.iam.rules import PROPAGATION_SECONDS
from embedded_cloud.services.lambda_.function_rules import invalid

LARGEST_BATCH = 10_000
LARGEST_BATCH_WITHOUT_WINDOW = 10
NEEDED_ACTIONS = ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
# How long it takes to make, change or delete a mapping. AWS gives no figure; some seconds up to a minute were observed.
TRANSITION_SECONDS = 10.0

_STATES = ("Deleting", "Creating", "Enabling", "Disabling", "Updating")
# Mappings that are being deleted, as Lambda described them last, by UUID.
_deleted: dict[str, dict[str, Any]] = {}


def batch_too_large(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, CreateEventSourceMapping, BatchSize: "Minimum value of 1. Maximum value of 10000"."""
    found = call.parameters.get("BatchSize")
    if found is None or found <= LARGEST_BATCH:
        return None
    text = f"1 validation error detected: Value '{found}' at 'batchSize' failed to satisfy constraint: "
    return Refusal("ValidationException", f"{text}Member must have value less than or equal to {LARGEST_BATCH}")


def batch_without_window(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, CreateEventSourceMapping, MaximumBatchingWindowInSeconds: "When you set BatchSize to a value greater
    than 10, you must set MaximumBatchingWindowInSeconds to at least 1"."""
    if not _reads_a_queue(call):
        return None
    before = _existing(call)
    size = call.parameters.get("BatchSize", before.get("BatchSize", 0))
    window = call.parameters.get("MaximumBatchingWindowInSeconds", before.get("MaximumBatchingWindowInSeconds", 0))
    if size <= LARGEST_BATCH_WITHOUT_WINDOW or window >= 1:
        return None
    return invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")


def queue_missing(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda Developer Guide, "Creating and configuring an Amazon SQS event source mapping": the queue comes first."""
    if not _reads_a_queue(call) or _function(call) is None or _queue(call) is not None:
        return None
    text = "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: "
    return invalid(f"{text}The specified queue does not exist for this wsdl version.")


def visibility_below_function_timeout(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda Developer Guide, "Creating and configuring an Amazon SQS event source mapping": the queue's visibility timeout is at least
    the function's timeout, or Lambda refuses the mapping."""
    function, queue = _function(call), _queue(call)
    if function is None or queue is None:
        return None
    visibility, timeout = int(queue["attributes"]["VisibilityTimeout"]), int(function["config"]["Timeout"])
    if visibility >= timeout:
        return None
    return invalid(f"Queue visibility timeout: {visibility} seconds is less than Function timeout: {timeout} seconds")


def role_may_not_receive(call: Call, context: RuleContext) -> Refusal | None:
    """The function's role needs three permissions on the queue, and Lambda must have seen them since they were given. AWS Lambda Developer
    Guide, "Creating and configuring an Amazon SQS event source mapping", execution role permissions; IAM User Guide, "Troubleshoot IAM":
    "Changes that I make are not always immediately visible"."""
    function, queue = _function(call), _queue(call)
    if function is None or queue is None:
        return None
    role = function["config"]["Role"].rpartition("/")[2]
    unseen = context.times.is_within("role's permissions given", role, PROPAGATION_SECONDS)
    name, arn = function["config"]["FunctionName"], queue["attributes"]["QueueArn"]
    missing = NEEDED_ACTIONS[0] if unseen else missing_action(role, name, arn)
    return invalid(f"The provided execution role does not have permissions to call {missing} on SQS") if missing else None


def mapping_in_use(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Lambda API Reference, UpdateEventSourceMapping and DeleteEventSourceMapping, ResourceInUseException: "The operation conflicts
    with the resource's availability. For example, you tried to update an event source mapping in the CREATING state, or you tried to delete
    an event source mapping currently UPDATING"."""
    if _state_of_transition(call.value("UUID"), context) is None:
        return None
    return Refusal("ResourceInUseException", f"Cannot {call.action[:6].lower()} the event source mapping because it is in use.")


def note_mapping(call: Call, answer: bytes, context: RuleContext) -> None:
    """A mapping that was made, changed or deleted is in a state of transition for a while."""
    mapping = json.loads(answer)
    state = {"Create": "Creating", "Delete": "Deleting"}.get(call.action[:6])
    if state == "Deleting":
        _deleted[mapping["UUID"]] = mapping | {"State": state}
    elif state is None:
        enabled = call.parameters.get("Enabled")
        state = "Updating" if enabled is None else "Enabling" if enabled else "Disabling"
    context.times.note(f"mapping {state}", mapping["UUID"])


def with_states_of_transition(call: Call, answer: Answer, context: RuleContext) -> Answer:
    """Lambda's answer about mappings that are being made, changed or deleted. AWS Lambda API Reference, EventSourceMappingConfiguration,
    State: "Creating, Enabling, Enabled, Disabling, Disabled, Updating, or Deleting"."""
    status, headers, body = answer
    if call.action == "ListEventSourceMappings" and status == 200:
        listed = json.loads(body)
        shown = [_shown(mapping, context) for mapping in listed["EventSourceMappings"]]
        shown += [mapping for mapping in _being_deleted(context) if _is_asked_for(call, mapping)]
        return status, headers, json.dumps(listed | {"EventSourceMappings": shown}).encode()
    if call.action == "GetEventSourceMapping" and status == 404:
        found = next((mapping for mapping in _being_deleted(context) if mapping["UUID"] == call.value("UUID")), None)
        return json_answer(found) if found else answer
    return (status, headers, json.dumps(_shown(json.loads(body), context)).encode()) if status < 300 else answer


def _shown(mapping: dict[str, Any], context: RuleContext) -> dict[str, Any]:
    state = _state_of_transition(mapping["UUID"], context)
    return mapping | {"State": state} if state else mapping


def _state_of_transition(uuid: str, context: RuleContext) -> str | None:
    return next((state for state in _STATES if context.times.is_within(f"mapping {state}", uuid, TRANSITION_SECONDS)), None)


def _being_deleted(context: RuleContext) -> list[dict[str, Any]]:
    return [mapping for uuid, mapping in _deleted.items() if _state_of_transition(uuid, context)]


def _is_asked_for(call: Call, mapping: dict[str, Any]) -> bool:
    source, function = call.value("EventSourceArn"), call.value("FunctionName")
    resolved = lambda_svc._resolve_name_and_qualifier
    by_function = not function or resolved(mapping["FunctionArn"]) == resolved(function)
    return by_function and source in ("", mapping["EventSourceArn"])


def _existing(call: Call) -> dict[str, Any]:
    """The mapping that an update names; empty for a new one."""
    return lambda_svc._esms.get(call.value("UUID")) or {}


def _reads_a_queue(call: Call) -> bool:
    return bool(re.match(r"arn:[\w-]+:sqs:", _source(call)))


def _source(call: Call) -> str:
    return call.value("EventSourceArn") or str(_existing(call).get("EventSourceArn", ""))


def _queue(call: Call) -> dict[str, Any] | None:
    return cast(dict[str, Any] | None, sqs._queue_by_arn(_source(call)))


def _function(call: Call) -> dict[str, Any] | None:
    """The function as the mapping invokes it: the version that its alias points to, or $LATEST."""
    named = call.value("FunctionName") or _existing(call).get("FunctionArn", "")
    record = lambda_svc._get_func_record_for_qualifier(*lambda_svc._resolve_name_and_qualifier(named))[0]
    return cast(dict[str, Any] | None, record)


def missing_action(role: str, function: str, queue_arn: str) -> str | None:
    """The first action on the queue that the role may not do in a session of the function."""
    actions = (action for action in NEEDED_ACTIONS if not authorization.role_may(role, function, f"sqs:{action}", queue_arn))
    return next(actions, None)
