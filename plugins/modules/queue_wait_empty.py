#!/usr/bin/python
"""Wait until a queue is empty."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: queue_wait_empty
short_description: Wait until a queue is empty
description:
  - Asks for the counters of the queue (visible, in flight, delayed) until all of them have been zero for some seconds, or the time is up.
  - Read-only. A queue that is not empty is no failure; an absent one is empty.
options:
  queue:
    description: Name of the queue.
    type: str
    required: true
  seconds:
    description: How long to wait.
    type: float
    required: true
  quiet:
    description: For how many seconds the counters must be zero. SQS counts approximately.
    type: float
    default: 2
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
notes:
  - Needs C(sqs:GetQueueUrl) and C(sqs:GetQueueAttributes) on the queue.
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Wait until the queue is empty
  queue_wait_empty:
    queue: "{{ transaction_queue_name }}"
    seconds: 60
  register: drained
"""

RETURN = r"""
empty:
  description: Whether all counters were zero for O(quiet) seconds.
  returned: always
  type: bool
line:
  description: The last count in words.
  returned: always
  type: str
  sample: "queue FinancialTransactionQueue: about 5 messages (2 in flight)"
messages:
  description: The last count, visible, in flight and delayed together.
  returned: always
  type: int
"""

from ansible.module_utils.pipeline.aws.queue import queue_line, total_of, wait_until_empty
from ansible.module_utils.pipeline.core.clock import system_clock
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "queue": {"type": "str", "required": True},
            "seconds": {"type": "float", "required": True},
            "quiet": {"type": "float", "default": 2.0},
        },
        supports_check_mode=True,
    )
    queue, seconds, quiet = (module.params[name] for name in ("queue", "seconds", "quiet"))
    try:
        counted = wait_until_empty(module.client("sqs"), queue, system_clock(), seconds, quiet)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"Cannot count the messages of queue {queue}")
    module.exit_json(changed=False, empty=counted["empty"], line=queue_line(counted), messages=total_of(counted))


if __name__ == "__main__":
    main()
