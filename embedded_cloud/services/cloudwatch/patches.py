"""The metrics of queues and functions that AWS publishes each minute, and MiniStack does not. They decide the alarms.

"Available CloudWatch metrics for Amazon SQS"; "Types of metrics for Lambda functions". Only those are published that alarms are set on:
messages visible, in flight, delayed and sent, and the age of the oldest; invocations, errors and throttles, those of mappings too.
The cloud's time scale shortens a minute, to a second at least. With a scale of 0 nothing is published.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_region
from ministack.services import lambda_svc, sqs
from moto.cloudwatch.models import MetricDatum

from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.base.patching import Patch, wrap
from embedded_cloud.base.rules import Times
from embedded_cloud.services.cloudwatch import alarms
from embedded_cloud.services.cloudwatch.alarms import Minute, Series

logger = logging.getLogger(__name__)

MINUTE = 60.0
SHORTEST_MINUTE = 1.0
# How far back an alarm looks at most ("Evaluating an alarm": a day), and how many data points can be read back.
MINUTES_KEPT = 1440
POINTS_KEPT = 10_000
# "Messages that are received three or more times and never deleted" are left out of the age.
RECEIVES_OF_AGE = 3


class Metrics:
    """Counts what happens; once a minute it publishes the counts and updates the alarms."""

    def __init__(self, moto: MotoBackend, times: Times) -> None:
        self._moto = moto
        self._minute = times.scaled(MINUTE)
        self._counted: Counter[Series] = Counter()
        self._minutes: deque[Minute] = deque(maxlen=MINUTES_KEPT)

    def patches(self) -> list[Patch]:
        """Count each message that is sent, alone or in a batch, and each invocation, also those of mappings."""
        return [
            wrap(sqs._HANDLERS, "SendMessage", self._send),
            wrap(sqs, "_act_send_message", self._send),
            wrap(lambda_svc, "_execute_function_dispatch", self._execute),
            wrap(lambda_svc, "_acquire_execution_slot", self._acquire),
        ]

    async def run(self) -> None:
        """Publish minute by minute, until cancelled."""
        while self._minute:
            await asyncio.sleep(max(self._minute, SHORTEST_MINUTE))
            try:
                await self._publish()
            except Exception:
                logger.exception("A minute's metrics could not be published")

    async def _publish(self) -> None:
        counted, self._counted = self._counted, Counter()
        minute = _of_queues() | {series: float(number) for series, number in counted.items()}
        self._minutes.append(minute)
        decided = await self._moto.run(lambda: self._record(minute))
        for alarm in decided:
            alarms.tell(alarm)

    def _record(self, minute: Minute) -> list[alarms.Change]:
        for backend in self._moto.backends("cloudwatch"):
            for series, value in minute.items():
                if series.region == backend.region_name:
                    dimension = [{"Name": series.dimension, "Value": series.name}]
                    backend.metric_data.append(MetricDatum(series.namespace, series.metric, value, dimension, None))
            del backend.metric_data[:-POINTS_KEPT]
        return [change for backend in self._moto.backends("cloudwatch") for change in alarms.decide(backend, self._minutes)]

    def _send(self, original: Callable[..., Any], data: dict[str, Any], url: str) -> Any:
        answer = original(data, url)
        name = (data.get("QueueUrl") or url).rpartition("/")[2]
        self._counted[Series(get_region(), "AWS/SQS", "NumberOfMessagesSent", "QueueName", name)] += 1
        return answer

    def _execute(self, original: Callable[..., Any], function: dict[str, Any], config: dict[str, Any], *others: Any) -> Any:
        result = original(function, config, *others)
        self._count(config, "Invocations")
        self._count(config, "Errors", int(bool(result.get("error"))))
        return result

    def _acquire(self, original: Callable[..., Any], function: dict[str, Any], config: dict[str, Any]) -> Any:
        slot = original(function, config)
        self._count(config, "Throttles", int(slot[0] is None))
        return slot

    def _count(self, config: dict[str, Any], metric: str, number: int = 1) -> None:
        region = config["FunctionArn"].split(":")[3]
        self._counted[Series(region, "AWS/Lambda", metric, "FunctionName", config["FunctionName"])] += number


def _of_queues() -> Minute:
    """The present counters of every queue; the messages sent are counted apart."""
    now = time.time()
    found: Minute = {}
    with sqs._queues_lock:
        for _key, queue in sqs._queues.all_items():
            _arn, _aws, _sqs, region, _account, name = queue["attributes"]["QueueArn"].split(":")
            messages = queue["messages"]
            hidden = [one for one in messages if one["visible_at"] > now]
            in_flight = sum(one["receive_count"] > 0 for one in hidden)
            ages = [now - one["sent_at"] for one in messages if one["receive_count"] < RECEIVES_OF_AGE]
            values = {
                "ApproximateNumberOfMessagesVisible": len(messages) - len(hidden),
                "ApproximateNumberOfMessagesNotVisible": in_flight,
                "ApproximateNumberOfMessagesDelayed": len(hidden) - in_flight,
                "ApproximateAgeOfOldestMessage": max(ages, default=0.0),
                "NumberOfMessagesSent": 0,
            }
            found |= {Series(region, "AWS/SQS", metric, "QueueName", name): float(value) for metric, value in values.items()}
    return found
