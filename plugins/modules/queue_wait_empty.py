#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: queue_wait_empty
short_description: Wait until a queue is empty
description:
  - Reads the counters of the queue (visible, in flight, delayed) until all have been zero for some seconds, or the time is over.
  - Read-only. It does not fail if the queue is not empty. An absent queue is empty.
options:
  queue: {description: Name of the queue., type: str, required: true}
  seconds: {description: Longest time to wait., type: float, required: true}
  quiet: {description: For how many seconds the counters must be zero. SQS counts approximately., type: float, default: 2}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
notes:
  - Needs C(sqs:GetQueueUrl) and C(sqs:GetQueueAttributes) on the queue.
"""

EXAMPLES = r"""
- name: Wait until the queue is empty
  queue_wait_empty:
    queue: "{{ transaction_queue_name }}"
    seconds: 60
  register: drained
"""

RETURN = r"""
empty: {description: Whether all counters were zero for O(quiet) seconds., returned: always, type: bool}
line: {description: The last count in words., returned: always, type: str}
messages: {description: "The last count, visible, in flight and delayed together.", returned: always, type: int}
"""

from ansible.module_utils.pipeline.aws.queue import queue_line, total_of, wait_until_empty
from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    queue, seconds, quiet = (module.params[name] for name in ("queue", "seconds", "quiet"))
    with failing(module, f"Cannot count the messages of queue {queue}"):
        counted = wait_until_empty(module.client("sqs"), queue, system_clock(), seconds, quiet)
    module.exit_json(changed=False, empty=counted["empty"], line=queue_line(counted), messages=total_of(counted))


if __name__ == "__main__":
    main()
