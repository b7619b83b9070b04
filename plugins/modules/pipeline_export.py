#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: pipeline_export
short_description: Write what a pipeline holds to files that outlive it
description:
  - Writes the table, the quarantine and the producers' ledgers as gzipped JSON lines, and a list of these files with their SHA-256.
  - Every export is a directory of its own, named by the time (UTC). It is complete or does not exist, and only its owner may read it.
  - Changes nothing in the cloud, but hides messages while it reads them. Skips what is absent, and makes no directory for nothing.
options:
  directory: {description: Folder in which the directory of this export is made., type: path, required: true}
  environment: {description: "Name of the environment, for the list.", type: str, required: true}
  table: {description: Name of the table., type: str, required: true}
  dead_letter_queue: {description: Name of the quarantine's queue., type: str, required: true}
  ledgers: {description: Ledgers as the producers export them. Fails if one is incomplete., type: list, elements: path, default: []}
  rejected: {description: "Rejected feed lines, gzipped, as the producers list them.", type: list, elements: path, default: []}
  read_capacity: {description: The table's read units a second; 0 if it is on demand., type: int, default: 0}
  timeout: {description: Seconds to read the quarantine in. Its messages may be hidden for so long., type: int, default: 900}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
notes:
  - Needs C(dynamodb:Scan) and C(dynamodb:DescribeTable) on the table; C(sqs:GetQueueUrl), C(sqs:GetQueueAttributes), C(sqs:ReceiveMessage)
    and C(sqs:ChangeMessageVisibility) on the queue.
"""

EXAMPLES = r"""
- name: Export what is about to be deleted
  pipeline_export:
    directory: "{{ teardown_export_directory }}"
    environment: "{{ pipeline_environment }}"
    table: "{{ transaction_table_name }}"
    dead_letter_queue: "{{ transaction_queue_dead_letter_name }}"
    ledgers: ["{{ producer_service_ledger }}"]
    read_capacity: "{{ transaction_table_read_capacity }}"
"""

RETURN = r"""
directory: {description: "Where the files are. Empty in check mode, and if there was nothing to export.", returned: always, type: str}
lines: {description: A sentence for each file., returned: always, type: list, elements: str}
files: {description: "Of each file C(name), C(source), C(records), C(bytes), C(sha256).", returned: always, type: list, elements: dict}
"""

from pathlib import Path

from ansible.module_utils.pipeline.aws.paging import unless_missing
from ansible.module_utils.pipeline.aws.read_capacity import BURST_SECONDS, ReadCapacity
from ansible.module_utils.pipeline.aws.table import TableReader
from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible.module_utils.pipeline.core.terminal import printable
from ansible.module_utils.pipeline.export.run import ExportError, export
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

CANNOT = "Cannot export, and keep nothing of it"


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    wanted, clock = module.params, system_clock()
    dynamodb, sqs = module.client("dynamodb"), module.client("sqs")
    with failing(module, CANNOT):
        table = unless_missing(dynamodb.describe_table, TableName=wanted["table"])
        queue = unless_missing(sqs.get_queue_url, QueueName=wanted["dead_letter_queue"])
        is_anything = bool(table or queue or wanted["ledgers"])
        if module.check_mode or not is_anything:
            module.exit_json(changed=is_anything, directory="", lines=[], files=[])
        try:
            with export(Path(wanted["directory"]), clock.now().strftime("%Y%m%dT%H%M%SZ"), wanted["environment"]) as made:
                for path in wanted["ledgers"]:
                    made.ledger(Path(path))
                for path in wanted["rejected"]:
                    made.rejected(Path(path))
                if table:
                    capacity = ReadCapacity(clock, wanted["read_capacity"], BURST_SECONDS)
                    made.table(TableReader(dynamodb, wanted["table"], clock, capacity), wanted["table"])
                if queue:
                    made.quarantine(sqs, queue["QueueUrl"], clock, wanted["timeout"])
        except (ExportError, OSError) as error:
            module.fail_json(msg=printable(f"{CANNOT}: {error}"))
    module.exit_json(changed=True, directory=str(made.directory), lines=made.lines, files=made.files)


if __name__ == "__main__":
    main()
