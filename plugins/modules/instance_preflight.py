#!/usr/bin/python
"""Ansible module: whether the cloud can run the producer's instances."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_preflight
short_description: Whether the cloud can run the producer's instances
description:
  - Fails with every reason why instances could not be launched or reached, each with what to do - no such image or instance type in the
    region, no default VPC, no subnet in a zone that offers the type and gives public addresses, more instances than wanted, a private key
    that is missing, readable by others or another key pair's.
  - Warns of an instance type that is not Free Tier eligible in the account, and names one that is. Read-only.
options:
  name:
    description: Name tag of the instances.
    type: str
    required: true
  count:
    description: How many of them there shall be.
    type: int
    required: true
  image:
    description: Image, as RunInstances takes it. Only C(resolve:ssm:) ones are looked for.
    type: str
    required: true
  instance_type:
    description: Instance type.
    type: str
    required: true
  key_name:
    description: Name of the EC2 key pair; empty for none.
    type: str
    default: ""
  key_file:
    description: Path of its private key on this machine.
    type: path
    default: ""
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
notes:
  - Needs C(ssm:GetParameter) on the image's parameter, C(ec2:DescribeInstanceTypes), C(ec2:DescribeInstanceTypeOfferings),
    C(ec2:DescribeInstances), C(ec2:DescribeKeyPairs), C(ec2:DescribeSubnets) and C(ec2:DescribeVpcs).
author:
  - The pipeline's authors
"""

EXAMPLES = r"""
- name: Ask whether the cloud can run the instances
  instance_preflight:
    name: FinancialTransactionProducer
    count: 1
    image: resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64
    instance_type: t3.micro
"""

RETURN = r"""
problems:
  description: Every reason why the instances cannot run. Empty when the module succeeds.
  returned: always
  type: list
  elements: str
subnet:
  description: The subnet to launch into.
  returned: success
  type: str
"""

from ansible.module_utils.pipeline.drift.preflight import (
    count_problem,
    free_tier_advice,
    image_problem,
    key_problem,
    network_problem,
    suitable_subnet,
    type_problem,
)
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "count": {"type": "int", "required": True},
            "image": {"type": "str", "required": True},
            "instance_type": {"type": "str", "required": True},
            "key_name": {"type": "str", "default": "", "no_log": False},
            "key_file": {"type": "path", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    wanted, region = module.params, module.region
    ec2, ssm = module.client("ec2"), module.client("ssm")
    try:
        network, kind = network_problem(ec2, region), type_problem(ec2, wanted["instance_type"], region)
        subnet, no_subnet = suitable_subnet(ec2, wanted["instance_type"], region) if not (network or kind) else ("", "")
        problems = [
            image_problem(ssm, wanted["image"], region),
            network,
            kind,
            no_subnet,
            count_problem(ec2, wanted["name"], wanted["count"]),
            key_problem(ec2, wanted["key_name"], wanted["key_file"]) if wanted["key_name"] else "",
        ]
        advice = "" if any(problems) else free_tier_advice(ec2, wanted["instance_type"])
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="Cannot ask whether the cloud can run the producer's instances")
    problems = [problem for problem in problems if problem]
    if problems:
        module.fail_json(msg=" ".join([*problems, "Nothing was changed."]), problems=problems)
    if advice:
        module.warn(advice)
    module.exit_json(changed=False, problems=[], subnet=subnet)


if __name__ == "__main__":
    main()
