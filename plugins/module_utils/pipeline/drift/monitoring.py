"""Readers of CloudWatch log groups and alarms, and of the topics that alarms are sent to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..aws.paging import pages
from ..core.canonical import boolean, document, number, text, text_map, text_set
from ..core.terminal import aws_command
from .resource_type import Mender, ResourceType, canonicals, found_in, put_or_delete, tag_dict

LOG_GROUP = {
    "retention_in_days": (number, "retentionInDays"),
    "kms_key_id": (text, "kmsKeyId"),
    "log_group_class": (text, ""),
    "metric_filters": (text_set, ""),
    "subscription_filters": (text_set, ""),
    "tags": (text_map, ""),
}
ALARM = {
    "metric_name": (text, "MetricName"),
    "namespace": (text, "Namespace"),
    "dimensions": (text_map, ""),
    "statistic": (text, "Statistic"),
    "period": (number, "Period"),
    "evaluation_periods": (number, "EvaluationPeriods"),
    "datapoints_to_alarm": (number, "DatapointsToAlarm"),
    "threshold": (number, "Threshold"),
    "comparison_operator": (text, "ComparisonOperator"),
    "treat_missing_data": (text, "TreatMissingData"),
    "alarm_actions": (text_set, "AlarmActions"),
    "ok_actions": (text_set, "OKActions"),
    "insufficient_data_actions": (text_set, "InsufficientDataActions"),
    "actions_enabled": (boolean, "ActionsEnabled"),
    "description": (text, "AlarmDescription"),
    "tags": (text_map, ""),
}


def read_log_group(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    logs = clients["logs"]
    groups = pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=name)
    group = next((item for item in groups if item["logGroupName"] == name), None)
    if group is None:
        return None
    found = found_in(group, LOG_GROUP) | {"log_group_class": group.get("logGroupClass", "STANDARD")}
    for kind in ("metric", "subscription"):
        if f"{kind}_filters" in expected:
            filters = pages(logs, f"describe_{kind}_filters", f"{kind}Filters", logGroupName=name)
            found[f"{kind}_filters"] = [item["filterName"] for item in filters]
    if "tags" in expected:
        # The ARN of a group ends in ":*" except where a group itself is meant.
        found["tags"] = logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*")).get("tags") or {}
    return found


def read_alarm(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    cloudwatch = clients["cloudwatch"]
    alarms = cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm"]).get("MetricAlarms") or []
    if not alarms:
        return None
    alarm = alarms[0]
    found = found_in(alarm, ALARM) | {
        "dimensions": {item["Name"]: item["Value"] for item in alarm.get("Dimensions") or []},
        "statistic": alarm.get("Statistic") or alarm.get("ExtendedStatistic"),
        # What AWS does when nothing was said. Source: PutMetricAlarm, CloudWatch API reference.
        "treat_missing_data": alarm.get("TreatMissingData") or "missing",
    }
    if "tags" in expected:
        found["tags"] = tag_dict(cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"]).get("Tags"))
    return found


def read_alarms(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    alarms = pages(clients["cloudwatch"], "describe_alarms", "MetricAlarms", AlarmNamePrefix=name, AlarmTypes=["MetricAlarm"])
    return {"names": [alarm["AlarmName"] for alarm in alarms]}


def delete_filters(kind: str) -> Mender:
    """The mender that deletes the metric or subscription filters that nobody declared."""

    def mend(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> None:
        delete = getattr(clients["logs"], f"delete_{kind}_filter")
        for extra in set(found[f"{kind}_filters"]) - set(wanted):
            delete(logGroupName=name, filterName=extra)

    return mend


def delete_alarms(clients: Mapping[str, Any], name: str, wanted: Any, found: Mapping[str, Any]) -> bool:
    extra = sorted(set(found["names"]) - set(wanted))
    return bool(extra and clients["cloudwatch"].delete_alarms(AlarmNames=extra))


def put_alarm(clients: Mapping[str, Any], name: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Create the alarm, or overwrite it: PutMetricAlarm keeps nothing of what was there (CloudWatch API reference)."""
    request = {path: wanted[key] for key, (_, path) in ALARM.items() if path and wanted.get(key) is not None}
    dimensions = [{"Name": key, "Value": value} for key, value in wanted.get("dimensions", {}).items()]
    clients["cloudwatch"].put_metric_alarm(AlarmName=name, Dimensions=dimensions, **request)


def read_topic(clients: Mapping[str, Any], name: str, expected: Mapping[str, Any]) -> dict[str, Any] | None:
    sns = clients["sns"]
    arn = next((topic["TopicArn"] for topic in pages(sns, "list_topics", "Topics") if topic["TopicArn"].endswith(f":{name}")), None)
    if arn is None:
        return None
    found: dict[str, Any] = {}
    if "policy" in expected:
        found["policy"] = sns.get_topic_attributes(TopicArn=arn)["Attributes"].get("Policy")
    if {"subscriptions", "unconfirmed"} & expected.keys():
        listed = pages(sns, "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn)
        found["subscriptions"] = [f"{one['Protocol']}:{one['Endpoint']}" for one in listed]
        found["unconfirmed"] = [f"{one['Protocol']}:{one['Endpoint']}" for one in listed if not one["SubscriptionArn"].startswith("arn:")]
    if "tags" in expected:
        found["tags"] = tag_dict(sns.list_tags_for_resource(ResourceArn=arn).get("Tags"))
    return found


TYPES = {
    "log_group": ResourceType(
        label="log group",
        services=("logs",),
        read=read_log_group,
        properties=canonicals(LOG_GROUP),
        menders={
            "retention_in_days": put_or_delete(
                "logs", "logGroupName", "retentionInDays", "put_retention_policy", "delete_retention_policy"
            ),
            "kms_key_id": put_or_delete("logs", "logGroupName", "kmsKeyId", "associate_kms_key", "disassociate_kms_key"),
            "metric_filters": delete_filters("metric"),
            "subscription_filters": delete_filters("subscription"),
        },
        remedies={
            "log_group_class": lambda name, *_: (
                f"{aws_command(f'logs delete-log-group --log-group-name {name}')} (its lines are lost), then ansible-playbook site.yml"
            )
        },
    ),
    "cloudwatch_alarm": ResourceType(label="alarm", services=("cloudwatch",), read=read_alarm, properties=canonicals(ALARM), put=put_alarm),
    "cloudwatch_alarms": ResourceType(
        label="alarms", services=("cloudwatch",), read=read_alarms, properties={"names": text_set}, menders={"names": delete_alarms}
    ),
    "sns_topic": ResourceType(
        label="topic",
        services=("sns",),
        read=read_topic,
        properties={"policy": document, "subscriptions": text_set, "unconfirmed": text_set, "tags": text_map},
    ),
}
