"""Settings that do not go together are refused by the guard, with what was found, what is expected and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).resolve().parents[3]


def refused(**settings: Any) -> list[str]:
    """What the guard says about the shared settings with these in their place."""
    loader = DataLoader()
    variables: dict[str, Any] = {"pipeline_account_id": "123456789012", "pipeline_sqs_endpoint": "https://sqs", "inventory_dir": str(ROOT)}
    for file in ("inventories/shared/settings.yml", "roles/account_guard/vars/main.yml"):
        variables |= loader.load_from_file(str(ROOT / file), trusted_as_template=True)
    variables |= settings
    templar = Templar(loader=loader, variables=variables)
    conditions = variables["__account_guard_conditions"]
    return [templar.template(item["fail_msg"]) for item in conditions if not templar.evaluate_conditional(item["that"])]


def test_the_shared_settings_are_taken():
    assert refused() == []


def test_an_account_id_that_is_not_set_is_said_to_be_so():
    (said,) = refused(pipeline_account_id="")
    assert "pipeline_account_id is not set" in said
    assert "aws sts get-caller-identity" in said


@pytest.mark.parametrize("account", ["12345678901", "1234567890123", "my-account"])
def test_an_account_id_that_is_none_is_shown(account: str):
    (said,) = refused(pipeline_account_id=account)
    assert f"pipeline_account_id is '{account}'" in said


def test_times_that_would_lose_messages_in_an_outage_are_refused():
    assert refused(stream_processor_timeout=15, stream_processor_batching_window=0, transaction_queue_maximum_receives=41) == []
    (said,) = refused(stream_processor_timeout=15, stream_processor_batching_window=0, transaction_queue_maximum_receives=40)
    assert "transaction_queue_visibility_timeout is 90 s and transaction_queue_maximum_receives 40" in said
    (said,) = refused(transaction_queue_visibility_timeout=179, transaction_queue_maximum_receives=100)
    assert "at least 6 x stream_processor_timeout (30 s)" in said


def test_an_outbox_that_does_not_fit_on_the_volume_is_refused_and_the_largest_that_does_is_taken():
    assert refused(producer_service_outbox_bytes=5 * 2**30) == []
    (said,) = refused(producer_service_outbox_bytes=5 * 2**30 + 1)
    assert f"producer_service_outbox_bytes is {5 * 2**30 + 1}; " in said


def test_thresholds_the_wrong_way_round_are_refused():
    (said,) = refused(stream_processor_medium_value_threshold="10000")
    assert "stream_processor_medium_value_threshold (10000) must be below stream_processor_high_value_threshold (10000)" in said


def test_a_large_batch_without_a_window_is_refused():
    assert refused(stream_processor_batch_size=11, stream_processor_batching_window=1) == []
    (said,) = refused(stream_processor_batch_size=11, stream_processor_batching_window=0)
    assert "stream_processor_batch_size is 11 and stream_processor_batching_window 0 s" in said


@pytest.mark.parametrize("tags", [{"environment": "blue"}, {"Owner": "a", "owner": "b"}])
def test_tags_whose_names_differ_in_case_alone_are_refused(tags: dict[str, str]):
    assert refused(pipeline_tags={"CostCenter": "4711", "Pipeline": "another"}) == []
    (said,) = refused(pipeline_tags=tags)
    assert f"pipeline_tags has {', '.join(tags)}, and each resource Pipeline, Environment besides" in said


TOPIC = "arn:aws:sns:us-east-1:111122223333:somewhere"


@pytest.mark.parametrize(
    ("topic", "email"),
    [(TOPIC, "me@example.com"), ("somewhere", ""), (TOPIC.replace("us-east-1", "eu-west-1"), ""), (f"{TOPIC}.fifo", "")],
    ids=["both", "a-name", "another-region", "fifo"],
)
def test_where_alarms_cannot_go_is_refused_in_one_sentence(topic: str, email: str):
    (said,) = refused(observability_topic_arn=topic, observability_email=email)
    assert f"observability_topic_arn is '{topic}' and observability_email '{email}'; give one of them" in said


@pytest.mark.parametrize(("topic", "email"), [(TOPIC, ""), ("", "me@example.com"), ("", "")])
def test_one_way_for_alarms_or_none_is_taken(topic: str, email: str):
    assert refused(observability_topic_arn=topic, observability_email=email) == []


@pytest.mark.parametrize("region", ["cn-north-1", "us-iso-east-1", "eu-isoe-west-1", "eusc-de-east-1", "nowhere", "us-east-1;", ""])
def test_a_region_of_another_partition_is_refused_in_one_sentence(region: str):
    (said,) = refused(pipeline_region=region)
    assert f"pipeline_region is '{region}'; it must be a region of AWS's commercial partition or of GovCloud" in said


@pytest.mark.parametrize("region", ["us-east-1", "ap-southeast-2", "us-gov-west-1", "mx-central-1"])
def test_a_region_that_can_be_is_taken(region: str):
    assert refused(pipeline_region=region) == []
