"""Whether the producer's instances can be launched: each check returns a sentence about what is wrong, or an empty string."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from ..aws.instances import living_instances
from ..aws.paging import pages, unless_missing
from ..core.canonical import public_key
from ..core.terminal import aws_command
from .ec2 import default_vpc

RESOLVE = "resolve:ssm:"
ARCHITECTURE = "x86_64"  # of the image's name in the settings
OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


def preflight(ec2: Any, ssm: Any, region: str, wanted: Mapping[str, Any]) -> tuple[list[str], str, str]:
    """Why the instances cannot run, if so; the subnet to launch into; and advice that is no problem, if any.

    `wanted` has the options of the module instance_preflight. AWS errors are raised.
    """
    kind = wanted["instance_type"]
    network, unusable = network_problem(ec2, region), type_problem(ec2, kind, region)
    subnet, no_subnet = ("", "") if network or unusable else suitable_subnet(ec2, kind, region)
    found = [
        image_problem(ssm, wanted["image"], region),
        network,
        unusable,
        no_subnet,
        count_problem(ec2, wanted["name"], wanted["count"]),
        key_problem(ec2, wanted["key_name"], wanted["key_file"]) if wanted["key_name"] else "",
    ]
    problems = [problem for problem in found if problem]
    return problems, subnet, "" if problems else free_tier_advice(ec2, kind)


def image_problem(ssm: Any, image: str, region: str) -> str:
    """The public parameter of an image must exist: not every region has Amazon Linux 2023 under that name."""
    if not image.startswith(RESOLVE):
        return ""
    parameter = image.removeprefix(RESOLVE)
    if unless_missing(ssm.get_parameter, ("ParameterNotFound", "ParameterVersionNotFound"), Name=parameter):
        return ""
    return (
        f"Region {region} has no image {parameter} (an SSM parameter); Amazon Linux 2023 was expected there. Choose a region that has"
        " it (pipeline_region), or name another image with Python's packages in dnf (producer_instance_image)."
    )


def network_problem(ec2: Any, region: str) -> str:
    """Instances are launched into the default VPC."""
    if default_vpc(ec2):
        return ""
    return (
        f"Region {region} of this account has no default VPC, into which the producer's instances are launched."
        f" Create one: {aws_command('ec2 create-default-vpc')}."
    )


def suitable_subnet(ec2: Any, instance_type: str, region: str) -> tuple[str, str]:
    """The default subnet to launch into, and an empty sentence; or none, and what is wrong.

    Not every zone offers every type (DescribeInstanceTypeOfferings), and a default subnet may be set to give no public address
    (MapPublicIpOnLaunch), without which this machine cannot reach the instance.
    """
    offered = {"Name": "instance-type", "Values": [instance_type]}
    offerings = pages(ec2, "describe_instance_type_offerings", "InstanceTypeOfferings", LocationType="availability-zone", Filters=[offered])
    zones = {offering["Location"] for offering in offerings}
    subnets = pages(ec2, "describe_subnets", "Subnets", Filters=[{"Name": "default-for-az", "Values": ["true"]}])
    there = sorted((subnet["AvailabilityZone"], subnet["SubnetId"], subnet) for subnet in subnets if subnet["AvailabilityZone"] in zones)
    if not there:
        zone = min(zones, default="ZONE")
        return "", (
            f"No zone of region {region} that offers {instance_type} ({', '.join(sorted(zones)) or 'none does'}) has a default subnet."
            f" Create one: {aws_command(f'ec2 create-default-subnet --availability-zone {zone}')};"
            " or set producer_instance_type to a type that is offered where there is one."
        )
    open_ones = [name for _zone, name, subnet in there if subnet["MapPublicIpOnLaunch"] and subnet["AvailableIpAddressCount"] > 0]
    if open_ones:
        return open_ones[0], ""
    return "", (
        f"No default subnet of region {region} where {instance_type} is offered gives a new instance a public address"
        f" ({', '.join(name for _zone, name, _subnet in there)}), by which this machine reaches it. Let one do so:"
        f" {aws_command(f'ec2 modify-subnet-attribute --subnet-id {there[0][1]} --map-public-ip-on-launch')}; if it does, its addresses are"
        " used up."
    )


def type_problem(ec2: Any, instance_type: str, region: str) -> str:
    """The region must know the type, and run the image's architecture on it."""
    answer = unless_missing(ec2.describe_instance_types, ("InvalidInstanceType",), InstanceTypes=[instance_type])
    if not answer:
        return (
            f"Region {region} has no instance type {instance_type}. Set producer_instance_type to one that it has;"
            f" {_free_types_in_words(ec2)}."
        )
    architectures = answer["InstanceTypes"][0]["ProcessorInfo"]["SupportedArchitectures"]
    if ARCHITECTURE in architectures:
        return ""
    return (
        f"Instance type {instance_type} runs {', '.join(architectures)}, the image {ARCHITECTURE}. Set producer_instance_type to a"
        f" type that runs it; {_free_types_in_words(ec2)}."
    )


def free_tier_advice(ec2: Any, instance_type: str) -> str:
    """Advice if the type is not in the account's Free Tier; names the smallest that is. Otherwise empty."""
    if instance_type in free_types(ec2):
        return ""
    return (
        f"Instance type {instance_type} is not Free Tier eligible in this account: it costs money, or is refused on the Free plan;"
        f" {_free_types_in_words(ec2)} (producer_instance_type)."
    )


def free_types(ec2: Any) -> list[str]:
    """Free Tier eligible types that run the image, the smallest first: by memory, then by vCPUs."""
    filters = [
        {"Name": "free-tier-eligible", "Values": ["true"]},
        {"Name": "processor-info.supported-architecture", "Values": [ARCHITECTURE]},
    ]
    types = pages(ec2, "describe_instance_types", "InstanceTypes", Filters=filters)
    sizes = sorted((kind["MemoryInfo"]["SizeInMiB"], kind["VCpuInfo"]["DefaultVCpus"], kind["InstanceType"]) for kind in types)
    return [name for _memory, _cpus, name in sizes]


def _free_types_in_words(ec2: Any) -> str:
    names = free_types(ec2)
    return f"{names[0]} is Free Tier eligible" if names else "no type is Free Tier eligible"


def count_problem(ec2: Any, name: str, count: int) -> str:
    """More instances than wanted: the operator chooses which to terminate, because each may hold unsent transactions."""
    found = sorted(instance["InstanceId"] for instance in living_instances(ec2, name))
    if len(found) <= count:
        return ""
    return (
        f"{len(found)} instances are named {name} ({', '.join(found)}), {count} expected (producer_instance_count). site.yml terminates"
        " none, for it may hold transactions that are not sent yet. Let teardown.yml --tags producer_service,producer_instance drain and"
        " remove all, or stop the producer on one and terminate it."
    )


def key_problem(ec2: Any, key_name: str, key_file: str) -> str:
    """The private key must be readable by its owner alone and belong to the key pair, if both exist."""
    pairs = ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [key_name]}], IncludePublicKey=True)["KeyPairs"]
    if not os.path.exists(key_file):
        missing = f"The EC2 key pair {key_name} exists, its private key {key_file} does not. {_mend_key(key_name)}"
        return missing if pairs else ""
    mode = stat.S_IMODE(os.stat(key_file).st_mode)
    if mode & OTHERS_MAY:
        return (
            f"The private key {key_file} has mode {mode:04o}: others can read it, and ssh refuses it; 0600 was expected."
            f" Run: chmod 600 {key_file}; if others may have read it, remove it and its key pair, and let site.yml make new ones."
        )
    if not os.path.exists(f"{key_file}.pub"):
        return f"The private key {key_file} has no public key beside it. Write it: ssh-keygen -y -f {key_file} > {key_file}.pub."
    with open(f"{key_file}.pub", encoding="utf-8") as file:
        own = public_key(file.read())
    if pairs and public_key(pairs[0].get("PublicKey")) != own:
        return f"The EC2 key pair {key_name} is not that of {key_file}.pub. {_mend_key(key_name)}"
    return ""


def _mend_key(key_name: str) -> str:
    return (
        "Instances let in the key that they were launched with only. Copy both files from the machine that made them, or give their path"
        " (producer_instance_key_file); if they are lost and no instance runs, run: "
        + aws_command(f"ec2 delete-key-pair --key-name {key_name}")
    )
