"""One endpoint for both emulators: routes a request by the service its signature was made for."""

import json
import logging
import os
import re
from datetime import UTC, datetime
from typing import Any

from ministack.app import app as ministack

from embedded_cloud.base import calls, messages
from embedded_cloud.base.calls import Call, UnclearCallError
from embedded_cloud.base.messages import Message, Receive, Request, Response, Send
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.control.resources import list_resources
from embedded_cloud.faults.deliveries import Deliveries, DeliverySettings
from embedded_cloud.faults.injector import FaultInjector
from embedded_cloud.iam import authorization, permission_record
from embedded_cloud.imds.service import PREFIX as IMDS_PREFIX
from embedded_cloud.imds.service import MetadataService
from embedded_cloud.registry import Fidelity
from embedded_cloud.services.idempotency import ClientTokens
from embedded_cloud.services.ssm import patches as public_parameters

logger = logging.getLogger(__name__)

CONTROL_PREFIX = "/_embedded_cloud/"
MOTO_SERVICES = frozenset({"ec2", "monitoring"})

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/[^/]*/([a-z0-9-]+)/aws4_request")
_QUERY_SCOPE = re.compile(r"[^/]+/\d{8}/[^/]*/([a-z0-9-]+)/aws4_request")
_READ_ONLY = ("Get", "List", "Simulate", "Generate")
# MiniStack's own pages, and its metadata service, answer anyone; only the links GetFunction and GetLayerVersion return stay open.
OPEN_DOWNLOADS = ("/_ministack/lambda-code/", "/_ministack/lambda-layers/")


class Router:
    """The ASGI application behind the door."""

    def __init__(
        self, moto: MotoBackend, metadata: MetadataService, fidelity: Fidelity, faults: FaultInjector, deliveries: Deliveries, region: str
    ) -> None:
        self._moto = moto
        self._fidelity = fidelity
        self._metadata = metadata
        self._region = region
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._faults = faults
        self._deliveries = deliveries
        self._client_tokens = ClientTokens()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await ministack(scope, receive, send)
        else:
            request = await messages.read_request(scope, receive)
            if request is not None:
                await self._handle(scope, request, receive, send)

    async def _handle(self, scope: dict[str, Any], request: Request, receive: Receive, send: Send) -> None:
        if request.path.startswith((CONTROL_PREFIX, IMDS_PREFIX)):
            await messages.send_response(send, await self._handle_own(request))
            return
        service = signed_service(request)
        if not service and request.method == "GET" and request.path.startswith(OPEN_DOWNLOADS):
            await ministack(scope, messages.receive_again(request.body, receive), send)
            return
        if not service:
            await messages.send_response(send, authorization.missing_signature(request))
            return
        if request.path.startswith("/_"):
            await messages.send_response(send, messages.text(404, f"This cloud has nothing at {request.path}"))
            return
        await self._faults.handle(request, service, send, lambda sent: self._handle_signed(scope, request, service, receive, sent))

    async def _handle_signed(self, scope: dict[str, Any], request: Request, service: str, receive: Receive, send: Send) -> None:
        answer = authorization.unauthenticated(request, service) or await self._answer_with_moto(request, service)
        if answer is not None:
            await messages.send_response(send, answer)
        elif service == "iam":
            await self._handle_iam(scope, request, receive, send)
        else:
            await ministack(_secure(scope), messages.receive_again(request.body, receive), send)

    async def _handle_own(self, request: Request) -> Response:
        if request.path.startswith(IMDS_PREFIX):
            return await self._metadata.handle(request)
        if (request.method, request.path) == ("PUT", f"{CONTROL_PREFIX}faults"):
            return self._set_faults(request)
        if (request.method, request.path) == ("PUT", f"{CONTROL_PREFIX}deliveries"):
            return self._set_deliveries(request)
        if request.method != "GET":
            return messages.text(405, "Method Not Allowed")
        if request.path == f"{CONTROL_PREFIX}faults":
            return messages.as_json(200, self._faults.counts)
        if request.path == f"{CONTROL_PREFIX}deliveries":
            return messages.as_json(200, self._deliveries.counts)
        if request.path == f"{CONTROL_PREFIX}health":
            return await self._health()
        if request.path == f"{CONTROL_PREFIX}resources":
            return messages.as_json(200, await list_resources(self._moto))
        if request.path == f"{CONTROL_PREFIX}permissions":
            return permission_record.answer(request)
        return messages.text(404, f"This cloud has nothing at {request.path}")

    def _set_faults(self, request: Request) -> Response:
        try:
            self._faults.start_anew_from(json.loads(request.body))
        except ValueError as error:
            return messages.text(400, f"Bad Request: {error}")
        return messages.as_json(200, self._faults.counts)

    def _set_deliveries(self, request: Request) -> Response:
        try:
            self._deliveries.start_anew(DeliverySettings.from_document(json.loads(request.body)))
        except ValueError as error:
            return messages.text(400, f"Bad Request: {error}")
        return messages.as_json(200, self._deliveries.counts)

    async def _health(self) -> Response:
        emulators = {"ministack": await self._ministack_is_ready(), "moto": await self._moto_is_ready()}
        ready = all(emulators.values())
        state = {"status": "ready" if ready else "not ready", "emulators": emulators}
        process = {"pid": os.getpid(), "supervisor": os.getppid(), "started_at": self._started_at}
        identity = process | {"account": self._moto.account, "region": self._region}
        return messages.as_json(200 if ready else 503, state | identity | {"faults": self._faults.settings})

    async def _ministack_is_ready(self) -> bool:
        scope = {"type": "http", "method": "GET", "path": "/_ministack/ready", "query_string": b"", "headers": [], "http_version": "1.1"}
        response = await _collected(scope, b"", _nothing_more)
        return _status(response) == 200

    async def _moto_is_ready(self) -> bool:
        try:
            return await self._moto.run(lambda: bool(self._moto.backend("ec2", self._region).vpcs))
        except Exception:
            logger.exception("moto does not answer")
            return False

    async def _answer_with_moto(self, request: Request, service: str) -> Response | None:
        """The answer of moto, or a refusal in its place; None for what is MiniStack's to answer."""
        if service not in MOTO_SERVICES and service != "ssm":
            return None
        try:
            call = calls.read_call(request, service)
        except UnclearCallError as error:
            return authorization.error_response(request, service, "InvalidAction", str(error)) if service in MOTO_SERVICES else None
        if service == "ssm" and not public_parameters.asks_for_public_parameters(call):
            return None
        denied = await authorization.refusal(request, call, self._moto)
        return denied or await self._fidelity.refusal(request, call) or await self._call_moto(request, call)

    async def _call_moto(self, request: Request, call: Call) -> Response:
        try:
            resolved = await public_parameters.with_image_resolved(request, call, self._moto)
            response = await self._client_tokens.answer(request, call, lambda: self._moto.handle(resolved))
            await self._fidelity.seen(call, response)
            return response
        except public_parameters.UnresolvableImageError as error:
            return authorization.error_response(request, call.service, "InvalidParameterValue", str(error))
        except Exception as error:
            logger.exception("moto failed at %s", call.iam_action)
            return authorization.error_response(request, call.service, "InternalError", repr(error), 500)

    async def _handle_iam(self, scope: dict[str, Any], request: Request, receive: Receive, send: Send) -> None:
        """MiniStack's answer; moto hears of what succeeded before the client does, so that its next call finds it there."""
        answer = await _collected(_secure(scope), request.body, receive)
        if 200 <= _status(answer) < 300:
            await self._replay(request)
        for message in answer:
            await send(message)

    async def _replay(self, request: Request) -> None:
        try:
            call = calls.read_call(request, "iam")
            if call.action.startswith(_READ_ONLY):
                return
            response = await self._moto.handle(request)
            if response.status >= 300:
                logger.warning("moto refused %s, which MiniStack accepted: %s", call.iam_action, response.body.decode(errors="replace"))
        except Exception:
            logger.exception("moto failed at an IAM call that MiniStack accepted")


def signed_service(request: Request) -> str:
    """The service in the SigV4 credential scope, of the header or of a presigned query; empty when there is none."""
    authorization_header = request.headers.get("authorization", "")
    if authorization_header:
        found = _SCOPE.search(authorization_header) if authorization_header.startswith("AWS4-HMAC-SHA256 ") else None
    else:
        found = _QUERY_SCOPE.fullmatch(next(iter(request.query.get("X-Amz-Credential", [])), ""))
    return found.group(1) if found else ""


def _secure(scope: dict[str, Any]) -> dict[str, Any]:
    """The scope of a request that came over loopback, which is taken to be as private as TLS, unless it says otherwise.

    MiniStack evaluates aws:SecureTransport by the first header of this name; no client signs it.
    """
    return scope | {"headers": [*scope["headers"], (b"x-forwarded-proto", b"https")]}


async def _collected(scope: dict[str, Any], body: bytes, receive: Receive) -> list[Message]:
    answer: list[Message] = []

    async def collect(message: Message) -> None:
        answer.append(message)

    await ministack(scope, messages.receive_again(body, receive), collect)
    return answer


def _status(answer: list[Message]) -> int:
    return next((message["status"] for message in answer if message["type"] == "http.response.start"), 0)


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}
