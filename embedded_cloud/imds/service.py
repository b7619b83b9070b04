"""The instance metadata service, version 2: /_imds/<id or Name tag of a running instance>/ answers like 169.254.169.254 on EC2.

The behaviour follows "Use the Instance Metadata Service" and "Retrieve security credentials from instance metadata" of the EC2 user
guide: tokens live 1 to 21,600 seconds, requests that came through a proxy (X-Forwarded-For) are refused, and new credentials are
there at least five minutes before the old ones expire.
"""

import secrets
import time
from datetime import UTC, datetime

from embedded_cloud.base import messages
from embedded_cloud.base.messages import Request, Response
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.iam import authorization
from embedded_cloud.imds.instances import Instance, UnavailableError, role_of, running_instance

PREFIX = "/_imds/"
MAXIMUM_TOKEN_SECONDS = 21600
# A session is replaced in its last quarter of an hour, or in its last quarter when it is shorter than an hour.
REFRESH_SECONDS = 900

# The document that the metadata service shows, and when it expires, in seconds since the epoch.
Session = tuple[dict[str, str], float]

_CREDENTIALS = "latest/meta-data/iam/security-credentials/"


# Values of the identity document by their path below latest/meta-data/.
_LEAVES = {
    "instance-id": "instanceId",
    "instance-type": "instanceType",
    "ami-id": "imageId",
    "local-ipv4": "privateIp",
    "placement/region": "region",
    "placement/availability-zone": "availabilityZone",
}


class MetadataService:
    """Tokens and sessions of all instances; `session_seconds` is how long the credentials of a role live."""

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
            instance = await running_instance(self._moto, name)
            if path == "latest/api/token":
                return self._token(request, instance)
            if request.method != "GET":
                return messages.text(405, "Method Not Allowed")
            if not self._is_valid(instance, request.headers.get("x-aws-ec2-metadata-token", "")):
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

    def _is_valid(self, instance: Instance, token: str) -> bool:
        return self._tokens.get((instance.id, token), 0) > time.time()

    def _metadata(self, instance: Instance, path: str) -> Response:
        leaf = _LEAVES.get(path.removeprefix("latest/meta-data/"))
        if leaf and path.startswith("latest/meta-data/"):
            return messages.text(200, instance.identity[leaf])
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
