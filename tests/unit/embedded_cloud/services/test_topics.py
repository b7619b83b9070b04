"""A mail address is sent nothing before its owner confirmed it, and the calls about a topic need permissions for it."""

from __future__ import annotations

import re
from typing import Any

from refusals import ACCOUNT, REGION, root, unique
from users import User, anything


def listed(sns: Any, topic: str) -> list[tuple[str, str]]:
    return [(one["Endpoint"], one["SubscriptionArn"]) for one in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]]


def test_an_address_is_pending_until_it_is_confirmed(embedded_cloud: Any):
    sns = root(embedded_cloud, "sns")
    topic = sns.create_topic(Name=unique("topic"))["TopicArn"]

    said = sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="me@example.com")["SubscriptionArn"]
    again = sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="me@example.com")

    assert said == "pending confirmation"
    assert again
    assert listed(sns, topic) == [("me@example.com", "PendingConfirmation")]
    (token,) = re.findall(rf"me@example.com would be sent the token (\S+) of {topic}:", embedded_cloud.log.read_text())
    confirmed = sns.confirm_subscription(TopicArn=topic, Token=token)["SubscriptionArn"]
    assert listed(sns, topic) == [("me@example.com", confirmed)]


def test_a_queue_needs_no_confirmation(embedded_cloud: Any):
    sns = root(embedded_cloud, "sns")
    topic = sns.create_topic(Name=unique("topic"))["TopicArn"]
    arn = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:any")["SubscriptionArn"]
    assert listed(sns, topic) == [(f"arn:aws:sqs:{REGION}:{ACCOUNT}:any", arn)]


def test_what_a_topic_needs_is_for_that_topic(embedded_cloud: Any):
    user, name = User(embedded_cloud, anything()), unique("topic")
    sns, tags = user.client("sns"), [{"Key": "a", "Value": "b"}]
    arn = sns.create_topic(Name=name, Tags=tags)["TopicArn"]
    sns.list_tags_for_resource(ResourceArn=arn)
    sns.untag_resource(ResourceArn=arn, TagKeys=["a"])
    subscription = sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:any")["SubscriptionArn"]
    sns.unsubscribe(SubscriptionArn=subscription)
    assert set(user.needed()) == {
        ("sns:CreateTopic", arn),
        ("sns:TagResource", arn),
        ("sns:ListTagsForResource", arn),
        ("sns:UntagResource", arn),
        ("sns:Subscribe", arn),
        ("sns:Unsubscribe", "*"),
    }
