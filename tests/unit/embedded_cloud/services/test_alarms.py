"""Alarms go to the state that the metrics of queues and functions say, and tell it; a minute takes a second here."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from plays import wait_until
from refusals import ACCOUNT, CONSUME, REGION, give, in_time, make_function, make_queue, make_role, package, root, unique

from embedded_cloud.services.cloudwatch.alarms import Minute, Series, decide

QUEUE = Series(REGION, "AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName", "q")


def alarm(**settings: Any) -> SimpleNamespace:
    """moto's record of an alarm, as much of it as deciding takes."""
    wanted = {
        "namespace": QUEUE.namespace,
        "metric_name": QUEUE.metric,
        "dimensions": [SimpleNamespace(name="QueueName", value="q")],
        "statistic": "Maximum",
        "comparison_operator": "GreaterThanThreshold",
        "threshold": 5,
        "period": 60,
        "evaluation_periods": 3,
        "datapoints_to_alarm": None,
        "treat_missing_data": "missing",
        "state_value": "none yet",
        "alarm_arn": "arn",
        "name": "a",
        "alarm_actions": ["told of ALARM"],
        "ok_actions": ["told of OK"],
        "insufficient_data_actions": [],
        "actions_enabled": True,
    }
    made = SimpleNamespace(**wanted | settings)
    made.update_state = lambda reason, data, state: vars(made).update(state_value=state)
    return made


def decided(values: list[float | None], **settings: Any) -> tuple[str, tuple[str, ...]]:
    minutes: list[Minute] = [{} if value is None else {QUEUE: value} for value in values]
    made = alarm(**settings)
    changes = decide(SimpleNamespace(alarms={"a": made}, region_name=REGION), minutes)
    return made.state_value, changes[0].topics if changes else ()


@pytest.mark.parametrize(
    ("values", "settings", "state"),
    [
        ([6, 6, 6], {}, "ALARM"),
        ([9, 9, 9, 6, 5, 6], {}, "OK"),
        ([5, 5, 5], {"comparison_operator": "GreaterThanOrEqualToThreshold"}, "ALARM"),
        ([6, 5, 6], {"datapoints_to_alarm": 2}, "ALARM"),
        ([6, 6], {}, "OK"),
        ([None] * 3, {}, "INSUFFICIENT_DATA"),
        ([None] * 3, {"treat_missing_data": "breaching"}, "ALARM"),
        ([None] * 3, {"treat_missing_data": "notBreaching"}, "OK"),
        ([None] * 3, {"treat_missing_data": "ignore"}, "none yet"),
        ([6, None, 6], {"treat_missing_data": "breaching"}, "ALARM"),
        ([3, 3, 3], {"period": 180, "evaluation_periods": 1, "statistic": "Sum"}, "ALARM"),
        ([3, 3], {"period": 180, "evaluation_periods": 1, "statistic": "Sum"}, "none yet"),
        ([9, 1, 9], {"period": 180, "evaluation_periods": 1, "statistic": "Minimum"}, "OK"),
        ([6, 6, 6], {"namespace": "Custom"}, "none yet"),
        ([6, 6, 6], {"state_value": "ALARM"}, "ALARM"),
    ],
)
def test_the_last_periods_decide(values: list[float | None], settings: dict[str, Any], state: str):
    assert decided(values, **settings)[0] == state


def test_a_change_is_told_to_the_actions_of_its_state_once_and_not_where_they_are_disabled():
    assert decided([6] * 3)[1] == ("told of ALARM",)
    assert decided([1] * 3)[1] == ("told of OK",)
    assert decided([6] * 3, state_value="ALARM")[1] == ()
    assert decided([6] * 3, actions_enabled=False)[1] == ()


@pytest.fixture
def cloud(fast_cloud: Any) -> Any:
    return fast_cloud


def put_alarm(cloud: Any, name: str, metric: str, dimension: dict[str, str], *actions: str) -> Callable[[], str]:
    """An alarm on one breaching minute of `metric`; what asks for its state."""
    client = root(cloud, "cloudwatch")
    client.put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SQS" if "QueueName" in dimension else "AWS/Lambda",
        MetricName=metric,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimension.items()],
        Statistic="Maximum",
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0,
        Period=60,
        EvaluationPeriods=1,
        TreatMissingData="notBreaching",
        AlarmActions=list(actions),
        OKActions=list(actions),
    )
    return lambda: client.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"]


def mapped(cloud: Any, code: str) -> tuple[str, str, str]:
    """A queue whose messages a function of this code takes: its URL, the function's name and its role's ARN."""
    role, client = make_role(cloud, actions=CONSUME), root(cloud, "lambda")
    url, arn = make_queue(cloud, VisibilityTimeout="600")
    name = make_function(cloud, role, Code={"ZipFile": package(source=f"def handler(event, context):\n    {code}\n")})
    mapping = {"FunctionName": name, "EventSourceArn": arn, "FunctionResponseTypes": ["ReportBatchItemFailures"]}
    in_time(lambda: client.create_event_source_mapping(**mapping), "InvalidParameterValueException")
    return url, name, role


ALL_FAIL = "return {'batchItemFailures': [{'itemIdentifier': one['messageId']} for one in event['Records']]}"


def test_records_that_fail_show_in_flight_and_not_as_errors(cloud: Any):
    url, function, _role = mapped(cloud, ALL_FAIL)
    in_flight = put_alarm(cloud, unique("a"), "ApproximateNumberOfMessagesNotVisible", {"QueueName": url.rpartition("/")[2]})
    errors = put_alarm(cloud, unique("a"), "Errors", {"FunctionName": function})
    invoked = put_alarm(cloud, unique("a"), "Invocations", {"FunctionName": function})
    root(cloud, "sqs").send_message(QueueUrl=url, MessageBody="fails")
    wait_until(lambda: invoked() == "ALARM", 60, "an invocation")
    wait_until(lambda: in_flight() == "ALARM", 60, "an alarm on what is in flight")
    assert errors() == "OK"


def test_an_invocation_that_fails_as_a_whole_is_an_error_and_can_be_read_back(cloud: Any):
    url, function, _role = mapped(cloud, "raise ValueError('broken')")
    errors = put_alarm(cloud, unique("a"), "Errors", {"FunctionName": function})
    root(cloud, "sqs").send_message(QueueUrl=url, MessageBody="fails")
    wait_until(lambda: errors() == "ALARM", 60, "an alarm on errors")
    now = datetime.now(UTC)
    found = root(cloud, "cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Dimensions=[{"Name": "FunctionName", "Value": function}],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=5),
        Period=600,
        Statistics=["Sum"],
    )["Datapoints"]
    assert sum(point["Sum"] for point in found) >= 1


def test_a_mapping_whose_role_lost_its_permission_lets_messages_age(cloud: Any):
    url, function, role = mapped(cloud, "return {}")
    give(cloud, role, ["sqs:ListQueues"])
    age = put_alarm(cloud, unique("a"), "ApproximateAgeOfOldestMessage", {"QueueName": url.rpartition("/")[2]})
    invoked = put_alarm(cloud, unique("a"), "Invocations", {"FunctionName": function})
    # What was known of the role's permissions is known for a second.
    wait_until(lambda: not taken(cloud, url), 30, "a message that is left alone")
    wait_until(lambda: age() == "ALARM", 60, "an alarm on the age of the oldest message")
    give(cloud, role, CONSUME)
    wait_until(lambda: age() == "OK" and invoked() == "ALARM", 60, "an end of the alarm")


def taken(cloud: Any, url: str) -> bool:
    """Whether the mapping takes a message that is sent now, within two seconds."""
    sqs = root(cloud, "sqs")
    sqs.send_message(QueueUrl=url, MessageBody="any")
    end = datetime.now(UTC) + timedelta(seconds=2)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    while datetime.now(UTC) < end:
        if not any(int(count) for count in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()):
            return True
    return False


@pytest.mark.parametrize("allowed", [True, False], ids=["cloudwatch-may-publish", "it-may-not"])
def test_a_change_reaches_a_confirmed_subscription_where_the_topic_lets_cloudwatch_publish(cloud: Any, allowed: bool):
    sns, sqs = root(cloud, "sns"), root(cloud, "sqs")
    topic = sns.create_topic(Name=unique("topic"))["TopicArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "SNS:Publish",
        "Resource": topic,
        "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT if allowed else "111122223333"}},
    }
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps({"Statement": [statement]}))
    told, told_arn = make_queue(cloud)
    anyone = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": told_arn}
    sqs.set_queue_attributes(QueueUrl=told, Attributes={"Policy": json.dumps({"Statement": [anyone]})})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=told_arn)
    watched, _arn = make_queue(cloud)
    name = unique("a")
    state = put_alarm(cloud, name, "NumberOfMessagesSent", {"QueueName": watched.rpartition("/")[2]}, topic)

    sqs.send_message(QueueUrl=watched, MessageBody="any")

    if not allowed:
        wait_until(lambda: f"Alarm {name} may not publish to {topic}" in cloud.log.read_text(), 60, "a refusal")
        return
    message = wait_until(lambda: sqs.receive_message(QueueUrl=told).get("Messages"), 60, "a message")[0]
    body = json.loads(json.loads(message["Body"])["Message"])
    assert (body["AlarmName"], body["NewStateValue"]) == (name, "ALARM")
    wait_until(lambda: state() == "OK", 60, "an end of the alarm: nothing was sent since")
