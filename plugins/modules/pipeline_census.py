#!/usr/bin/python
"""Count what a teardown would destroy."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pipeline_census
short_description: Count what a teardown would destroy
description:
  - Counts the items of tables (consistent scans, since the item count that DynamoDB keeps lags six hours) and the messages of queues.
  - Read-only. Absent tables and queues are reported as absent.
options:
  tables:
    description: Names of tables.
    type: list
    elements: str
    default: []
  queues:
    description: Names of queues.
    type: list
    elements: str
    default: []
  max_items:
    description:
      - Stop counting a table here and say "at least". A scan costs one read unit for every 4 KB.
    type: int
    default: 1000000
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
notes:
  - Needs C(dynamodb:Scan) on the tables; C(sqs:GetQueueUrl) and C(sqs:GetQueueAttributes) on the queues.
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Count what would be destroyed
  pipeline_census:
    tables: ["{{ pipeline_table_name }}"]
    queues: ["{{ pipeline_queue_name }}", "{{ pipeline_dead_letter_queue_name }}"]
  register: census

- name: Say what would be destroyed
  ansible.builtin.debug:
    msg: "{{ census.lines }}"
"""

RETURN = r"""
lines:
  description: A sentence for each table and queue, in the order given.
  returned: always
  type: list
  elements: str
  sample: ["table RealTimeTransactions: 1,234 items", "queue FinancialTransactionQueue: about 5 messages (2 in flight)", "table Y: absent"]
tables:
  description: One entry for each table.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str}
    state: {description: present or absent., type: str}
    item_count: {description: How many items were counted; 0 when it is absent., type: int}
    complete: {description: False when counting stopped at O(max_items)., type: bool}
queues:
  description: One entry for each queue. SQS counts approximately.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str}
    state: {description: present or absent., type: str}
    visible: {description: Messages that can be received., type: int}
    in_flight: {description: Messages received and not yet deleted., type: int}
    delayed: {description: Messages not yet visible., type: int}
total_items:
  description: Items in all tables together.
  returned: always
  type: int
total_messages:
  description: Messages in all queues together, visible, in flight and delayed.
  returned: always
  type: int
"""

from ansible.module_utils.pipeline_census_counts import count_items, count_messages, queue_line, table_line, total_of
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "tables": {"type": "list", "elements": "str", "default": []},
            "queues": {"type": "list", "elements": "str", "default": []},
            "max_items": {"type": "int", "default": 1_000_000},
        },
        supports_check_mode=True,
    )
    max_items = module.params["max_items"]
    if max_items < 1:
        module.fail_json(msg=f"max_items must be at least 1: found {max_items}")
    dynamodb, sqs = module.client("dynamodb"), module.client("sqs")
    try:
        tables = [count_items(dynamodb, name, max_items) for name in module.params["tables"]]
        queues = [count_messages(sqs, name) for name in module.params["queues"]]
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="Cannot count what would be destroyed")
    module.exit_json(
        changed=False,
        lines=[*map(table_line, tables), *map(queue_line, queues)],
        tables=tables,
        queues=queues,
        total_items=sum(table["item_count"] for table in tables),
        total_messages=sum(map(total_of, queues)),
    )


if __name__ == "__main__":
    main()
