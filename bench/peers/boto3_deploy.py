"""The stack by bare boto3, as a script of one's own would make it: python boto3_deploy.py <create|read|delete> <package> [units]."""

import json
import sys
import time

import boto3
from botocore.exceptions import ClientError

QUEUE, TABLE, FUNCTION, PRODUCER = (
    "FinancialTransactionQueue",
    "RealTimeTransactions",
    "ProcessFinancialStream",
    "FinancialTransactionProducer",
)
ROLES = {"EC2-SQS-Role": "ec2", "Lambda-SQS-DynamoDB-Role": "lambda"}
ARN = "arn:aws:{}:us-east-1:000000000000:{}"
ALARMS = [f"{QUEUE}/alarm-{number}" for number in range(8)]
IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
session = boto3.Session()
iam, sqs, dynamodb, functions, logs, ec2, cloudwatch, ssm = (
    session.client(name) for name in ("iam", "sqs", "dynamodb", "lambda", "logs", "ec2", "cloudwatch", "ssm")
)


def create(package, units):
    for role, service in ROLES.items():
        trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
        actions = ["sqs:SendMessage"]
        if service == "lambda":
            actions += [
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "dynamodb:BatchGetItem",
                "dynamodb:PartiQLInsert",
            ]
            actions += ["dynamodb:PutItem", "logs:CreateLogStream", "logs:PutLogEvents"]
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        policy = iam.create_policy(PolicyName=role, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        iam.attach_role_policy(RoleName=role, PolicyArn=policy["Policy"]["Arn"])
    iam.create_instance_profile(InstanceProfileName="EC2-SQS-Role")
    iam.add_role_to_instance_profile(InstanceProfileName="EC2-SQS-Role", RoleName="EC2-SQS-Role")
    dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "transaction_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "transaction_id", "AttributeType": "S"}],
        ProvisionedThroughput={"ReadCapacityUnits": max(units, 25), "WriteCapacityUnits": units},
    )
    dead = sqs.create_queue(QueueName=f"{QUEUE}-dlq", Attributes={"MessageRetentionPeriod": "1209600"})["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": ARN.format("sqs", f"{QUEUE}-dlq"), "maxReceiveCount": 21})
    sqs.create_queue(QueueName=QUEUE, Attributes={"VisibilityTimeout": "185", "RedrivePolicy": redrive})
    logs.create_log_group(logGroupName=f"/aws/lambda/{FUNCTION}")
    logs.put_retention_policy(logGroupName=f"/aws/lambda/{FUNCTION}", retentionInDays=7)
    dynamodb.get_waiter("table_exists").wait(TableName=TABLE, WaiterConfig={"Delay": 1})
    settings = {"TABLE_NAME": TABLE, "DEAD_LETTER_QUEUE_URL": dead, "HIGH_VALUE_THRESHOLD": "10000", "MEDIUM_VALUE_THRESHOLD": "1000"}
    with open(package, "rb") as file:
        code = file.read()
    role = "arn:aws:iam::000000000000:role/Lambda-SQS-DynamoDB-Role"
    fixed = {
        "FunctionName": FUNCTION,
        "Runtime": "python3.13",
        "Handler": "lambda_function.lambda_handler",
        "Role": role,
        "MemorySize": 256,
    }
    patiently(functions.create_function, **fixed, Timeout=30, Environment={"Variables": settings}, Code={"ZipFile": code})
    functions.get_waiter("function_active_v2").wait(FunctionName=FUNCTION, WaiterConfig={"Delay": 1})
    version = functions.publish_version(FunctionName=FUNCTION)["Version"]
    functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=version)
    live, source = ARN.format("lambda", f"function:{FUNCTION}:live"), ARN.format("sqs", QUEUE)
    patiently(
        functions.create_event_source_mapping, FunctionName=live, EventSourceArn=source, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    group = ec2.create_security_group(GroupName=PRODUCER, Description="The producer sends over HTTPS.")["GroupId"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": PRODUCER}]}]
    launch = {"ImageId": ssm.get_parameter(Name=IMAGE)["Parameter"]["Value"], "InstanceType": "t2.micro", "MinCount": 1, "MaxCount": 1}
    profile = {"Name": "EC2-SQS-Role"}
    patiently(ec2.run_instances, **launch, SecurityGroupIds=[group], IamInstanceProfile=profile, TagSpecifications=tags)
    common = {"Namespace": "AWS/SQS", "MetricName": "NumberOfMessagesSent", "Statistic": "Sum", "Period": 300, "EvaluationPeriods": 1}
    for name in ALARMS:
        cloudwatch.put_metric_alarm(AlarmName=name, **common, Threshold=1, ComparisonOperator="LessThanThreshold")


def read():
    for role in ROLES:
        iam.get_role(RoleName=role)
        iam.list_attached_role_policies(RoleName=role)
        version = iam.get_policy(PolicyArn=f"arn:aws:iam::000000000000:policy/{role}")["Policy"]["DefaultVersionId"]
        iam.get_policy_version(PolicyArn=f"arn:aws:iam::000000000000:policy/{role}", VersionId=version)
    iam.get_instance_profile(InstanceProfileName="EC2-SQS-Role")
    dynamodb.describe_table(TableName=TABLE)
    for name in (QUEUE, f"{QUEUE}-dlq"):
        sqs.get_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], AttributeNames=["All"])
    logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{FUNCTION}")
    functions.get_function(FunctionName=FUNCTION, Qualifier="live")
    functions.list_event_source_mappings(FunctionName=f"{FUNCTION}:live")
    ec2.describe_security_groups(GroupNames=[PRODUCER])
    ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": [PRODUCER]}])
    cloudwatch.describe_alarms(AlarmNames=ALARMS)


def delete():
    cloudwatch.delete_alarms(AlarmNames=ALARMS)
    found = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": [PRODUCER]}])["Reservations"]
    instances = [instance["InstanceId"] for reservation in found for instance in reservation["Instances"]]
    ec2.terminate_instances(InstanceIds=instances)
    for mapping in functions.list_event_source_mappings(FunctionName=f"{FUNCTION}:live")["EventSourceMappings"]:
        patiently(functions.delete_event_source_mapping, UUID=mapping["UUID"])
    functions.delete_function(FunctionName=FUNCTION)
    for name in (QUEUE, f"{QUEUE}-dlq"):
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"])
    dynamodb.delete_table(TableName=TABLE)
    logs.delete_log_group(logGroupName=f"/aws/lambda/{FUNCTION}")
    ec2.get_waiter("instance_terminated").wait(InstanceIds=instances, WaiterConfig={"Delay": 1})
    groups = ec2.describe_security_groups(GroupNames=[PRODUCER])["SecurityGroups"]
    ec2.delete_security_group(GroupId=groups[0]["GroupId"])
    iam.remove_role_from_instance_profile(InstanceProfileName="EC2-SQS-Role", RoleName="EC2-SQS-Role")
    iam.delete_instance_profile(InstanceProfileName="EC2-SQS-Role")
    for role in ROLES:
        iam.detach_role_policy(RoleName=role, PolicyArn=f"arn:aws:iam::000000000000:policy/{role}")
        iam.delete_policy(PolicyArn=f"arn:aws:iam::000000000000:policy/{role}")
        iam.delete_role(RoleName=role)


def patiently(call, **parameters):
    """What was just made is not known everywhere at once."""
    for attempt in range(60):
        try:
            return call(**parameters)
        except ClientError:
            if attempt == 59:
                raise
            time.sleep(1)


units = int(sys.argv[3]) if len(sys.argv) > 3 else 25
{"create": lambda: create(sys.argv[2], units), "read": read, "delete": delete}[sys.argv[1]]()
