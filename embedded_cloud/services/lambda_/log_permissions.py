"""A function writes its log with the permissions of its role, as on AWS. MiniStack always writes it, and makes the log group too.

The calls and their resources are those of "Lambda execution role" and of AWS's denials: CreateLogGroup when there is no group, then
CreateLogStream on the group's streams, and PutLogEvents on the one stream. When one is denied nothing is written; the invocation goes on.
"""

import logging
from collections.abc import Callable
from typing import Any

from ministack.core import iam_evaluator, lambda_runtime
from ministack.services import cloudwatch_logs

logger = logging.getLogger(__name__)


def write_as_the_role(original: Callable[..., None], function: dict[str, Any], *arguments: Any, **options: Any) -> None:
    denied = _denied_action(function.get("config") or function)
    if denied is None:
        original(function, *arguments, **options)
    else:
        logger.warning("A function's log was not written: its role may not %s", denied)


def _denied_action(config: dict[str, Any]) -> str | None:
    """The first action the execution role lacks; None when it may write the log."""
    _arn, partition, _lambda, region, account, *_rest = config["FunctionArn"].split(":")
    group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
    arn = f"arn:{partition}:logs:{region}:{account}:log-group:{group}"
    needed = [("logs:CreateLogStream", f"{arn}:log-stream:"), ("logs:PutLogEvents", f"{arn}:log-stream:of-this-invocation")]
    if group not in cloudwatch_logs._log_groups:
        needed.insert(0, ("logs:CreateLogGroup", f"{arn}:log-stream:"))
    key = lambda_runtime.execution_credentials(config)["AWS_ACCESS_KEY_ID"]
    for action, resource in needed:
        if iam_evaluator.enforce(key, action, "logs", region, resource_arn=resource) is not None:
            return action
    return None
