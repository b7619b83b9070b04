"""One endpoint for both emulators: routes a request by the service that its signature was made for."""

import logging
import re
from dataclasses import dataclass, field
from typing import Any

from embedded_cloud.base import calls, messages, ministack_backend
from embedded_cloud.base.calls import Call, UnclearCallError
from embedded_cloud.base.messages import Message, Receive, Request, Response, Send
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.control.pages import PREFIX as CONTROL_PREFIX
from embedded_cloud.control.pages import ControlPages
from embedded_cloud.faults.injector import FaultInjector
from embedded_cloud.iam import authorization
from embedded_cloud.imds.service import PREFIX as IMDS_PREFIX
from embedded_cloud.imds.service import MetadataService
from embedded_cloud.rulebook import Rulebook
from embedded_cloud.services.ec2.idempotency import ClientTokens
from embedded_cloud.services.ssm import public_parameters

logger = logging.getLogger(__name__)

MOTO_SERVICES = frozenset({"ec2", "monitoring"})
# MiniStack's own pages, and its metadata service, answer anyone; only the links that GetFunction and GetLayerVersion return stay open.
OPEN_DOWNLOADS = ("/_ministack/lambda-code/", "/_ministack/lambda-layers/")

_SCOPE = r"[^/]+/\d{8}/[^/]*/([a-z0-9-]+)/aws4_request"
_READ_ONLY = ("Get", "List", "Simulate", "Generate")


@dataclass(frozen=True)
class Router:
    """The ASGI application behind the door."""

    moto: MotoBackend
    metadata: MetadataService
    control: ControlPages
    rulebook: Rulebook
    faults: FaultInjector
    client_tokens: ClientTokens = field(default_factory=ClientTokens)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await ministack_backend.application(scope, receive, send)
        elif request := await messages.read_request(scope, receive):
            await self._handle(scope, request, receive, send)

    async def _handle(self, scope: dict[str, Any], request: Request, receive: Receive, send: Send) -> None:
        service = signed_service(request)
        if request.path.startswith(CONTROL_PREFIX):
            await messages.send_response(send, await self.control.handle(request))
        elif request.path.startswith(IMDS_PREFIX):
            await messages.send_response(send, await self.metadata.handle(request))
        elif not service and request.method == "GET" and request.path.startswith(OPEN_DOWNLOADS):
            await ministack_backend.handle(scope, request.body, receive, send)
        elif not service:
            await messages.send_response(send, authorization.missing_signature(request))
        elif request.path.startswith("/_"):
            await messages.send_response(send, messages.text(404, f"This cloud has no page {request.path}"))
        else:
            await self.faults.handle(request, service, send, lambda sent: self._handle_signed(scope, request, service, receive, sent))

    async def _handle_signed(self, scope: dict[str, Any], request: Request, service: str, receive: Receive, send: Send) -> None:
        answer = authorization.unauthenticated(request, service) or await self._answer_with_moto(request, service)
        if answer is not None:
            await messages.send_response(send, answer)
        elif service == "iam":
            await self._handle_iam(scope, request, receive, send)
        else:
            await ministack_backend.handle(scope, request.body, receive, send)

    async def _answer_with_moto(self, request: Request, service: str) -> Response | None:
        """moto's answer, or a refusal instead; None for what MiniStack answers."""
        if service not in MOTO_SERVICES and service != "ssm":
            return None
        try:
            call = calls.read_call(request, service)
        except UnclearCallError as error:
            return authorization.error(request.headers, service, "InvalidAction", str(error)) if service in MOTO_SERVICES else None
        if service == "ssm" and not public_parameters.asks_for_public_parameters(call):
            return None
        denied = await authorization.refusal(request, call, self.moto)
        return denied or await self.rulebook.refusal(request, call) or await self._call_moto(request, call)

    async def _call_moto(self, request: Request, call: Call) -> Response:
        try:
            resolved = await public_parameters.with_image_resolved(request, call, self.moto)
            response = await self.client_tokens.answer(request, call, lambda: self.moto.handle(resolved))
            await self.rulebook.succeeded(call, response)
            return response
        except Exception as error:
            logger.exception("moto failed at %s", call.iam_action)
            return authorization.error(request.headers, call.service, "InternalError", repr(error), 500)

    async def _handle_iam(self, scope: dict[str, Any], request: Request, receive: Receive, send: Send) -> None:
        """MiniStack's answer. What succeeded is repeated to moto before the client hears of it, so that its next call to EC2 finds it."""

        async def repeat_and_send(message: Message) -> None:
            if message["type"] == "http.response.start" and 200 <= message["status"] < 300:
                await self._repeat_to_moto(request)
            await send(message)

        await ministack_backend.handle(scope, request.body, receive, repeat_and_send)

    async def _repeat_to_moto(self, request: Request) -> None:
        try:
            call = calls.read_call(request, "iam")
            if call.action.startswith(_READ_ONLY):
                return
            response = await self.moto.handle(request)
            if response.status >= 300:
                logger.warning("moto refused %s, which MiniStack accepted: %s", call.iam_action, response.body.decode(errors="replace"))
        except Exception:
            logger.exception("moto failed at an IAM call that MiniStack accepted")


def signed_service(request: Request) -> str:
    """The service in the SigV4 credential scope, of the header or of a presigned query; empty when there is none."""
    header = request.headers.get("authorization", "")
    if header:
        found = re.search(f"Credential={_SCOPE}", header) if header.startswith("AWS4-HMAC-SHA256 ") else None
    else:
        found = re.fullmatch(_SCOPE, request.query.get("X-Amz-Credential", [""])[0])
    return found.group(1) if found else ""
