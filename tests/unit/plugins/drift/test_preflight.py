"""What keeps the producer's instances from running is said before anything is changed, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible.module_utils.pipeline.drift import preflight as checks
from botocore.exceptions import ClientError
from moto import mock_aws

REGION = "eu-west-3"
IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGOoXKrQJhvHWPpFQsZJTVwWvR3vWZ5kmHdXlCnJJDAB"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJzJ8Y0cXW1GGm6zCwFbz1rxjN0v9Rrl9v3hQm3JxQ0e"


@cache
def client(service: str) -> Any:
    """Slow to make; the emulated account behind it is new in each test."""
    return boto3.client(service, REGION, aws_access_key_id="testing", aws_secret_access_key="testing")


class Account:
    def __init__(self) -> None:
        self.ec2, self.ssm = client("ec2"), client("ssm")

    def launch(self, name: str, count: int) -> list[str]:
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
        started = self.ec2.run_instances(ImageId="ami-12c6146b", MinCount=count, MaxCount=count, TagSpecifications=tags)
        return [instance["InstanceId"] for instance in started["Instances"]]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # loading them takes seconds, and any image will do
    with mock_aws():
        yield Account()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    (tmp_path / "key.pub").write_text(f"{PUBLIC_KEY} a comment\n")
    return file


def test_a_region_with_the_image_is_fine(account: Account):
    assert checks.image_problem(account.ssm, IMAGE, REGION) == ""


def test_a_region_without_the_image_is_named_with_the_parameter(account: Account):
    problem = checks.image_problem(account.ssm, "resolve:ssm:/aws/service/al2099", REGION)
    assert "Region eu-west-3 has no image /aws/service/al2099" in problem
    assert "pipeline_region" in problem


def test_an_image_that_is_no_parameter_is_not_looked_for(account: Account):
    assert checks.image_problem(None, "ami-12c6146b", REGION) == ""


def test_another_error_of_ssm_is_not_taken_for_a_missing_image(account: Account):
    class Denied:
        def get_parameter(self, **_request: str) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetParameter")

    with pytest.raises(ClientError):
        checks.image_problem(Denied(), IMAGE, REGION)


def test_a_missing_default_vpc_is_named_with_the_command_that_makes_it(account: Account):
    assert checks.network_problem(account.ec2, REGION) == ""
    (vpc,) = account.ec2.describe_vpcs()["Vpcs"]
    for subnet in account.ec2.describe_subnets()["Subnets"]:
        account.ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    account.ec2.delete_vpc(VpcId=vpc["VpcId"])
    problem = checks.network_problem(account.ec2, REGION)
    assert "Region eu-west-3 of this account has no default VPC" in problem
    assert "aws ec2 create-default-vpc" in problem


def default_subnets(account: Account) -> dict[str, str]:
    return {one["AvailabilityZone"][-1]: one["SubnetId"] for one in account.ec2.describe_subnets()["Subnets"]}


def give_no_addresses(account: Account, *zones: str) -> None:
    for zone, subnet in default_subnets(account).items():
        if zone in zones:
            account.ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": False})


def test_the_first_subnet_that_gives_addresses_where_the_type_is_offered_is_taken(account: Account):
    assert checks.suitable_subnet(account.ec2, "t3.micro", REGION) == (default_subnets(account)["a"], "")
    give_no_addresses(account, "a")
    assert checks.suitable_subnet(account.ec2, "t3.micro", REGION) == (default_subnets(account)["b"], "")


def test_a_zone_that_does_not_offer_the_type_is_passed_by(account: Account):
    offered = {"InstanceTypeOfferings": [{"InstanceType": "t3.micro", "Location": f"{REGION}c"}]}

    class Ec2:
        def get_paginator(self, operation: str) -> Any:
            asked = operation == "describe_instance_type_offerings"
            return type("Pages", (), {"paginate": lambda self, **_: [offered]})() if asked else account.ec2.get_paginator(operation)

    assert checks.suitable_subnet(Ec2(), "t3.micro", REGION) == (default_subnets(account)["c"], "")
    account.ec2.delete_subnet(SubnetId=default_subnets(account)["c"])
    subnet, problem = checks.suitable_subnet(Ec2(), "t3.micro", REGION)
    assert subnet == ""
    assert f"that offers t3.micro ({REGION}c) has a default subnet" in problem
    assert f"aws ec2 create-default-subnet --availability-zone {REGION}c" in problem


def test_subnets_that_give_no_address_are_named_with_the_command_that_has_one_do_so(account: Account):
    give_no_addresses(account, "a", "b", "c")
    subnet, problem = checks.suitable_subnet(account.ec2, "t3.micro", REGION)
    names = default_subnets(account)
    assert subnet == ""
    assert f"gives a new instance a public address ({names['a']}, {names['b']}, {names['c']})" in problem
    assert f"modify-subnet-attribute --subnet-id {names['a']} --map-public-ip-on-launch" in problem


@pytest.mark.parametrize(
    ("instance_type", "problem"),
    [
        ("t3.micro", ""),
        ("t2.micro", ""),
        ("t9.micro", "Region eu-west-3 has no instance type t9.micro"),
        ("t4g.micro", "Instance type t4g.micro runs arm64, the image x86_64"),
    ],
)
def test_a_type_must_exist_and_run_the_image(account: Account, instance_type: str, problem: str):
    found = checks.type_problem(account.ec2, instance_type, REGION)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)
    assert not problem or "t3.micro is Free Tier eligible" in found


def test_a_type_outside_the_free_tier_is_said_and_the_smallest_inside_named(account: Account):
    """moto's account is a newer one, whose Free Tier has no t2.micro."""
    assert checks.free_tier_advice(account.ec2, "t3.micro") == ""
    advice = checks.free_tier_advice(account.ec2, "t2.micro")
    assert "t2.micro is not Free Tier eligible in this account" in advice
    assert "t3.micro is Free Tier eligible" in advice


def test_an_account_without_any_free_type_is_told_so(account: Account, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "pages", lambda *_arguments, **_request: [])
    assert "no type is Free Tier eligible" in checks.free_tier_advice(account.ec2, "t2.micro")


def test_more_instances_than_wanted_are_named(account: Account):
    ids = account.launch("producer", 2)
    account.launch("stranger", 1)
    assert checks.count_problem(account.ec2, "producer", 2) == ""
    assert checks.count_problem(account.ec2, "producer", 3) == ""
    problem = checks.count_problem(account.ec2, "producer", 1)
    assert problem.startswith("2 instances are named producer")
    assert all(instance in problem for instance in ids)
    account.ec2.terminate_instances(InstanceIds=ids[:1])
    assert checks.count_problem(account.ec2, "producer", 1) == ""


def test_neither_key_file_nor_key_pair_is_a_first_run(account: Account, tmp_path: Path):
    assert checks.key_problem(account.ec2, "k", str(tmp_path / "none")) == ""


def test_a_key_file_without_key_pair_is_imported_by_the_next_run(account: Account, key_file: Path):
    assert checks.key_problem(account.ec2, "k", str(key_file)) == ""


def test_a_key_file_and_its_key_pair_agree_whatever_the_comment(account: Account, key_file: Path):
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=f"{PUBLIC_KEY} k".encode())
    assert checks.key_problem(account.ec2, "k", str(key_file)) == ""


def test_a_missing_key_file_of_an_existing_key_pair_is_named(account: Account, tmp_path: Path):
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=PUBLIC_KEY.encode())
    problem = checks.key_problem(account.ec2, "k", str(tmp_path / "none"))
    assert f"key pair k exists, its private key {tmp_path}/none does not" in problem
    assert "aws ec2 delete-key-pair --key-name k" in problem


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_file_that_others_can_read_is_refused(account: Account, key_file: Path, mode: int):
    key_file.chmod(mode)
    problem = checks.key_problem(account.ec2, "k", str(key_file))
    assert f"has mode {mode:04o}" in problem
    assert f"chmod 600 {key_file}" in problem


def test_a_private_key_without_its_public_key_is_named(account: Account, key_file: Path):
    Path(f"{key_file}.pub").unlink()
    assert "ssh-keygen -y -f" in checks.key_problem(account.ec2, "k", str(key_file))


def test_another_key_pair_of_the_same_name_is_refused(account: Account, key_file: Path):
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=OTHER_KEY.encode())
    assert "key pair k is not that of" in checks.key_problem(account.ec2, "k", str(key_file))
