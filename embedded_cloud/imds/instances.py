"""The running instance behind a Name tag, and the role its instance profile gives it."""

from dataclasses import dataclass
from typing import Any

from ministack.services import iam

from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.iam import authorization

EC2_PRINCIPAL = "ec2.amazonaws.com"


class UnavailableError(LookupError):
    """What the metadata service was asked for is not there; the message says what is missing."""


@dataclass(frozen=True)
class Instance:
    """What the metadata service tells an instance about itself. `profile` is a name, empty when none is attached, `profile_id` its id."""

    id: str
    region: str
    zone: str
    account: str
    profile: str
    profile_id: str
    image: str
    type: str
    architecture: str
    private_address: str
    launched: str

    @property
    def identity(self) -> dict[str, str]:
        return {
            "accountId": self.account,
            "architecture": self.architecture,
            "availabilityZone": self.zone,
            "imageId": self.image,
            "instanceId": self.id,
            "instanceType": self.type,
            "pendingTime": self.launched,
            "privateIp": self.private_address,
            "region": self.region,
            "version": "2017-09-30",
        }


async def running_instance(moto: MotoBackend, name: str) -> Instance:
    """The one running instance whose id or Name tag is `name`; UnavailableError when there is none, or more than one."""
    found = await moto.run(lambda: _running_instances(moto, name))
    if len(found) != 1:
        raise UnavailableError(f"{len(found) or 'no'} running instances have the id or the Name tag {name}; exactly one is expected")
    return found[0]


def role_of(instance: Instance) -> dict[str, Any]:
    """MiniStack's record of the role an instance may use.

    UnavailableError when no profile is attached, when it has no role, or when the role is gone or does not trust EC2.
    """
    if not instance.profile:
        raise UnavailableError(f"no instance profile is attached to {instance.id}")
    profile = iam._instance_profiles.get_scoped(instance.account, None, instance.profile)
    if profile is None or not profile["Roles"]:
        raise UnavailableError(f"the instance profile {instance.profile} {'has no role' if profile else 'does not exist'}")
    if profile["InstanceProfileId"] != instance.profile_id:
        raise UnavailableError(f"the instance profile {instance.profile} was made again since it was attached to {instance.id}")
    name = profile["Roles"][0]
    role = iam._roles.get_scoped(instance.account, None, name)
    if role is None:
        raise UnavailableError(f"the role {name} of instance profile {instance.profile} does not exist")
    if not authorization.trusts_service(role, EC2_PRINCIPAL, instance.account, instance.region):
        raise UnavailableError(f"the trust policy of role {name} does not let {EC2_PRINCIPAL} assume it")
    return dict(role)


def _running_instances(moto: MotoBackend, name: str) -> list[Instance]:
    found = []
    for backend in moto.backends("ec2"):
        for instance in backend.all_instances():
            tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
            if instance.state == "running" and name in (instance.id, tags.get("Name")):
                association = backend.iam_instance_profile_associations.get(instance.id)
                found.append(
                    Instance(
                        id=instance.id,
                        region=backend.region_name,
                        zone=instance.placement.zone,
                        account=moto.account,
                        profile=association.iam_instance_profile.name if association else "",
                        profile_id=association.iam_instance_profile.id if association else "",
                        image=instance.image_id,
                        type=instance.instance_type,
                        architecture=instance.architecture,
                        private_address=instance.private_ip or "",
                        launched=instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    )
                )
    return found
