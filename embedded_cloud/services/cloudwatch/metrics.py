"""The metrics of queues and functions that AWS publishes each minute, and MiniStack does not; the alarms are decided by them.

"Available CloudWatch metrics for Amazon SQS"; "Types of metrics for Lambda functions". Published are those that alarms are set on:
messages visible, in flight, delayed and sent, and the age of the oldest; invocations, errors and throttles, of mapped invocations as well.
A minute is as long as the cloud's time scale makes it, at least a second; with a scale of 0 nothing is published.
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
from embedded_cloud.base.rules import Times
from embedded_cloud.services.cloudwatch import alarms
from embedded_cloud.services.cloudwatch.alarms import Minute, Series

logger = logging.getLogger(__name__)

MINUTE = 60.0
SHORTEST_MINUTE = 1.0
# Minutes that alarms look back on at most ("Evaluating an alarm": a day), and data points that can be read back.
MINUTES_KEPT = 1440
POINTS_KEPT = 10_000
# "Messages that are received three or more times and never deleted" are left out of the age.
RECEIVES_OF_AGE = 3


class Metrics:
    """Counts what happens, and once a minute publishes the counts and has the alarms decided."""

    def __init__(self, moto: MotoBackend, times: Times) -> None:
        self._moto = moto
        self._minute = times.scaled(MINUTE)
        self._counted: Counter[Series] = Counter()
        self._minutes: deque[Minute] = deque(maxlen=MINUTES_KEPT)

    def install(self) -> None:
        """Count at what MiniStack looks up at each message that is sent, and at each invocation."""
        sqs._HANDLERS["SendMessage"] = sqs._act_send_message = self._sent(sqs._HANDLERS["SendMessage"])
        lambda_svc._execute_function_dispatch = self._executed(lambda_svc._execute_function_dispatch)
        lambda_svc._acquire_execution_slot = self._acquired(lambda_svc._acquire_execution_slot)

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

    def _sent(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send(data: dict[str, Any], url: str) -> Any:
            answer = original(data, url)
            name = (data.get("QueueUrl") or url).rpartition("/")[2]
            self._counted[Series(get_region(), "AWS/SQS", "NumberOfMessagesSent", "QueueName", name)] += 1
            return answer

        return send

    def _executed(self, original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def execute(function: dict[str, Any], config: dict[str, Any], *others: Any) -> dict[str, Any]:
            result = original(function, config, *others)
            self._count(config, "Invocations")
            self._count(config, "Errors", int(bool(result.get("error"))))
            return result

        return execute

    def _acquired(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def acquire(function: dict[str, Any], config: dict[str, Any]) -> Any:
            slot = original(function, config)
            self._count(config, "Throttles", int(slot[0] is None))
            return slot

        return acquire

    def _count(self, config: dict[str, Any], metric: str, number: int = 1) -> None:
        region = config["FunctionArn"].split(":")[3]
        self._counted[Series(region, "AWS/Lambda", metric, "FunctionName", config["FunctionName"])] += number


def _of_queues() -> Minute:
    """The counters of every queue, as they are now; nothing sent unless it was counted."""
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
