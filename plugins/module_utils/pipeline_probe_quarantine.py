"""Finding one's own message in a dead-letter queue that others use, and leaving theirs as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.pipeline_checks import AWS_ERRORS, Clock, explain, in_chunks, is_lasting, polls

Message = dict[str, Any]

# One sweep lasts no longer, and hides what it passes for somewhat longer: should this process be killed before it can release it, or
# should the answer that held it be lost, it shows again by itself, and early enough to be met by a later sweep.
SWEEP_SECONDS = 15
HIDDEN_SECONDS = 20


class QuarantineReader:
    """Reads a dead-letter queue until it meets its own message.

    SQS cannot be searched: others' messages must be received to get past them. They are hidden for one sweep (until the own message is met,
    or nothing more comes), then made visible again at once.

    `ours` are the own messages that were met, first the one that is looked for (a send that was made again because its answer was lost
    makes copies), `others` is how many of the rest the longest sweep met, `unreleased` how many of those stay
    hidden for up to a minute because the release was refused, `error` why reading stopped early, if it did.
    """

    def __init__(
        self, client: Any, url: str, is_ours: Callable[[Message], bool], is_wanted: Callable[[Message], bool], clock: Clock
    ) -> None:
        self._client = client
        self._url = url
        self._is_ours = is_ours
        self._is_wanted = is_wanted
        self._clock = clock
        self.ours: list[Message] = []
        self.others = 0
        self.unreleased = 0
        self.error = ""
        self.seconds = 0.0

    def find(self, seconds: float) -> None:
        """Sweep until the message that is looked for is met or the seconds are up; at least once."""
        started = self._clock.monotonic()
        for left in polls(self._clock, seconds, first=0.5, longest=5.0):
            try:
                self.error = ""
                self._sweep(left)
            except AWS_ERRORS as error:
                self.error = explain(error)
                if is_lasting(error):
                    break
            if self._is_met():
                break
        self.seconds += self._clock.monotonic() - started

    def delete_ours(self) -> str:
        """Delete the own messages that were met; returns what went wrong, or nothing."""
        try:
            while self.ours:
                self._client.delete_message(QueueUrl=self._url, ReceiptHandle=self.ours[-1]["ReceiptHandle"])
                self.ours.pop()
        except AWS_ERRORS as error:
            return explain(error)
        return ""

    def _sweep(self, left: float) -> None:
        end = self._clock.monotonic() + min(max(left, 2.0), SWEEP_SECONDS)
        held: list[Message] = []
        try:
            while not self._is_met() and self._clock.monotonic() < end:
                response = self._client.receive_message(
                    QueueUrl=self._url,
                    MaxNumberOfMessages=10,
                    MessageAttributeNames=["All"],
                    VisibilityTimeout=HIDDEN_SECONDS,
                    # A short poll asks some of the queue's servers only, and may miss what is there.
                    WaitTimeSeconds=1,
                )
                messages = response.get("Messages", [])
                held += [message for message in messages if not self._is_ours(message)]
                self.ours += [message for message in messages if self._is_ours(message)]
                self.ours.sort(key=self._is_wanted, reverse=True)
                if not messages:
                    break
        finally:
            self.others = max(self.others, len(held))
            self._release(held)

    def _is_met(self) -> bool:
        return any(self._is_wanted(message) for message in self.ours)

    def _release(self, held: list[Message]) -> None:
        for chunk in in_chunks(held, 10):
            handles = [message["ReceiptHandle"] for message in chunk]
            entries = [{"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0} for number, handle in enumerate(handles)]
            try:
                response = self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
                self.unreleased += len(response.get("Failed", []))
            except AWS_ERRORS:
                # Counted, and reported as a failed check: the other chunks still have to be released.
                self.unreleased += len(chunk)
