"""RunInstances makes instances once for a client token ("Ensuring idempotency in Amazon EC2 API requests"); moto makes them again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ministack.core.router import extract_region

from embedded_cloud.base.calls import Call
from embedded_cloud.base.messages import Request, Response
from embedded_cloud.iam import authorization


class ClientTokens:
    """The answers that RunInstances gave, by region and client token."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], tuple[dict[str, Any], Response]] = {}
        # A client may retry while its first call is still under way.
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, request: Request, call: Call, make: Callable[[], Awaitable[Response]]) -> Response:
        """The answer of `make`. A known token gets its first answer again, or a refusal when the parameters differ."""
        token = call.value("ClientToken") if call.name == "ec2:RunInstances" else ""
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
            return authorization.error(request.headers, "ec2", "IdempotentParameterMismatch", text)
        return response
