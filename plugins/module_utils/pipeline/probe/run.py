"""The probe itself: send, wait, check, and always remove what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..aws.dead_letter_queue import QuarantinedMessage
from ..aws.table import Lookup, wait_for_items
from ..core.checks import Check, make_check
from ..core.clock import Clock, polls
from ..core.content import KEY
from ..core.errors import AWS_ERRORS, explain, is_lasting
from ..core.module import require_least
from ..core.terminal import aws_command
from .checks import Targets, log_checks, quarantine_checks, stored_checks
from .dead_letter import QuarantineReader
from .logs import LogFindings, Wanted, wait_for_lines
from .records import CLOCK_SKEW, Thresholds, make_invalid_record, make_samples
from .senders import RETRY_SECONDS, Delivery, Sender

# Seconds for the remaining checks if the transactions did not arrive in time.
SHORT_WAIT = 5.0


@dataclass(frozen=True)
class Clients:
    """The boto3 clients that the probe uses."""

    sqs: Any
    dynamodb: Any
    logs: Any


def clients_of(module: Any) -> Clients:
    """The clients of an AnsibleAWSModule."""
    return Clients(sqs=module.client("sqs"), dynamodb=module.client("dynamodb"), logs=module.client("logs"))


def thresholds_of(options: Mapping[str, Any]) -> Thresholds:
    """Of a module's options. Raises OptionError for a threshold that is no number, or for a negative time."""
    require_least(options, timeout=0, log_timeout=0)
    return Thresholds.parse(options["high_value_threshold"], options["medium_value_threshold"])


def targets_of(options: Mapping[str, Any], version: str = "", direct: bool = False) -> Targets:
    """Of a module's options."""
    names = ("queue_url", "dead_letter_queue_url", "table", "log_group")
    return Targets(**{name: options[name] for name in names}, version=version, direct=direct)


@dataclass
class Outcome:
    """The checks, the ids sent (the invalid record's last), and the ids not known to be gone."""

    checks: list[Check] = field(default_factory=list)
    transaction_ids: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)


class PipelineProbe:
    """One run. A broken pipeline makes failed checks, never exceptions; `outcome` is kept up to date, for a caller that is interrupted."""

    def __init__(self, clients: Clients, targets: Targets, thresholds: Thresholds, sender: Sender, clock: Clock) -> None:
        self._clients, self._sender, self._targets, self._clock = clients, sender, targets, clock
        self._sent_at = clock.now()
        self._samples = make_samples(thresholds, self._sent_at)
        self._invalid = make_invalid_record(self._sent_at)
        self._delivery = Delivery()
        self._lookup = Lookup()
        self._quarantine = QuarantineReader(clients.sqs, targets.dead_letter_queue_url, self._is_ours, self._is_wanted, clock)
        self.outcome = Outcome(transaction_ids=[*(sample.transaction_id for sample in self._samples), self._invalid.transaction_id])

    def run(self, timeout: float, log_timeout: float) -> Outcome:
        """Run the probe; the times are in seconds, until records arrive (table and dead-letter queue) and for the log lines."""
        try:
            records = [*self._samples[:2], self._invalid, *self._samples[2:]]
            self.outcome.checks.append(self._sender.send(records, self._delivery))
            if self._delivery.message_ids:
                self._look(timeout, log_timeout)
            else:
                self._look_at_nothing()
        finally:
            self._remove_own()
        return self.outcome

    def _look(self, timeout: float, log_timeout: float) -> None:
        taken = self._delivery.message_ids
        accepted = [sample.transaction_id for sample in self._samples if sample.transaction_id in taken]
        self._lookup = wait_for_items(self._clients.dynamodb, self._targets.table, accepted, self._clock, timeout)
        self._lookup.missing += [sample.transaction_id for sample in self._samples if sample.transaction_id not in taken]
        arrived = not self._lookup.missing
        invalid_id = taken.get(self._invalid.transaction_id, "")
        self._quarantine.find(timeout if arrived and invalid_id else SHORT_WAIT)
        invalid_item = wait_for_items(self._clients.dynamodb, self._targets.table, [self._invalid.transaction_id], self._clock, 0)
        findings = wait_for_lines(
            self._clients.logs,
            self._targets.log_group,
            self._sent_at - CLOCK_SKEW,
            Wanted(frozenset(sample.transaction_id for sample in self._samples), invalid_id, self._invalid.outbox_id),
            self._clock,
            log_timeout if arrived and invalid_id else SHORT_WAIT,
        )
        self._judge(invalid_item, findings)

    def _look_at_nothing(self) -> None:
        nothing = "not looked at: nothing was sent"
        self._lookup = Lookup(missing=[sample.transaction_id for sample in self._samples], error=nothing)
        self._quarantine.error = nothing
        self._judge(Lookup(missing=[self._invalid.transaction_id], error=nothing), LogFindings(error=nothing))

    def _judge(self, invalid_item: Lookup, findings: LogFindings) -> None:
        message_id = self._delivery.message_ids.get(self._invalid.transaction_id, "unknown, because it was not accepted")
        self.outcome.checks += [
            *stored_checks(self._targets, self._samples, self._lookup, self._sent_at, self._clock.now()),
            *quarantine_checks(self._targets, self._invalid, message_id, self._quarantine, invalid_item),
            *log_checks(
                self._targets, self._samples, message_id, findings, stored=not self._lookup.missing, quarantined=bool(self._quarantine.ours)
            ),
        ]

    def _is_ours(self, message: QuarantinedMessage) -> bool:
        return (
            message.outbox_id == self._invalid.outbox_id
            or message.source_message_id in self._delivery.message_ids.values()
            or any(transaction_id in message.body for transaction_id in self.outcome.transaction_ids)
        )

    def _is_wanted(self, message: QuarantinedMessage) -> bool:
        wanted = self._delivery.message_ids.get(self._invalid.transaction_id)
        return self._is_ours(message) and (not self._delivery.may_have_copies or message.source_message_id == wanted)

    def _remove_own(self) -> None:
        started = self._clock.monotonic()
        problems = {**self._remove_items(), **self._remove_dead_letter()}
        self.outcome.left_behind = list(problems)
        by_problem = {problem: [one for one in problems if problems[one] == problem] for problem in problems.values()}
        remove = aws_command(f"""dynamodb delete-item --table-name {self._targets.table} --key '{{"{KEY}": {{"S": "<id>"}}}}'""")
        self.outcome.checks.append(
            make_check(
                "probe: own records removed",
                not problems,
                "nothing of the probe's own is left",
                "; ".join(f"{', '.join(ids)} {problem}" for problem, ids in by_problem.items()) or "all gone",
                seconds=self._clock.monotonic() - started,
                remedy=(
                    f"Fix the pipeline first: what still waits in {self._targets.queue} is stored or dead-lettered only then. Then remove "
                    f"each: {remove}, or delete its message from {self._targets.dead_letter_queue}."
                ),
            )
        )

    def _remove_items(self) -> dict[str, str]:
        """Delete what was or may have been sent, and read back that it is gone; returns the ids that are not, with the reason."""
        left = [transaction_id for transaction_id in self.outcome.transaction_ids if transaction_id in self._delivery.sent]
        wanted = frozenset(left) - {self._invalid.transaction_id}
        seen = set(self._lookup.found)
        problem = ""
        for _left in polls(self._clock, RETRY_SECONDS):
            try:
                while left:
                    arguments = {"TableName": self._targets.table, "Key": {KEY: {"S": left[0]}}, "ReturnValues": "ALL_OLD"}
                    if self._clients.dynamodb.delete_item(**arguments).get("Attributes"):
                        seen.add(left[0])
                    left.pop(0)
                break
            except AWS_ERRORS as error:
                problem = explain(error)
                if is_lasting(error):
                    break
        problems = dict.fromkeys(left, f"could not be deleted: {problem}")
        if self._delivery.may_come_later:
            waiting = f"was never stored: it may still wait in {self._targets.queue}"
            problems |= dict.fromkeys((one for one in self.outcome.transaction_ids if one in wanted - seen), waiting)
        deleted = self._delivery.sent - problems.keys()
        if deleted:
            found = wait_for_items(self._clients.dynamodb, self._targets.table, deleted, self._clock, 0).found
            problems |= dict.fromkeys(found, "is in the table again after it was deleted")
        return problems

    def _remove_dead_letter(self) -> dict[str, str]:
        invalid = self._invalid.transaction_id
        if invalid not in self._delivery.sent:
            return {}
        if not self._quarantine.ours:
            # It may have come since, or this run may have been interrupted before it looked.
            self._quarantine.find(0)
        queue = self._targets.dead_letter_queue
        if not self._quarantine.ours:
            if not self._delivery.may_come_later and not self._quarantine.error:
                return {}
            return {invalid: f"was never seen in {queue}: " + (self._quarantine.error or f"it may still wait in {self._targets.queue}")}
        problem = self._quarantine.delete_ours()
        if self._delivery.may_have_copies and not problem:
            self._quarantine.find(SHORT_WAIT)
            problem = self._quarantine.delete_ours()
        return {invalid: f"could not be deleted from {queue}: {problem}"} if problem else {}
