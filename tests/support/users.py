"""Users of an embedded cloud with chosen permissions."""

from __future__ import annotations

import json
from urllib.request import urlopen

REGION, ACCOUNT = "us-east-1", "000000000000"


class User:
    """A user with these statements; `needed` is what the cloud recorded of its requests."""

    def __init__(self, cloud, name: str, *statements: dict) -> None:
        iam = cloud.client("iam")
        iam.create_user(UserName=name)
        document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | statement for statement in statements]})
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)
        self.key = iam.create_access_key(UserName=name)["AccessKey"]
        self.cloud = cloud

    def client(self, service: str):
        return self.cloud.client(service, self.key["AccessKeyId"], self.key["SecretAccessKey"])

    def needed(self) -> dict[tuple[str, str], dict]:
        with urlopen(f"{self.cloud.endpoint}/_embedded_cloud/permissions?access_key={self.key['AccessKeyId']}", timeout=10) as response:
            return {(one["action"], one["resource"]): one["context"] for one in json.load(response)}


def arn(service: str, resource: str) -> str:
    region = "" if service == "iam" else REGION
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"


def anything() -> dict:
    return {"Action": "*", "Resource": "*"}
