#!/usr/bin/python
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_preflight
short_description: Check that the producer's instances can be launched
description:
  - Fails with every reason why instances cannot be launched or reached, and what to do about it. Reasons are an image or instance type that
    the region does not have, no default VPC, no subnet with public addresses in a zone that offers the type, more instances than wanted,
    and a private key that is missing, readable by others, or of another key pair.
  - Warns of an instance type that is not Free Tier eligible in the account, and names one that is. Changes nothing.
options:
  name: {description: Name tag of the instances., type: str, required: true}
  count: {description: How many instances are wanted., type: int, required: true}
  image: {description: "Image, as RunInstances takes it. Only images of the form C(resolve:ssm:) are looked up.", type: str, required: true}
  instance_type: {description: Instance type., type: str, required: true}
  key_name: {description: Name of the EC2 key pair; empty for none., type: str, default: ""}
  key_file: {description: Path of its private key on this machine., type: path, default: ""}
extends_documentation_fragment: [amazon.aws.common.modules, amazon.aws.region.modules, amazon.aws.boto3]
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
subnet: {description: The subnet to launch into., returned: success, type: str}
"""

from ansible.module_utils.pipeline.core.module import argument_spec, failing
from ansible.module_utils.pipeline.drift.preflight import preflight
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule


def main() -> None:
    module = AnsibleAWSModule(argument_spec=argument_spec(DOCUMENTATION), supports_check_mode=True)
    with failing(module, "Cannot check whether the cloud can run the producer's instances"):
        problems, subnet, advice = preflight(module.client("ec2"), module.client("ssm"), module.region, module.params)
    if problems:
        module.fail_json(msg=" ".join([*problems, "Nothing was changed."]))
    if advice:
        module.warn(advice)
    module.exit_json(changed=False, subnet=subnet)


if __name__ == "__main__":
    main()
