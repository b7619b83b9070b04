"""A handler on the batch processor of Powertools for AWS Lambda: one put_item for each record, and partial batch responses."""

import json
import os
from datetime import UTC, datetime
from decimal import Decimal

import boto3
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])
processor = BatchProcessor(event_type=EventType.SQS)


def store(record):
    transaction = json.loads(record.body, parse_float=Decimal)
    amount = Decimal(transaction["amount"])
    category = "high_value" if amount >= 10000 else "medium_value" if amount >= 1000 else "standard"
    own = {"transaction_category": category, "processed_at_utc": datetime.now(UTC).isoformat()}
    table.put_item(Item=transaction | own)


def lambda_handler(event, context):
    return process_partial_response(event=event, record_handler=store, processor=processor, context=context)
