"""A handler as tutorials write it: one put_item for each record. A record that fails fails the batch."""

import json
import os
from datetime import UTC, datetime
from decimal import Decimal

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


def lambda_handler(event, context):
    for record in event["Records"]:
        transaction = json.loads(record["body"], parse_float=Decimal)
        amount = Decimal(transaction["amount"])
        category = "high_value" if amount >= 10000 else "medium_value" if amount >= 1000 else "standard"
        own = {"transaction_category": category, "processed_at_utc": datetime.now(UTC).isoformat()}
        table.put_item(Item=transaction | own)
    print(json.dumps({"message": "Successfully processed", "count": len(event["Records"])}))
    return {"batchItemFailures": []}
