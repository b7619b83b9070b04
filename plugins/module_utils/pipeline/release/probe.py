"""How a release probes a version, directly and through the queue, and what a bad version wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..aws.queue import read_counters
from ..core.checks import Check
from ..core.clock import Clock, polls
from ..probe.checks import PROCESSED_BY, STORED
from ..probe.run import Clients, PipelineProbe, targets_of, thresholds_of
from ..probe.senders import QueueSender, Sender, VersionSender
from .version_records import Written, written_by
from .versions import ReleaseError, Releases

# If more messages wait before the probe's own, these may be late for that reason alone.
BACKLOG = 100


class ReleaseProbes:
    """`options` are those of the module lambda_release."""

    def __init__(self, options: Mapping[str, Any], clients: Clients, functions: Any, releases: Releases, clock: Clock) -> None:
        self._options, self._clients, self._functions, self._releases, self._clock = options, clients, functions, releases, clock
        self._thresholds = thresholds_of(options)

    def directly(self, version: str) -> list[Check]:
        """The checks of records that the version is invoked with. It is invoked again for what its role may not do yet."""
        sender = VersionSender(self._functions, self._options["function"], version, self._clock, self._options["timeout"])
        return self._run(sender, version, direct=True)

    def through_queue(self, version: str) -> list[Check]:
        """The checks of records that come through the queue.

        They are sent again while the only failure is that another version processed them, because Lambda does not follow a moved alias at
        once. Raises ReleaseError if nothing was stored because too many messages wait: that says nothing about the version.
        """
        waiting = read_counters(self._clients.sqs, self._options["queue_url"])["visible"]
        checks: list[Check] = []
        for _left in polls(self._clock, self._options["timeout"]):
            checks = self._run(QueueSender(self._clients.sqs, self._options["queue_url"], self._clock), version, direct=False)
            if [check["check"] for check in checks if not check["passed"]] != [PROCESSED_BY]:
                break
        if waiting > BACKLOG and any(check["check"] == STORED and check["found"].startswith("0 of") for check in checks):
            raise ReleaseError(
                f"Version {version} of {self._options['function']} is live, and was found right when it was invoked directly. Behind "
                f"its alias it could not be checked within {self._options['timeout']} s, since {waiting} messages wait before the probe's. "
                "Run site.yml again when fewer do, or with a higher probe_timeout."
            )
        return checks

    def written(self, version: str) -> Written:
        """What the version wrote, read after its last invocation: one that began before the alias moved may still write."""
        self._clock.wait((self._releases.configuration(version) or {}).get("Timeout", 0))
        return written_by(self._clients.dynamodb, self._options, version, self._clock)

    def _run(self, sender: Sender, version: str, *, direct: bool) -> list[Check]:
        targets = targets_of(self._options, version, direct)
        probe = PipelineProbe(self._clients, targets, self._thresholds, sender, self._clock)
        return probe.run(self._options["timeout"], self._options["log_timeout"]).checks
