"""Changes by hand of every property that verify.yml compares, of every type of resource."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from plays import ACCOUNT, REGION, Pipeline, wait_until

QUEUES = ("FinancialTransactionQueue", "FinancialTransactionQueue-dlq")
TABLE = "RealTimeTransactions"
FUNCTION = "ProcessFinancialStream"
LOG_GROUP = f"/aws/lambda/{FUNCTION}"
ROLES = ("EC2-SQS-Role", "Lambda-SQS-DynamoDB-Role")
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:FinancialTransactionAlarms"
PRODUCER = "FinancialTransactionProducer"
EXTRA, OWN = {"Somebody": "else"}, ["Environment"]
AS_LIST = [{"Key": key, "Value": value} for key, value in EXTRA.items()]


ANYTHING = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
DENIED = ANYTHING.replace("Allow", "Deny")


def drift_everything(pipeline: Pipeline) -> None:
    """Make all these changes as root. site.yml then needs every update that it can make."""
    for maker in DRIFTS:
        maker(pipeline)


def drift_queues(pipeline: Pipeline) -> None:
    sqs = pipeline.client("sqs")
    for name in QUEUES:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        attributes = {
            "DelaySeconds": "1",
            "VisibilityTimeout": "200",
            "MessageRetentionPeriod": "3600",
            "MaximumMessageSize": "2048",
            "ReceiveMessageWaitTimeSeconds": "0",
            "KmsMasterKeyId": "alias/aws/sqs",
            "Policy": ANYTHING.replace('"*"}', f'"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}", "Principal": "*"}}'),
            "RedrivePolicy": "",
            "RedriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"}),
        }
        sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
        sqs.tag_queue(QueueUrl=url, Tags=EXTRA)
        sqs.untag_queue(QueueUrl=url, TagKeys=OWN)
    # The quarantine, open to any queue of the account.
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedriveAllowPolicy": json.dumps({"redrivePermission": "allowAll"})})
    # A foreign message in the quarantine, which verify.yml must release again.
    sqs.send_message(QueueUrl=url, MessageBody="somebody else's")


def drift_table(pipeline: Pipeline) -> None:
    dynamodb = pipeline.client("dynamodb")
    arn = dynamodb.update_table(TableName=TABLE, BillingMode="PAY_PER_REQUEST")["TableDescription"]["TableArn"]
    dynamodb.update_table(TableName=TABLE, DeletionProtectionEnabled=True)
    dynamodb.update_table(TableName=TABLE, StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"})
    for name in ("user_id", "merchant"):
        index = {
            "IndexName": name,
            "KeySchema": [{"AttributeName": name, "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        dynamodb.update_table(
            TableName=TABLE,
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"}],
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )
    dynamodb.tag_resource(ResourceArn=arn, Tags=AS_LIST)
    dynamodb.untag_resource(ResourceArn=arn, TagKeys=OWN)


def drift_processor(pipeline: Pipeline) -> None:
    functions, logs = pipeline.client("lambda"), pipeline.client("logs")
    package = empty_package()
    (mapping,) = functions.list_event_source_mappings(FunctionName=f"{FUNCTION}:live")["EventSourceMappings"]
    functions.update_event_source_mapping(
        UUID=mapping["UUID"],
        Enabled=False,
        BatchSize=3,
        MaximumBatchingWindowInSeconds=7,
        FunctionResponseTypes=[],
        ScalingConfig={"MaximumConcurrency": 9},
        FilterCriteria={"Filters": [{"Pattern": json.dumps({"body": {"currency": ["NONE"]}})}]},
    )
    functions.update_function_code(FunctionName=FUNCTION, ZipFile=package, Architectures=["arm64"])
    functions.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
    role = make_role(pipeline, "other")
    layer = functions.publish_layer_version(LayerName="extra", Content={"ZipFile": package})["LayerVersionArn"]
    take = functions.update_function_configuration
    wait_until(lambda: is_accepted(take, FunctionName=FUNCTION, Role=role), 60, "a role that Lambda knows")
    functions.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
    arn = functions.update_function_configuration(
        FunctionName=FUNCTION,
        MemorySize=512,
        Timeout=3,
        Runtime="python3.12",
        Handler="lambda_function.other",
        Environment={"Variables": {"TABLE_NAME": "other"}},
        Layers=[layer],
    )["FunctionArn"]
    functions.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
    # Another version goes live by hand, with half of the weight on the version before it. So one version more is kept than wanted.
    version = functions.publish_version(FunctionName=FUNCTION)["Version"]
    weights = {functions.get_alias(FunctionName=FUNCTION, Name="live")["FunctionVersion"]: 0.5}
    functions.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=version, RoutingConfig={"AdditionalVersionWeights": weights})
    functions.update_function_configuration(FunctionName=FUNCTION, MemorySize=1024)
    functions.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
    functions.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)
    # And a second mapping, which invokes the function without its alias.
    functions.create_event_source_mapping(FunctionName=FUNCTION, EventSourceArn=mapping["EventSourceArn"], BatchSize=1)
    functions.tag_resource(Resource=arn, Tags=EXTRA)
    functions.untag_resource(Resource=arn, TagKeys=OWN)
    logs.put_retention_policy(logGroupName=LOG_GROUP, retentionInDays=1)
    count = [{"metricName": "errors", "metricNamespace": "Somebody", "metricValue": "1"}]
    logs.put_metric_filter(logGroupName=LOG_GROUP, filterName="extra", filterPattern="ERROR", metricTransformations=count)
    logs.put_subscription_filter(logGroupName=LOG_GROUP, filterName="extra", filterPattern="", destinationArn=arn)
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{LOG_GROUP}"
    logs.tag_resource(resourceArn=group, tags=EXTRA)
    logs.untag_resource(resourceArn=group, tagKeys=OWN)


def empty_package() -> bytes:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("lambda_function.py", "def lambda_handler(event, context):\n    return {}\n")
    return package.getvalue()


def make_role(pipeline: Pipeline, name: str) -> str:
    """Make a role that any function may have and that may do anything; its ARN."""
    iam = pipeline.client("iam")
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="anything", PolicyDocument=ANYTHING)
    return role


def is_accepted(call: Callable[..., Any], **request: Any) -> bool:
    """Whether Lambda accepted the call. It accepts a new role only after some seconds."""
    try:
        call(**request)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "InvalidParameterValueException", error
        return False
    return True


def drift_roles(pipeline: Pipeline) -> None:
    iam = pipeline.client("iam")
    for role, other in (ROLES, reversed(ROLES)):
        arn = f"arn:aws:iam::{ACCOUNT}:policy/{role}"
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=DENIED, SetAsDefault=True)
        iam.delete_policy_version(PolicyArn=arn, VersionId="v1")  # else site.yml would make the old version the default again
        iam.tag_policy(PolicyArn=arn, Tags=AS_LIST)
        iam.untag_policy(PolicyArn=arn, TagKeys=OWN)
        trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        trust["Statement"][0]["Principal"] = {"Service": "states.amazonaws.com"}
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))
        iam.update_role(RoleName=role, Description="changed by hand", MaxSessionDuration=7200)
        iam.put_role_policy(RoleName=role, PolicyName="extra", PolicyDocument=ANYTHING)
        iam.put_role_permissions_boundary(RoleName=role, PermissionsBoundary=arn)
        iam.detach_role_policy(RoleName=role, PolicyArn=arn)
        iam.attach_role_policy(RoleName=role, PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/{other}")
        iam.tag_role(RoleName=role, Tags=AS_LIST)
        iam.untag_role(RoleName=role, TagKeys=OWN)
    profile = ROLES[0]
    iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=ROLES[0])
    # Another profile of the same name: instances keep the one that was deleted.
    iam.delete_instance_profile(InstanceProfileName=profile)
    iam.create_instance_profile(InstanceProfileName=profile, Tags=AS_LIST)
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=ROLES[1])


def drift_producer(pipeline: Pipeline) -> None:
    ec2 = pipeline.client("ec2")
    (group,) = ec2.describe_security_groups(GroupNames=[PRODUCER])["SecurityGroups"]
    web = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])
    ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[web])
    ec2.revoke_security_group_egress(GroupId=group["GroupId"], IpPermissions=group["IpPermissionsEgress"])
    ec2.authorize_security_group_egress(GroupId=group["GroupId"], IpPermissions=[web])
    named = [{"Name": "tag:Name", "Values": [PRODUCER]}, {"Name": "instance-state-name", "Values": ["running"]}]
    (reservation,) = ec2.describe_instances(Filters=named)["Reservations"]
    instance = reservation["Instances"][0]["InstanceId"]
    ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional", HttpPutResponseHopLimit=2)
    other = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    ec2.modify_instance_attribute(InstanceId=instance, Groups=[other])
    ec2.stop_instances(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.nano"})
    (key,) = ec2.describe_key_pairs(KeyNames=[PRODUCER])["KeyPairs"]
    tagged = [instance, group["GroupId"], key["KeyPairId"]]
    ec2.create_tags(Resources=tagged, Tags=AS_LIST)
    ec2.delete_tags(Resources=tagged, Tags=[{"Key": key} for key in OWN])


def drift_alarms(pipeline: Pipeline) -> None:
    """One alarm is deleted, one is foreign, and one keeps only its name."""
    cloudwatch = pipeline.client("cloudwatch")
    cloudwatch.delete_alarms(AlarmNames=[f"{QUEUES[0]}/dead-letters"])
    for name in ("message-age", "extra"):
        cloudwatch.put_metric_alarm(
            AlarmName=f"{QUEUES[0]}/{name}",
            AlarmDescription="changed by hand",
            Namespace="Somebody",
            MetricName="Others",
            Dimensions=[{"Name": "Other", "Value": "one"}],
            Statistic="Minimum",
            ComparisonOperator="LessThanThreshold",
            Threshold=7,
            Period=120,
            EvaluationPeriods=9,
            TreatMissingData="ignore",
            ActionsEnabled=False,
            **{actions: [f"arn:aws:sns:{REGION}:{ACCOUNT}:other"] for actions in ("AlarmActions", "OKActions", "InsufficientDataActions")},
        )
    cloudwatch.disable_alarm_actions(AlarmNames=[f"{QUEUES[0]}/no-traffic"])


def drift_topic(pipeline: Pipeline) -> None:
    """Open the topic to another account, and subscribe a foreign queue."""
    sns = pipeline.client("sns")
    sns.add_permission(TopicArn=TOPIC, Label="anybody", AWSAccountId=["111122223333"], ActionName=["Publish"])
    sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:somebody-elses")
    sns.tag_resource(ResourceArn=TOPIC, Tags=AS_LIST)
    sns.untag_resource(ResourceArn=TOPIC, TagKeys=OWN)


# The properties that each function changes, by the type's label in the drift module. All change at once, and site.yml restores them.
DRIFTS: dict[Callable[[Pipeline], None], dict[str, set[str]]] = {
    drift_queues: {
        "queue": {
            *("delay_seconds", "visibility_timeout", "message_retention_period", "maximum_message_size", "receive_message_wait_time"),
            *("sse", "policy", "redrive_policy", "redrive_allow_policy", "tags"),
        }
    },
    drift_table: {
        "table": {
            *("attributes", "billing_mode", "read_capacity", "write_capacity", "global_indexes", "stream_enabled"),
            *("deletion_protection", "tags"),
        }
    },
    drift_processor: {
        "function": {
            *("code_sha256", "architectures", "memory_size", "timeout", "runtime", "handler", "environment", "layers"),
            *("role", "reserved_concurrency", "tags"),
        },
        "alias": {"checked", "weights", "latest_differs_in"},
        "mapping": {
            *("count", "function_arn", "state", "batch_size", "maximum_batching_window", "function_response_types"),
            *("maximum_concurrency", "filters"),
        },
        "log group": {"retention_in_days", "metric_filters", "subscription_filters", "tags"},
    },
    drift_roles: {
        "role": {
            *("trust_policy", "description", "max_session_duration", "managed_policies", "inline_policies", "permissions_boundary"),
            "tags",
        },
        "policy": {"document", "tags"},
        "instance profile": {"roles", "tags"},
        "instance": {"instance_profile_id"},
    },
    drift_producer: {
        "security group": {"ingress", "egress", "tags"},
        "instance": {
            *("state", "instance_type", "http_tokens", "http_hop_limit", "security_groups"),
            "tags",
        },
        "key pair": {"tags"},
    },
    drift_topic: {"topic": {"policy", "subscriptions", "tags"}},
    drift_alarms: {
        "alarm": {
            *("metric_name", "namespace", "dimensions", "statistic", "period", "evaluation_periods", "threshold", "comparison_operator"),
            *("treat_missing_data", "alarm_actions", "ok_actions", "insufficient_data_actions", "actions_enabled", "description"),
        },
        "alarms": {"names"},
    },
}

# These cannot be changed together with the others, so test_sabotage.py changes them.
LATER: dict[str, set[str]] = {"alias": {"published"}, "function": {"role_id"}}

# Only another resource can have another value. The remedy is a command, which test_sabotage.py runs, or a page.
REPLACED: dict[str, set[str]] = {
    "role": {"path"},
    "table": {"key_schema", "local_indexes"},
    "log group": {"log_group_class"},
    "mapping": {"event_source_arn"},
    "security group": {"description"},
    "instance": {"count", "root_volume_type", "root_volume_size", "root_volume_encrypted", "key_name"},
    "key pair": {"public_key"},
}

# These cannot be changed by hand, and why.
UNCHANGEABLE: dict[str, dict[str, str]] = {
    "queue": {"fifo": "the name says it: a FIFO queue's ends in .fifo"},
    "instance": {"instance_profile": "the embedded cloud shows that of the launch; amazon.aws sets another one back"},
    "log group": {"kms_key_id": "the embedded cloud has no AssociateKmsKey"},
    "topic": {"unconfirmed": "only the owner of the address confirms it"},
    "table": {"status": "it follows what is done to the table"},
    "function": {
        "alias": "it says where to look",
        "package_type": "it is that of the function's creation",
        "state": "it follows what is done to the function",
        "last_update_status": "it follows what is done to the function",
    },
}
