"""Calls that are made again because the answer was lost: AWS makes nothing twice, the emulators would.

RunInstances by its client token: "Ensuring idempotency in Amazon EC2 API requests". A second mapping of the same queue and function is
refused, with AWS's text for it: CreateEventSourceMapping, ResourceConflictException.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ministack.core.responses import error_response_json
from ministack.core.router import extract_region
from ministack.services import lambda_svc

from embedded_cloud.base.calls import Call
from embedded_cloud.base.messages import Request, Response
from embedded_cloud.iam import authorization


class ClientTokens:
    """The answers that RunInstances gave, by region and client token."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], tuple[dict[str, Any], Response]] = {}
        # A call may be made again while the first is still under way.
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, request: Request, call: Call, make: Callable[[], Awaitable[Response]]) -> Response:
        """What `make` answers; for a token that was answered before, that answer again, or a refusal when the parameters differ."""
        token = call.value("ClientToken") if (call.service, call.action) == ("ec2", "RunInstances") else ""
        if not token:
            return await make()
        key = extract_region(request.headers, request.query), token
        async with self._one_at_a_time:
            if key not in self._answers:
                response = await make()
                if response.status < 300:
                    self._answers[key] = call.parameters, response
                return response
        parameters, response = self._answers[key]
        if parameters != call.parameters:
            text = "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
            return authorization.error_response(request, "ec2", "IdempotentParameterMismatch", text)
        return response


def install() -> None:
    """Wrap the function by which MiniStack makes event source mappings."""
    lambda_svc._create_esm = _once_for_a_pair(lambda_svc._create_esm)


def _once_for_a_pair(original: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def create(data: dict[str, Any]) -> Any:
        name, qualifier, _refusal = lambda_svc._resolve_existing_esm_function(data.get("FunctionName", ""))
        wanted = data.get("EventSourceArn"), name, qualifier
        for mapping in lambda_svc._esms.values():
            if (mapping["EventSourceArn"], mapping["FunctionName"], mapping.get("Qualifier")) == wanted:
                message = (
                    f'An event source mapping with SQS arn (" {wanted[0]} ") and function (" {name} ") already exists. '
                    f"Please update or delete the existing mapping with UUID {mapping['UUID']}"
                )
                return error_response_json("ResourceConflictException", message, 409)
        return original(data)

    return create
