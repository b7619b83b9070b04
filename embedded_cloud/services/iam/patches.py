"""SetDefaultPolicyVersion, which MiniStack does not have. amazon.aws calls it when an older version already says what is wanted."""

from typing import Any, cast

from ministack.services import iam

from embedded_cloud.base.ministack_backend import Answer
from embedded_cloud.base.patching import replace


def set_default_policy_version(parameters: dict[str, Any]) -> Answer:
    """The errors are those of API_SetDefaultPolicyVersion."""
    arn, wanted = iam._p(parameters, "PolicyArn"), iam._p(parameters, "VersionId")
    policy = iam._policies.get(arn)
    if policy is None or wanted not in policy["Versions"]:
        text = f"Policy {arn} version {wanted} does not exist or is not attachable."
        return cast(Answer, iam._error(404, "NoSuchEntity", text, ns="iam"))
    for name, version in policy["Versions"].items():
        version["IsDefaultVersion"] = name == wanted
    policy["DefaultVersionId"] = wanted
    return cast(Answer, iam._xml(200, "SetDefaultPolicyVersionResponse", "", ns="iam"))


PATCHES = (replace(iam._IAM_HANDLERS, "SetDefaultPolicyVersion", set_default_policy_version),)
