#!/usr/bin/python
"""Prove that sent = stored + quarantined + in flight, id by id."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pipeline_reconciliation
short_description: Prove that sent = stored + quarantined + in flight, id by id
description:
  - Compares the ledgers of the producers with the table, the queue's counters and the quarantine, and names each transaction that is lost,
    altered, doubled or in no ledger. C(docs/reconciliation.md) says what each of these is.
  - Reads the table by BatchGetItem or by Scan, whichever takes fewer read units, consistently, and at O(read_rate). What was found nowhere
    is read again until it is found or decided.
  - Since SQS cannot be asked whether it holds a message, a transaction is lost only when the queue's three counters have stayed at zero
    for O(settle_seconds) and it still is neither in the table nor in the quarantine, or when it was sent longer ago than the queue keeps
    messages. Until then it is in flight.
  - Receives the messages of the quarantine, which hides them meanwhile, and makes them visible again. It never receives from the queue.
  - Memory stays bounded, whatever the number of transactions; the rest is in temporary files.
  - A broken pipeline never fails this module. Each finding is a check; M(verification_report) fails for the lot of them. A ledger that is
    cut off, empty or malformed does fail it, since it would prove nothing.
  - Changes nothing, unless O(repair_altered).
options:
  ledgers:
    description:
      - Paths, on this machine, of what C(financial_producer.pyz ledger --json --bodies) exported (gzip), one for each ledger.
      - Several may hold the same transaction.
    type: list
    elements: str
    required: true
  kept_ledgers:
    description: The same of producers that are gone. What only these sent is compared, but not repaired, nor in the files to send again.
    type: list
    elements: str
    default: []
  missing_ledgers:
    description:
      - Names of producers whose ledger could not be had. They fail a check.
      - While there are any, nothing is repaired, since an item that looks altered may be what one of these sent.
    type: list
    elements: str
    default: []
  quarantine_directory:
    description:
      - Where, on this machine, M(transaction_quarantine) keeps its archives (C(*.jsonl.gz)) and its journal, if there are any.
      - What was purged to an archive, was not sent again since, and is nowhere else, is not lost. What was replayed counts as sent then.
    type: path
  table:
    description: Name of the table.
    type: str
    required: true
  queue_url:
    description: URL of the transaction queue.
    type: str
    required: true
  dead_letter_queue_url:
    description: URL of the dead-letter queue, the quarantine.
    type: str
    required: true
  report_directory:
    description:
      - Where RV(report_file), RV(lost_file), RV(altered_file), RV(repaired_file) and C(progress.log) are written; made if it is not there.
      - The last of these can be watched during a long run.
    type: path
    required: true
  settle_seconds:
    description: How long the counters must have stayed at zero. They are approximate, so on AWS this is minutes.
    type: int
    default: 300
  timeout:
    description: How long to look again for what was found nowhere, in seconds, after everything was read once. 0 looks again once.
    type: int
    default: 900
  read_rate:
    description: Read units a second that are taken at most, on average. 0 sets no limit.
    type: float
    default: 20
  read_capacity:
    description: The table's read units a second on AWS, by which RV(aws_seconds) is computed.
    type: int
    default: 25
  queue_retention:
    description: How long the queue keeps a message, in seconds.
    type: int
    default: 345600
  overdue_seconds:
    description: From this age on, in seconds, a transaction in flight fails a check.
    type: int
    default: 3700
  quarantine_age:
    description: From this age on, in seconds, a quarantined message fails a check. SQS deletes it at fourteen days.
    type: int
    default: 864000
  await_unsent:
    description: Look also for what the ledgers say is not sent yet, as after C(resend). What has not arrived by O(timeout) fails a check.
    type: bool
    default: false
  other_senders:
    description:
      - Whether others than the producers may send to the queue.
      - If they may not, records of the table and of the quarantine that are in no ledger fail a check; if they may, they are counted.
    type: str
    choices: [forbidden, allowed]
    default: forbidden
  repair_altered:
    description:
      - Delete the altered items, so that RV(repaired_file) can be sent again.
      - An id is in that file, on disk, before its item is deleted, and an item is only deleted while it still is what it was read as. A
        transaction whose body the ledger has pruned is left alone.
    type: bool
    default: false
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
notes:
  - Needs C(dynamodb:DescribeTable), C(dynamodb:Scan) and C(dynamodb:BatchGetItem) on the table, and C(dynamodb:DeleteItem) to repair;
    C(sqs:GetQueueAttributes) on both queues; C(sqs:ReceiveMessage) and C(sqs:ChangeMessageVisibility) on the dead-letter queue.
  - In check mode it reads all the same, and says how many items it would delete.
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Reconcile
  pipeline_reconciliation:
    ledgers: ["{{ producer_service_ledger_directory }}/web-1.jsonl.gz"]
    table: "{{ transaction_table_name }}"
    queue_url: "{{ transaction_queue_url }}"
    dead_letter_queue_url: "{{ transaction_queue_dead_letter_url }}"
    report_directory: "{{ reconciliation_directory }}"
    settle_seconds: "{{ reconciliation_settle_seconds }}"
  register: reconciliation
"""

RETURN = r"""
checks:
  description: One entry for each thing that was looked at.
  returned: always
  type: list
  elements: dict
  contains:
    check: {description: What was checked., type: str, sample: "reconciliation: nothing is lost"}
    passed: {description: Whether it was so., type: bool}
    expected: {description: What ought to be., type: str}
    found: {description: What was found., type: str}
    seconds: {description: Time spent on this check alone., type: float}
    remedy: {description: What to do when it failed., type: str}
counts:
  description:
    - "C(sent), C(stored), C(quarantined), C(in_flight), C(lost), C(altered), C(doubled), C(unknown), C(unsent), C(copies), C(repaired),
      C(archived)."
    - A count is null when it is not known. All are null when something could not be read, and C(unknown) when the table was asked for ids.
  returned: always
  type: dict
settled_through:
  description: By ledger, the sequence up to which every entry is stored, or was purged to an archive.
  returned: always
  type: dict
  sample: {"web-1-3fa9c2": 1234}
lost_file:
  description: JSON lines with the C(outbox_id) and C(transaction_id) of what is lost and can be sent again; what C(resend --lost) takes.
  returned: always
  type: str
altered_file:
  description: The same of what is altered.
  returned: always
  type: str
repaired_file:
  description: The same of what O(repair_altered) deleted, now or in a run that was interrupted, and that is not stored yet.
  returned: always
  type: str
repaired:
  description: How many altered items were deleted, or in check mode would be.
  returned: always
  type: int
to_resend:
  description: How many entries the files for C(resend --lost) have, C(lost) and C(repaired); the latter is 0 without O(repair_altered).
  returned: always
  type: dict
report_file:
  description: JSON with everything, all ids included.
  returned: always
  type: str
plan:
  description: How the table was read and why, C(method), C(batch_get_units), C(scan_units).
  returned: always
  type: dict
read_units:
  description: Read units that were used.
  returned: always
  type: float
aws_seconds:
  description: How many seconds these take on AWS at O(read_capacity).
  returned: always
  type: float
"""

from pathlib import Path

from ansible.module_utils.pipeline.core.checks import system_clock
from ansible.module_utils.pipeline.core.terminal import printable
from ansible.module_utils.pipeline.quarantine.outcomes import ArchiveError
from ansible.module_utils.pipeline.reconciliation.artifacts import Progress, read_lines, write_lines, write_report
from ansible.module_utils.pipeline.reconciliation.ledger import LedgerError
from ansible.module_utils.pipeline.reconciliation.report import Limits, checks, counts, report
from ansible.module_utils.pipeline.reconciliation.run import Options, Reconciliation
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

NOT_NEGATIVE = ("timeout", "read_rate", "overdue_seconds", "quarantine_age")
POSITIVE = ("settle_seconds", "read_capacity", "queue_retention")


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "ledgers": {"type": "list", "elements": "str", "required": True},
            "kept_ledgers": {"type": "list", "elements": "str", "default": []},
            "missing_ledgers": {"type": "list", "elements": "str", "default": []},
            "quarantine_directory": {"type": "path"},
            "table": {"type": "str", "required": True},
            "queue_url": {"type": "str", "required": True},
            "dead_letter_queue_url": {"type": "str", "required": True},
            "report_directory": {"type": "path", "required": True},
            "settle_seconds": {"type": "int", "default": 300},
            "timeout": {"type": "int", "default": 900},
            "read_rate": {"type": "float", "default": 20},
            "read_capacity": {"type": "int", "default": 25},
            "queue_retention": {"type": "int", "default": 345600},
            "overdue_seconds": {"type": "int", "default": 3700},
            "quarantine_age": {"type": "int", "default": 864000},
            "await_unsent": {"type": "bool", "default": False},
            "other_senders": {"type": "str", "choices": ["forbidden", "allowed"], "default": "forbidden"},
            "repair_altered": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    for name in NOT_NEGATIVE + POSITIVE:
        if options[name] < 0 or (name in POSITIVE and not options[name]):
            module.fail_json(msg=f"{name} must be {'at least 1' if name in POSITIVE else '0 or more'}: found {options[name]}")

    clock, directory = system_clock(), Path(options["report_directory"])
    files = {name: directory / f"{name}.jsonl" for name in ("lost", "altered", "repaired")}
    limits = Limits(options["overdue_seconds"], options["quarantine_age"])
    progress = Progress(directory / "progress.log", clock)
    run = Reconciliation(
        module.client("sqs"),
        module.client("dynamodb"),
        options["table"],
        options["queue_url"],
        options["dead_letter_queue_url"],
        Options(
            ledgers=options["ledgers"],
            kept_ledgers=options["kept_ledgers"],
            missing_ledgers=options["missing_ledgers"],
            quarantine_directory=Path(options["quarantine_directory"]) if options["quarantine_directory"] else None,
            repaired=files["repaired"],
            settle_seconds=options["settle_seconds"],
            timeout=options["timeout"],
            rate=options["read_rate"] or None,
            queue_retention=options["queue_retention"],
            await_unsent=options["await_unsent"],
            others_allowed=options["other_senders"] == "allowed",
        ),
        clock,
        progress,
    )
    started = clock.monotonic()
    try:
        run.run()
        write_lines(files["lost"], (named.ids for named in run.book.lost() if named.resendable))
        write_lines(files["altered"], (named.ids for named in run.altered_to_resend()))
        write_report(directory / "reconciliation.json", *report(run, limits))
        found, counted = checks(run, limits, clock.monotonic() - started, str(directory / "reconciliation.json")), counts(run)
        repaired, to_resend = 0, {"lost": sum(named.resendable for named in run.book.lost()), "repaired": 0}
        if options["repair_altered"] and not run.error and not options["missing_ledgers"]:
            repaired = run.repair(delete=not module.check_mode)
            to_resend["repaired"] = len(read_lines(files["repaired"])) if not module.check_mode else 0
    except (ArchiveError, LedgerError) as error:
        module.fail_json(msg=printable(str(error)))
    except OSError as error:
        module.fail_json(msg=f"Cannot write to {directory}: {error}. Nothing was deleted that is not in {files['repaired']}.")
    module.exit_json(
        changed=bool(repaired),
        checks=found,
        counts=counted,
        settled_through={} if run.error else run.book.settled_through(),
        **{f"{name}_file": str(path) for name, path in files.items()},
        repaired=repaired,
        to_resend=to_resend,
        report_file=str(directory / "reconciliation.json"),
        plan=run.plan,
        read_units=run.reader.pace.units,
        aws_seconds=round(run.reader.pace.units / options["read_capacity"], 1),
    )


if __name__ == "__main__":
    main()
