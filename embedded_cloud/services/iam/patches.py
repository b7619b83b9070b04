"""SetDefaultPolicyVersion, which MiniStack does not know: amazon.aws calls it when an older version already says what is wanted."""

from typing import Any

from ministack.services import iam


def install() -> None:
    """Add the action to those MiniStack looks up at each call."""
    iam._IAM_HANDLERS.setdefault("SetDefaultPolicyVersion", _set_default_policy_version)


def _set_default_policy_version(parameters: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Errors are those of API_SetDefaultPolicyVersion."""
    arn, wanted = iam._p(parameters, "PolicyArn"), iam._p(parameters, "VersionId")
    policy = iam._policies.get(arn)
    if policy is None or wanted not in policy["Versions"]:
        return iam._error(404, "NoSuchEntity", f"Policy {arn} version {wanted} does not exist or is not attachable.", ns="iam")
    for name, version in policy["Versions"].items():
        version["IsDefaultVersion"] = name == wanted
    policy["DefaultVersionId"] = wanted
    return iam._xml(200, "SetDefaultPolicyVersionResponse", "", ns="iam")
