"""The instance metadata service, version 2: /_imds/<id or Name tag of a running instance>/ answers like 169.254.169.254 on EC2.

"Use the Instance Metadata Service", "Retrieve security credentials from instance metadata" (EC2 user guide): tokens live 1 to 21600 s,
requests through a proxy (X-Forwarded-For) are refused, new credentials are there at least five minutes before the old ones expire.
"""

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ministack.services import iam

from embedded_cloud.base import messages
from embedded_cloud.base.messages import Request, Response
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.iam import authorization

PREFIX = "/_imds/"
EC2_PRINCIPAL = "ec2.amazonaws.com"
MAXIMUM_TOKEN_SECONDS = 21600
# A session is replaced in its last quarter of an hour, or in its last quarter when it is shorter than an hour.
REFRESH_SECONDS = 900

# The document that the metadata service shows, and when it expires, in seconds since the epoch.
Session = tuple[dict[str, str], float]

_CREDENTIALS = "latest/meta-data/iam/security-credentials/"
# Values of the identity document by their path.
_LEAVES = {
    "latest/meta-data/instance-id": "instanceId",
    "latest/meta-data/instance-type": "instanceType",
    "latest/meta-data/ami-id": "imageId",
    "latest/meta-data/local-ipv4": "privateIp",
    "latest/meta-data/placement/region": "region",
    "latest/meta-data/placement/availability-zone": "availabilityZone",
}


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


def running_instance(moto: MotoBackend, name: str) -> Instance:
    """The one running instance whose id or Name tag is `name`; UnavailableError when there is none, or more than one. Runs on moto's
    thread."""
    found = []
    for backend in moto.backends("ec2"):
        for instance in backend.all_instances():
            if instance.state != "running" or name not in (instance.id, backend.tags.get(instance.id, {}).get("Name")):
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
    if len(found) != 1:
        raise UnavailableError(f"{len(found) or 'no'} running instances have the id or the Name tag {name}; exactly one is expected")
    return found[0]


def role_of(instance: Instance) -> dict[str, Any]:
    """MiniStack's record of the role that an instance may use; UnavailableError when there is none, or when it does not trust EC2."""
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


class MetadataService:
    """`session_seconds` is how long the credentials of a role live."""

    def __init__(self, moto: MotoBackend, session_seconds: int) -> None:
        self._moto = moto
        self._session_seconds = session_seconds
        self._tokens: dict[tuple[str, str], float] = {}
        self._sessions: dict[tuple[str, str], Session] = {}

    async def handle(self, request: Request) -> Response:
        name, _, path = request.path.removeprefix(PREFIX).partition("/")
        if "x-forwarded-for" in request.headers:
            return messages.text(403, "Forbidden: the request came through a proxy")
        try:
            instance = await self._moto.run(lambda: running_instance(self._moto, name))
            if path == "latest/api/token":
                return self._token(request, instance)
            if request.method != "GET":
                return messages.text(405, "Method Not Allowed")
            if self._tokens.get((instance.id, request.headers.get("x-aws-ec2-metadata-token", "")), 0) <= time.time():
                return messages.text(401, "Unauthorized")
            return self._metadata(instance, path)
        except UnavailableError as error:
            return messages.text(404, f"Not Found: {error}")

    def _token(self, request: Request, instance: Instance) -> Response:
        if request.method != "PUT":
            return messages.text(405, "Method Not Allowed")
        seconds = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not seconds.isdecimal() or not 1 <= int(seconds) <= MAXIMUM_TOKEN_SECONDS:
            return messages.text(400, "Bad Request: X-aws-ec2-metadata-token-ttl-seconds must be 1 to 21600")
        now = time.time()
        self._tokens = {key: expires for key, expires in self._tokens.items() if expires > now}
        token = secrets.token_urlsafe(42)
        self._tokens[instance.id, token] = now + int(seconds)
        return messages.text(200, token, x_aws_ec2_metadata_token_ttl_seconds=seconds)

    def _metadata(self, instance: Instance, path: str) -> Response:
        if path in _LEAVES:
            return messages.text(200, instance.identity[_LEAVES[path]])
        if path == "latest/dynamic/instance-identity/document":
            return messages.as_json(200, instance.identity)
        if path.rstrip("/") + "/" == _CREDENTIALS:
            return messages.text(200, role_of(instance)["RoleName"])
        if path.startswith(_CREDENTIALS):
            return self._credentials(instance, path.removeprefix(_CREDENTIALS))
        raise UnavailableError(f"this metadata service has no {path}")

    def _credentials(self, instance: Instance, name: str) -> Response:
        role = role_of(instance)
        if role["RoleName"] != name:
            raise UnavailableError(f"the role of {instance.id} is {role['RoleName']}")
        # A role that was deleted and made again under the same name is another role.
        key = instance.id, role["RoleId"]
        document, expires = self._sessions.get(key, ({}, 0.0))
        if expires - time.time() < min(REFRESH_SECONDS, self._session_seconds / 4):
            document, expires = self._sessions[key] = self._new_session(instance, role["RoleName"], role["RoleId"])
        return messages.as_json(200, document)

    def _new_session(self, instance: Instance, role: str, role_id: str) -> Session:
        # Expiration is published in whole seconds, and is exact.
        issued = float(int(time.time()))
        expires = issued + self._session_seconds
        arn = f"arn:aws:sts::{instance.account}:assumed-role/{role}/{instance.id}"
        made = authorization.new_session(arn, f"{role_id}:{instance.id}", instance.account, expires)
        made["Token"] = made.pop("SessionToken")
        return made | {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": _timestamp(issued), "Expiration": _timestamp(expires)}, expires


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
