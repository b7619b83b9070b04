"""Batches within a table's capacity, and PartiQL that is authorised as AWS does it: each statement as the action it performs, on its table.

MiniStack knows one action, `dynamodb:BatchExecuteStatement` on `*`, which IAM does not have. The actions and resources are those of "IAM
security policies with PartiQL for DynamoDB". A denied statement of a batch is reported in its own response, the rest is carried out: in the
API reference `AccessDenied` is a Code of BatchStatementError, and "a HTTP 200 response does not mean that all statements succeeded".
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from ministack.core import iam_actions, iam_evaluator, responses
from ministack.services import dynamodb

from embedded_cloud.base import entry_faults
from embedded_cloud.base.ministack_backend import Answer, json_answer, json_error
from embedded_cloud.base.patching import wrap
from embedded_cloud.services.dynamodb import capacity
from embedded_cloud.services.dynamodb.capacity import Cost
from embedded_cloud.services.dynamodb.rules import CODE, MESSAGE

Handler = Callable[[dict[str, Any]], Answer]
# Action, table and index.
Target = tuple[str, str, str | None]

# Checks the signature and allows everyone: IAM never denies this action.
_AUTHENTICATED = ("sts:GetCallerIdentity", "*")
_THROTTLED = {"Error": {"Code": "ProvisionedThroughputExceeded", "Message": MESSAGE}}
REMEMBERED_STATEMENTS = 1000
# By text, which is the same for every record that is inserted; parameters never name a table.
_targets: dict[str, Target] = {}


def measure_page(original: Callable[..., Any], items: list[dict[str, Any]], *rest: Any) -> Any:
    """Note how much a query or a scan evaluates, which is what it costs, whatever it then filters, counts or projects."""
    page, more = original(items, *rest)
    capacity.evaluated.set(sum(map(dynamodb._item_size_bytes, page)))
    return page, more


def read_batch_within_capacity(original: Handler, call: dict[str, Any]) -> Answer:
    """BatchGetItem reads what the capacity allows and returns the rest. Amazon DynamoDB API Reference, BatchGetItem: "if none of the items
    can be processed due to insufficient provisioned throughput [...] ProvisionedThroughputExceededException", else the rest are
    UnprocessedKeys. Each item is rounded up by itself."""
    answer = original(call)
    if answer[0] != 200:
        return answer
    served: dict[str, Any] = {}
    refused: dict[str, Any] = {}
    costs: list[Cost] = []
    for table, wanted in call["RequestItems"].items():
        for key in wanted["Keys"]:
            cost = capacity.item_read(table, key, wanted.get("ConsistentRead"))
            fits = capacity.fits(cost)
            costs += cost if fits else []
            (served if fits else refused).setdefault(table, wanted | {"Keys": []})["Keys"].append(key)
    if not served:
        return json_error(CODE, MESSAGE)
    if refused:
        answer = original(call | {"RequestItems": served})
    document = json.loads(answer[2]) | {"UnprocessedKeys": refused}
    if call.get("ReturnConsumedCapacity", "NONE") != "NONE":
        document["ConsumedCapacity"] = capacity.consumed(costs, call)
    return json_answer(document)


def write_batch_within_capacity(original: Handler, call: dict[str, Any]) -> Answer:
    """BatchWriteItem carries out what the capacity allows; by its API reference the rest are UnprocessedItems, or the same exception."""
    accepted: dict[str, list[Any]] = {}
    refused: dict[str, list[Any]] = {}
    for table, requests in (call.get("RequestItems") or {}).items():
        for request in requests:
            side = accepted if capacity.fits(capacity.request(table, request)) else refused
            side.setdefault(table, []).append(request)
    if not refused:
        return original(call)
    if not accepted:
        return json_error(CODE, MESSAGE)
    status, headers, body = original(call | {"RequestItems": accepted})
    return json_answer(json.loads(body) | {"UnprocessedItems": refused}) if status == 200 else (status, headers, body)


def execute_batch_within_capacity(original: Handler, call: dict[str, Any]) -> Answer:
    """BatchExecuteStatement: each statement has its own error (Amazon DynamoDB API Reference, BatchStatementError, Code)."""
    costs = [capacity.statement(statement) for statement in call.get("Statements") or []]
    throttled = [entry_faults.is_refused(number) or not capacity.fits(cost) for number, cost in enumerate(costs)]
    status, headers, body = _execute_the_rest(original, call, [_THROTTLED if refused else None for refused in throttled])
    reads = any(kind == capacity.READ for cost in costs for _table, kind, _units in cost)
    if status != 200 or not (reads or any(throttled)):
        return status, headers, body
    answer = json.loads(body)
    if "ConsumedCapacity" in answer:
        done = [one for cost, refused in zip(costs, throttled, strict=True) if not refused for one in cost]
        answer["ConsumedCapacity"] = capacity.consumed(done, {})
    return json_answer(answer)


def authorise_batch_by_statement(original: Handler, call: dict[str, Any]) -> Answer:
    statements = call.get("Statements") or []
    if len(statements) > dynamodb._DDB_BATCH_PARTIQL_MAX:
        return original(call)
    region, account = responses.get_region(), responses.get_account_id()
    checks = [_check(statement, region, account) for statement in statements]
    denials = {check: _denial(*check, region) for check in set(filter(None, checks))}
    return _execute_the_rest(original, call, [denials.get(check) if check else None for check in checks])


def _execute_the_rest(original: Handler, call: dict[str, Any], errors: Sequence[dict[str, Any] | None]) -> Answer:
    """Carry out the statements that have no error, and put each error in its statement's place."""
    if not any(errors):
        return original(call)
    allowed = [statement for statement, error in zip(call["Statements"], errors, strict=True) if error is None]
    if not allowed:
        return json_answer({"Responses": errors})
    status, headers, body = original(call | {"Statements": allowed})
    if status != 200:
        return status, headers, body
    answer = json.loads(body)
    carried_out = iter(answer["Responses"])
    return json_answer(answer | {"Responses": [error or next(carried_out) for error in errors]})


def checks_by_statement(original: Callable[..., Any], action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
    """The (action, ARN) of everything that must be allowed for a call."""
    if action == "dynamodb:BatchExecuteStatement":
        return [_AUTHENTICATED]  # its statements are authorised one by one, above
    if action not in ("dynamodb:ExecuteStatement", "dynamodb:ExecuteTransaction"):
        return cast(list[tuple[str, str]], original(action, body, region, account))
    try:
        call = json.loads(body or b"{}")
        statements = call.get("TransactStatements", []) if action.endswith("Transaction") else [call]
    except (ValueError, AttributeError):
        statements = []
    found = [_check(statement, region, account) for statement in statements]
    return [check for check in found if check] or [_AUTHENTICATED]


def _check(statement: dict[str, Any], region: str, account: str) -> tuple[str, str] | None:
    """The (action, ARN) that one statement needs; None for text that is not PartiQL, which MiniStack then reports."""
    text = statement.get("Statement", "")
    try:
        action, table, index = _targets.get(text) or _read(text, statement.get("Parameters", []))
    except (ValueError, TypeError, AttributeError):
        return None
    arn = iam_actions._dynamodb_table_arn(table, region, account)
    return f"dynamodb:{action}", f"{arn}/index/{index}" if index else arn


def _read(text: str, parameters: list[Any]) -> Target:
    parsed = dynamodb._parse_partiql(text, parameters)
    target = parsed["select"] | {"op": "SELECT"} if parsed["op"] == "EXISTS" else parsed
    if len(_targets) >= REMEMBERED_STATEMENTS:
        _targets.clear()
    _targets[text] = f"PartiQL{target['op'].capitalize()}", target["table"], target.get("index")
    return _targets[text]


def _denial(action: str, arn: str, region: str) -> dict[str, Any] | None:
    """A batch's answer to a statement that its caller, whose signature was checked before, may not carry out."""
    denied = iam_evaluator.enforce(iam_evaluator._verified_key.get(), action, "dynamodb", region, resource_arn=arn)
    if denied is None:
        return None
    if isinstance(denied, iam_evaluator.AuthError):
        message = denied.message
    else:
        message = iam_actions.identity_denial_message(action, denied.principal_arn, arn, denied.decision == "Deny")
    return {"Error": {"Code": "AccessDenied", "Message": message}}


# A statement that is denied takes no capacity: the last of two patches of one name is asked first.
PATCHES = (
    wrap(dynamodb, "_paginate_evaluated_items", measure_page),
    wrap(dynamodb, "_batch_get_item", read_batch_within_capacity),
    wrap(dynamodb, "_batch_write_item", write_batch_within_capacity),
    wrap(dynamodb, "_batch_execute_statement", execute_batch_within_capacity),
    wrap(iam_actions, "dynamodb_transaction_checks", checks_by_statement),
    wrap(dynamodb, "_batch_execute_statement", authorise_batch_by_statement),
)
