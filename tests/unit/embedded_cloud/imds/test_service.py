"""The metadata service of a running instance, as the SDKs and the user guide know it."""

from __future__ import annotations

import http.client
import json
import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from botocore.credentials import InstanceMetadataFetcher, InstanceMetadataProvider
from botocore.exceptions import ClientError
from refusals import make_role

CREDENTIALS = "latest/meta-data/iam/security-credentials/"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"


class Instance:
    """A running instance of a cloud, with its role, and requests to its metadata service."""

    def __init__(self, cloud, principal: str = "ec2.amazonaws.com", profile: bool = True):
        self.cloud, self.name = cloud, f"imds-{uuid4()}"
        self.iam, self.ec2 = cloud.client("iam"), cloud.client("ec2")
        make_role(cloud, principal, name=self.name)
        self.iam.create_instance_profile(InstanceProfileName=self.name)
        self.iam.add_role_to_instance_profile(InstanceProfileName=self.name, RoleName=self.name)
        self.id = self.launch(IamInstanceProfile={"Name": self.name}) if profile else self.launch()

    def launch(self, **options) -> str:
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": self.name}]}]
        launched = self.ec2.run_instances(ImageId="ami-03cf127a", MinCount=1, MaxCount=1, TagSpecifications=tags, **options)
        return launched["Instances"][0]["InstanceId"]

    def call(self, method: str, path: str, by: str = "", **headers: str) -> tuple[int, str]:
        """Answer of this instance's metadata service, which is found by its name or `by` its id."""
        connection = http.client.HTTPConnection("127.0.0.1", self.cloud.port, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/_imds/{by or self.name}/{path}", headers=named)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def token(self, seconds: int = 60) -> str:
        status, token = self.call("PUT", "latest/api/token", **{TTL: str(seconds)})
        assert status == 200, token
        return token

    def get(self, path: str) -> tuple[int, str]:
        return self.call("GET", path, X_aws_ec2_metadata_token=self.token())

    def credentials(self) -> dict[str, str]:
        status, document = self.get(CREDENTIALS + self.name)
        assert status == 200, document
        return json.loads(document)

    def client(self, service: str, document: dict[str, str]):
        return self.cloud.client(service, document["AccessKeyId"], document["SecretAccessKey"], document["Token"])


@pytest.fixture(scope="module")
def instance(embedded_cloud):
    return Instance(embedded_cloud)


def seconds_left(document: dict[str, str]) -> float:
    return datetime.fromisoformat(document["Expiration"]).timestamp() - time.time()


@pytest.fixture(scope="module")
def short_lived(start_cloud):
    """An instance of a cloud whose sessions live three seconds."""
    return Instance(start_cloud("--session-seconds", "3"))


@pytest.fixture(scope="module")
def renewed(short_lived) -> tuple[dict[str, str], dict[str, str]]:
    """Its credentials, and those it is given when the first end in less than a quarter of their life."""
    before = short_lived.credentials()
    time.sleep(max(0.0, seconds_left(before) - 0.5))
    return before, short_lived.credentials()


def test_the_role_of_the_profile_is_named(instance):
    assert instance.get(CREDENTIALS) == (200, instance.name)


def test_credentials_are_a_session_of_the_role(instance):
    document = instance.credentials()
    assert (document["Code"], document["Type"], document["AccessKeyId"][:4]) == ("Success", "AWS-HMAC", "ASIA")
    arn = instance.client("sts", document).get_caller_identity()["Arn"]
    assert arn == f"arn:aws:sts::000000000000:assumed-role/{instance.name}/{instance.id}"


def test_credentials_live_six_hours(instance):
    expires = datetime.fromisoformat(instance.credentials()["Expiration"])
    assert 0 <= 21600 - (expires - datetime.now(UTC)).total_seconds() < 120


def test_credentials_stay_the_same_until_they_are_renewed(instance):
    assert instance.credentials() == instance.credentials()


def test_a_session_is_refused_where_its_role_has_no_permission(instance):
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        instance.client("ec2", instance.credentials()).describe_instances()


def test_boto3_finds_its_credentials_here(instance):
    endpoint = f"{instance.cloud.endpoint}/_imds/{instance.name}/"
    fetcher = InstanceMetadataFetcher(config={"ec2_metadata_service_endpoint": endpoint})
    found = InstanceMetadataProvider(fetcher).load()
    assert found.get_frozen_credentials().access_key == instance.credentials()["AccessKeyId"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("latest/meta-data/instance-id", "id"), ("latest/meta-data/placement/region", "us-east-1")],
)
def test_an_instance_is_told_about_itself(instance, path, expected):
    assert instance.get(path) == (200, getattr(instance, expected, expected))


def test_the_identity_document_names_instance_account_and_region(instance):
    document = json.loads(instance.get("latest/dynamic/instance-identity/document")[1])
    assert (document["instanceId"], document["accountId"], document["region"]) == (instance.id, "000000000000", "us-east-1")


def test_without_a_token_nothing_is_told(instance):
    assert instance.call("GET", "latest/meta-data/instance-id")[0] == 401


def test_a_token_of_another_instance_is_worth_nothing(instance):
    other = Instance(instance.cloud)
    assert instance.call("GET", "latest/meta-data/instance-id", X_aws_ec2_metadata_token=other.token())[0] == 401


def test_a_token_expires(instance):
    token = instance.token(seconds=1)
    time.sleep(1.1)
    assert instance.call("GET", "latest/meta-data/instance-id", X_aws_ec2_metadata_token=token)[0] == 401


@pytest.mark.parametrize("seconds", ["0", "21601", "", "ten", "-1"])
def test_a_token_lives_from_one_second_to_six_hours(instance, seconds):
    assert instance.call("PUT", "latest/api/token", **{TTL: seconds})[0] == 400


def test_a_token_cannot_be_had_by_get(instance):
    assert instance.call("GET", "latest/api/token", **{TTL: "60"})[0] == 405


@pytest.mark.parametrize(("method", "path"), [("PUT", "latest/api/token"), ("GET", "latest/meta-data/instance-id")])
def test_a_request_that_came_through_a_proxy_is_refused(instance, method, path):
    assert instance.call(method, path, X_Forwarded_For="192.0.2.1", **{TTL: "60"})[0] == 403


def test_an_unknown_instance_has_no_metadata(embedded_cloud, instance):
    connection = http.client.HTTPConnection("127.0.0.1", embedded_cloud.port)
    connection.request("PUT", "/_imds/nobody/latest/api/token", headers={TTL: "60"})
    assert connection.getresponse().status == 404


def test_a_stopped_instance_has_no_metadata(embedded_cloud):
    stopped = Instance(embedded_cloud)
    stopped.ec2.stop_instances(InstanceIds=[stopped.id])
    assert stopped.call("PUT", "latest/api/token", **{TTL: "60"})[0] == 404


def test_two_instances_of_one_name_have_no_metadata(embedded_cloud):
    twin = Instance(embedded_cloud)
    twin.launch()
    status, body = twin.call("PUT", "latest/api/token", **{TTL: "60"})
    assert (status, "2 running instances" in body) == (404, True)


def test_two_instances_of_one_name_each_have_their_own_metadata_by_their_id(embedded_cloud):
    twin = Instance(embedded_cloud)
    for instance_id in (twin.id, twin.launch()):
        status, token = twin.call("PUT", "latest/api/token", by=instance_id, **{TTL: "60"})
        assert status == 200, token
        found = twin.call("GET", "latest/meta-data/instance-id", by=instance_id, X_aws_ec2_metadata_token=token)
        assert found == (200, instance_id)


def test_without_a_profile_there_are_no_credentials(embedded_cloud):
    status, body = Instance(embedded_cloud, profile=False).get(CREDENTIALS)
    assert (status, "no instance profile is attached" in body) == (404, True)


def test_a_role_that_does_not_trust_ec2_gives_no_credentials(embedded_cloud):
    distrusted = Instance(embedded_cloud, principal="lambda.amazonaws.com")
    status, body = distrusted.get(CREDENTIALS + distrusted.name)
    assert (status, "trust policy" in body) == (404, True)


def test_a_role_that_is_gone_gives_no_credentials(embedded_cloud):
    orphan = Instance(embedded_cloud)
    orphan.iam.remove_role_from_instance_profile(InstanceProfileName=orphan.name, RoleName=orphan.name)
    orphan.iam.delete_role(RoleName=orphan.name)
    assert orphan.get(CREDENTIALS + orphan.name)[0] == 404


def test_a_session_is_renewed_before_it_ends(short_lived, renewed):
    before, after = renewed
    assert after["AccessKeyId"] != before["AccessKeyId"]
    assert seconds_left(after) > seconds_left(before)


@pytest.mark.parametrize(("service", "call"), [("sts", "get_caller_identity"), ("ec2", "describe_instances")])
def test_an_expired_session_is_refused(short_lived, renewed, service, call):
    expired = renewed[0]
    time.sleep(max(0.0, seconds_left(expired)) + 0.05)
    with pytest.raises(ClientError, match=r"ExpiredToken|RequestExpired"):
        getattr(short_lived.client(service, expired), call)()


def test_a_profile_that_was_made_again_is_another_one_until_it_is_attached_again(embedded_cloud):
    instance = Instance(embedded_cloud)
    iam, ec2, name = instance.iam, instance.ec2, instance.name

    def profile_ids() -> tuple[str, str]:
        (reservation,) = ec2.describe_instances(InstanceIds=[instance.id])["Reservations"]
        now = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["InstanceProfileId"]
        return reservation["Instances"][0]["IamInstanceProfile"]["Id"], now

    was, now = profile_ids()
    assert was == now

    iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
    iam.delete_instance_profile(InstanceProfileName=name)
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    kept, now = profile_ids()
    assert (kept, now != was) == (was, True)
    status, text = instance.get(CREDENTIALS)
    assert status == 404, text

    (association,) = ec2.describe_iam_instance_profile_associations(Filters=[{"Name": "instance-id", "Values": [instance.id]}])[
        "IamInstanceProfileAssociations"
    ]
    ec2.replace_iam_instance_profile_association(AssociationId=association["AssociationId"], IamInstanceProfile={"Name": name})
    assert profile_ids() == (now, now)
    assert instance.credentials()["Code"] == "Success"
