"""The cloud's own pages under /_embedded_cloud/: health, resources, permissions, faults and deliveries."""

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime

from embedded_cloud.base import messages, ministack_backend
from embedded_cloud.base.messages import Request, Response
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.control.resources import list_resources
from embedded_cloud.faults.deliveries import Deliveries
from embedded_cloud.faults.injector import FaultInjector
from embedded_cloud.iam import permission_record

PREFIX = "/_embedded_cloud/"


@dataclass(frozen=True)
class ControlPages:
    moto: MotoBackend
    faults: FaultInjector
    deliveries: Deliveries
    region: str
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))

    async def handle(self, request: Request) -> Response:
        name = request.path.removeprefix(PREFIX)
        if request.method == "PUT" and name in ("faults", "deliveries"):
            return _changed(request, self.faults if name == "faults" else self.deliveries)
        if request.method != "GET":
            return messages.text(405, "Method Not Allowed")
        match name:
            case "faults":
                return messages.as_json(200, self.faults.counts)
            case "deliveries":
                return messages.as_json(200, self.deliveries.counts)
            case "health":
                return await self._health()
            case "resources":
                return messages.as_json(200, await list_resources(self.moto))
            case "permissions":
                return _permissions(request)
        return messages.text(404, f"This cloud has no page {request.path}")

    async def _health(self) -> Response:
        emulators = {"ministack": await ministack_backend.is_ready(), "moto": await self.moto.is_ready(self.region)}
        ready = all(emulators.values())
        state = {"status": "ready" if ready else "not ready", "emulators": emulators, "faults": self.faults.settings}
        process = {"pid": os.getpid(), "supervisor": os.getppid(), "started_at": self.started_at}
        return messages.as_json(200 if ready else 503, state | process | {"account": self.moto.account, "region": self.region})


def _changed(request: Request, settings: FaultInjector | Deliveries) -> Response:
    try:
        settings.start_anew_from(json.loads(request.body))
    except ValueError as error:
        return messages.text(400, f"Bad Request: {error}")
    return messages.as_json(200, settings.counts)


def _permissions(request: Request) -> Response:
    """?access_key=<id>: the permissions that this key's requests have needed; 507 when some may be missing."""
    keys = request.query.get("access_key", [])
    if len(keys) != 1:
        return messages.text(400, "Name one access key: ?access_key=<access key id>")
    if permission_record.is_full():
        text = f"More than {permission_record.LIMIT} permissions were needed so far, and not all were recorded. Restart the cloud."
        return messages.text(507, text)
    return messages.as_json(200, permission_record.of_key(keys[0]))
