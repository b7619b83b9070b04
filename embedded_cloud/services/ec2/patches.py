"""Instances as EC2 keeps them, where moto differs."""

from collections.abc import Callable
from typing import Any

from ministack.services import iam
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend
from moto.ec2.models.instance_types import InstanceTypeBackend
from moto.ec2.models.instances import InstanceBackend

from embedded_cloud.base.patching import Patch, replace, wrap


def free_tier(free_plan: bool) -> list[Patch]:
    """The types that DescribeInstanceTypes calls free-tier-eligible in this account. Amazon EC2 User Guide, "Track your Free Tier usage for
    Amazon EC2": moto's list is that of accounts made since 15 July 2025, which may be on the Free plan. An older account has t2.micro. In a
    region without t2.micro it has t3.micro instead; that is left out here."""
    kinds = [] if free_plan else InstanceTypeBackend.instance_types
    return [replace(kind, "FreeTierEligible", kind["InstanceType"] == "t2.micro") for kind in kinds]


def keep_metadata_options(original: Callable[..., Any], backend: InstanceBackend, instance_id: str, **sent: Any) -> Any:
    """Amazon EC2 API Reference, ModifyInstanceMetadataOptions: "If no value is specified, the existing state is maintained". moto forgets
    what a request leaves out, and amazon.aws then sends nothing in its place."""
    kept = backend.get_instance(instance_id).metadata_options
    known = {
        "http_tokens": kept.http_tokens,
        "hop_limit": kept.http_put_response_hop_limit,
        "http_endpoint": kept.http_endpoint,
        "http_protocol": kept.http_protocol_ipv6,
        "metadata_tags": kept.instance_metadata_tags,
    }
    return original(backend, instance_id, **known | {name: value for name, value in sent.items() if value is not None})


def keep_profile_id(original: Callable[..., Any], backend: Any, *arguments: Any, **named: Any) -> Any:
    """An instance keeps the id that its profile had when it was attached. moto invents one, and shows the association's id."""
    association = original(backend, *arguments, **named)
    profile = association.iam_instance_profile
    known = iam._instance_profiles.get_scoped(backend.account_id, None, profile.name)
    profile.id = known["InstanceProfileId"] if known else profile.id
    backend.modify_instance_attribute(association.instance_id, "iam_instance_profile", {"Arn": profile.arn, "Id": profile.id})
    return association


PATCHES = (
    wrap(InstanceBackend, "modify_instance_metadata_options", keep_metadata_options),
    wrap(IamInstanceProfileAssociationBackend, "associate_iam_instance_profile", keep_profile_id),
    wrap(IamInstanceProfileAssociationBackend, "replace_iam_instance_profile_association", keep_profile_id),
)
