"""Users of an embedded cloud with chosen permissions."""

from __future__ import annotations

import json
from typing import Any
from urllib.request import urlopen

from refusals import ACCOUNT, REGION, policy, root, unique


class User:
    """A new user with these statements, which allow unless they say otherwise; `needed` is what the cloud recorded of its requests."""

    def __init__(self, cloud: Any, *statements: dict[str, Any]) -> None:
        iam, name = root(cloud, "iam"), unique("user")
        iam.create_user(UserName=name)
        if statements:
            iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy(*statements))
        self.key = iam.create_access_key(UserName=name)["AccessKey"]
        self.cloud, self.name = cloud, name

    def client(self, service: str) -> Any:
        return self.cloud.client(service, self.key["AccessKeyId"], self.key["SecretAccessKey"])

    def needed(self) -> dict[tuple[str, str], dict[str, Any]]:
        with urlopen(f"{self.cloud.endpoint}/_embedded_cloud/permissions?access_key={self.key['AccessKeyId']}", timeout=10) as response:
            return {(one["action"], one["resource"]): one["context"] for one in json.load(response)}


def arn(service: str, resource: str) -> str:
    region = "" if service == "iam" else REGION
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{resource}"


def anything() -> dict[str, Any]:
    return {"Action": "*", "Resource": "*"}
