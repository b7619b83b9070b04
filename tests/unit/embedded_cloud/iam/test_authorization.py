"""Signatures and policies decide on both emulators."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session
from refusals import ACCOUNT, REGION, make_role, policy, refusal
from users import User

READS = {
    "ec2": lambda client: client.describe_instances(),
    "cloudwatch": lambda client: client.describe_alarms(),
    "sqs": lambda client: client.list_queues(),
    "dynamodb": lambda client: client.list_tables(),
    "iam": lambda client: client.list_roles(),
    "sts": lambda client: client.get_caller_identity(),
    "lambda": lambda client: client.list_functions(),
    "logs": lambda client: client.describe_log_groups(),
    "ssm": lambda client: client.get_parameter(Name="/aws/service/anything"),
}


def code_of(call) -> str:
    return refusal(call)[0]


@pytest.mark.parametrize("service", READS)
def test_a_wrong_secret_is_refused(embedded_cloud, service):
    client = embedded_cloud.client(service, secret_key="wrong")
    assert code_of(lambda: READS[service](client)) in ("AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException")


@pytest.mark.parametrize("key", ["AKIAAAAAAAAAAAAAAAAA", "123456789012"])
@pytest.mark.parametrize("service", READS)
def test_an_unknown_key_is_refused(embedded_cloud, service, key):
    client = embedded_cloud.client(service, access_key=key)
    assert code_of(lambda: READS[service](client)) in ("AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException")


def test_ec2_is_denied_without_permission(embedded_cloud):
    client = User(embedded_cloud).client("ec2")
    assert code_of(client.describe_instances) == "UnauthorizedOperation"


def test_cloudwatch_is_denied_without_permission(embedded_cloud):
    client = User(embedded_cloud).client("cloudwatch")
    assert code_of(client.describe_alarms) == "AccessDenied"


def test_public_parameters_are_denied_without_permission(embedded_cloud):
    client = User(embedded_cloud).client("ssm")
    assert code_of(lambda: client.get_parameter(Name="/aws/service/anything")) == "AccessDeniedException"


def test_ec2_is_allowed_with_permission(embedded_cloud):
    client = User(embedded_cloud, {"Action": "ec2:DescribeInstances", "Resource": "*"}).client("ec2")
    assert "Reservations" in client.describe_instances()
    assert code_of(lambda: client.create_key_pair(KeyName="denied")) == "UnauthorizedOperation"


def test_an_alarm_is_allowed_by_its_own_arn_only(embedded_cloud):
    arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:mine"
    client = User(embedded_cloud, {"Action": "cloudwatch:DeleteAlarms", "Resource": arn}).client("cloudwatch")
    client.delete_alarms(AlarmNames=["mine"])
    assert code_of(lambda: client.delete_alarms(AlarmNames=["mine", "other"])) == "AccessDenied"


def test_passing_a_role_to_an_instance_needs_pass_role(embedded_cloud):
    iam, role = embedded_cloud.client("iam"), make_role(embedded_cloud, "ec2.amazonaws.com", name="passed")
    iam.create_instance_profile(InstanceProfileName="passed")
    iam.add_role_to_instance_profile(InstanceProfileName="passed", RoleName="passed")
    run = {"Action": "ec2:RunInstances", "Resource": "*"}
    instance = {"ImageId": "ami-03cf127a", "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": {"Name": "passed"}}
    without = User(embedded_cloud, run).client("ec2")
    assert code_of(lambda: without.run_instances(**instance)) == "UnauthorizedOperation"
    allowed = User(embedded_cloud, run, {"Action": "iam:PassRole", "Resource": role}).client("ec2")
    assert allowed.run_instances(**instance)["Instances"]


def test_an_action_named_twice_is_refused(embedded_cloud):
    # Were it not, the one in the query string could be authorised and the one in the body carried out.
    body = urlencode({"Action": "DeleteKeyPair", "KeyName": "x", "Version": "2016-11-15"})
    url = f"{embedded_cloud.endpoint}/?Action=DescribeKeyPairs"
    request = AWSRequest("POST", url, {"Content-Type": "application/x-www-form-urlencoded"}, body)
    SigV4Auth(Credentials(*embedded_cloud.root_keys.values()), "ec2", REGION).add_auth(request)
    response = URLLib3Session().send(request.prepare())
    assert (response.status_code, b"InvalidAction" in response.content) == (400, True)


def test_a_body_changed_after_signing_is_refused(embedded_cloud):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    request = AWSRequest("POST", embedded_cloud.endpoint, headers, urlencode({"Action": "DescribeKeyPairs", "Version": "2016-11-15"}))
    SigV4Auth(Credentials(*embedded_cloud.root_keys.values()), "ec2", REGION).add_auth(request)
    prepared = request.prepare()
    prepared.body = prepared.body.replace("KeyPairs", "VpcPeers")
    assert URLLib3Session().send(prepared).status_code == 401


TLS_ONLY = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}


def tls_only_queue(cloud, name: str) -> str:
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    statement = TLS_ONLY | {"Resource": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy(statement)})
    return url


def test_loopback_satisfies_a_tls_only_policy(embedded_cloud):
    url = tls_only_queue(embedded_cloud, "tls-only-allowed")
    assert embedded_cloud.client("sqs").send_message(QueueUrl=url, MessageBody="x")["MessageId"]


def test_a_client_that_says_it_used_plain_http_is_denied_by_a_tls_only_policy(embedded_cloud):
    url = tls_only_queue(embedded_cloud, "tls-only-denied")
    sqs = embedded_cloud.client("sqs")
    sqs.meta.events.register("before-send", lambda request, **_: request.headers.__setitem__("X-Forwarded-Proto", "http"))
    assert code_of(lambda: sqs.send_message(QueueUrl=url, MessageBody="x")) in ("AccessDenied", "AccessDeniedException")
