#!/usr/bin/python
"""Write what a pipeline holds to files that outlive it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pipeline_export
short_description: Write what a pipeline holds to files that outlive it
description:
  - Writes the table, the quarantine and the producers' ledgers as gzipped JSON lines, and a list of them with their SHA-256.
  - Every export is a directory of its own, named by the time (UTC). It is there whole or not at all, and its owner alone may read it.
  - Streams, so that its memory does not grow with the table. Changes nothing in the cloud; messages it reads are hidden meanwhile.
  - What is absent is not exported; where nothing is there at all, no directory is made.
options:
  directory:
    description: Where the directory of this export is made.
    type: path
    required: true
  environment:
    description: Name of the environment, for the list.
    type: str
    required: true
  table:
    description: Name of the table.
    type: str
    required: true
  dead_letter_queue:
    description: Name of the quarantine's queue.
    type: str
    required: true
  ledgers:
    description: Files of ledgers as the producers export them. A ledger that is not whole fails the module.
    type: list
    elements: path
    default: []
  rejected:
    description: Files of the rejected lines of feeds, as the producers list them, gzipped.
    type: list
    elements: path
    default: []
  read_capacity:
    description: Read units a second that the table has; 0 for one on demand. What it saved up in five minutes is used at once.
    type: int
    default: 0
  timeout:
    description: Seconds within which the quarantine must have been read; so long its messages may be hidden.
    type: int
    default: 900
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
notes:
  - Needs C(dynamodb:Scan) and C(dynamodb:DescribeTable) on the table; C(sqs:GetQueueUrl), C(sqs:GetQueueAttributes), C(sqs:ReceiveMessage)
    and C(sqs:ChangeMessageVisibility) on the queue.
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Keep what is about to be deleted
  pipeline_export:
    directory: "{{ teardown_export_directory }}"
    environment: "{{ pipeline_environment }}"
    table: "{{ transaction_table_name }}"
    dead_letter_queue: "{{ transaction_queue_dead_letter_name }}"
    ledgers: ["{{ producer_service_ledger }}"]
    read_capacity: "{{ transaction_table_read_capacity }}"
"""

RETURN = r"""
directory:
  description: Where the files are; empty where there was nothing to export, and in check mode.
  returned: always
  type: str
lines:
  description: A sentence for each file.
  returned: always
  type: list
  elements: str
  sample: ["table RealTimeTransactions: 1,234 in table.jsonl.gz (98,765 bytes)"]
files:
  description: One entry for each file.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Its name in the directory., type: str}
    source: {description: What it was read from., type: str}
    records: {description: How many records it has., type: int}
    bytes: {description: Its size., type: int}
    sha256: {description: Its SHA-256 in hexadecimal., type: str}
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.pipeline.aws.paging import unless_missing
from ansible.module_utils.pipeline.aws.queue import QUEUE_ABSENT
from ansible.module_utils.pipeline.aws.read_capacity import BURST_SECONDS, ReadCapacity
from ansible.module_utils.pipeline.aws.table import TABLE_ABSENT, TableReader
from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.terminal import printable
from ansible.module_utils.pipeline.export.run import ExportError, export
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "environment": {"type": "str", "required": True},
            "table": {"type": "str", "required": True},
            "dead_letter_queue": {"type": "str", "required": True},
            "ledgers": {"type": "list", "elements": "path", "default": []},
            "rejected": {"type": "list", "elements": "path", "default": []},
            "read_capacity": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    wanted, clock = module.params, system_clock()
    dynamodb, sqs = module.client("dynamodb"), module.client("sqs")
    try:
        table = unless_missing(dynamodb.describe_table, TABLE_ABSENT, TableName=wanted["table"])
        queue = unless_missing(sqs.get_queue_url, QUEUE_ABSENT, QueueName=wanted["dead_letter_queue"])
        is_anything = bool(table or queue or wanted["ledgers"])
        if module.check_mode or not is_anything:
            module.exit_json(changed=is_anything, directory="", lines=[], files=[])
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
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="Cannot export, and keep nothing of it")
    except (ExportError, OSError) as error:
        module.fail_json(msg=printable(f"Cannot export, and keep nothing of it: {error}"))
    module.exit_json(changed=True, directory=str(made.directory), lines=made.lines, files=[asdict(file) for file in made.files])


if __name__ == "__main__":
    main()
