"""Roles and their sessions: what IAM and STS refuse, and since when other services know what IAM was told."""

from ministack.core import iam_evaluator

from embedded_cloud.base.calls import Call
from embedded_cloud.base.rules import Refusal, World, account_key

# How long other services do not know what IAM was told. AWS gives no figure ("eventually consistent"); 5 to 10 seconds were seen.
PROPAGATION_SECONDS = 10.0


def root_assumes_a_role(call: Call, world: World) -> Refusal | None:
    """AWS STS API Reference, AssumeRole: "You cannot use AWS account root user credentials to call AssumeRole"."""
    if not iam_evaluator.caller_arn().endswith(":root"):
        return None
    return Refusal("AccessDenied", "Roles may not be assumed by root accounts.", 403)


def note_role(call: Call, answer: bytes, world: World) -> None:
    world.times.note("role made", account_key(call.value("RoleName")))


def note_permissions(call: Call, answer: bytes, world: World) -> None:
    world.times.note("role's permissions given", account_key(call.value("RoleName")))


def note_profile(call: Call, answer: bytes, world: World) -> None:
    world.times.note("profile made", account_key(call.value("InstanceProfileName")))
