"""moto, in this process: one thread of its own serves every call, because its backends are not made for several."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.test import EnvironBuilder, run_wsgi_app

from embedded_cloud.base.messages import Request, Response

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class MotoBackend:
    """moto's own server application, and direct looks at its backends, one call at a time."""

    def __init__(self, account: str) -> None:
        self.account = account
        self._application = DomainDispatcherApplication(create_backend_app)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="moto")

    async def run(self, function: Callable[[], Result]) -> Result:
        """Run `function` on moto's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def handle(self, request: Request) -> Response:
        """moto's answer. moto checks neither signature nor policy: the caller has done so."""
        return await self.run(lambda: self._handle(request))

    def _handle(self, request: Request) -> Response:
        environment = EnvironBuilder(
            path=request.path,
            method=request.method,
            query_string=request.query_string,
            headers=[(name, value) for name, value in request.headers.items() if name not in ("content-length", "connection")],
            data=request.body,
        ).get_environ()
        chunks, status, headers = run_wsgi_app(self._application, environment, buffered=True)
        return Response(int(status.split(" ", 1)[0]), b"".join(chunks), tuple(headers.items()))

    def backend(self, service: str, region: str) -> Any:
        """The backend of one region; only to be touched from within `run`."""
        return get_backend(service)[self.account][region]  # type: ignore[call-overload]

    def backends(self, service: str) -> list[Any]:
        """The backends of every region that was used so far; only to be touched from within `run`."""
        return list(get_backend(service)[self.account].values())  # type: ignore[call-overload]

    async def warm_up(self, region: str) -> None:
        """Import and build what the first requests would otherwise wait for."""
        await self.run(lambda: [self.backend(service, region) for service in ("ec2", "cloudwatch")])
