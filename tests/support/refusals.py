"""Ask an embedded cloud for a refusal, wait for its end, and make the roles, functions and queues that a call needs."""

from __future__ import annotations

import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

ACCOUNT, REGION = "000000000000", "us-east-1"
CONSUME = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


_clients: dict[tuple[str, str], Any] = {}


def root(cloud: Any, service: str) -> Any:
    """Root's client, made once: what must be refused for a while must be asked for at once."""
    key = cloud.endpoint, service
    if key not in _clients:
        _clients[key] = cloud.client(service)
    return _clients[key]


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    """The code and the text with which `call` is refused."""
    with pytest.raises(ClientError) as error:
        call()
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def in_time(call: Callable[[], Any], code: str, seconds: float = 30) -> Any:
    """The answer of `call` once it is no longer refused with `code`."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except ClientError as error:
            if error.response["Error"]["Code"] != code or time.monotonic() > end:
                raise
        time.sleep(0.05)


def denial(call: Callable[[], Any]) -> str:
    """The same in one text."""
    return ": ".join(refusal(call))


def policy(*statements: dict[str, Any]) -> str:
    """A policy of these statements, which allow unless they say otherwise."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | statement for statement in statements]})


def trust(service: str = "lambda.amazonaws.com", **condition: dict[str, str]) -> str:
    return policy({"Principal": {"Service": service}, "Action": "sts:AssumeRole", "Condition": condition})


def make_role(cloud: Any, service: str = "lambda.amazonaws.com", actions: list[str] | None = None, name: str = "") -> str:
    """A new role's ARN; its name is what follows the last slash."""
    iam, name = root(cloud, "iam"), name or unique("role")
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(service))["Role"]["Arn"]
    if actions:
        give(cloud, arn, actions)
    return arn


def give(cloud: Any, role_arn: str, actions: list[str]) -> None:
    document = policy({"Action": actions, "Resource": "*"})
    root(cloud, "iam").put_role_policy(RoleName=role_arn.rpartition("/")[2], PolicyName="all", PolicyDocument=document)


def package(marker: str = "", source: str = "") -> bytes:
    """A function's code that returns `marker`, or this source of function.py, which has a `handler`."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("function.py", source or f"def handler(event, context):\n    return {marker!r}\n")
    return content.getvalue()


def function_request(role_arn: str, **options: Any) -> dict[str, Any]:
    wanted = {"FunctionName": unique("function"), "Runtime": "python3.13", "Role": role_arn, "Handler": "function.handler"}
    return wanted | {"Code": {"ZipFile": package()}} | options


def make_function(cloud: Any, role_arn: str, **options: Any) -> str:
    """A new function's name, once it can be updated."""
    client, request = root(cloud, "lambda"), function_request(role_arn, **options)
    in_time(lambda: client.create_function(**request), "InvalidParameterValueException")
    client.get_waiter("function_active_v2").wait(FunctionName=request["FunctionName"], WaiterConfig={"Delay": 0.05, "MaxAttempts": 100})
    return str(request["FunctionName"])


def make_queue(cloud: Any, **attributes: str) -> tuple[str, str]:
    """A new queue's URL and ARN."""
    name = unique("queue")
    url = root(cloud, "sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
