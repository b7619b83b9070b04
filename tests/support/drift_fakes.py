"""An emulated AWS account with one resource of each type that aws_resource_drift reads, by service family."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from typing import Any

import boto3

SERVICES = ("iam", "sqs", "dynamodb", "lambda", "logs", "ec2", "cloudwatch", "sns")
ACCOUNT = "123456789012"
QUEUE_ARN = f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"
DEAD_LETTER_ARN = f"arn:aws:sqs:us-east-1:{ACCOUNT}:q-dlq"
FUNCTION_ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/r"
POLICY_ARN = f"arn:aws:iam::{ACCOUNT}:policy/p"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com", "lambda.amazonaws.com"]}, "Action": "sts:AssumeRole"}],
}
SEND = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": QUEUE_ARN}]}
TOPIC_ARN = "arn:aws:sns:us-east-1:123456789012:alarms"
PUBLISH = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "cloudwatch.amazonaws.com"}, "Action": "SNS:Publish", "Resource": TOPIC_ARN}
    ],
}
EVERYWHERE = {"protocol": "-1", "cidrs": ["0.0.0.0/0"]}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGOoXKrQJhvHWPpFQsZJTVwWvR3vWZ5kmHdXlCnJJDAB"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJzJ8Y0cXW1GGm6zCwFbz1rxjN0v9Rrl9v3hQm3JxQ0e"
SSH = {"protocol": "tcp", "from_port": 22, "to_port": 22, "cidrs": ["192.0.2.1/32"]}
TAG = [{"Key": "environment", "Value": "default"}]
TAGS = {"environment": "default"}


@cache
def clients() -> dict[str, Any]:
    """A client for each service; they are slow to make, and the emulated account behind them is new in each test."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return {service: boto3.client(service, region_name="us-east-1", **keys) for service in SERVICES}


class Cloud:
    """The account, with a client for each service under its name."""

    def __init__(self) -> None:
        self.clients = clients()
        self.iam, self.sqs, self.dynamodb, self.lambda_, self.logs, self.ec2, self.cloudwatch, self.sns = (
            self.clients[name] for name in SERVICES
        )

    def url(self, name: str) -> str:
        return str(self.sqs.get_queue_url(QueueName=name)["QueueUrl"])

    def mapping_id(self) -> str:
        return str(self.lambda_.list_event_source_mappings()["EventSourceMappings"][0]["UUID"])

    def instance_ids(self) -> list[str]:
        return [item["InstanceId"] for group in self.ec2.describe_instances()["Reservations"] for item in group["Instances"]]

    def attach_data_volume(self) -> None:
        volume = self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, VolumeType="gp2")["VolumeId"]
        self.ec2.attach_volume(InstanceId=self.instance_ids()[-1], VolumeId=volume, Device="/dev/sdf")

    def group_id(self) -> str:
        return str(self.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["g"]}])["SecurityGroups"][0]["GroupId"])


def package(body: str = "pass") -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr(zipfile.ZipInfo("lambda_function.py"), f"def lambda_handler(event, context): {body}\n")
    return archive.getvalue()


def deploy_iam(cloud: Cloud) -> None:
    cloud.iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(SEND), Tags=TAG)
    cloud.iam.create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST), Description="Sends", MaxSessionDuration=3600, Tags=TAG)
    cloud.iam.attach_role_policy(RoleName="r", PolicyArn=POLICY_ARN)
    cloud.iam.create_instance_profile(InstanceProfileName="r", Tags=TAG)
    cloud.iam.add_role_to_instance_profile(InstanceProfileName="r", RoleName="r")


def deploy_data(cloud: Cloud) -> None:
    cloud.sqs.create_queue(QueueName="q-dlq")
    attributes = {
        "VisibilityTimeout": "360",
        "MessageRetentionPeriod": "345600",
        "MaximumMessageSize": "262144",
        "ReceiveMessageWaitTimeSeconds": "20",
        "SqsManagedSseEnabled": "true",
        "Policy": json.dumps(SEND),
        "RedrivePolicy": json.dumps({"deadLetterTargetArn": DEAD_LETTER_ARN, "maxReceiveCount": "10"}),
    }
    cloud.sqs.create_queue(QueueName="q", Attributes=attributes, tags=TAGS)
    cloud.dynamodb.create_table(
        TableName="transactions",
        KeySchema=[{"AttributeName": "transaction_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "transaction_id", "AttributeType": "S"}],
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 25},
        Tags=TAG,
    )


def change_queue(cloud: Cloud, **attributes: str) -> None:
    """Change some attributes; moto forgets the policy of a queue unless it is said again."""
    cloud.sqs.set_queue_attributes(QueueUrl=cloud.url("q"), Attributes={"Policy": json.dumps(SEND)} | attributes)


def deploy_function(cloud: Cloud) -> None:
    cloud.lambda_.create_function(
        FunctionName="f",
        Runtime="python3.13",
        Role=ROLE_ARN,
        Handler="lambda_function.lambda_handler",
        Code={"ZipFile": package()},
        MemorySize=256,
        Timeout=30,
        Environment={"Variables": {"TABLE_NAME": "transactions"}},
        Tags=TAGS | {"RoleId": cloud.iam.get_role(RoleName="r")["Role"]["RoleId"]},
    )
    cloud.lambda_.create_event_source_mapping(
        FunctionName="f",
        EventSourceArn=QUEUE_ARN,
        BatchSize=10,
        MaximumBatchingWindowInSeconds=1,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 5},
    )


def deploy_release(cloud: Cloud) -> None:
    """The function's version 1 live behind an alias."""
    deploy_function(cloud)
    cloud.lambda_.publish_version(FunctionName="f")
    cloud.lambda_.create_alias(FunctionName="f", Name="live", FunctionVersion="1", Description="version=1 checked=yes")


def deploy_monitoring(cloud: Cloud) -> None:
    cloud.logs.create_log_group(logGroupName="/aws/lambda/f", tags=TAGS)
    cloud.logs.create_log_group(logGroupName="/aws/lambda/f-other")
    cloud.logs.put_retention_policy(logGroupName="/aws/lambda/f", retentionInDays=14)
    put_alarm(cloud)
    put_alarm(cloud, AlarmName="somebody-elses")
    cloud.sns.create_topic(Name="other-alarms")
    cloud.sns.create_topic(Name="alarms", Tags=TAG)
    cloud.sns.set_topic_attributes(TopicArn=TOPIC_ARN, AttributeName="Policy", AttributeValue=json.dumps(PUBLISH))
    cloud.sns.subscribe(TopicArn=TOPIC_ARN, Protocol="email", Endpoint="me@example.com")


def put_alarm(cloud: Cloud, **changes: Any) -> None:
    settings: dict[str, Any] = {
        "AlarmName": "f-dead-letters",
        "AlarmDescription": "Something is in quarantine",
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateNumberOfMessagesVisible",
        "Dimensions": [{"Name": "QueueName", "Value": "q-dlq"}],
        "Statistic": "Maximum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "Threshold": 0,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        "Tags": TAG,
    }
    cloud.cloudwatch.put_metric_alarm(**settings | changes)


def deploy_instance(cloud: Cloud) -> None:
    vpc = cloud.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    cloud.ec2.create_security_group(
        GroupName="g", Description="SSH", VpcId=vpc, TagSpecifications=[{"ResourceType": "security-group", "Tags": TAG}]
    )
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}
    cloud.ec2.authorize_security_group_ingress(GroupId=cloud.group_id(), IpPermissions=[ssh])
    import_key(cloud, f"{PUBLIC_KEY} as imported")
    launch(cloud)


def import_key(cloud: Cloud, public_key: str) -> None:
    cloud.ec2.import_key_pair(
        KeyName="k", PublicKeyMaterial=public_key.encode(), TagSpecifications=[{"ResourceType": "key-pair", "Tags": TAG}]
    )


def launch(cloud: Cloud, instance_type: str = "t2.micro", root_device: str = "/dev/sda1") -> None:
    cloud.ec2.run_instances(
        ImageId="ami-12345678",
        InstanceType=instance_type,
        MinCount=1,
        MaxCount=1,
        KeyName="k",
        IamInstanceProfile={"Name": "r"},
        SecurityGroupIds=[cloud.group_id()],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        BlockDeviceMappings=[{"DeviceName": root_device, "Ebs": {"VolumeType": "gp3", "VolumeSize": 8, "Encrypted": True}}],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "producer"}]}],
    )


DEPLOY = {
    "iam": deploy_iam,
    "data": deploy_data,
    "function": deploy_function,
    "release": deploy_release,
    "monitoring": deploy_monitoring,
    "instance": deploy_instance,
}
# Families whose resources are needed to deploy those of another.
NEEDS = {"function": ["iam", "data"], "release": ["iam", "data"], "instance": ["iam"]}


def deploy(cloud: Cloud, family: str) -> None:
    """Deploy a family and what it needs."""
    for name in [*NEEDS.get(family, []), family]:
        DEPLOY[name](cloud)


# By family: every type with a resource's name and all of its properties as they are deployed. Names none beside them.
DEPLOYED: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "iam": {
        "iam_role": (
            "r",
            {
                "trust_policy": json.dumps(TRUST),
                "managed_policies": [POLICY_ARN],
                "inline_policies": [],
                "max_session_duration": 3600,
                "permissions_boundary": None,
                "description": "Sends",
                "path": "/",
                "tags": TAGS,
            },
        ),
        "iam_managed_policy": ("p", {"document": SEND, "path": "/", "tags": TAGS}),
        "iam_instance_profile": ("r", {"roles": ["r"], "path": "/", "tags": TAGS}),
    },
    "data": {
        "dynamodb_table": (
            "transactions",
            {
                "status": "ACTIVE",
                "key_schema": {"transaction_id": "HASH"},
                "attributes": {"transaction_id": "S"},
                "billing_mode": "PROVISIONED",
                "read_capacity": 5,
                "write_capacity": 25,
                "global_indexes": [],
                "local_indexes": [],
                "stream_enabled": False,
                "deletion_protection": False,
                "tags": TAGS,
            },
        ),
        "sqs_queue": (
            "q",
            {
                "visibility_timeout": 360,
                "message_retention_period": 345600,
                "maximum_message_size": 262144,
                "receive_message_wait_time": 20,
                "delay_seconds": 0,
                "sse": "SQS",
                "policy": SEND,
                "redrive_policy": {"dead_letter_target_arn": DEAD_LETTER_ARN, "max_receive_count": 10},
                "fifo": False,
                "tags": TAGS,
            },
        ),
    },
    "function": {
        "lambda_function": (
            "f",
            {
                "runtime": "python3.13",
                "handler": "lambda_function.lambda_handler",
                "role": ROLE_ARN,
                "role_id": "current",
                "memory_size": 256,
                "timeout": 30,
                "environment": {"TABLE_NAME": "transactions"},
                "architectures": ["x86_64"],
                "layers": [],
                "package_type": "Zip",
                "state": "Active",
                "last_update_status": "Successful",
                "reserved_concurrency": None,
                "tracing": "PassThrough",
                "description": "",
                "tags": TAGS,
            },
        ),
        "event_source_mappings": (
            "f",
            {
                "count": 1,
                "event_source_arn": QUEUE_ARN,
                "function_arn": FUNCTION_ARN,
                "state": "Enabled",
                "batch_size": 10,
                "maximum_batching_window": 1,
                "function_response_types": ["ReportBatchItemFailures"],
                "maximum_concurrency": 5,
                "filters": [],
            },
        ),
    },
    "release": {
        "lambda_alias": (
            "f:live",
            {"function_version": "1", "published": True, "checked": "yes", "weights": {}, "latest_differs_in": []},
        ),
    },
    "monitoring": {
        "log_group": (
            "/aws/lambda/f",
            {
                "retention_in_days": 14,
                "kms_key_id": None,
                "log_group_class": "STANDARD",
                "metric_filters": [],
                "subscription_filters": [],
                "tags": TAGS,
            },
        ),
        "cloudwatch_alarm": (
            "f-dead-letters",
            {
                "metric_name": "ApproximateNumberOfMessagesVisible",
                "namespace": "AWS/SQS",
                "dimensions": {"QueueName": "q-dlq"},
                "statistic": "Maximum",
                "period": 60,
                "evaluation_periods": 1,
                "datapoints_to_alarm": 1,
                "threshold": "0",
                "comparison_operator": "GreaterThanThreshold",
                "treat_missing_data": "notBreaching",
                "alarm_actions": [],
                "ok_actions": [],
                "insufficient_data_actions": [],
                "actions_enabled": True,
                "description": "Something is in quarantine",
                "tags": TAGS,
            },
        ),
        "sns_topic": (
            "alarms",
            {"policy": PUBLISH, "subscriptions": ["email:me@example.com"], "unconfirmed": [], "tags": TAGS},
        ),
        "cloudwatch_alarms": ("f-", {"names": ["f-dead-letters"]}),
    },
    "instance": {
        "security_group": ("g", {"description": "SSH", "ingress": [SSH], "egress": [EVERYWHERE], "tags": TAGS}),
        "ec2_instances": (
            "producer",
            {
                "count": 1,
                "state": "running",
                "instance_type": "t2.micro",
                "instance_profile": "r",
                "http_tokens": "required",
                "http_hop_limit": 1,
                "security_groups": ["g"],
                "root_volume_type": "gp3",
                "root_volume_encrypted": True,
                "root_volume_size": 8,
                "key_name": "k",
                "tags": {"Name": "producer"},
            },
        ),
        "key_pair": ("k", {"public_key": f"{PUBLIC_KEY} as expected", "tags": TAGS}),
    },
}
