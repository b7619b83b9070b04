"""Reads and writes beyond a table's provisioned capacity, which DynamoDB refuses and MiniStack accepts."""

import json
import zlib

from embedded_cloud.base.calls import Call
from embedded_cloud.base.ministack_backend import Answer, json_error
from embedded_cloud.base.rules import Refusal, Rewrite, Rule, RuleContext
from embedded_cloud.services.dynamodb import capacity

CODE = "ProvisionedThroughputExceededException"
MESSAGE = (
    "The level of configured provisioned throughput for the table was exceeded. "
    "Consider increasing your provisioning level with the UpdateTable API."
)


def write_beyond_capacity(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon DynamoDB Developer Guide, "Provisioned capacity mode" and "Burst and adaptive capacity": "up to five minutes (300 seconds) of
    unused read and write capacity"; Amazon DynamoDB API Reference, PutItem, ProvisionedThroughputExceededException."""
    costs = [cost for cost in capacity.WRITES[call.action](call.parameters) if cost[1] == capacity.WRITE]
    return None if capacity.fits(costs) else Refusal(CODE, MESSAGE)


def read_within_capacity(call: Call, answer: Answer, context: RuleContext) -> Answer:
    """The answer to a read, with the units that it took, or the refusal when the table has too few left. Reading changed nothing. Amazon
    DynamoDB Developer Guide, "Capacity unit consumption for read operations": GetItem rounds an item up to 4 KB, and takes a unit for one
    that is not there; Query and Scan round the sum of what they evaluated; eventually consistent reads take half, transactional twice."""
    if answer[0] != 200:
        return answer
    costs = [cost for cost in capacity.READS[call.action](call.parameters) if cost[1] == capacity.READ]
    if not capacity.fits(costs):
        return json_error(CODE, MESSAGE)
    if not costs or call.parameters.get("ReturnConsumedCapacity", "NONE") == "NONE":
        return answer
    consumed = capacity.consumed(costs, call.parameters)
    found = json.loads(answer[2]) | {"ConsumedCapacity": consumed if "Transact" in call.action else consumed[0]}
    body = json.dumps(found, ensure_ascii=False).encode()
    return answer[0], answer[1] | {"x-amz-crc32": str(zlib.crc32(body))}, body


RULES: dict[str, tuple[Rule, ...]] = {f"dynamodb:{action}": (write_beyond_capacity,) for action in capacity.WRITES}
REWRITES: dict[str, Rewrite] = {f"dynamodb:{action}": read_within_capacity for action in capacity.READS}
