"""Make checks of what the probe found: each has one cause, and its name says which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..aws.table import Lookup
from ..core.checks import Check, make_check
from ..core.content import read_body
from .dead_letter import QuarantineReader
from .logs import LogFindings
from .records import Record, Sample, wrong_amount, wrong_fields, wrong_time, wrong_version

# The function's reason code for a record without an amount.
INVALID_REASON = "amount_missing"
# The function bounds `detail`, in bytes.
DETAIL_LIMIT = 1024
STORED = "probe: its transactions are stored"
PROCESSED_BY = "probe: a published version processed them"
OTHER_CODE = "The function's code is not the one in lambda_src: run site.yml."
OTHER_THRESHOLDS = f"The function's thresholds (HIGH_VALUE_THRESHOLD, MEDIUM_VALUE_THRESHOLD) are not the settings', or: {OTHER_CODE}"


@dataclass(frozen=True)
class Targets:
    """Where the pipeline is: URLs of its queues, names of its table and log group.

    `version` is the function's version that must process the records; empty if any published one may. With `direct` it is invoked without
    queue and mapping.
    """

    queue_url: str
    dead_letter_queue_url: str
    table: str
    log_group: str
    version: str = ""
    direct: bool = False

    @property
    def queue(self) -> str:
        return self.queue_url.rsplit("/", 1)[-1]

    @property
    def dead_letter_queue(self) -> str:
        return self.dead_letter_queue_url.rsplit("/", 1)[-1]


def stored_checks(targets: Targets, samples: Sequence[Sample], lookup: Lookup, sent: datetime, now: datetime) -> list[Check]:
    """What became of the good transactions, by the items found."""
    logs = f"the function's log ({targets.log_group})"
    if lookup.error:
        remedy = f"Read the error; then run site.yml, which restores table {targets.table}, or check your own permission to read it."
    elif targets.direct:
        remedy = f"Version {targets.version} was invoked directly: look for the ids in {logs}, then fix its code, settings or role."
    elif not lookup.found:
        remedy = (
            f"Nothing came through. Look at the event source mapping of {targets.queue} (it must exist, be enabled and have no filter), "
            f"then at {logs}; site.yml restores a changed mapping, role or function."
        )
    else:
        remedy = f"Some came through: look for the missing ids in {logs} and in {targets.dead_letter_queue}."
    found = f"{len(lookup.found)} of {len(samples)}" + (f", missing {', '.join(lookup.missing)}" if lookup.missing else "")
    found += f" ({lookup.error})" if lookup.error else ""
    everything = f"{len(samples)} of {len(samples)}"
    checks = [make_check(STORED, not lookup.missing, everything, found, seconds=lookup.seconds, remedy=remedy)]
    for sample in samples:
        item = lookup.found.get(sample.transaction_id)
        category = "not stored" if item is None else str(item.get("transaction_category", "no category"))
        name, right = f"probe: {sample.label} is {sample.category}", category == sample.category
        checks.append(make_check(name, right, sample.category, category, remedy=OTHER_THRESHOLDS))
    version = f"version {targets.version}" if targets.version else "a version's number"
    comparisons: list[tuple[str, str, Callable[[Sample, dict[str, Any]], str]]] = [
        ("probe: cents are stored exactly", "every amount as sent, to the cent", wrong_amount),
        ("probe: every other field is stored as sent", "nothing missing, altered or added", wrong_fields),
        ("probe: processed_at_utc is when it was processed", "a UTC time since the sending", lambda _, item: wrong_time(item, sent, now)),
        (PROCESSED_BY, version, lambda _, item: wrong_version(item, targets.version)),
    ]
    present = [(sample, lookup.found[sample.transaction_id]) for sample in samples if sample.transaction_id in lookup.found]
    so = f"so in {len(present)} of {len(samples)} stored"
    for name, expected, wrong in comparisons:
        faults = [f"{fault} ({sample.transaction_id})" for sample, item in present if (fault := wrong(sample, item))]
        faults = faults if present else ["nothing is stored"]
        checks.append(make_check(name, not faults, expected, "; ".join(faults) or so, remedy=OTHER_CODE))
    return checks


def log_checks(
    targets: Targets, samples: Sequence[Sample], message_id: str, findings: LogFindings, *, stored: bool, quarantined: bool
) -> list[Check]:
    """What the function logged about the good transactions and about the invalid record.

    If the records were processed and the log can be read, a missing line is late, not wrong: then the check is unchecked. "CloudWatch Logs
    concepts" names no bound, and lines were seen after more than a minute. Role and log group are compared elsewhere.
    """
    why = f" ({findings.error})" if findings.error else f" ({findings.lines} lines read)"
    missing = [sample.transaction_id for sample in samples if sample.transaction_id not in findings.named]
    look = f"See that log group {targets.log_group} exists and that the function's role may write to it; site.yml restores both."
    line = findings.invalid
    wanted = {"reason": INVALID_REASON, "source_message_id": message_id, "outcome": "quarantined"}
    problems = [f"no such line{why}"] if line is None else _marks(line, wanted)
    late_ids, late_invalid = (done and not findings.error for done in (bool(missing) and stored, line is None and quarantined))
    waited = f"unchecked within {findings.seconds:.0f} s: "
    return [
        make_check(
            "probe: function logs name every id",
            not missing,
            f'{len(samples)} ids in "Successfully processed" lines',
            waited * late_ids + f"{len(samples) - len(missing)}" + (f", missing {', '.join(missing)}{why}" if missing else ""),
            seconds=findings.seconds,
            remedy=look,
            unchecked=late_ids,
        ),
        make_check(
            "probe: invalid record is in the function's log with its reason",
            not problems,
            f"a Record failed line with reason {INVALID_REASON}, source_message_id {message_id}, outcome quarantined",
            waited * late_invalid + ("; ".join(problems) or "that line"),
            remedy=look if line is None else OTHER_CODE,
            unchecked=late_invalid,
        ),
    ]


def quarantine_checks(targets: Targets, invalid: Record, message_id: str, reader: QuarantineReader, lookup: Lookup) -> list[Check]:
    """What became of the invalid record, and of the messages that were in its way."""
    queue = targets.dead_letter_queue
    passed_by = f"{reader.others} other messages looked at"
    absent = "no such message" + (f" ({reader.error})" if reader.error else f" ({passed_by})")
    message = reader.ours[0] if reader.ours else None
    names = {name: value.get("StringValue") for name, value in (message.attributes if message else {}).items()}
    reason, detail = names.get("reason"), names.get("detail")
    where = f"Look for {invalid.outbox_id} in {targets.log_group}; see that the function's role may send to {queue}."

    def of_message(name: str, passed: bool, expected: str, found: str, seconds: float = 0.0) -> Check:
        found, remedy = (found, OTHER_CODE) if message else (absent, where)
        return make_check(f"probe: invalid record{name}", passed, expected, found, seconds=seconds, remedy=remedy)

    reason_found = f"reason {_bounded(reason)}" + ("; SQS gave up on it, not the function" if reason is None else "")
    marks = [] if _is_detail(detail) else [f"detail is {_bounded(detail)}"]
    marks += _marks(names, {"source_message_id": message_id, "outbox_id": invalid.outbox_id})
    three = f"a JSON object, {message_id}, {invalid.outbox_id}"
    sent, body = invalid.body.encode(), message.body if message else ""
    body_found = "the same" if body.encode() == sent else f"{len(body.encode())} bytes: {_bounded(body)}"
    in_table = f"{invalid.transaction_id} is there" if lookup.found else "not there"
    return [
        of_message(
            " is in the dead-letter queue with its reason",
            reason == INVALID_REASON,
            f"reason {INVALID_REASON}",
            reason_found,
            reader.seconds,
        ),
        of_message(" keeps its detail, source_message_id and outbox_id", not marks, three, "; ".join(marks) or "all three"),
        of_message("'s body is whole", body.encode() == sent, f"the {len(sent)} bytes sent", body_found),
        make_check(
            "probe: invalid record is not in the table",
            not lookup.found and not lookup.error,
            "not there",
            f"unknown: {lookup.error}" if lookup.error else in_table,
            seconds=lookup.seconds,
            remedy=OTHER_CODE if lookup.found else f"Check your own permission to read table {targets.table}.",
        ),
        make_check(
            "probe: other dead-letter messages are released",
            not reader.unreleased,
            "every message that is not the probe's own is visible again",
            f"{reader.unreleased} of {reader.others} stay hidden for up to a minute" if reader.unreleased else passed_by,
            remedy=f"They show again by themselves; see that you may change the visibility of messages in {queue}.",
        ),
    ]


def _marks(found: Mapping[str, Any], wanted: Mapping[str, str]) -> list[str]:
    """The names whose value is another one, with that."""
    return [f"{name} is {_bounded(found.get(name))}" for name in wanted if found.get(name) != wanted[name]]


def _is_detail(text: str | None) -> bool:
    return text is not None and len(text.encode()) <= DETAIL_LIMIT and read_body(text) is not None


def _bounded(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
