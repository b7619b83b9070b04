"""Instances, security groups and dashboards that AWS refuses, and those it takes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from refusals import in_time, make_role, refusal, root, unique

IMAGE = "ami-03cf127a"
PUBLIC_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


def launch(cloud: Any, **options: Any) -> dict[str, Any]:
    request = {"ImageId": IMAGE, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1} | options
    found: dict[str, Any] = root(cloud, "ec2").run_instances(**request)["Instances"][0]
    return found


BOGUS = {
    "image": ({"ImageId": "ami-00000000000000000"}, "InvalidAMIID.NotFound", "The image id '[ami-00000000000000000]' does not exist"),
    "no image id": ({"ImageId": "debian"}, "InvalidAMIID.Malformed", 'Invalid id: "debian" (expecting "ami-...")'),
    "type": ({"InstanceType": "t9.huge"}, "InvalidParameterValue", "Invalid value 't9.huge' for InstanceType."),
    "key": ({"KeyName": "nobodys"}, "InvalidKeyPair.NotFound", "The key pair 'nobodys' does not exist"),
    "subnet": ({"SubnetId": "subnet-0badc0de"}, "InvalidSubnetID.NotFound", "The subnet ID 'subnet-0badc0de' does not exist"),
    "interface's subnet": (
        {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-0badc0de"}]},
        "InvalidSubnetID.NotFound",
        "The subnet ID 'subnet-0badc0de' does not exist",
    ),
    "profile": (
        {"IamInstanceProfile": {"Name": "nobodys"}},
        "InvalidParameterValue",
        "Value (nobodys) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
    ),
    "profile's ARN": (
        {"IamInstanceProfile": {"Arn": "arn:aws:iam::000000000000:instance-profile/nobodys"}},
        "InvalidParameterValue",
        "Value (arn:aws:iam::000000000000:instance-profile/nobodys) for parameter iamInstanceProfile.arn is invalid. "
        "Invalid IAM Instance Profile ARN",
    ),
}


@pytest.mark.parametrize("what", BOGUS)
def test_an_instance_of_something_that_does_not_exist_is_refused(embedded_cloud: Any, what: str):
    options, code, text = BOGUS[what]
    assert refusal(lambda: launch(embedded_cloud, **options)) == (code, text)


def test_an_instance_of_what_exists_is_launched(embedded_cloud: Any):
    ec2, key = root(embedded_cloud, "ec2"), unique("key")
    ec2.create_key_pair(KeyName=key)
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    assert launch(embedded_cloud, KeyName=key, SubnetId=subnet)["SubnetId"] == subnet


@pytest.mark.parametrize(("zone", "offered"), [("us-east-1a", True), ("us-east-1e", False)])
def test_a_zone_launches_the_types_that_it_offers(embedded_cloud: Any, zone: str, offered: bool):
    ec2 = root(embedded_cloud, "ec2")
    (subnet,) = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [zone]}])["Subnets"]
    if offered:
        assert launch(embedded_cloud, SubnetId=subnet["SubnetId"])["Placement"]["AvailabilityZone"] == zone
    else:
        code, text = refusal(lambda: launch(embedded_cloud, SubnetId=subnet["SubnetId"]))
        assert (code, f"(t3.micro) is not supported in your requested Availability Zone ({zone})" in text) == ("Unsupported", True)


def test_an_instance_of_a_subnet_that_gives_none_has_no_public_address(embedded_cloud: Any):
    ec2 = root(embedded_cloud, "ec2")
    (subnet,) = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1f"]}])["Subnets"]
    ec2.modify_subnet_attribute(SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": False})
    hidden = launch(embedded_cloud, SubnetId=subnet["SubnetId"])["InstanceId"]
    ec2.modify_subnet_attribute(SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": True})
    seen = launch(embedded_cloud, SubnetId=subnet["SubnetId"])["InstanceId"]
    described = {
        one["InstanceId"]: one.get("PublicIpAddress")
        for group in ec2.describe_instances(InstanceIds=[hidden, seen])["Reservations"]
        for one in group["Instances"]
    }
    assert (described[hidden], bool(described[seen])) == (None, True)


def test_the_image_that_a_public_parameter_names_exists(embedded_cloud: Any):
    image = root(embedded_cloud, "ssm").get_parameter(Name=PUBLIC_IMAGE)["Parameter"]["Value"]
    assert launch(embedded_cloud, ImageId=image)["ImageId"] == image


def test_a_profile_that_was_just_made_is_refused_for_a_while(slow_cloud: Any):
    iam, role = root(slow_cloud, "iam"), make_role(slow_cloud, "ec2.amazonaws.com").rpartition("/")[2]
    launch(slow_cloud)  # the first one loads moto's data
    iam.create_instance_profile(InstanceProfileName=role)
    iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
    code, text = refusal(lambda: launch(slow_cloud, IamInstanceProfile={"Name": role}))
    assert (code, text[-33:]) == ("InvalidParameterValue", " Invalid IAM Instance Profile name"[-33:])
    launched = in_time(lambda: launch(slow_cloud, IamInstanceProfile={"Name": role}), code)
    assert launched["IamInstanceProfile"]["Arn"].endswith(f"/{role}")


def state(cloud: Any, instance: str) -> str:
    found = root(cloud, "ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    return str(found["State"]["Name"])


def test_an_instance_is_pending_before_it_is_running(slow_cloud: Any):
    ec2 = root(slow_cloud, "ec2")
    launch(slow_cloud)  # the first one loads moto's data
    pending = [{"Name": "instance-state-name", "Values": ["pending"]}]
    for _attempt in range(5):  # pending for a second, which a busy machine may miss
        instance = launch(slow_cloud)["InstanceId"]
        if ec2.describe_instances(Filters=pending, InstanceIds=[instance])["Reservations"]:
            break
    else:
        raise AssertionError("no instance was seen pending")
    waiter = ec2.get_waiter("instance_running")
    waiter.wait(InstanceIds=[instance], WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})


def test_an_instance_that_is_terminated_while_pending_does_not_run(slow_cloud: Any):
    instance = launch(slow_cloud)["InstanceId"]
    root(slow_cloud, "ec2").terminate_instances(InstanceIds=[instance])
    time.sleep(2)  # twice as long as it is pending
    assert state(slow_cloud, instance) == "terminated"


def test_a_security_group_in_use_is_not_deleted(embedded_cloud: Any):
    ec2 = root(embedded_cloud, "ec2")
    used, free = (ec2.create_security_group(GroupName=unique("group"), Description="any")["GroupId"] for _ in range(2))
    instance = launch(embedded_cloud, SecurityGroupIds=[used])["InstanceId"]
    delete = lambda: ec2.delete_security_group(GroupId=used)  # noqa: E731
    assert refusal(delete) == ("DependencyViolation", f"resource {used} has a dependent object")
    ec2.delete_security_group(GroupId=free)
    ec2.terminate_instances(InstanceIds=[instance])
    delete()
    assert refusal(lambda: ec2.describe_security_groups(GroupIds=[used]))[0] == "InvalidGroup.NotFound"


def test_metadata_options_that_a_request_leaves_out_are_kept(embedded_cloud: Any):
    ec2 = root(embedded_cloud, "ec2")
    instance = launch(embedded_cloud, MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3})["InstanceId"]
    ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional")
    found = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["MetadataOptions"]
    assert found == {
        "State": "applied",
        "HttpTokens": "optional",
        "HttpPutResponseHopLimit": 3,
        "HttpEndpoint": "enabled",
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "disabled",
    }


@pytest.fixture(scope="module")
def free_plan_cloud(start_cloud: Any) -> Any:
    return start_cloud("--free-plan")


def test_the_free_plan_refuses_a_type_that_is_not_eligible(free_plan_cloud: Any, embedded_cloud: Any):
    expected = (
        "The specified instance type is not eligible for Free Tier. For a list of Free Tier instance types, run 'describe-instance-types' "
        "with the filter 'free-tier-eligible=true'."
    )
    assert refusal(lambda: launch(free_plan_cloud, InstanceType="t2.micro")) == ("InvalidParameterCombination", expected)
    assert launch(embedded_cloud, InstanceType="t2.micro")["InstanceType"] == "t2.micro"


def eligible_types(cloud: Any) -> list[str]:
    eligible = [{"Name": "free-tier-eligible", "Values": ["true"]}]
    return [found["InstanceType"] for found in root(cloud, "ec2").describe_instance_types(Filters=eligible)["InstanceTypes"]]


def test_an_account_older_than_the_free_plan_has_t2_micro_in_its_free_tier(embedded_cloud: Any):
    assert eligible_types(embedded_cloud) == ["t2.micro"]


def test_the_free_plan_launches_the_types_that_the_api_calls_eligible(free_plan_cloud: Any):
    types = eligible_types(free_plan_cloud)
    assert "t3.micro" in types
    assert "t2.micro" not in types
    assert launch(free_plan_cloud, InstanceType="t3.micro")["InstanceType"] == "t3.micro"


@pytest.mark.parametrize("body", ["no json", "[]", ""])
def test_a_dashboard_that_is_no_json_object_is_refused(embedded_cloud: Any, body: str):
    put = {"DashboardName": unique("dashboard"), "DashboardBody": body}
    expected = ("InvalidParameterInput", "The field DashboardBody must be a valid JSON object")
    assert refusal(lambda: root(embedded_cloud, "cloudwatch").put_dashboard(**put)) == expected


def test_a_dashboard_is_kept_as_it_was_put(embedded_cloud: Any):
    cloudwatch, name, body = root(embedded_cloud, "cloudwatch"), unique("dashboard"), json.dumps({"widgets": []})
    cloudwatch.put_dashboard(DashboardName=name, DashboardBody=body)
    assert cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"] == body
