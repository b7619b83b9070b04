#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: pipeline_probe
short_description: Send known transactions through the pipeline and check the outcome of each
description:
  - Sends its own transactions (ids C(verify-<uuid4>)) to the queue. They cover every category, the amounts at and one cent below each
    threshold, and cents that a binary float cannot hold. One invalid record has no amount.
  - Waits until all are stored, reads each by its id (consistently) and compares every field exactly, money as decimals.
  - Finds each id in the function's log, and the invalid record in the log and in the dead-letter queue. It reads that queue only as far
    as needed, and releases every other message at once.
  - Removes its own records and its own dead-letter message, also if a check fails or the module is interrupted. A failed check names
    what it could not remove. It never receives from the transaction queue, because that would use up receives of real transactions.
  - A broken pipeline never fails this module. Each finding is a check; M(verification_report) fails if a check failed.
  - In check mode it sends nothing and is skipped.
options:
  queue_url: {description: URL of the transaction queue., type: str, required: true}
  dead_letter_queue_url: {description: URL of the dead-letter queue., type: str, required: true}
  table: {description: Name of the table., type: str, required: true}
  log_group: {description: Name of the function's log group., type: str, required: true}
  high_value_threshold:
    description: Amounts from here up are C(high_value). A quoted decimal number, because YAML would make a float of it.
    type: str
    required: true
  medium_value_threshold:
    description: Amounts from here up to O(high_value_threshold) are C(medium_value); the rest are C(standard).
    type: str
    required: true
  timeout:
    description: >-
      Seconds to wait until everything is stored, and then again until the invalid record is in the dead-letter queue. If something is not
      stored in time, the remaining checks wait a few seconds only.
    type: int
    default: 60
  log_timeout:
    description: >-
      Seconds to wait for the log lines after everything is stored. CloudWatch can take minutes; the check of a line that is late is
      C(unchecked), which is no failure, unless the log cannot be read.
    type: int
    default: 180
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
"""

EXAMPLES = r"""
- name: Check the pipeline end to end
  pipeline_probe:
    queue_url: "{{ transaction_queue_url }}"
    dead_letter_queue_url: "{{ transaction_queue_dead_letter_url }}"
    table: "{{ transaction_table_name }}"
    log_group: "{{ stream_processor_log_group }}"
    high_value_threshold: "{{ stream_processor_high_value_threshold }}"
    medium_value_threshold: "{{ stream_processor_medium_value_threshold }}"
"""

RETURN = r"""
checks:
  description: One entry for each thing that was looked at, as M(verification_report) takes them. Absent in check mode.
  returned: when not in check mode
  type: list
  elements: dict
transaction_ids: {description: "The ids sent, the invalid record's last.", returned: when not in check mode, type: list, elements: str}
left_behind: {description: Those of its records that are not known to be gone., returned: when not in check mode, type: list, elements: str}
"""

from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.interruption import Interruption, interruptible
from ansible.module_utils.pipeline.core.module import OptionError, argument_spec, failing
from ansible.module_utils.pipeline.probe.run import PipelineProbe, clients_of, targets_of, thresholds_of
from ansible.module_utils.pipeline.probe.senders import QueueSender
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    with failing(module, "Cannot probe the pipeline", OptionError):
        thresholds = thresholds_of(options)
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="The probe sends nothing in check mode, so it has nothing to check.")
    clients, clock = clients_of(module), system_clock()
    sender = QueueSender(clients.sqs, options["queue_url"], clock)
    probe = PipelineProbe(clients, targets_of(options), thresholds, sender, clock)
    try:
        with interruptible():
            probe.run(options["timeout"], options["log_timeout"])
    except Interruption as signalled:
        left = ", ".join(probe.outcome.left_behind)
        removed = f"Not known to be gone: {left}." if left else "Its own records are removed."
        module.fail_json(msg=f"The probe was interrupted by {signalled}. {removed}", **vars(probe.outcome))
    module.exit_json(changed=False, **vars(probe.outcome))


if __name__ == "__main__":
    main()
