"""Instances and security groups: what EC2 refuses and moto accepts, and the state in which an instance starts. All of it reads moto's
backend, so it runs on moto's thread."""

import re

from ministack.services import iam
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES

from embedded_cloud.base.calls import Call
from embedded_cloud.base.rules import Note, Refusal, Rule, RuleContext
from embedded_cloud.iam.ec2_permissions import image_parameter
from embedded_cloud.services.iam.rules import PROPAGATION_SECONDS

# How long an instance is pending. AWS gives no figure; some seconds were observed.
PENDING_SECONDS = 5.0
# moto's own, for a request that names none.
DEFAULT_TYPE = "m1.small"

_IMAGE = re.compile(r"ami-[0-9a-f]{8}([0-9a-f]{9})?")
_INSTANCE_IN_ANSWER = re.compile(r"<instanceId>(i-[0-9a-f]+)</instanceId>")


def image_unknown(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon EC2 Developer Guide, "Error codes for the Amazon EC2 API": InvalidAMIID.Malformed, InvalidAMIID.NotFound."""
    image = call.value("ImageId")
    if not image or image_parameter(call) or image in context.ec2.amis:
        return None
    if not _IMAGE.fullmatch(image):
        return Refusal("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
    return Refusal("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")


def image_parameter_missing(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon EC2 User Guide, "Reference AMIs using Systems Manager parameters": `resolve:ssm:<name>`. The text of this refusal is ours."""
    name = image_parameter(call)
    if not name or context.moto.backend("ssm", context.ec2.region_name).get_parameter(name) is not None:
        return None
    return Refusal("InvalidParameterValue", f"The SSM parameter {name} of ImageId {call.value('ImageId')} does not exist")


def type_unknown(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon EC2 Developer Guide, "Error codes for the Amazon EC2 API": InvalidParameterValue."""
    found = call.value("InstanceType")
    if not found or found in INSTANCE_TYPES:
        return None
    return Refusal("InvalidParameterValue", f"Invalid value '{found}' for InstanceType.")


def type_not_in_zone(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon EC2 User Guide, "Troubleshoot Amazon EC2 instance launch issues": "The requested configuration is currently not supported",
    where a zone does not offer the type; Unsupported in "Error codes for the Amazon EC2 API"."""
    found, named = call.value("InstanceType") or DEFAULT_TYPE, call.value("SubnetId") or call.value("NetworkInterface.1.SubnetId")
    zone = next((one.availability_zone for subnets in context.ec2.subnets.values() for one in subnets.values() if one.id == named), None)
    offerings = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(context.ec2.region_name, [])
    zones = sorted(one["Location"] for one in offerings if one["InstanceType"] == found)
    if zone is None or zone in zones:
        return None
    text = f"Your requested instance type ({found}) is not supported in your requested Availability Zone ({zone}). "
    return Refusal("Unsupported", f"{text}Please retry your request by not specifying an Availability Zone or choosing {', '.join(zones)}.")


def type_not_in_free_plan(call: Call, context: RuleContext) -> Refusal | None:
    """AWS Billing User Guide, "AWS Free Tier" (Free account plan); Amazon EC2 User Guide, "Track your Free Tier usage for Amazon EC2": an
    account on the Free plan launches the types that DescribeInstanceTypes calls free-tier-eligible, and no other."""
    if not context.free_plan or INSTANCE_TYPES[call.value("InstanceType") or DEFAULT_TYPE].get("FreeTierEligible"):
        return None
    text = "The specified instance type is not eligible for Free Tier. For a list of Free Tier instance types, run "
    return Refusal("InvalidParameterCombination", f"{text}'describe-instance-types' with the filter 'free-tier-eligible=true'.")


def key_unknown(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon EC2 Developer Guide, "Error codes for the Amazon EC2 API": InvalidKeyPair.NotFound."""
    name = call.value("KeyName")
    if not name or name in context.ec2.key_pairs:
        return None
    return Refusal("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")


def profile_unknown(call: Call, context: RuleContext) -> Refusal | None:
    """An instance profile must exist, and have reached EC2 since it was made. IAM User Guide, "Use an IAM role to grant permissions to
    applications running on Amazon EC2 instances" and "Troubleshoot IAM": "Changes that I make are not always immediately visible"."""
    name, arn = call.value("IamInstanceProfile.Name"), call.value("IamInstanceProfile.Arn")
    profile = name or arn.rpartition("/")[2]
    if not profile:
        return None
    unseen = context.times.is_within("profile made", profile, PROPAGATION_SECONDS)
    if profile in iam._instance_profiles and not unseen:
        return None
    kind = "name" if name else "arn"
    text = f"Value ({name or arn}) for parameter iamInstanceProfile.{kind} is invalid. Invalid IAM Instance Profile "
    return Refusal("InvalidParameterValue", f"{text}{kind if name else 'ARN'}")


def group_in_use(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon EC2 API Reference, DeleteSecurityGroup: "If you attempt to delete a security group that is associated with an instance
    or network interface [...] the operation fails with DependencyViolation"."""
    group = call.value("GroupId") or call.value("GroupName")
    for instance in context.ec2.all_instances():
        groups = [*instance.security_groups, *(one for nic in instance.nics.values() for one in nic.group_set)]
        found = next((one.id for one in groups if group in (one.id, one.name)), None)
        if found and instance.state != "terminated":
            return Refusal("DependencyViolation", f"resource {found} has a dependent object")
    return None


def note_launch(call: Call, answer: bytes, context: RuleContext) -> None:
    """Amazon EC2 User Guide, "Amazon EC2 instance state changes": an instance that is launched is pending before it is running."""
    seconds = context.times.scaled(PENDING_SECONDS)
    launched = set(_INSTANCE_IN_ANSWER.findall(answer.decode()))

    def change_state(before: str, after: str, code: int) -> None:
        for instance in context.ec2.all_instances():
            if instance.id in launched and instance.state == before:
                instance._state.name, instance._state.code = after, code

    if seconds:
        change_state("running", "pending", 0)
        # An instance that was stopped or terminated meanwhile stays so.
        context.moto.run_later(seconds, lambda: change_state("pending", "running", 16))


_LAUNCH = (image_unknown, type_unknown, type_not_in_zone, type_not_in_free_plan, key_unknown, profile_unknown, image_parameter_missing)
RULES: dict[str, tuple[Rule, ...]] = {"ec2:RunInstances": _LAUNCH, "ec2:DeleteSecurityGroup": (group_in_use,)}
NOTES: dict[str, Note] = {"ec2:RunInstances": note_launch}
