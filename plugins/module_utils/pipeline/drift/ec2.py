"""Readers of EC2 security groups, instances and key pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..aws.instances import living_instances
from ..aws.paging import pages, unless_missing
from ..core.canonical import boolean, number, public_key, rules, text, text_map, text_set
from ..core.terminal import aws_command
from .resource_type import ResourceType, agreed, canonicals, found_in, kept_id, page, tag_dict

INSTANCE = {
    "state": (text, "State.Name"),
    "instance_type": (text, "InstanceType"),
    "instance_profile": (text, ""),
    "instance_profile_id": (text, ""),
    "http_tokens": (text, "MetadataOptions.HttpTokens"),
    "http_hop_limit": (number, "MetadataOptions.HttpPutResponseHopLimit"),
    "security_groups": (text_set, ""),
    "root_volume_type": (text, ""),
    "root_volume_encrypted": (boolean, ""),
    "root_volume_size": (number, ""),
    "key_name": (text, "KeyName"),
    "tags": (text_map, ""),
}


def read_security_group(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    ec2 = clients["ec2"]
    vpc_id = expected.get("vpc_id") or default_vpc(ec2)
    if vpc_id is None:
        return None
    filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc_id]}]
    groups = ec2.describe_security_groups(Filters=filters).get("SecurityGroups") or []
    if not groups:
        return None
    group = groups[0]
    return {
        "vpc_id": group.get("VpcId"),
        "description": group.get("Description"),
        "ingress": [_rule(permission) for permission in group.get("IpPermissions") or []],
        "egress": [_rule(permission) for permission in group.get("IpPermissionsEgress") or []],
        "tags": tag_dict(group.get("Tags")),
    }


def default_vpc(ec2: Any) -> str | None:
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}]).get("Vpcs") or []
    return vpcs[0]["VpcId"] if vpcs else None


def _rule(permission: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {"IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6", "PrefixListIds": "PrefixListId", "UserIdGroupPairs": "GroupId"}
    return {
        "protocol": permission.get("IpProtocol"),
        "from_port": permission.get("FromPort"),
        "to_port": permission.get("ToPort"),
        "cidrs": [item[key] for kind, key in kinds.items() for item in permission.get(kind) or []],
    }


def read_instances(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    ec2 = clients["ec2"]
    instances = living_instances(ec2, name)
    if not instances:
        return None
    volume_ids = [volume_id for volume_id in map(_root_volume_id, instances) if volume_id]
    volumes: dict[str, dict[str, Any]] = {}
    if volume_ids and {"root_volume_type", "root_volume_encrypted", "root_volume_size"} & expected.keys():
        volumes = {volume["VolumeId"]: volume for volume in pages(ec2, "describe_volumes", "Volumes", VolumeIds=volume_ids)}
    now = None
    if "instance_profile_id" in expected:
        answer = unless_missing(clients["iam"].get_instance_profile, InstanceProfileName=expected["instance_profile"])
        now = answer["InstanceProfile"]["InstanceProfileId"] if answer else None
    described = [_instance(instance, volumes.get(_root_volume_id(instance), {}), now) for instance in instances]
    found = {"count": len(instances)} | {name: agreed(instance[name] for instance in described) for name in INSTANCE}
    found["ids"] = [instance["InstanceId"] for instance in instances]
    found["stopped"] = [instance["InstanceId"] for instance in instances if instance["State"]["Name"] == "stopped"]
    return found | {"root_volumes": volume_ids}


def start(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> bool:
    """Start the stopped instances, where there are any: those that are pending or stopping only take their time."""
    return bool(found["stopped"] and clients["ec2"].start_instances(InstanceIds=found["stopped"]))


def renew_profile(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
    """Attach the profile of the same name again: EC2 keeps the id of the profile that had this name before."""
    ec2, filters = clients["ec2"], [{"Name": "instance-id", "Values": found["ids"]}]
    for association in ec2.describe_iam_instance_profile_associations(Filters=filters)["IamInstanceProfileAssociations"]:
        profile = {"Arn": association["IamInstanceProfile"]["Arn"]}
        ec2.replace_iam_instance_profile_association(AssociationId=association["AssociationId"], IamInstanceProfile=profile)


def _instance(instance: Mapping[str, Any], root_volume: Mapping[str, Any], profile_id: str | None) -> dict[str, Any]:
    profile = instance.get("IamInstanceProfile") or {}
    return found_in(instance, INSTANCE) | {
        "instance_profile": profile.get("Arn", "").rpartition("/")[2],
        "instance_profile_id": kept_id(profile.get("Id"), profile_id),
        "security_groups": sorted(group["GroupName"] for group in instance.get("SecurityGroups") or []),
        "root_volume_type": root_volume.get("VolumeType"),
        "root_volume_encrypted": root_volume.get("Encrypted"),
        "root_volume_size": root_volume.get("Size"),
        "tags": tag_dict(instance.get("Tags")),
    }


def _root_volume_id(instance: Mapping[str, Any]) -> str:
    devices = instance.get("BlockDeviceMappings") or []
    roots = [device for device in devices if device.get("DeviceName") == instance.get("RootDeviceName")]
    # An emulated image may name its root device differently from the instance: then the only device is the root.
    root = (roots or devices)[0] if roots or len(devices) == 1 else {}
    return str((root.get("Ebs") or {}).get("VolumeId", ""))


def read_key_pair(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    filters = [{"Name": "key-name", "Values": [name]}]
    found = clients["ec2"].describe_key_pairs(Filters=filters, IncludePublicKey=True).get("KeyPairs") or []
    return {"public_key": found[0].get("PublicKey"), "tags": tag_dict(found[0].get("Tags"))} if found else None


TYPES = {
    "security_group": ResourceType(
        label="security group",
        services=("ec2",),
        read=read_security_group,
        properties={"description": text, "ingress": rules, "egress": rules, "vpc_id": text, "tags": text_map},
        remedies={"description": page("an-instance")},
    ),
    "ec2_instances": ResourceType(
        label="instance",
        services=("ec2", "iam"),
        read=read_instances,
        properties={"count": number, **canonicals(INSTANCE)},
        implied={"count": 1},
        menders={"instance_profile_id": renew_profile, "state": start},
        remedies=dict.fromkeys(("root_volume_size", "root_volume_encrypted", "key_name"), page("an-instance"))
        | {
            "count": lambda name, wanted, found: page("an-instance")(name, wanted, found) if found["count"] > wanted else "",
            "root_volume_type": lambda name, wanted, found: "; ".join(
                aws_command(f"ec2 modify-volume --volume-id {volume} --volume-type {wanted}") for volume in found["root_volumes"]
            ),
        },
    ),
    "key_pair": ResourceType(
        label="key pair",
        services=("ec2",),
        read=read_key_pair,
        properties={"public_key": public_key, "tags": text_map},
        remedies={"public_key": page("the-key-pair")},
    ),
}
