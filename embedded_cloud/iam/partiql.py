"""PartiQL authorised as AWS does: each statement as the action it performs, on its own table.

MiniStack knows one action, `dynamodb:BatchExecuteStatement` on `*`, which IAM does not. The actions and their resources are those of
"IAM security policies with PartiQL for DynamoDB"; that a denied statement of a batch is reported in its own response, with the rest
carried out, follows the API reference: `AccessDenied` is a valid Code of BatchStatementError, and "a HTTP 200 response does not mean
that all statements succeeded".
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.core import iam_actions, iam_evaluator, responses
from ministack.services import dynamodb

_ACTIONS = {"SELECT": "PartiQLSelect", "EXISTS": "PartiQLSelect", "INSERT": "PartiQLInsert", "UPDATE": "PartiQLUpdate"} | {
    "DELETE": "PartiQLDelete"
}
# Checks the signature and allows everyone: IAM never denies this action.
_AUTHENTICATED = ("sts:GetCallerIdentity", "*")

Answer = tuple[int, dict[str, str], bytes]
Target = tuple[str, str, str | None]

# Action, table and index by text, which is the same for every record that is inserted; parameters never name a table.
_targets: dict[str, Target] = {}
REMEMBERED_STATEMENTS = 1000


def install() -> None:
    """Make MiniStack authorise PartiQL statement by statement; both names are looked up by MiniStack at each call."""
    iam_actions.dynamodb_transaction_checks = _checks_with_partiql(iam_actions.dynamodb_transaction_checks)
    dynamodb._batch_execute_statement = _batch_authorised_by_statement(dynamodb._batch_execute_statement)


def statement_check(statement: dict[str, Any], region: str, account: str) -> tuple[str, str] | None:
    """The (action, ARN) one statement needs; None for text that is no PartiQL, which MiniStack then reports as such."""
    text = statement.get("Statement", "")
    try:
        action, table, index = _targets.get(text) or _read(text, statement.get("Parameters", []))
    except (ValueError, TypeError, AttributeError):
        return None
    arn = iam_actions._dynamodb_table_arn(table, region, account)
    return f"dynamodb:{action}", f"{arn}/index/{index}" if index else arn


def _read(text: str, parameters: list[Any]) -> Target:
    parsed = dynamodb._parse_partiql(text, parameters)
    target = parsed["select"] if parsed["op"] == "EXISTS" else parsed
    if len(_targets) >= REMEMBERED_STATEMENTS:
        _targets.clear()
    _targets[text] = _ACTIONS[parsed["op"]], target["table"], target.get("index")
    return _targets[text]


def _checks_with_partiql(original: Callable[..., list[tuple[str, str]]]) -> Callable[..., list[tuple[str, str]]]:
    def checks(iam_action: str, body: bytes, region: str, account_id: str) -> list[tuple[str, str]]:
        if iam_action == "dynamodb:BatchExecuteStatement":
            return [_AUTHENTICATED]  # its statements are authorised one by one, below
        if iam_action not in ("dynamodb:ExecuteStatement", "dynamodb:ExecuteTransaction"):
            return original(iam_action, body, region, account_id)
        try:
            call = json.loads(body or b"{}")
            statements = call.get("TransactStatements", []) if iam_action.endswith("Transaction") else [call]
        except (ValueError, AttributeError):
            statements = []
        found = [statement_check(statement, region, account_id) for statement in statements]
        return [check for check in found if check] or [_AUTHENTICATED]

    return checks


def _batch_authorised_by_statement(original: Callable[[dict[str, Any]], Answer]) -> Callable[[dict[str, Any]], Answer]:
    def batch_execute_statement(call: dict[str, Any]) -> Answer:
        statements = call.get("Statements") or []
        region, account = responses.get_region(), responses.get_account_id()
        checks = [statement_check(statement, region, account) for statement in statements]
        decisions = {check: _denial(*check, region) for check in set(filter(None, checks))}
        denials = [decisions.get(check) if check else None for check in checks]
        if not any(denials) or len(statements) > dynamodb._DDB_BATCH_PARTIQL_MAX:
            return original(call)
        allowed = [statement for statement, denial in zip(statements, denials, strict=True) if denial is None]
        if not allowed:
            return responses.json_response({"Responses": denials})
        status, headers, body = original(call | {"Statements": allowed})
        if status != 200:
            return status, headers, body
        answer = json.loads(body)
        carried_out = iter(answer["Responses"])
        answer["Responses"] = [denial or next(carried_out) for denial in denials]
        return responses.json_response(answer)

    return batch_execute_statement


def _denial(action: str, arn: str, region: str) -> dict[str, Any] | None:
    """What a batch answers to a statement its caller, whose signature was checked before, may not carry out."""
    denied = iam_evaluator.enforce(iam_evaluator._verified_key.get(), action, "dynamodb", region, resource_arn=arn)
    if denied is None:
        return None
    if isinstance(denied, iam_evaluator.AuthError):
        return {"Error": {"Code": "AccessDenied", "Message": denied.message}}
    message = iam_actions.identity_denial_message(action, denied.principal_arn, arn, denied.decision == "Deny")
    return {"Error": {"Code": "AccessDenied", "Message": message}}
