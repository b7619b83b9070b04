"""What somebody may have changed by hand since site.yml ran: one property of everything the pipeline has, and its tags."""

from __future__ import annotations

import io
import json
import zipfile

from plays import ACCOUNT, REGION, Pipeline

QUEUES = ("FinancialTransactionQueue", "FinancialTransactionQueue-dlq")
TABLE = "RealTimeTransactions"
FUNCTION = "ProcessFinancialStream"
LOG_GROUP = f"/aws/lambda/{FUNCTION}"
ROLES = ("EC2-SQS-Role", "Lambda-SQS-DynamoDB-Role")
PRODUCER = "FinancialTransactionProducer"
EXTRA, OWN = {"Somebody": "else"}, ["Environment"]
AS_LIST = [{"Key": key, "Value": value} for key, value in EXTRA.items()]


def drift_everything(pipeline: Pipeline) -> None:
    """As root: what site.yml then has to set right needs every update it can make."""
    drift_queues(pipeline)
    drift_table(pipeline)
    drift_processor(pipeline)
    drift_roles(pipeline)
    drift_producer(pipeline)
    pipeline.client("cloudwatch").delete_alarms(AlarmNames=[f"{QUEUES[0]}/dead-letters"])


def drift_queues(pipeline: Pipeline) -> None:
    sqs = pipeline.client("sqs")
    for name in QUEUES:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "1"})
        sqs.tag_queue(QueueUrl=url, Tags=EXTRA)
        sqs.untag_queue(QueueUrl=url, TagKeys=OWN)
    # The quarantine, open to any queue of the account.
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedriveAllowPolicy": json.dumps({"redrivePermission": "allowAll"})})
    # Somebody's message in the quarantine, which verify.yml has to release again.
    sqs.send_message(QueueUrl=url, MessageBody="somebody else's")


def drift_table(pipeline: Pipeline) -> None:
    dynamodb = pipeline.client("dynamodb")
    arn = dynamodb.update_table(TableName=TABLE, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5})[
        "TableDescription"
    ]["TableArn"]
    dynamodb.tag_resource(ResourceArn=arn, Tags=AS_LIST)
    dynamodb.untag_resource(ResourceArn=arn, TagKeys=OWN)


def drift_processor(pipeline: Pipeline) -> None:
    functions, logs = pipeline.client("lambda"), pipeline.client("logs")
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("lambda_function.py", "def lambda_handler(event, context):\n    return {}\n")
    (mapping,) = functions.list_event_source_mappings(FunctionName=f"{FUNCTION}:live")["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], BatchSize=3)
    functions.update_function_code(FunctionName=FUNCTION, ZipFile=package.getvalue())
    functions.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
    arn = functions.update_function_configuration(FunctionName=FUNCTION, MemorySize=512)["FunctionArn"]
    functions.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
    # Somebody's version goes live by hand, so that of the versions that are kept one is too many.
    version = functions.publish_version(FunctionName=FUNCTION)["Version"]
    functions.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=version)
    # And a second mapping, which invokes the function without its alias.
    functions.create_event_source_mapping(FunctionName=FUNCTION, EventSourceArn=mapping["EventSourceArn"], BatchSize=1)
    functions.tag_resource(Resource=arn, Tags=EXTRA)
    functions.untag_resource(Resource=arn, TagKeys=OWN)
    logs.put_retention_policy(logGroupName=LOG_GROUP, retentionInDays=1)
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{LOG_GROUP}"
    logs.tag_resource(resourceArn=group, tags=EXTRA)
    logs.untag_resource(resourceArn=group, tagKeys=OWN)


def drift_roles(pipeline: Pipeline) -> None:
    iam = pipeline.client("iam")
    nothing = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
    for role, other in (ROLES, reversed(ROLES)):
        arn = f"arn:aws:iam::{ACCOUNT}:policy/{role}"
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(nothing), SetAsDefault=True)
        iam.delete_policy_version(PolicyArn=arn, VersionId="v1")  # else site.yml would make the old version the default again
        iam.tag_policy(PolicyArn=arn, Tags=AS_LIST)
        iam.untag_policy(PolicyArn=arn, TagKeys=OWN)
        trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        trust["Statement"][0]["Principal"] = {"Service": "states.amazonaws.com"}
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))
        iam.update_role(RoleName=role, Description="changed by hand")
        iam.detach_role_policy(RoleName=role, PolicyArn=arn)
        iam.attach_role_policy(RoleName=role, PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/{other}")
        iam.tag_role(RoleName=role, Tags=AS_LIST)
        iam.untag_role(RoleName=role, TagKeys=OWN)
    profile = ROLES[0]
    iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=ROLES[0])
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=ROLES[1])
    iam.tag_instance_profile(InstanceProfileName=profile, Tags=AS_LIST)
    iam.untag_instance_profile(InstanceProfileName=profile, TagKeys=OWN)


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
    ec2.stop_instances(InstanceIds=[instance])
    ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.nano"})
    ec2.start_instances(InstanceIds=[instance])
    ec2.create_tags(Resources=[instance, group["GroupId"]], Tags=AS_LIST)
    ec2.delete_tags(Resources=[instance, group["GroupId"]], Tags=[{"Key": key} for key in OWN])
