"""The running instance behind a Name tag, and the role that its instance profile gives it."""

from dataclasses import dataclass
from typing import Any

from ministack.services import iam

from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.iam import authorization

EC2_PRINCIPAL = "ec2.amazonaws.com"


class UnavailableError(LookupError):
    """The metadata service does not have what it was asked for; the message says what is missing."""


@dataclass(frozen=True)
class Instance:
    """`identity` is the identity document. `profile` is a name, empty when no profile is attached; `profile_id` is its id."""

    identity: dict[str, str]
    profile: str
    profile_id: str

    @property
    def id(self) -> str:
        return self.identity["instanceId"]

    @property
    def account(self) -> str:
        return self.identity["accountId"]


async def running_instance(moto: MotoBackend, name: str) -> Instance:
    """The one running instance whose id or Name tag is `name`; UnavailableError when there is none, or more than one."""
    found = await moto.run(lambda: _running_instances(moto, name))
    if len(found) != 1:
        raise UnavailableError(f"{len(found) or 'no'} running instances have the id or the Name tag {name}; exactly one is expected")
    return found[0]


def role_of(instance: Instance) -> dict[str, Any]:
    """MiniStack's record of the role that an instance may use.

    UnavailableError when no profile is attached, when it has no role, or when the role is gone or does not trust EC2.
    """
    if not instance.profile:
        raise UnavailableError(f"no instance profile is attached to {instance.id}")
    profile = iam._instance_profiles.get_scoped(instance.account, None, instance.profile)
    if profile is None or not profile["Roles"]:
        raise UnavailableError(f"the instance profile {instance.profile} {'has no role' if profile else 'does not exist'}")
    if profile["InstanceProfileId"] != instance.profile_id:
        raise UnavailableError(f"the instance profile {instance.profile} was deleted and made again after it was attached to {instance.id}")
    name = profile["Roles"][0]
    role = iam._roles.get_scoped(instance.account, None, name)
    if role is None:
        raise UnavailableError(f"the role {name} of instance profile {instance.profile} does not exist")
    if not authorization.trusts_service(role, EC2_PRINCIPAL, instance.account, instance.identity["region"]):
        raise UnavailableError(f"the trust policy of role {name} does not let {EC2_PRINCIPAL} assume it")
    return dict(role)


def _running_instances(moto: MotoBackend, name: str) -> list[Instance]:
    found = []
    for backend in moto.backends("ec2"):
        for instance in backend.all_instances():
            tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
            if instance.state != "running" or name not in (instance.id, tags.get("Name")):
                continue
            identity = {
                "accountId": moto.account,
                "architecture": instance.architecture,
                "availabilityZone": instance.placement.zone,
                "imageId": instance.image_id,
                "instanceId": instance.id,
                "instanceType": instance.instance_type,
                "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "privateIp": instance.private_ip or "",
                "region": backend.region_name,
                "version": "2017-09-30",
            }
            association = backend.iam_instance_profile_associations.get(instance.id)
            profile = association.iam_instance_profile if association else None
            found.append(Instance(identity, profile.name if profile else "", profile.id if profile else ""))
    return found
