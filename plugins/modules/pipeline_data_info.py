#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: pipeline_data_info
short_description: Count what a teardown would destroy
description:
  - Counts the items of tables, as DynamoDB last counted them (free of charge, up to six hours old), the messages of queues, and instances.
  - Names what AWS would refuse to delete, a table with deletion protection or a security group that something else uses.
  - Read-only. Tables and queues may be absent.
options:
  tables: {description: Names of tables., type: list, elements: str, default: []}
  queues: {description: Names of queues., type: list, elements: str, default: []}
  instances: {description: "Name tag of the instances, and name of their security group.", type: str, required: true}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
notes:
  - Needs C(dynamodb:DescribeTable) on the tables; C(sqs:GetQueueUrl) and C(sqs:GetQueueAttributes) on the queues;
    C(ec2:DescribeInstances), C(ec2:DescribeNetworkInterfaces) and C(ec2:DescribeSecurityGroups).
"""

EXAMPLES = r"""
- name: Count what would be destroyed
  pipeline_data_info:
    tables: ["{{ transaction_table_name }}"]
    queues: ["{{ transaction_queue_name }}", "{{ transaction_queue_dead_letter_name }}"]
    instances: "{{ producer_service_name }}"
  register: teardown_data_info
"""

RETURN = r"""
lines: {description: "A sentence for each table, queue and instance.", returned: always, type: list, elements: str}
instances:
  description: The C(id), C(name), C(state) and C(line), in words, of each instance that is not terminated, stopped ones too.
  returned: always
  type: list
  elements: dict
protected: {description: A sentence for each table that has deletion protection., returned: always, type: list, elements: str}
in_use: {description: A sentence for a security group that something else uses., returned: always, type: list, elements: str}
"""

from ansible.module_utils.pipeline.aws.queue import count_messages, queue_line
from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible.module_utils.pipeline.core.terminal import aws_command
from ansible.module_utils.pipeline.export.data_info import count_items, find_instances, table_line, users_of_group
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    dynamodb, sqs, ec2, name = module.client("dynamodb"), module.client("sqs"), module.client("ec2"), module.params["instances"]
    with failing(module, "Cannot count what would be destroyed"):
        tables = [count_items(dynamodb, table) for table in module.params["tables"]]
        queues = [count_messages(sqs, queue) for queue in module.params["queues"]]
        instances = find_instances(ec2, name)
        users = users_of_group(ec2, name, instances)
    module.exit_json(
        changed=False,
        lines=[*map(table_line, tables), *map(queue_line, queues), *(instance["line"] for instance in instances)],
        instances=instances,
        protected=[
            f"Table {table['name']} has deletion protection; take it off first: "
            + aws_command(f"dynamodb update-table --table-name {table['name']} --no-deletion-protection-enabled")
            for table in tables
            if table["protected"]
        ],
        in_use=[f"Security group {name} is used by {', '.join(users)}, too; take it from there first."] if users else [],
    )


if __name__ == "__main__":
    main()
