"""The permissions that a request to EC2 needs: every action and resource that AWS checks for it, with their condition keys.

The source is "Actions, resources, and condition keys for Amazon EC2" of AWS's Service Authorization Reference: the resources a call names
or makes, ec2:CreateTags for what it tags, ssm:GetParameters for an image it finds by parameter. (iam:PassRole is in authorization.py.)
"""

import re
from typing import Any

from embedded_cloud.base.calls import Call
from embedded_cloud.base.moto_backend import MotoBackend

Check = tuple[str, str, dict[str, Any]]
Tags = dict[str, dict[str, str]]

# Parameters that name a resource (alone, in a list or in a structure), and the resource's type.
_NAMED_BY = {
    "InstanceId": "instance",
    "AssociationId": "instance",
    "GroupId": "security-group",
    "SecurityGroupId": "security-group",
    "SubnetId": "subnet",
    "VpcId": "vpc",
    "KeyName": "key-pair",
    "VolumeId": "volume",
}
_PARAMETER = re.compile(rf"(?!IpPermissions)(?:.*\.)?({'|'.join(_NAMED_BY)})(?:\.\d+)?")
_TYPE_OF_ID = {"i": "instance", "sg": "security-group", "vol": "volume", "eni": "network-interface", "key": "key-pair"}
# What a call makes; the identifiers are not known yet.
_MADE_BY = {"CreateSecurityGroup": ("security-group",), "RunInstances": ("image", "instance", "network-interface", "volume")}
# What a launch uses even when it names none.
_NEEDED_BY = {"RunInstances": ("security-group", "subnet")}
_BY_PARAMETER = "resolve:ssm:"


def image_parameter(call: Call) -> str:
    """The public parameter that the ImageId of a launch names; empty when it is an image's id."""
    image = call.value("ImageId") if call.action == "RunInstances" else ""
    return image.removeprefix(_BY_PARAMETER) if image.startswith(_BY_PARAMETER) else ""


def tags_of_named(call: Call, moto: MotoBackend, region: str) -> Tags:
    """The tags of the resources that a call to EC2 names, by their identifiers. Runs on moto's thread."""
    used = [backend for backend in moto.backends("ec2") if backend.region_name == region]
    # A call may also name an instance by the association of its profile.
    behind = {one.association_id: one.instance_id for backend in used for one in backend.iam_instance_profile_associations.values()}
    tagged = {name: behind.get(name, name) for _kind, name in _named(call)}
    return {name: dict(backend.tags[one]) for backend in used for name, one in tagged.items() if one in backend.tags}


def checks(call: Call, region: str, account: str, tags: Tags, request_tags: dict[str, Any]) -> list[Check]:
    """Every (action, ARN, condition keys) that must be allowed. `tags` are those of what is there, `request_tags` of the request."""
    if call.action.startswith("Describe") and call.action != "DescribeInstanceAttribute":
        return [(call.iam_action, "*", {})]
    named = _named(call)
    kinds = {kind for kind, _name in named}
    named += [(kind, "*") for kind in _MADE_BY.get(call.action, ())]
    named += [(kind, "*") for kind in _NEEDED_BY.get(call.action, ()) if kind not in kinds]
    keys = {one: request_tags | {f"aws:ResourceTag/{name}": value for name, value in of_one.items()} for one, of_one in tags.items()}
    found = [(call.iam_action, _arn(kind, name, region, account), keys.get(name, request_tags)) for kind, name in named]
    for kind in sorted({value for key, value in call.flat() if re.fullmatch(r"TagSpecification\.\d+\.ResourceType", key)}):
        found.append(("ec2:CreateTags", _arn(kind, "*", region, account), request_tags | {"ec2:CreateAction": call.action}))
    parameter = image_parameter(call)
    if parameter:
        found.append(("ssm:GetParameters", f"arn:aws:ssm:{region}::parameter/{parameter.strip('/')}", {}))
    return found or [(call.iam_action, "*", request_tags)]


def _named(call: Call) -> list[tuple[str, str]]:
    """(type, identifier) of every resource that a call names, once each."""
    found: dict[tuple[str, str], None] = {}
    for key, value in call.flat():
        parameter = _PARAMETER.fullmatch(key)
        if parameter:
            found[_NAMED_BY[parameter.group(1)], value] = None
        elif re.fullmatch(r"ResourceId\.\d+", key):
            found[_TYPE_OF_ID.get(value.partition("-")[0], "*"), value] = None
    return list(found)


def _arn(kind: str, name: str, region: str, account: str) -> str:
    return f"arn:aws:ec2:{region}:{'' if kind == 'image' else account}:{kind}/{name}"
