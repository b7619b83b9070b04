#!/usr/bin/python
"""Prove that sent = stored + quarantined + in flight, id by id."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pipeline_reconciliation
short_description: Prove that sent = stored + quarantined + in flight, id by id
description:
  - Compares the ledgers of the producers with the table, the queue's counters and the quarantine, and names each transaction that is lost,
    altered, doubled or in no ledger. C(docs/reconciliation.md) defines these.
  - Reads the table by BatchGetItem or by Scan, whichever takes fewer read units, consistently, and at O(read_rate). It looks again for
    transactions that it did not find, until it finds them or can decide.
  - SQS cannot say whether it holds a message. So a transaction is lost only if the queue's three counters have been zero for
    O(settle_seconds) and it still is neither in the table nor in the quarantine, or if it was sent longer ago than the queue keeps
    messages. Until then it is in flight.
  - Receives the messages of the quarantine, which hides them for that time, and releases them. It never receives from the queue.
  - Memory stays bounded for any number of transactions; the rest is in temporary files.
  - A broken pipeline never fails this module. Each finding is a check; M(verification_report) fails if a check failed. But a ledger that is
    cut off, empty or malformed does fail the module, because it would prove nothing.
  - Changes nothing, unless O(repair_altered) is set.
options:
  ledgers:
    description:
      - Paths, on this machine, of what C(financial_producer.pyz ledger --json --bodies) exported (gzip), one for each ledger.
      - Several may hold the same transaction.
    type: list
    elements: str
    required: true
  kept_ledgers:
    description: The same of producers that are gone. Transactions that only these sent are compared, but neither repaired nor sent again.
    type: list
    elements: str
    default: []
  missing_ledgers:
    description:
      - Names of producers whose ledger could not be fetched. They fail a check.
      - While there are any, nothing is repaired, because one of them may have sent what looks altered.
    type: list
    elements: str
    default: []
  quarantine_directory:
    description:
      - Where, on this machine, M(transaction_quarantine) keeps its archives (C(*.jsonl.gz)) and its journal, if there are any.
      - A transaction that was purged to an archive, was not sent again since, and is nowhere else, is not lost. A replay counts as a send.
    type: path
  table: {description: Name of the table., type: str, required: true}
  queue_url: {description: URL of the transaction queue., type: str, required: true}
  dead_letter_queue_url: {description: "URL of the dead-letter queue, the quarantine.", type: str, required: true}
  report_directory:
    description:
      - Where RV(report_file), RV(lost_file), RV(altered_file), RV(repaired_file) and C(progress.log) are written; made if it is missing.
      - C(progress.log) can be watched during a long run.
    type: path
    required: true
  settle_seconds:
    description: Seconds for which the counters must have been zero. They are approximate, so AWS needs minutes.
    type: int
    default: 300
  timeout:
    description: Seconds to look again for what was not found, after everything was read once. 0 looks again once.
    type: int
    default: 900
  read_rate: {description: "Most read units a second to use, on average. 0 sets no limit.", type: float, default: 20}
  read_capacity: {description: "The table's read units a second on AWS, from which RV(aws_seconds) is computed.", type: int, default: 25}
  queue_retention: {description: "How long the queue keeps a message, in seconds.", type: int, default: 345600}
  overdue_seconds: {description: "A transaction in flight fails a check from this age on, in seconds.", type: int, default: 3700}
  quarantine_age:
    description: A quarantined message fails a check from this age on, in seconds. SQS deletes it after fourteen days.
    type: int
    default: 864000
  await_unsent:
    description: Look also for entries that are not sent yet, as after C(resend). What is missing after O(timeout) fails a check.
    type: bool
    default: false
  other_senders:
    description:
      - Whether anybody but the producers may send to the queue.
      - If C(forbidden), records of the table and of the quarantine that are in no ledger fail a check; if C(allowed), they are counted.
    type: str
    choices: [forbidden, allowed]
    default: forbidden
  repair_altered:
    description:
      - Delete the altered items, so that RV(repaired_file) can be sent again.
      - An id is in that file, on disk, before its item is deleted. An item is deleted only if it has not changed since it was read. A
        transaction whose body the ledger has pruned is not deleted.
    type: bool
    default: false
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
notes:
  - Needs C(dynamodb:DescribeTable), C(dynamodb:Scan) and C(dynamodb:BatchGetItem) on the table, and C(dynamodb:DeleteItem) to repair;
    C(sqs:GetQueueAttributes) on both queues; C(sqs:ReceiveMessage) and C(sqs:ChangeMessageVisibility) on the dead-letter queue.
  - In check mode it reads as always, and says how many items it would delete.
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
altered_file: {description: The same for altered transactions., returned: always, type: str}
repaired_file:
  description: The same of what O(repair_altered) deleted, now or in a run that was interrupted, and that is not stored yet.
  returned: always
  type: str
repaired: {description: "How many altered items were deleted, or in check mode would be.", returned: always, type: int}
to_resend:
  description: How many entries the files for C(resend --lost) have, C(lost) and C(repaired); the latter is 0 without O(repair_altered).
  returned: always
  type: dict
report_file: {description: "JSON with everything, all ids included.", returned: always, type: str}
plan: {description: "How the table was read and why, C(method), C(batch_get_units), C(scan_units).", returned: always, type: dict}
read_units: {description: Read units that were used., returned: always, type: float}
aws_seconds: {description: How many seconds these take on AWS at O(read_capacity)., returned: always, type: float}
"""

from pathlib import Path

from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import OptionError, argument_spec, failing, require_least
from ansible.module_utils.pipeline.core.terminal import printable
from ansible.module_utils.pipeline.quarantine.archive import ArchiveError
from ansible.module_utils.pipeline.reconciliation.artifacts import Progress, read_lines, write_lines, write_report
from ansible.module_utils.pipeline.reconciliation.ledger import LedgerError
from ansible.module_utils.pipeline.reconciliation.report import Limits, checks, counts, report
from ansible.module_utils.pipeline.reconciliation.run import Options, Reconciliation
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

LEAST = {"settle_seconds": 1, "read_capacity": 1, "queue_retention": 1}
LEAST |= {"timeout": 0, "read_rate": 0, "overdue_seconds": 0, "quarantine_age": 0}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    with failing(module, "Cannot reconcile", OptionError):
        require_least(options, **LEAST)

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
        write_lines(files["lost"], (named.ids for named in run.matcher.lost() if named.resendable))
        write_lines(files["altered"], (named.ids for named in run.altered_to_resend()))
        write_report(directory / "reconciliation.json", *report(run, limits))
        found, counted = checks(run, limits, clock.monotonic() - started, str(directory / "reconciliation.json")), counts(run)
        repaired, to_resend = 0, {"lost": sum(named.resendable for named in run.matcher.lost()), "repaired": 0}
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
        settled_through={} if run.error else run.matcher.settled_through(),
        **{f"{name}_file": str(path) for name, path in files.items()},
        repaired=repaired,
        to_resend=to_resend,
        report_file=str(directory / "reconciliation.json"),
        plan=run.plan,
        read_units=run.reader.capacity.used,
        aws_seconds=round(run.reader.capacity.used / options["read_capacity"], 1),
    )


if __name__ == "__main__":
    main()
