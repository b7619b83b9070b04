"""Which emulator answers what, and that both know what they must."""

from __future__ import annotations

import http.client
import json

import pytest
from botocore.exceptions import ClientError
from refusals import make_role
from users import User

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


def get(cloud, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_health_names_both_emulators(embedded_cloud):
    status, body = get(embedded_cloud, "/_embedded_cloud/health")
    health = json.loads(body)
    assert (status, health["status"], health["emulators"]) == (200, "ready", {"ministack": True, "moto": True})


def test_health_says_whose_cloud_it_is(embedded_cloud):
    health = json.loads(get(embedded_cloud, "/_embedded_cloud/health")[1])
    expected = (embedded_cloud.process.pid, "000000000000", "us-east-1")
    assert (health["pid"], health["account"], health["region"]) == expected


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_aws/sqs/messages", "/latest/meta-data/", "/moto-api/data.json"])
def test_unsigned_pages_of_the_emulators_are_closed(embedded_cloud, path):
    assert get(embedded_cloud, path)[0] == 403


def test_a_signature_opens_no_page_of_the_emulators(embedded_cloud):
    scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
    assert get(embedded_cloud, "/_aws/sqs/messages", Authorization=scope)[0] == 404


def test_ec2_is_motos(embedded_cloud):
    # MiniStack's DescribeInstances has neither network interfaces nor metadata options.
    ec2 = embedded_cloud.client("ec2")
    launched = ec2.run_instances(ImageId="ami-03cf127a", MinCount=1, MaxCount=1, MetadataOptions={"HttpTokens": "required"})
    found = ec2.describe_instances(InstanceIds=[launched["Instances"][0]["InstanceId"]])["Reservations"][0]["Instances"][0]
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert found["NetworkInterfaces"]


def test_an_alarm_reads_back_as_it_was_put(embedded_cloud):
    cloudwatch = embedded_cloud.client("cloudwatch")
    wanted = {
        "AlarmName": "routing",
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateNumberOfMessagesVisible",
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 0.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    cloudwatch.put_metric_alarm(**wanted)
    found = cloudwatch.describe_alarms(AlarmNames=["routing"])["MetricAlarms"][0]
    assert {name: found[name] for name in wanted} == wanted


def test_a_dashboard_that_is_not_json_is_refused(embedded_cloud):
    with pytest.raises(ClientError, match="valid JSON object"):
        embedded_cloud.client("cloudwatch").put_dashboard(DashboardName="routing", DashboardBody="no json")


def test_public_parameters_are_known(embedded_cloud):
    ssm = embedded_cloud.client("ssm")
    assert ssm.get_parameter(Name=IMAGE)["Parameter"]["Value"].startswith("ami-")
    assert ssm.get_parameters(Names=[IMAGE])["InvalidParameters"] == []


def test_other_parameters_are_kept(embedded_cloud):
    ssm = embedded_cloud.client("ssm")
    ssm.put_parameter(Name="/routing/own", Value="kept", Type="String")
    assert ssm.get_parameter(Name="/routing/own")["Parameter"]["Value"] == "kept"


def test_an_image_named_by_a_public_parameter_is_resolved(embedded_cloud):
    launched = embedded_cloud.client("ec2").run_instances(ImageId=f"resolve:ssm:{IMAGE}", MinCount=1, MaxCount=1)
    expected = embedded_cloud.client("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"]
    assert launched["Instances"][0]["ImageId"] == expected


def test_an_image_named_by_an_unknown_parameter_is_refused(embedded_cloud):
    with pytest.raises(ClientError, match=r"InvalidParameterValue.*/aws/service/nothing") as error:
        embedded_cloud.client("ec2").run_instances(ImageId="resolve:ssm:/aws/service/nothing", MinCount=1, MaxCount=1)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_instance_profile_made_by_iam_is_known_to_ec2(embedded_cloud):
    iam = embedded_cloud.client("iam")
    make_role(embedded_cloud, "ec2.amazonaws.com", name="routing-profile")
    iam.create_instance_profile(InstanceProfileName="routing-profile")
    iam.add_role_to_instance_profile(InstanceProfileName="routing-profile", RoleName="routing-profile")
    launched = embedded_cloud.client("ec2").run_instances(
        ImageId="ami-03cf127a", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "routing-profile"}
    )
    assert launched["Instances"][0]["IamInstanceProfile"]["Arn"].endswith("/routing-profile")


def test_an_iam_call_that_ministack_refuses_is_not_replayed(embedded_cloud):
    # Without a policy the user may not create a profile; moto, which checks nothing, would.
    with pytest.raises(ClientError, match="AccessDenied"):
        User(embedded_cloud).client("iam").create_instance_profile(InstanceProfileName="routing-refused")
    with pytest.raises(ClientError, match="routing-refused"):
        embedded_cloud.client("ec2").run_instances(
            ImageId="ami-03cf127a", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "routing-refused"}
        )


def test_a_replay_that_moto_refuses_changes_nothing_for_the_client(embedded_cloud):
    # moto loads no managed policies of AWS, so it cannot attach one.
    iam = embedded_cloud.client("iam")
    make_role(embedded_cloud, name="routing-replay")
    iam.attach_role_policy(RoleName="routing-replay", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    attached = iam.list_attached_role_policies(RoleName="routing-replay")["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == ["ReadOnlyAccess"]
    assert "moto refused iam:AttachRolePolicy" in embedded_cloud.log.read_text()


def test_resources_list_both_emulators(embedded_cloud):
    embedded_cloud.client("sqs").create_queue(QueueName="routing-listed")
    embedded_cloud.client("ec2").create_key_pair(KeyName="routing-listed")
    listed = embedded_cloud.resources()
    assert "routing-listed" in listed["queues"]
    assert "routing-listed" in listed["key_pairs"]


def test_queue_urls_carry_the_port(embedded_cloud):
    url = embedded_cloud.client("sqs").create_queue(QueueName="routing-url")["QueueUrl"]
    assert url == f"{embedded_cloud.endpoint}/000000000000/routing-url"
