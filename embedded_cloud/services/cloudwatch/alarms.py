"""Alarms that change their state by the metrics of queues and functions and notify their topics. moto only stores alarms.

Amazon CloudWatch User Guide, "Evaluating an alarm" (so many of the last periods breach), "Configuring how CloudWatch alarms treat
missing data"; "Using Amazon CloudWatch alarms": actions are invoked when a state changes.
"""

import json
import logging
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ministack.core.responses import new_uuid, request_scope
from ministack.services import sns

logger = logging.getLogger(__name__)


class Series(NamedTuple):
    """One metric of one thing."""

    region: str
    namespace: str
    metric: str
    dimension: str
    name: str


# The value of each series in one minute.
Minute = dict[Series, float]

MINUTE = 60
_COMPARISONS = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "SampleCount": len,
    "Average": lambda values: sum(values) / len(values),
}


@dataclass(frozen=True)
class Change:
    """The new state of an alarm, and the topics to notify."""

    arn: str
    name: str
    state: str
    reason: str
    topics: tuple[str, ...]


def decide(backend: Any, minutes: Sequence[Minute]) -> list[Change]:
    """Update the state of each alarm by the metrics of `minutes` (the newest last), and return the changes. Runs on moto's thread."""
    changes = []
    for alarm in backend.alarms.values():
        if alarm.namespace not in ("AWS/SQS", "AWS/Lambda") or alarm.statistic not in _STATISTICS or len(alarm.dimensions) != 1:
            continue
        (dimension,) = alarm.dimensions
        points = _points(alarm, minutes, Series(backend.region_name, alarm.namespace, alarm.metric_name, dimension.name, dimension.value))
        state = _state(alarm, points)
        if state in ("", alarm.state_value):
            continue
        reason = f"{alarm.metric_name} of the last {len(points)} periods, the newest last: {points}; threshold {alarm.threshold}."
        alarm.update_state(reason, json.dumps({"recentDatapoints": points}), state)
        told = {"ALARM": alarm.alarm_actions, "OK": alarm.ok_actions}.get(state, alarm.insufficient_data_actions) or []
        changes.append(Change(alarm.alarm_arn, alarm.name, state, reason, tuple(told) if alarm.actions_enabled else ()))
    return changes


def _points(alarm: Any, minutes: Sequence[Minute], series: Series) -> list[float | None]:
    """The statistic of each period, None for one without data; of the periods so far, at most as many as the alarm looks at."""
    length = int(alarm.period) // MINUTE
    whole = list(minutes)[-length * int(alarm.evaluation_periods) :]
    periods = [whole[end - length : end] for end in range(len(whole), length - 1, -length)]
    return [_value(alarm.statistic, [minute[series] for minute in period if series in minute]) for period in reversed(periods)]


def _value(statistic: str, values: Sequence[float]) -> float | None:
    return float(_STATISTICS[statistic](values)) if values else None


def _state(alarm: Any, points: Iterable[float | None]) -> str:
    """The state by these points; empty when it stays as it is."""
    points, missing = list(points), alarm.treat_missing_data or "missing"
    breaches = [_COMPARISONS[alarm.comparison_operator](point, alarm.threshold) for point in points if point is not None]
    if missing in ("breaching", "notBreaching"):
        breaches += [missing == "breaching"] * (len(points) - len(breaches))
    if not breaches:
        return "" if missing == "ignore" or not points else "INSUFFICIENT_DATA"
    return "ALARM" if sum(breaches) >= int(alarm.datapoints_to_alarm or alarm.evaluation_periods) else "OK"


def tell(change: Change) -> None:
    """Publish a change to its topics, where their policies allow CloudWatch to."""
    _arn, _aws, _cloudwatch, region, account, _alarm = change.arn.split(":", 5)
    for topic in change.topics:
        with request_scope(account, region):
            if not sns.topic_policy_allows(topic, "cloudwatch.amazonaws.com", change.arn, account):
                logger.warning("Alarm %s may not publish to %s", change.name, topic)
                continue
            message = json.dumps(
                {"AlarmName": change.name, "AlarmArn": change.arn, "NewStateValue": change.state, "NewStateReason": change.reason}
            )
            sns._fanout(topic, new_uuid(), message, f'{change.state}: "{change.name}"')
            for subscription in sns._topics[topic]["subscriptions"]:
                if subscription["confirmed"] and subscription["protocol"] == "email":
                    logger.warning("%s would be mailed: %s %s", subscription["endpoint"], change.state, change.name)
