"""Topics as SNS has them where MiniStack differs: an address is sent nothing before its owner confirmed it.

Amazon SNS API Reference, Subscribe: "If the endpoint type is HTTP/S or email, [...] the endpoint owner must run the ConfirmSubscription
action to confirm the subscription"; ListSubscriptionsByTopic names `PendingConfirmation` where the ARN will be. MiniStack takes a mail
address at once. No mail is sent here: the token that it would hold is written to the log.
"""

import logging
from collections.abc import Callable
from typing import Any

from ministack.core import iam_actions
from ministack.core.responses import new_uuid
from ministack.services import sns

logger = logging.getLogger(__name__)

Answer = tuple[int, dict[str, str], bytes]
_BY_MAIL = ("email", "email-json")


def install() -> None:
    """Replace what MiniStack looks up at each call."""
    sns._subscribe = _confirmed_by_mail(sns._subscribe)
    sns._list_subscriptions_by_topic = _with_pending(sns._list_subscriptions_by_topic)


def _confirmed_by_mail(original: Callable[[dict[str, Any]], Answer]) -> Callable[[dict[str, Any]], Answer]:
    def subscribe(parameters: dict[str, Any]) -> Answer:
        known = {one["arn"] for one in _subscriptions(parameters)}
        answer = original(parameters)
        for subscription in _subscriptions(parameters):
            if subscription["arn"] not in known and subscription["protocol"] in _BY_MAIL:
                subscription |= {"confirmed": False, "token": new_uuid()}
                subscription["attributes"] |= {"PendingConfirmation": "true", "ConfirmationWasAuthenticated": "false"}
                sns._refresh_subscription_counts(sns._topics[subscription["topic_arn"]])
                logger.warning("%s would be sent the token %s of %s", subscription["endpoint"], subscription["token"], subscription["arn"])
                return sns._xml(
                    200,
                    "SubscribeResponse",
                    "<SubscribeResult><SubscriptionArn>pending confirmation</SubscriptionArn></SubscribeResult>",
                )
        return answer

    return subscribe


def _with_pending(original: Callable[[dict[str, Any]], Answer]) -> Callable[[dict[str, Any]], Answer]:
    def list_subscriptions(parameters: dict[str, Any]) -> Answer:
        status, headers, body = original(parameters)
        for subscription in _subscriptions(parameters):
            if not subscription["confirmed"]:
                body = body.replace(subscription["arn"].encode(), b"PendingConfirmation")
        return status, headers, body

    return list_subscriptions


def _subscriptions(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    topic = sns._topics.get(sns._normalize_arn(iam_actions._query_param(parameters, "TopicArn")))
    return list(topic["subscriptions"]) if topic else []
