"""Puts the parts together and serves them until SIGTERM."""

import asyncio
import logging
import os
import signal
import socket
import threading

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.core import lambda_runtime

from embedded_cloud import authorization, function_logs, partiql, policy_versions, queues
from embedded_cloud.imds import MetadataService
from embedded_cloud.moto_backend import MotoBackend
from embedded_cloud.router import Router

logger = logging.getLogger(__name__)

# Seconds for requests under way, for MiniStack's own shutdown, and until the process ends come what may.
GRACEFUL_SECONDS = 1.0
LIFESPAN_SECONDS = 3.0
LAST_RESORT_SECONDS = 6.0


def run(listener: socket.socket, account: str, region: str, session_seconds: int) -> None:
    """Serve on `listener`; does not return: both emulators leave threads that cannot be joined, so the process just ends."""
    authorization.check_root_signatures_too()
    function_logs.install()
    partiql.install()
    policy_versions.install()
    queues.install()
    asyncio.run(_serve(listener, account, region, session_seconds))


async def _serve(listener: socket.socket, account: str, region: str, session_seconds: int) -> None:
    moto = MotoBackend(account)
    await moto.warm_up(region)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.graceful_timeout = GRACEFUL_SECONDS
    config.shutdown_timeout = LIFESPAN_SECONDS
    config.keep_alive_timeout = 75
    config.errorlog = logging.getLogger("hypercorn")
    router = Router(moto, MetadataService(moto, session_seconds), region)
    await serve(router, config, shutdown_trigger=_stop_signal)  # type: ignore[arg-type]
    _end(0)


async def _stop_signal() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    logger.warning("Stopping")
    last_resort = threading.Timer(LAST_RESORT_SECONDS, _end, [1])
    last_resort.daemon = True
    last_resort.start()
    # First of all: a request that waits for a function would hold up the end.
    await asyncio.to_thread(lambda_runtime.reset)


def _end(code: int) -> None:
    """End the process, function workers first."""
    lambda_runtime.reset()
    logging.shutdown()
    os._exit(code)
