"""Everything in which this cloud differs from its two emulators. How a rule or a patch is added is in docs/embedded_cloud.md."""

from embedded_cloud.base.patching import Patch
from embedded_cloud.base.rules import RuleContext
from embedded_cloud.faults.deliveries import Deliveries
from embedded_cloud.iam import authorization, permissions
from embedded_cloud.rulebook import Rulebook
from embedded_cloud.services.cloudwatch import rules as cloudwatch_rules
from embedded_cloud.services.cloudwatch.patches import Metrics
from embedded_cloud.services.dynamodb import patches as dynamodb_patches
from embedded_cloud.services.dynamodb import rules as dynamodb_rules
from embedded_cloud.services.ec2 import patches as ec2_patches
from embedded_cloud.services.ec2 import rules as ec2_rules
from embedded_cloud.services.iam import patches as iam_patches
from embedded_cloud.services.iam import rules as iam_rules
from embedded_cloud.services.lambda_ import patches as lambda_patches
from embedded_cloud.services.lambda_ import rules as lambda_rules
from embedded_cloud.services.sns import patches as sns_patches
from embedded_cloud.services.sqs import patches as sqs_patches
from embedded_cloud.services.sqs import rules as sqs_rules

# The rules of an action are asked in their order there; actions of different services do not meet.
RULES = iam_rules.RULES | sqs_rules.RULES | dynamodb_rules.RULES | lambda_rules.RULES | ec2_rules.RULES | cloudwatch_rules.RULES
# What is remembered of an action that succeeded, for a rule to read later.
NOTES = iam_rules.NOTES | sqs_rules.NOTES | lambda_rules.NOTES | ec2_rules.NOTES
# What MiniStack's answer to an action lacks.
REWRITES = dynamodb_rules.REWRITES | lambda_rules.REWRITES


def patches(root_access_key: str, context: RuleContext, rulebook: Rulebook, deliveries: Deliveries, metrics: Metrics) -> list[Patch]:
    """All patches. Where several wrap the same function, the last one is asked first and sees what the earlier ones made of the answer."""
    return [
        *authorization.one_root_key(root_access_key),
        *permissions.PATCHES,
        *ec2_patches.free_tier(context.free_plan),
        *ec2_patches.PATCHES,
        # Rules and capacity look at what is carried out, so they come before whatever splits or refuses a batch:
        # a statement that is denied, or an entry that a fault refuses, takes no capacity.
        *rulebook.patches(),
        *dynamodb_patches.PATCHES,
        *sqs_patches.PATCHES,
        *sns_patches.PATCHES,
        *iam_patches.PATCHES,
        lambda_patches.update_time(context.times),
        *lambda_patches.PATCHES,
        *deliveries.patches(),
        # Metrics count what the client is told: no message that a rule refused, and as an error an invocation that a fault ended.
        *metrics.patches(),
    ]
