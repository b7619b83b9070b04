#!/usr/bin/python
"""Ansible module: check that the producer's instances can be launched."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_preflight
short_description: Check that the producer's instances can be launched
description:
  - Fails with every reason why instances cannot be launched or reached, and what to do about it. Reasons are an image or instance type that
    the region does not have, no default VPC, no subnet with public addresses in a zone that offers the type, more instances than wanted,
    and a private key that is missing, readable by others, or of another key pair.
  - Warns of an instance type that is not Free Tier eligible in the account, and names one that is. Read-only.
options:
  name: {description: Name tag of the instances., type: str, required: true}
  count: {description: How many instances are wanted., type: int, required: true}
  image: {description: "Image, as RunInstances takes it. Only images of the form C(resolve:ssm:) are looked up.", type: str, required: true}
  instance_type: {description: Instance type., type: str, required: true}
  key_name: {description: Name of the EC2 key pair; empty for none., type: str, default: ""}
  key_file: {description: Path of its private key on this machine., type: path, default: ""}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
notes:
  - Needs C(ssm:GetParameter) on the image's parameter, C(ec2:DescribeInstanceTypes), C(ec2:DescribeInstanceTypeOfferings),
    C(ec2:DescribeInstances), C(ec2:DescribeKeyPairs), C(ec2:DescribeSubnets) and C(ec2:DescribeVpcs).
"""

EXAMPLES = r"""
- name: Check that instances can be launched
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
subnet: {description: The subnet to launch into., returned: success, type: str}
"""

from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible.module_utils.pipeline.drift.preflight import preflight
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    with failing(module, "Cannot check whether the cloud can run the producer's instances"):
        found = preflight(module.client("ec2"), module.client("ssm"), module.region, module.params)
    if found.problems:
        module.fail_json(msg=" ".join([*found.problems, "Nothing was changed."]), problems=found.problems)
    if found.advice:
        module.warn(found.advice)
    module.exit_json(changed=False, problems=[], subnet=found.subnet)


if __name__ == "__main__":
    main()
