"""Roles and their sessions: what STS refuses, and since when other services know a change in IAM."""

from ministack.core import iam_evaluator

from embedded_cloud.base.calls import Call
from embedded_cloud.base.rules import Note, Refusal, Rule, RuleContext

# How long other services do not know a change in IAM. AWS gives no figure ("eventually consistent"); 5 to 10 seconds were observed.
PROPAGATION_SECONDS = 10.0


def root_assumes_a_role(call: Call, context: RuleContext) -> Refusal | None:
    """AWS STS API Reference, AssumeRole: "You cannot use AWS account root user credentials to call AssumeRole"."""
    if not iam_evaluator.caller_arn().endswith(":root"):
        return None
    return Refusal("AccessDenied", "Roles may not be assumed by root accounts.", 403)


def _note(event: str, parameter: str) -> Note:
    return lambda call, answer, context: context.times.note(event, call.value(parameter))


RULES: dict[str, tuple[Rule, ...]] = {"sts:AssumeRole": (root_assumes_a_role,)}
NOTES: dict[str, Note] = {
    "iam:CreateRole": _note("role made", "RoleName"),
    "iam:AttachRolePolicy": _note("role's permissions given", "RoleName"),
    "iam:PutRolePolicy": _note("role's permissions given", "RoleName"),
    "iam:CreateInstanceProfile": _note("profile made", "InstanceProfileName"),
}
