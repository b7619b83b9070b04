"""The two ways in which a release probes a version, and what a bad version wrote."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.checks import Check
from ..core.clock import Clock, polls
from ..probe.checks import PROCESSED_BY, STORED
from ..probe.options import targets_of, thresholds_of
from ..probe.run import Clients, PipelineProbe
from ..probe.senders import QueueSender, Sender, VersionSender
from .version_records import Written, written_by
from .versions import ReleaseError, Releases

# So many messages that wait before the probe's own are reason enough for these not to come through in time.
BACKLOG = 100


class ReleaseProbes:
    """`options` are those of the module lambda_release."""

    def __init__(self, options: Mapping[str, Any], clients: Clients, functions: Any, releases: Releases, clock: Clock) -> None:
        self._options, self._clients, self._functions, self._releases, self._clock = options, clients, functions, releases, clock
        self._thresholds = thresholds_of(options)

    def directly(self, version: str) -> list[Check]:
        """What becomes of records that the version is handed in an event. What its role may not do yet, it leaves to be tried again."""
        seconds = self._options["timeout"]
        sender = VersionSender(self._functions, self._options["function"], version, self._clock, seconds, uuid.uuid4)
        return self._run(sender, version, direct=True)

    def through_queue(self, version: str) -> list[Check]:
        """What becomes of records that come through the queue.

        They are sent anew while all that is wrong is that another version processed them: a moved alias is not followed at once. Raises
        ReleaseError when nothing came through because too much waits before it: that says nothing about the version.
        """
        queue = {"QueueUrl": self._options["queue_url"], "AttributeNames": ["ApproximateNumberOfMessages"]}
        waiting = int(self._clients.sqs.get_queue_attributes(**queue)["Attributes"]["ApproximateNumberOfMessages"])
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
        """What the version wrote, read when its last invocation is over: one that began before the alias moved may still write."""
        configuration = self._releases.configuration(version) or {}
        self._clock.wait(configuration.get("Timeout", 0))
        path = Path(self._options["records_directory"]) / f"{self._options['function']}-{version}.jsonl"
        return written_by(self._clients.dynamodb, self._options["table"], version, path, self._options["read_units"])

    def _run(self, sender: Sender, version: str, *, direct: bool) -> list[Check]:
        targets = targets_of(self._options, version, direct)
        probe = PipelineProbe(self._clients, targets, self._thresholds, sender, self._clock, uuid.uuid4)
        return probe.run(self._options["timeout"], self._options["log_timeout"]).checks
