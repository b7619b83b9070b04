#!/usr/bin/python
"""Ansible module: exactly one event source mapping between an SQS queue and a Lambda function."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_event_source_mapping
short_description: Manage the one mapping between an SQS queue and a Lambda function
description:
  - Ensures that there is exactly one event source mapping between the queue and the function, with these settings and no filter, or none.
  - Updates only what differs, deletes other mappings of the same pair, and waits until no change is in progress.
  - Never changes mappings from the same queue to another function. It returns them in RV(foreign_mappings) and warns of them, because two
    mappings split the messages of a queue.
  - Supports check mode, also when queue and function do not exist yet, and diff mode.
options:
  state: {description: Whether the mapping exists., type: str, choices: [present, absent], default: present}
  function_arn:
    description: ARN of the Lambda function. A mapping of the same function under another alias or version is deleted.
    type: str
    required: true
  event_source_arn: {description: ARN of the SQS queue., type: str, required: true}
  batch_size:
    description: Most messages in one invocation, 1 to 10,000. More than 10 needs a O(maximum_batching_window) of at least 1.
    type: int
    default: 10
  maximum_batching_window: {description: "Longest time to gather a batch, in seconds, 0 to 300.", type: int, default: 0}
  function_response_types:
    description: Response types the function may answer with. An empty list removes them.
    type: list
    elements: str
    choices: [ReportBatchItemFailures]
    default: [ReportBatchItemFailures]
  maximum_concurrency:
    description: Most concurrent invocations by this mapping, 2 to 1,000. Without it, an existing limit is removed.
    type: int
  enabled: {description: Whether the mapping polls the queue., type: bool, default: true}
  wait_timeout:
    description:
      - Longest wait for one state, in seconds.
      - Lambda may not know the permissions of a new role yet, so a call refused for that is retried for up to 60 seconds of this time.
    type: int
    default: 300
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
"""

EXAMPLES = r"""
- name: Let the function consume the queue
  lambda_event_source_mapping:
    function_arn: arn:aws:lambda:us-east-1:123456789012:function:ProcessFinancialStream
    event_source_arn: arn:aws:sqs:us-east-1:123456789012:FinancialTransactionQueue
    batch_size: 100
    maximum_batching_window: 1

- name: Stop it for good
  lambda_event_source_mapping:
    state: absent
    function_arn: arn:aws:lambda:us-east-1:123456789012:function:ProcessFinancialStream
    event_source_arn: arn:aws:sqs:us-east-1:123456789012:FinancialTransactionQueue
"""

RETURN = r"""
mapping:
  description:
    - The mapping after the run (in check mode as it was found). C(null) when there is none.
  returned: always
  type: dict
  sample:
    uuid: 9c1f0f6e-8a0c-4f57-8f0a-0d3b2b6d6f10
    function_arn: arn:aws:lambda:us-east-1:123456789012:function:ProcessFinancialStream
    event_source_arn: arn:aws:sqs:us-east-1:123456789012:FinancialTransactionQueue
    state: Enabled
    batch_size: 10
    maximum_batching_window: 0
    function_response_types: [ReportBatchItemFailures]
    maximum_concurrency: null
    enabled: true
    filters: []
deleted: {description: "UUIDs of the mappings that were deleted, or would be in check mode.", returned: always, type: list, elements: str}
foreign_mappings:
  description: Mappings from the same queue to another function, in the shape of RV(mapping).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible.module_utils.pipeline.release.mapping import MappingError, MappingManager, MappingSettings
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    params = module.params
    function, queue = params["function_arn"], params["event_source_arn"]
    with failing(module, f"Cannot manage the mapping of queue {queue}, function {function}", MappingError):
        manager = MappingManager(module.client("lambda"), function, queue, system_clock(), params["wait_timeout"], module.check_mode)
        outcome = manager.absent() if params["state"] == "absent" else manager.present(MappingSettings.of(params))
    for foreign in outcome.foreign_mappings:
        module.warn(
            f"Mapping {foreign['uuid']} feeds the same queue to {foreign['function_arn']}, so the two split its messages. "
            "It is not ours and was left alone: delete it if it should not be there."
        )
    module.exit_json(
        changed=outcome.changed,
        mapping=outcome.mapping,
        deleted=outcome.deleted,
        foreign_mappings=outcome.foreign_mappings,
        diff={"before": outcome.before, "after": outcome.after},
    )


if __name__ == "__main__":
    main()
