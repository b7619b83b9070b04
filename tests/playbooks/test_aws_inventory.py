"""inventories/aws as it is. Its profile points to an embedded cloud, which answers in the place of AWS.

The embedded cloud runs no hosts, so the plays are limited to the operator's side.
"""

from __future__ import annotations

import json
import re
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataFetcher
from plays import AWS_INVENTORY, PROFILE, REGION, Pipeline, Run, aws_pipeline, listings, root_keys, wait_until

NAME = "FinancialTransactionProducer"
ADDRESS = "203.0.113.7"


class AddressService(BaseHTTPRequestHandler):
    """Answers as checkip.amazonaws.com does: an address and a newline."""

    answer = f"{ADDRESS}\n"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer.encode())

    def log_message(self, *_arguments: Any) -> None:
        """Write nothing to the output of the tests."""


@pytest.fixture(scope="module")
def address_service() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), AddressService)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


@pytest.fixture(scope="module")
def aws(start_cloud: Callable[..., Any], address_service: str, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The operator's machine. Only the addresses of AWS and of the address service are overridden."""
    settings = {
        "producer_instance_address_service": address_service,
        "producer_instance_type": "t3.micro",
        "producer_instance_count": 2,
    }
    cloud = start_cloud("--session-seconds", "3")
    return aws_pipeline(tmp_path_factory.mktemp("operator"), cloud.endpoint, cloud.config, **settings)


def play(aws: Pipeline, name: str, *options: str, **settings: Any) -> Run:
    return aws.play(name, *AWS_INVENTORY, "--limit", "operator", *options, **settings)


def words(run: Run) -> str:
    return " ".join(run.output.split())


def hosts(aws: Pipeline, *options: str) -> dict[str, Any]:
    return json.loads(aws.run("ansible-inventory", *AWS_INVENTORY, "--list", *options).ended_well().output)


def launch(aws: Pipeline, name: str, **tags: str) -> str:
    pairs = [{"Key": key, "Value": value} for key, value in (tags | {"Name": name}).items()]
    ec2 = aws.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    started = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[{"ResourceType": "instance", "Tags": pairs}])
    return started["Instances"][0]["InstanceId"]


def key_file(aws: Pipeline) -> Path:
    return Path(aws.settings["producer_instance_key_file"])


@pytest.fixture(scope="module", autouse=True)
def empty(aws: Pipeline) -> dict[str, list[str]]:
    return listings(aws)


def test_an_account_id_that_is_not_set_stops_before_anything(aws: Pipeline, empty: dict[str, list[str]]):
    run = play(aws, "site", pipeline_account_id="")
    assert run.status != 0
    assert "pipeline_account_id is not set" in words(run)
    assert listings(aws) == empty


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{profile}wrong\n", "InvalidSignature|SignatureDoesNotMatch|AuthFailure"),
        ("{profile}\naws_session_token = ended\n", "Token|AuthFailure"),
        ("[default]\nregion = us-east-1\n", "Unable to locate credentials"),
        ("", "profile \\(default\\) could not be found"),
    ],
    ids=["wrong", "ended", "none", "no-profile"],
)
def test_credentials_that_cannot_be_used_are_an_error_of_the_inventory(aws: Pipeline, tmp_path: Path, config: str, reason: str):
    refused_profile(aws, tmp_path, config, reason)


def refused_profile(aws: Pipeline, tmp_path: Path, config: str, reason: str) -> None:
    """Assert that the inventory fails with this configuration of the AWS CLI, and says why and where to look."""
    (tmp_path / "config").write_text(config.format(profile=PROFILE.format(**root_keys(aws.config)).rstrip()))
    shell = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"}
    run = Pipeline(aws.directory, aws.port, {}, aws.environment | shell).run("ansible-inventory", *AWS_INVENTORY, "--list")
    assert run.status != 0
    assert re.search(reason, words(run)), run.output
    assert "Completely failed to parse inventory source" in words(run)
    assert "inventories/aws/instances.aws_ec2.yml" in words(run)


def test_all_problems_are_reported_at_once_before_anything_is_changed(aws: Pipeline, empty: dict[str, list[str]], tmp_path: Path):
    (tmp_path / "key").write_text("nobody's")
    (tmp_path / "key").chmod(0o644)
    wrong = {
        "producer_instance_image": "resolve:ssm:/aws/service/al2099",
        "producer_instance_type": "t9.micro",
        "producer_instance_key_file": str(tmp_path / "key"),
    }
    run = play(aws, "site", **wrong)
    assert run.status != 0
    for problem in ("no image /aws/service/al2099", "no instance type t9.micro", f"chmod 600 {tmp_path}/key", "Nothing was changed."):
        assert problem in words(run)
    assert listings(aws) == empty


def test_an_unknown_address_of_the_operator_is_an_error_that_says_how_to_set_it(
    aws: Pipeline, empty: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(AddressService, "answer", "<html>log in to this network</html>")
    run = play(aws, "site", "--tags", "producer_instance")
    assert run.status != 0
    assert "expected was an IPv4 address" in words(run)
    assert '-e \'{"producer_instance_ssh_sources": ["203.0.113.7/32"]}\'' in words(run)
    assert listings(aws) == empty


def test_a_check_on_an_empty_account_makes_nothing_and_would_launch_with_standard_credits(aws: Pipeline, empty: dict[str, list[str]]):
    run = play(aws, "site", "--tags", "producer_instance", "--check", "-v").ended_well()
    assert "CpuCredits: standard" in run.output
    assert listings(aws) == empty
    assert not key_file(aws).exists()


def test_site_deploys_two_instances_with_the_key_pair_and_lets_the_operator_in(aws: Pipeline):
    launch(aws, "stranger")
    launch(aws, f"{NAME}-blue", Pipeline="financial-transactions", Environment="blue")
    gone = launch(aws, NAME, Pipeline="financial-transactions", Environment="default")
    aws.client("ec2").terminate_instances(InstanceIds=[gone])

    run = play(aws, "site").ended_well()

    assert "t3.micro is not Free Tier eligible in this account" in words(run)
    assert "t2.micro is Free Tier eligible" in words(run)
    assert stat.S_IMODE(key_file(aws).stat().st_mode) == 0o600
    instances = described(aws)
    assert [instance["KeyName"] for instance in instances] == [NAME, NAME]
    (group,) = aws.client("ec2").describe_security_groups(GroupNames=[NAME])["SecurityGroups"]
    assert [source["CidrIp"] for rule in group["IpPermissions"] for source in rule["IpRanges"]] == [f"{ADDRESS}/32"]


def described(aws: Pipeline) -> list[dict[str, Any]]:
    filters = [{"Name": "tag:Name", "Values": [NAME]}, {"Name": "instance-state-name", "Values": ["running"]}]
    reservations = aws.client("ec2").describe_instances(Filters=filters)["Reservations"]
    return [instance for reservation in reservations for instance in reservation["Instances"]]


def test_the_subnet_is_one_that_gives_addresses_and_what_to_watch_names_the_profile(aws: Pipeline):
    """The subnet of the first zone gives no addresses, so the second one is used. Running instances stay where they are."""
    ec2 = aws.client("ec2")
    subnets = {one["SubnetId"]: one["AvailabilityZone"] for one in ec2.describe_subnets()["Subnets"]}
    assert {subnets[instance["SubnetId"]] for instance in described(aws)} == {f"{REGION}a"}
    first = next(name for name, zone in subnets.items() if zone == f"{REGION}a")
    ec2.modify_subnet_attribute(SubnetId=first, MapPublicIpOnLaunch={"Value": False})

    run = play(aws, "site", "--tags", "producer_instance", producer_instance_count=3).ended_well()

    (third,) = [instance for instance in described(aws) if subnets[instance["SubnetId"]] != f"{REGION}a"]
    assert (subnets[third["SubnetId"]], bool(third.get("PublicIpAddress"))) == (f"{REGION}b", True)
    assert f"aws logs tail /aws/lambda/ProcessFinancialStream --follow --profile default --region {REGION}" in words(run)
    ec2.terminate_instances(InstanceIds=[third["InstanceId"]])
    ec2.modify_subnet_attribute(SubnetId=first, MapPublicIpOnLaunch={"Value": True})


def test_an_instance_without_a_public_address_is_in_the_inventory_by_its_private_one(aws: Pipeline):
    ec2 = aws.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    subnet = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [f"{REGION}c"]}])["Subnets"][0]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": False})
    tags = {"Name": f"{NAME}-hidden", "Pipeline": "financial-transactions", "Environment": "hidden"}
    started = ec2.run_instances(
        ImageId=image,
        InstanceType="t3.micro",
        SubnetId=subnet,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}],
    )["Instances"][0]
    wait_until(lambda: "hidden" in json.dumps(hosts(aws)), 30, "a running instance")

    found = hosts(aws, "-e", "pipeline_environment=hidden")

    (host,) = found["producers"]["hosts"]
    assert address(found["_meta"]["hostvars"][host]) == started["PrivateIpAddress"]
    asked = ("-m", "ansible.builtin.debug", "-a", "var=pipeline_reach_advice", "-e", "pipeline_environment=hidden")
    assert "It has no public address" in aws.run("ansible", *AWS_INVENTORY, host, *asked).ended_well().output
    ec2.terminate_instances(InstanceIds=[started["InstanceId"]])
    ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})


def test_a_second_site_changes_nothing(aws: Pipeline):
    before = key_file(aws).read_bytes()
    run = play(aws, "site").ended_well()
    assert run.totals["changed"] == 0, run.output
    assert key_file(aws).read_bytes() == before


@pytest.mark.parametrize("seconds", [30, 0], ids=["a-change-may-not-show-yet", "a-change-shows-at-once"])
def test_verification_shortly_after_a_change_of_a_queue_waits_until_it_shows(aws: Pipeline, seconds: int):
    """AWS shows some changes late. Here the test makes the change while verify.yml waits for it."""
    sqs, url = aws.client("sqs"), aws.queue_url()
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "7"})
    mended = threading.Timer(9, lambda: sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"}))
    if seconds:
        mended.start()
    run = play(aws, "verify", "--tags", "transaction_queue", transaction_queue_settle_seconds=seconds)
    if seconds:
        mended.join()
    else:
        mended.function()
    assert (run.status == 0) is (seconds > 0), run.output
    assert run.failed_checks == (set() if seconds else {"queue FinancialTransactionQueue: delay_seconds"})


def test_a_session_that_has_expired_is_an_error_of_the_inventory(aws: Pipeline, tmp_path: Path):
    """The session of an instance's role works first, and is kept until it expires."""
    metadata = f"{aws.endpoint}/_imds/{described(aws)[0]['InstanceId']}/"
    session = InstanceMetadataFetcher(base_url=metadata).retrieve_iam_role_credentials()
    keys = {
        "aws_access_key_id": session["access_key"],
        "aws_secret_access_key": session["secret_key"],
        "aws_session_token": session["token"],
    }

    assert answer(aws, keys) == "allowed"
    wait_until(lambda: answer(aws, keys) != "allowed", 10, "an end of the session")

    refused_profile(aws, tmp_path, "[default]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items()), "expired")


def answer(aws: Pipeline, keys: dict[str, str]) -> str:
    """What GetCallerIdentity answers to these keys: "allowed", or the code of the error."""
    sts = boto3.client("sts", REGION, endpoint_url=aws.endpoint, **keys)
    try:
        sts.get_caller_identity()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "allowed"


def address(variables: dict[str, Any]) -> str:
    """The address of a host. The listing marks what came from AWS as text that is not a template."""
    value = variables["ansible_host"]
    return value["__ansible_unsafe"] if isinstance(value, dict) else value


def test_the_inventory_finds_the_running_instances_of_the_environment_alone(aws: Pipeline):
    found = hosts(aws)
    assert sorted(found["producers"]["hosts"]) == sorted(f"{NAME}-{instance['InstanceId']}" for instance in described(aws))
    addresses = {address(found["_meta"]["hostvars"][host]) for host in found["producers"]["hosts"]}
    assert addresses == {instance["PublicIpAddress"] for instance in described(aws)}
    assert not any("stranger" in host for host in found["_meta"]["hostvars"])
    assert "embedded_cloud" not in found

    (blue,) = hosts(aws, "-e", "pipeline_environment=blue")["producers"]["hosts"]
    assert blue.startswith(f"{NAME}-blue-i-")


def test_site_does_not_terminate_instances_that_are_too_many(aws: Pipeline):
    run = play(aws, "site", "--tags", "producer_instance", producer_instance_count=1)
    assert run.status != 0
    assert f"2 instances are named {NAME}" in words(run)
    assert len(described(aws)) == 2


def test_an_instance_that_does_not_answer_ends_teardown_whatever_its_state(aws: Pipeline):
    first, second = described(aws)
    aws.client("ec2").stop_instances(InstanceIds=[first["InstanceId"]])

    run = play(aws, "teardown", "-e", "confirm_teardown=default")

    assert run.status != 0
    assert f"instance {first['InstanceId']}: stopped, and no producer answered for it" in words(run)
    assert f"{NAME}-{second['InstanceId']} was not asked" in words(run)
    assert [instance["InstanceId"] for instance in described(aws)] == [second["InstanceId"]]  # --limit stops nothing
    aws.client("ec2").start_instances(InstanceIds=[first["InstanceId"]])


def test_teardown_leaves_the_strangers_and_the_private_key_and_asks_nobody_for_an_address(aws: Pipeline, empty: dict[str, list[str]]):
    asked = AddressService.asked
    refused = play(aws, "teardown")
    assert "ansible-playbook teardown.yml -i inventories/aws -e confirm_teardown=default" in words(refused)

    # These instances answer nobody, so their data is discarded.
    play(aws, "teardown", "-e", "confirm_teardown=default", "-e", "discard_data=default").ended_well()

    assert AddressService.asked == asked
    assert key_file(aws).exists()
    left = listings(aws)
    instances = left.pop("instances")
    assert len(instances) == 2
    ignored = {"instances", "volumes", "network interfaces"}
    assert {kind: names for kind, names in left.items() if kind not in ignored} == {
        kind: names for kind, names in empty.items() if kind not in ignored
    }
