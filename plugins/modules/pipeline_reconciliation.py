#!/usr/bin/python
"""Prove that sent = stored + quarantined + in flight, id by id."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pipeline_reconciliation
short_description: Prove that sent = stored + quarantined + in flight, id by id
description:
  - Compares the ledgers of the producers with the table, the queue's counters and the quarantine, and names each transaction that is lost,
    altered, doubled or in no ledger. C(docs/reconciliation.md) defines these. Changes nothing, unless O(repair_altered) is set.
  - Reads the table by BatchGetItem or by Scan, whichever takes fewer read units, and looks again for what it did not find.
  - SQS cannot say whether it holds a message. So a transaction is lost only if the queue's three counters have been zero for
    O(settle_seconds) and it still is neither in the table nor in the quarantine, or if it was sent longer ago than the queue keeps
    messages. Until then it is in flight.
  - Receives the messages of the quarantine, which hides them for that time, and releases them. It never receives from the queue.
  - A broken pipeline never fails this module. Each finding is a check; M(verification_report) fails if a check failed. But a ledger that is
    cut off, empty or malformed does fail the module, because it would prove nothing.
options:
  ledgers:
    description: Paths of what C(financial_producer.pyz ledger --json --bodies) exported (gzip). Several may hold the same transaction.
    type: list
    elements: str
    required: true
  kept_ledgers:
    description: The same of producers that are gone. Transactions that only these sent are compared, but neither repaired nor sent again.
    type: list
    elements: str
    default: []
  missing_ledgers:
    description: Producers whose ledger could not be fetched. They fail a check, and nothing is repaired, as they may have sent it.
    type: list
    elements: str
    default: []
  quarantine_directory:
    description:
      - Where M(transaction_quarantine) keeps its archives and its journal, if there are any.
      - A transaction that was purged to an archive, was not sent again since, and is nowhere else, is not lost. A replay counts as a send.
    type: path
  table: {description: Name of the table., type: str, required: true}
  queue_url: {description: URL of the transaction queue., type: str, required: true}
  dead_letter_queue_url: {description: "URL of the dead-letter queue, the quarantine.", type: str, required: true}
  report_directory:
    description: Folder of the files that are returned, and of C(progress.log), which can be watched; made if it is missing.
    type: path
    required: true
  settle_seconds: {description: Seconds for which the counters must have been zero. AWS needs minutes., type: int, default: 300}
  timeout: {description: Seconds to look again for what was not found. 0 looks again once., type: int, default: 900}
  read_rate: {description: "Most read units a second to use, on average. 0 sets no limit.", type: float, default: 20}
  queue_retention: {description: "How long the queue keeps a message, in seconds.", type: int, default: 345600}
  overdue_seconds: {description: "A transaction in flight fails a check from this age on, in seconds.", type: int, default: 3700}
  quarantine_age: {description: "A quarantined message fails a check from this age on, in seconds.", type: int, default: 864000}
  await_unsent: {description: "Look also for what is not sent yet, as after C(resend).", type: bool, default: false}
  other_senders:
    description: Whether others may send to the queue. If C(forbidden), records that are in no ledger fail a check.
    type: str
    choices: [forbidden, allowed]
    default: forbidden
  repair_altered:
    description:
      - Delete the altered items, so that RV(repaired_file) can be sent again. An id is in that file, on disk, before its item is deleted.
      - Not deleted are items that changed since they were read, and those whose body the ledger has pruned.
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
checks: {description: The checks for M(verification_report)., returned: always, type: list, elements: dict}
counts:
  description:
    - C(sent), C(stored), C(quarantined), C(in_flight), C(lost), C(altered), C(doubled), C(unknown), C(unsent), C(copies), C(repaired),
      C(archived). All are null when something could not be read, and C(unknown) when the table was asked for ids.
  returned: always
  type: dict
settled_through: {description: "By ledger, up to where all is stored or purged to an archive.", returned: always, type: dict}
lost_file: {description: "What is lost and can be sent again, as C(resend --lost) takes it.", returned: always, type: str}
altered_file: {description: The same for altered transactions., returned: always, type: str}
repaired_file: {description: "The same of what O(repair_altered) deleted, and that is not stored yet.", returned: always, type: str}
repaired: {description: "How many altered items were deleted, or in check mode would be.", returned: always, type: int}
to_resend: {description: "How many entries RV(lost_file) and, after a repair, RV(repaired_file) have.", returned: always, type: dict}
report_file: {description: "JSON with everything, all ids and the read units included.", returned: always, type: str}
"""

from pathlib import Path

from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import OptionError, argument_spec, failing, require_least
from ansible.module_utils.pipeline.core.terminal import printable
from ansible.module_utils.pipeline.quarantine.archive import ArchiveError
from ansible.module_utils.pipeline.reconciliation.artifacts import Progress, read_lines, write_lines, write_report
from ansible.module_utils.pipeline.reconciliation.ledger import LedgerError
from ansible.module_utils.pipeline.reconciliation.report import checks, counts, report
from ansible.module_utils.pipeline.reconciliation.run import Options, Reconciliation
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

# Fields of Options that are options of the module by the same name.
SAME = ("ledgers", "kept_ledgers", "missing_ledgers", "settle_seconds", "timeout", "queue_retention", "overdue_seconds", "quarantine_age")


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    with failing(module, "Cannot reconcile", OptionError):
        require_least(options, settle_seconds=1, queue_retention=1, timeout=0, read_rate=0, overdue_seconds=0, quarantine_age=0)

    clock, directory = system_clock(), Path(options["report_directory"])
    everything = directory / "reconciliation.json"
    files = {name: directory / f"{name}.jsonl" for name in ("lost", "altered", "repaired")}
    progress = Progress(directory / "progress.log", clock)
    run = Reconciliation(
        module.client("sqs"),
        module.client("dynamodb"),
        options["table"],
        options["queue_url"],
        options["dead_letter_queue_url"],
        Options(
            **{name: options[name] for name in SAME},
            quarantine_directory=Path(options["quarantine_directory"]) if options["quarantine_directory"] else None,
            repaired=files["repaired"],
            rate=options["read_rate"],
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
        write_lines(files["altered"], (one.named.ids for one in run.matcher.altered() if one.named.resendable))
        write_report(everything, *report(run))
        found = checks(run, clock.monotonic() - started, str(everything))
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
        counts=counts(run),
        settled_through={} if run.error else run.matcher.settled_through(),
        **{f"{name}_file": str(path) for name, path in files.items()},
        repaired=repaired,
        to_resend=to_resend,
        report_file=str(everything),
    )


if __name__ == "__main__":
    main()
