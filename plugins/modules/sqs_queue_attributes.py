#!/usr/bin/python
"""Set the attributes of a queue that community.aws.sqs_queue does not know."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sqs_queue_attributes
short_description: Set attributes of an SQS queue by the names that SQS has for them
description:
  - Sets the attributes that differ, in one call of SetQueueAttributes, and leaves all others as they are.
  - For those that M(community.aws.sqs_queue) does not set, such as C(RedriveAllowPolicy) and C(SqsManagedSseEnabled).
  - The queue must exist, except in check mode.
options:
  queue:
    description: Name of the queue.
    type: str
    required: true
  attributes:
    description: Attributes by SQS's names. A dict is compared and sent as JSON; an empty value takes the attribute away.
    type: dict
    required: true
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
notes:
  - Supports check mode and diff mode.
  - Needs C(sqs:GetQueueUrl), C(sqs:GetQueueAttributes) and C(sqs:SetQueueAttributes) on the queue.
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Let one queue alone send its dead letters there
  sqs_queue_attributes:
    queue: FinancialTransactionQueue-dlq
    attributes:
      RedriveAllowPolicy:
        redrivePermission: byQueue
        sourceQueueArns: [arn:aws:sqs:us-east-1:123456789012:FinancialTransactionQueue]
"""

RETURN = r"""
set:
  description: Names of the attributes that were set, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.aws_drift_data import NO_QUEUE
from ansible.module_utils.aws_drift_types import unless_missing
from ansible.module_utils.queue_attributes import differing
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={"queue": {"type": "str", "required": True}, "attributes": {"type": "dict", "required": True}},
        supports_check_mode=True,
    )
    sqs, name, wanted = module.client("sqs"), module.params["queue"], module.params["attributes"]
    try:
        queue = unless_missing(sqs.get_queue_url, NO_QUEUE, QueueName=name)
        if queue is None and not module.check_mode:
            module.fail_json(msg=f"There is no queue {name}; make it before its attributes {', '.join(sorted(wanted))} are set.")
        found = sqs.get_queue_attributes(QueueUrl=queue["QueueUrl"], AttributeNames=["All"]).get("Attributes", {}) if queue else {}
        change = differing(wanted, found)
        if change and queue and not module.check_mode:
            sqs.set_queue_attributes(QueueUrl=queue["QueueUrl"], Attributes=change)
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg=f"Cannot set attributes of queue {name}")
    before = {attribute: found.get(attribute, "") for attribute in change}
    module.exit_json(changed=bool(change), set=sorted(change), diff={"before": before, "after": change})


if __name__ == "__main__":
    main()
