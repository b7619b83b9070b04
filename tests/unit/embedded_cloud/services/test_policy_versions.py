"""SetDefaultPolicyVersion, which MiniStack does not have."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from refusals import policy, unique


def allow(action: str) -> str:
    return policy({"Action": action, "Resource": "*"})


def test_an_older_policy_version_can_be_made_the_default_and_decides(embedded_cloud: Any):
    iam = embedded_cloud.client("iam")
    arn = iam.create_policy(PolicyName=unique("policy"), PolicyDocument=allow("sqs:SendMessage"))["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=allow("sqs:ReceiveMessage"), SetAsDefault=True)

    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")

    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v1"
    defaults = [version["VersionId"] for version in iam.list_policy_versions(PolicyArn=arn)["Versions"] if version["IsDefaultVersion"]]
    assert defaults == ["v1"]


def test_a_policy_version_that_does_not_exist_cannot_be_the_default(embedded_cloud: Any):
    iam = embedded_cloud.client("iam")
    arn = iam.create_policy(PolicyName=unique("policy"), PolicyDocument=allow("sqs:SendMessage"))["Policy"]["Arn"]
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.set_default_policy_version(PolicyArn=arn, VersionId="v9")
