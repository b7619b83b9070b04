"""Requests need the permissions AWS asks for, by AWS's names, and the cloud tells which they were."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from refusals import REGION, denial, make_role, policy, trust
from users import User, anything, arn

TAGS = [{"Key": "a", "Value": "b"}]


def test_the_record_is_of_one_key_and_needs_to_be_told_which(embedded_cloud):
    user = User(embedded_cloud, {"Action": "sqs:ListQueues", "Resource": "*"})
    user.client("sts").get_caller_identity()
    user.client("sqs").list_queues()
    assert denial(user.client("dynamodb").list_tables)
    assert set(user.needed()) == {("sqs:ListQueues", "*"), ("dynamodb:ListTables", "*")}
    with pytest.raises(HTTPError) as error:
        urlopen(f"{embedded_cloud.endpoint}/_embedded_cloud/permissions", timeout=10)
    assert error.value.code == 400


def test_a_request_with_a_wrong_signature_is_not_recorded(embedded_cloud):
    user = User(embedded_cloud, anything())
    assert denial(embedded_cloud.client("sqs", user.key["AccessKeyId"], "wrong").list_queues)
    assert user.needed() == {}


def test_calls_to_lambda_are_named_as_iam_names_them(embedded_cloud):
    user = User(embedded_cloud, anything())
    functions = user.client("lambda")
    for call in (
        lambda: functions.get_function_concurrency(FunctionName="none"),
        lambda: functions.get_event_source_mapping(UUID="none"),
        lambda: functions.update_event_source_mapping(UUID="none"),
        lambda: functions.delete_event_source_mapping(UUID="none"),
        lambda: functions.invoke(FunctionName="none"),
    ):
        assert "AccessDenied" not in denial(call)
    mapping = arn("lambda", "event-source-mapping:none")
    assert set(user.needed()) == {
        ("lambda:GetFunctionConcurrency", arn("lambda", "function:none")),
        ("lambda:GetEventSourceMapping", mapping),
        ("lambda:UpdateEventSourceMapping", mapping),
        ("lambda:DeleteEventSourceMapping", mapping),
        ("lambda:InvokeFunction", arn("lambda", "function:none")),
    }


def test_a_mapping_can_be_limited_to_its_function(embedded_cloud):
    condition = {"ArnEquals": {"lambda:FunctionArn": arn("lambda", "function:mine")}}
    user = User(embedded_cloud, {"Action": "lambda:CreateEventSourceMapping", "Resource": "*", "Condition": condition})
    create = user.client("lambda").create_event_source_mapping
    queue = arn("sqs", "somewhere")
    assert "AccessDenied" not in denial(lambda: create(FunctionName="mine", EventSourceArn=queue))
    assert "AccessDenied" in denial(lambda: create(FunctionName="other", EventSourceArn=queue))


def test_making_a_function_needs_its_arn_its_tags_and_its_role(embedded_cloud):
    role = make_role(embedded_cloud, name="handed")
    made = arn("lambda", "function:tagged")
    create = {"Action": "lambda:CreateFunction", "Resource": made}
    tag = {"Action": "lambda:TagResource", "Resource": made}
    to_lambda = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    to_ec2 = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    handing = {"Action": "iam:PassRole", "Resource": role}
    function = {"FunctionName": "tagged", "Role": role, "Code": {"ZipFile": b"x"}, "Runtime": "python3.13", "Handler": "x.y"}
    function["Tags"] = {"a": "b"}
    for statements, missing in (
        ([create, handing], "lambda:TagResource"),
        ([create, tag], "iam:PassRole"),
        ([create, tag, handing | {"Condition": to_ec2}], "iam:PassRole"),
    ):
        client = User(embedded_cloud, *statements).client("lambda")
        assert f"perform: {missing} " in denial(lambda client=client: client.create_function(**function))
    client = User(embedded_cloud, create, tag, handing | {"Condition": to_lambda}).client("lambda")
    assert "Could not unzip" in denial(lambda: client.create_function(**function))


def test_a_profile_and_a_policy_are_resources_of_their_own(embedded_cloud):
    user = User(embedded_cloud, anything())
    iam = user.client("iam")
    iam.create_role(RoleName="profiled", AssumeRolePolicyDocument=trust())
    iam.create_instance_profile(InstanceProfileName="profile", Tags=TAGS)
    iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName="profiled")
    iam.create_policy(PolicyName="policy", PolicyDocument=policy(anything()))
    assert user.needed() == {
        ("iam:CreateRole", arn("iam", "role/profiled")): {},
        ("iam:CreateInstanceProfile", arn("iam", "instance-profile/profile")): {},
        ("iam:TagInstanceProfile", arn("iam", "instance-profile/profile")): {},
        ("iam:AddRoleToInstanceProfile", arn("iam", "instance-profile/profile")): {},
        ("iam:PassRole", arn("iam", "role/profiled")): {"iam:PassedToService": "ec2.amazonaws.com"},
        ("iam:CreatePolicy", arn("iam", "policy/policy")): {},
    }


def test_logs_are_named_with_all_their_streams_but_for_tagging(embedded_cloud):
    user = User(embedded_cloud, anything())
    logs = user.client("logs")
    logs.create_log_group(logGroupName="group", tags={"a": "b"})
    logs.put_retention_policy(logGroupName="group", retentionInDays=1)
    logs.list_tags_for_resource(resourceArn=arn("logs", "log-group:group"))
    assert set(user.needed()) == {
        ("logs:CreateLogGroup", arn("logs", "log-group:group:*")),
        ("logs:TagResource", arn("logs", "log-group:group")),
        ("logs:PutRetentionPolicy", arn("logs", "log-group:group:*")),
        ("logs:ListTagsForResource", arn("logs", "log-group:group")),
    }


def test_a_launch_needs_every_resource_it_uses_or_makes(embedded_cloud):
    user = User(embedded_cloud, anything())
    ec2 = user.client("ec2")
    image = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    group = ec2.create_security_group(GroupName="launched", Description="x")["GroupId"]
    specification = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "launched"}]}]
    launch = {"ImageId": f"resolve:ssm:{image}", "MinCount": 1, "MaxCount": 1, "SecurityGroupIds": [group]}
    instance = ec2.run_instances(**launch, TagSpecifications=specification)["Instances"][0]["InstanceId"]
    ec2.terminate_instances(InstanceIds=[instance])
    assert user.needed() == {
        ("ec2:CreateSecurityGroup", arn("ec2", "security-group/*")): {},
        ("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/*"): {},
        ("ec2:RunInstances", arn("ec2", "instance/*")): {},
        ("ec2:RunInstances", arn("ec2", "network-interface/*")): {},
        ("ec2:RunInstances", arn("ec2", f"security-group/{group}")): {},
        ("ec2:RunInstances", arn("ec2", "subnet/*")): {},
        ("ec2:RunInstances", arn("ec2", "volume/*")): {},
        ("ec2:CreateTags", arn("ec2", "instance/*")): {"ec2:CreateAction": "RunInstances"},
        ("ssm:GetParameters", f"arn:aws:ssm:{REGION}::parameter{image}"): {},
        ("ec2:TerminateInstances", arn("ec2", f"instance/{instance}")): {"aws:ResourceTag/Name": "launched"},
    }


def test_an_instance_can_be_limited_to_a_tag(embedded_cloud):
    root = embedded_cloud.client("ec2")
    launch = {"ImageId": "ami-03cf127a", "MinCount": 1, "MaxCount": 1}
    named = {name: [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}] for name in ("mine-by-tag", "other-by-tag")}
    mine, other = (root.run_instances(**launch, TagSpecifications=tags)["Instances"][0]["InstanceId"] for tags in named.values())
    condition = {"StringEquals": {"aws:ResourceTag/Name": "mine-by-tag"}}
    user = User(embedded_cloud, {"Action": "ec2:TerminateInstances", "Resource": "*", "Condition": condition})
    terminate = user.client("ec2").terminate_instances
    assert "UnauthorizedOperation" in denial(lambda: terminate(InstanceIds=[other]))
    assert "UnauthorizedOperation" in denial(lambda: terminate(InstanceIds=[mine, other]))
    assert terminate(InstanceIds=[mine])["TerminatingInstances"]


def test_a_policy_that_is_attached_is_the_condition_of_attaching(embedded_cloud):
    iam = embedded_cloud.client("iam")
    make_role(embedded_cloud, name="attached-to")
    document = policy({"Action": "sqs:ListQueues", "Resource": "*"})
    mine, other = (iam.create_policy(PolicyName=name, PolicyDocument=document)["Policy"]["Arn"] for name in ("mine", "other"))
    condition = {"ArnEquals": {"iam:PolicyARN": mine}}
    operator = User(embedded_cloud, {"Action": "iam:AttachRolePolicy", "Resource": "*", "Condition": condition})
    operator.client("iam").attach_role_policy(RoleName="attached-to", PolicyArn=mine)
    assert "iam:AttachRolePolicy" in denial(lambda: operator.client("iam").attach_role_policy(RoleName="attached-to", PolicyArn=other))
