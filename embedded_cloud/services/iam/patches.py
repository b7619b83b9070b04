"""SetDefaultPolicyVersion, which MiniStack does not have. amazon.aws calls it when an older version already says what is wanted."""

from typing import Any

from ministack.services import iam

from embedded_cloud.base.ministack_backend import Answer
from embedded_cloud.base.patching import replace


def set_default_policy_version(parameters: dict[str, Any]) -> Answer:
    """The errors are those of API_SetDefaultPolicyVersion."""
    arn, wanted = iam._p(parameters, "PolicyArn"), iam._p(parameters, "VersionId")
    policy = iam._policies.get(arn)
    answer: Answer
    if policy is None or wanted not in policy["Versions"]:
        answer = iam._error(404, "NoSuchEntity", f"Policy {arn} version {wanted} does not exist or is not attachable.", ns="iam")
        return answer
    for name, version in policy["Versions"].items():
        version["IsDefaultVersion"] = name == wanted
    policy["DefaultVersionId"] = wanted
    answer = iam._xml(200, "SetDefaultPolicyVersionResponse", "", ns="iam")
    return answer


PATCHES = (replace(iam._IAM_HANDLERS, "SetDefaultPolicyVersion", set_default_policy_version),)
