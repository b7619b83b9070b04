"""moto, in this process: one thread serves every call, because moto's backends are not thread-safe."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import EnvironBuilder, run_wsgi_app

from embedded_cloud.base.messages import Request, Response

Result = TypeVar("Result")


class MotoBackend:
    """moto's own server application, and direct access to its backends, one call at a time."""

    def __init__(self, account: str) -> None:
        self.account = account
        self._application = DomainDispatcherApplication(create_backend_app)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="moto")

    async def run(self, function: Callable[[], Result]) -> Result:
        """Run `function` on moto's thread, with the account and the region of the request under way."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: context.run(function))

    def run_later(self, seconds: float, function: Callable[[], object]) -> None:
        """The same after some seconds, without waiting for it."""
        threading.Timer(seconds, self._executor.submit, [contextvars.copy_context().run, function]).start()

    async def handle(self, request: Request) -> Response:
        """moto's answer. moto checks neither the signature nor the policies: the caller must have done that."""
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
        return Response(int(status.split(" ", 1)[0]), dict(headers.items()), b"".join(chunks))

    def backend(self, service: str, region: str) -> Any:
        """The backend of one region. Use it within `run` only."""
        return get_backend(service)[self.account][region]  # type: ignore[call-overload]

    def backends(self, service: str) -> list[Any]:
        """The backends of all regions used so far. Use them within `run` only."""
        return list(get_backend(service)[self.account].values())  # type: ignore[call-overload]

    async def warm_up(self, region: str) -> None:
        """Import and build what the first requests would otherwise wait for."""
        await self.run(lambda: [self.backend(service, region) for service in ("ec2", "cloudwatch")])

    async def is_ready(self, region: str) -> bool:
        return await self.run(lambda: bool(self.backend("ec2", region).vpcs))
