#!/usr/bin/python
"""Wait until given transactions are in the table, and say which are not."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: transaction_lookup
short_description: Wait until given transactions are in the table, and say which are not
description:
  - Reads the table by id, consistently (BatchGetItem), until every id is there or the time is up.
  - Read-only. A missing transaction, table or permission is a failed check, never a failed task.
options:
  table:
    description: Name of the table.
    type: str
    required: true
  transaction_ids:
    description:
      - The ids to look for; one that is given twice is looked for once.
      - An empty list is a failed check, for it would prove nothing.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds to wait for all of them.
    type: int
    default: 60
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
notes:
  - Needs C(dynamodb:BatchGetItem) on the table.
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Look up what the producer says it sent
  transaction_lookup:
    table: "{{ pipeline_table_name }}"
    transaction_ids: "{{ logged_ids }}"
    timeout: "{{ pipeline_verify_timeout }}"
  register: lookup
"""

RETURN = r"""
checks:
  description: One check.
  returned: always
  type: list
  elements: dict
  contains:
    check: {description: What was checked., type: str, sample: "producer: the ids it logged are in the table"}
    passed: {description: Whether it was so., type: bool}
    expected: {description: What ought to be., type: str}
    found: {description: What was found., type: str}
    seconds: {description: Time spent on this check alone., type: float}
    remedy: {description: What to do when it failed., type: str}
found:
  description: The ids that are in the table, in the order given.
  returned: always
  type: list
  elements: str
missing:
  description: The ids that are not, in the order given.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.consistent_items import lookup_check, wait_for_items
from ansible.module_utils.pipeline_checks import system_clock
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "table": {"type": "str", "required": True},
            "transaction_ids": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    table, ids, timeout = (module.params[name] for name in ("table", "transaction_ids", "timeout"))
    if timeout < 0:
        module.fail_json(msg=f"timeout must not be negative: found {timeout}")
    lookup = wait_for_items(module.client("dynamodb"), table, ids, system_clock(), timeout)
    found = [one for one in dict.fromkeys(ids) if one in lookup.found]
    module.exit_json(changed=False, checks=[lookup_check(table, lookup)], found=found, missing=lookup.missing)


if __name__ == "__main__":
    main()
