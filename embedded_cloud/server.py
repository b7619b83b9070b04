"""Applies the patches, puts the parts together and serves until SIGTERM."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import threading

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.core import lambda_runtime

from embedded_cloud import registry
from embedded_cloud.base.door import Door
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.base.rules import RuleContext, Times
from embedded_cloud.control.pages import PREFIX as CONTROL_PREFIX
from embedded_cloud.control.pages import ControlPages
from embedded_cloud.faults.deliveries import Deliveries
from embedded_cloud.faults.injector import FaultInjector, FaultSettings
from embedded_cloud.imds.service import MetadataService
from embedded_cloud.router import OPEN_DOWNLOADS, Router
from embedded_cloud.rulebook import Rulebook
from embedded_cloud.services.cloudwatch.patches import Metrics

logger = logging.getLogger(__name__)


def run(listener: socket.socket, options: argparse.Namespace) -> None:
    """Serve on `listener`. This does not return: both emulators leave threads that cannot be joined, so the process just exits."""
    moto, times = MotoBackend(options.account), Times(options.time_scale)
    context, metrics, deliveries = RuleContext(times, moto, options.free_plan), Metrics(moto, times), Deliveries()
    rulebook = Rulebook(registry.RULES, registry.NOTES, registry.REWRITES, context)
    for patch in registry.patches(os.environ["AWS_ACCESS_KEY_ID"], context, rulebook, deliveries, metrics):
        patch.apply()
    faults = FaultInjector(FaultSettings(options.fault_rate, options.fault_seed, options.latency))
    control = ControlPages(moto, faults, deliveries, options.region)
    router = Router(moto, MetadataService(moto, options.session_seconds), control, rulebook, faults)
    door = Door(router, listener.getsockname()[1], os.getuid(), options.guests, (CONTROL_PREFIX, *OPEN_DOWNLOADS))
    asyncio.run(_serve(listener, moto, door, metrics, options.region))


async def _serve(listener: socket.socket, moto: MotoBackend, door: Door, metrics: Metrics, region: str) -> None:
    await moto.warm_up(region)
    publishing = asyncio.create_task(metrics.run())
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.graceful_timeout = 1.0  # for requests under way
    config.shutdown_timeout = 3.0  # for MiniStack's own
    config.keep_alive_timeout = 75
    config.errorlog = logging.getLogger("hypercorn")
    await serve(door, config, shutdown_trigger=_stop_signal)  # type: ignore[arg-type]
    publishing.cancel()
    _end(0)


async def _stop_signal() -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    logger.warning("Stopping")
    threading.Timer(6.0, _end, [1]).start()  # the process ends in any case
    # This comes first: a request that waits for a function would delay the end.
    await asyncio.to_thread(lambda_runtime.reset)


def _end(code: int) -> None:
    """End the process, function workers first."""
    lambda_runtime.reset()
    logging.shutdown()
    os._exit(code)
