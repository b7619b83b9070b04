"""Puts the parts together and serves them until SIGTERM."""

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

from embedded_cloud.base.door import Door
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.base.rules import Times, World
from embedded_cloud.faults.deliveries import Deliveries
from embedded_cloud.faults.injector import FaultInjector, FaultSettings
from embedded_cloud.iam import authorization, partiql, permissions
from embedded_cloud.imds import instances
from embedded_cloud.imds.service import MetadataService
from embedded_cloud.registry import Fidelity
from embedded_cloud.router import CONTROL_PREFIX, OPEN_DOWNLOADS, Router
from embedded_cloud.services import idempotency as repeats
from embedded_cloud.services.cloudwatch.metrics import Metrics
from embedded_cloud.services.ec2.rules import keep_metadata_options, set_free_tier
from embedded_cloud.services.iam import patches as policy_versions
from embedded_cloud.services.lambda_ import logs as function_logs
from embedded_cloud.services.lambda_ import patches as versions
from embedded_cloud.services.lambda_.mapping_rules import poll_as_the_role
from embedded_cloud.services.sns import patches as topics
from embedded_cloud.services.sqs import patches as queues

logger = logging.getLogger(__name__)

# Seconds for requests under way, for MiniStack's own shutdown, and until the process ends come what may.
GRACEFUL_SECONDS = 1.0
LIFESPAN_SECONDS = 3.0
LAST_RESORT_SECONDS = 6.0


def run(listener: socket.socket, options: argparse.Namespace) -> None:
    """Serve on `listener`; does not return: both emulators leave threads that cannot be joined, so the process just ends."""
    moto = MotoBackend(options.account)
    times = Times(options.time_scale)
    fidelity, metrics = Fidelity(World(times, moto, options.free_plan)), Metrics(moto, times)
    faults = FaultInjector(FaultSettings(options.fault_rate, options.fault_seed, options.latency))
    deliveries = Deliveries()
    authorization.install(os.environ["AWS_ACCESS_KEY_ID"])
    set_free_tier(options.free_plan)
    keep_metadata_options()
    fidelity.install()
    function_logs.install()
    instances.install()
    partiql.install()
    permissions.install()
    deliveries.install()
    poll_as_the_role()
    metrics.install()
    policy_versions.install()
    queues.install()
    repeats.install()
    topics.install()
    versions.install()
    router = Router(moto, MetadataService(moto, options.session_seconds), fidelity, faults, deliveries, options.region)
    door = Door(router, listener.getsockname()[1], os.getuid(), options.guests, (CONTROL_PREFIX, *OPEN_DOWNLOADS))
    asyncio.run(_serve(listener, moto, door, metrics, options.region))


async def _serve(listener: socket.socket, moto: MotoBackend, door: Door, metrics: Metrics, region: str) -> None:
    await moto.warm_up(region)
    publishing = asyncio.create_task(metrics.run())
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.graceful_timeout = GRACEFUL_SECONDS
    config.shutdown_timeout = LIFESPAN_SECONDS
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
