"""A mail address of a topic is sent nothing before its owner has confirmed it. MiniStack takes it at once.

Amazon SNS API Reference, Subscribe: "If the endpoint type is HTTP/S or email, [...] the endpoint owner must run the ConfirmSubscription
action to confirm the subscription"; ListSubscriptionsByTopic shows `PendingConfirmation` in place of the ARN. No mail is sent here: the
token that it would hold is written to the log.
"""

import logging
from collections.abc import Callable
from typing import Any

from ministack.core import iam_actions
from ministack.core.responses import new_uuid
from ministack.services import sns

from embedded_cloud.base.ministack_backend import Answer
from embedded_cloud.base.patching import wrap

logger = logging.getLogger(__name__)

_BY_MAIL = ("email", "email-json")


def confirm_by_mail(original: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
    known = {one["arn"] for one in _subscriptions(parameters)}
    answer = original(parameters)
    for subscription in _subscriptions(parameters):
        if subscription["arn"] not in known and subscription["protocol"] in _BY_MAIL:
            subscription |= {"confirmed": False, "token": new_uuid()}
            subscription["attributes"] |= {"PendingConfirmation": "true", "ConfirmationWasAuthenticated": "false"}
            sns._refresh_subscription_counts(sns._topics[subscription["topic_arn"]])
            logger.warning("%s would be sent the token %s of %s", subscription["endpoint"], subscription["token"], subscription["arn"])
            result = "<SubscribeResult><SubscriptionArn>pending confirmation</SubscriptionArn></SubscribeResult>"
            answer = sns._xml(200, "SubscribeResponse", result)
    return answer


def show_pending(original: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
    status, headers, body = original(parameters)
    for subscription in _subscriptions(parameters):
        if not subscription["confirmed"]:
            body = body.replace(subscription["arn"].encode(), b"PendingConfirmation")
    return status, headers, body


def _subscriptions(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    topic = sns._topics.get(sns._normalize_arn(iam_actions._query_param(parameters, "TopicArn")))
    return list(topic["subscriptions"]) if topic else []


PATCHES = (wrap(sns, "_subscribe", confirm_by_mail), wrap(sns, "_list_subscriptions_by_topic", show_pending))
