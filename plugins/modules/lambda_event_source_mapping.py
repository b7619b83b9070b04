#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_event_source_mapping
short_description: Manage the one mapping between an SQS queue and a Lambda function
description:
  - Ensures that there is exactly one event source mapping between the queue and the function, enabled, with these settings and no filter,
    or none. Updates only what differs, deletes other mappings of the same pair, and waits until no change is in progress.
  - Never changes mappings from the same queue to another function, but warns of them, because two mappings split the messages of a queue.
  - Retries a call that is refused because Lambda does not know the permissions of a new role yet, for up to a minute.
  - Supports check mode, also when queue and function do not exist yet, and diff mode.
options:
  state: {description: Whether the mapping exists., type: str, choices: [present, absent], default: present}
  function_arn:
    description: ARN of the Lambda function. A mapping of the same function under another alias or version is deleted.
    type: str
    required: true
  event_source_arn: {description: ARN of the SQS queue., type: str, required: true}
  batch_size:
    description: Most messages in an invocation, 1 to 10,000. More than 10 needs a O(maximum_batching_window) of at least 1.
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
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
"""

EXAMPLES = r"""
- name: Let the function consume the queue
  lambda_event_source_mapping:
    function_arn: arn:aws:lambda:us-east-1:123456789012:function:ProcessFinancialStream
    event_source_arn: arn:aws:sqs:us-east-1:123456789012:FinancialTransactionQueue
    batch_size: 100
    maximum_batching_window: 1
"""

RETURN = r"""
mapping:
  description: >-
    The mapping after the run (in check mode as it was found), with C(uuid), C(function_arn), C(event_source_arn), C(state) and every
    setting. C(null) when there is none.
  returned: always
  type: dict
deleted: {description: "UUIDs of the mappings that were deleted, or would be in check mode.", returned: always, type: list, elements: str}
foreign_mappings: {description: Mappings from the queue to other functions., returned: always, type: list, elements: dict}
"""

from ansible.module_utils.pipeline.core.clock import system_clock
from ansible.module_utils.pipeline.core.module import argument_spec, failing, with_diff
from ansible.module_utils.pipeline.release.mapping import MappingError, MappingManager, MappingSettings
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    params = module.params
    function, queue = params["function_arn"], params["event_source_arn"]
    with failing(module, f"Cannot manage the mapping of queue {queue}, function {function}", MappingError):
        manager = MappingManager(module.client("lambda"), function, queue, system_clock(), check_mode=module.check_mode)
        outcome = manager.absent() if params["state"] == "absent" else manager.present(MappingSettings.of(params))
    for foreign in outcome.foreign_mappings:
        module.warn(
            f"Mapping {foreign['uuid']} feeds the same queue to {foreign['function_arn']}, so the two split its messages. "
            "It is not ours and was left alone: delete it if it should not be there."
        )
    module.exit_json(**with_diff(outcome))


if __name__ == "__main__":
    main()
