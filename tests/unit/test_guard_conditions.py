"""Settings that no cloud would take are refused by the guard, each with what was found, what is expected and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).resolve().parents[2]


def refused(**settings: Any) -> list[str]:
    """What the guard says about the shared settings with these in their place."""
    loader = DataLoader()
    variables: dict[str, Any] = {"pipeline_account_id": "123456789012", "pipeline_sqs_endpoint": "https://sqs", "inventory_dir": str(ROOT)}
    for file in ("inventories/shared/settings.yml", "roles/pipeline/vars/main.yml"):
        variables |= loader.load_from_file(str(ROOT / file), trusted_as_template=True)
    variables |= settings
    templar = Templar(loader=loader, variables=variables)
    conditions = variables["__pipeline_conditions"]
    return [templar.template(item["otherwise"]) for item in conditions if not templar.evaluate_conditional(item["that"])]


def test_the_shared_settings_are_taken():
    assert refused() == []


def test_the_longest_environment_name_still_makes_names_that_aws_takes():
    assert refused(pipeline_environment="a" * 20) == []


@pytest.mark.parametrize("name", ["Blue", "a b", "a_b", "ä", "-a", "a" * 21, "", "a;b", "a/b"])
def test_an_environment_name_with_odd_characters_is_refused(name: str):
    (said,) = refused(pipeline_environment=name)
    assert f"pipeline_environment is '{name}'" in said
    assert "1 to 20 of a-z, 0-9 and -" in said


def test_an_account_id_that_is_not_set_is_said_to_be_so():
    (said,) = refused(pipeline_account_id="")
    assert "pipeline_account_id is not set" in said
    assert "aws sts get-caller-identity" in said


@pytest.mark.parametrize("account", ["12345678901", "1234567890123", "my-account"])
def test_an_account_id_that_is_none_is_shown(account: str):
    (said,) = refused(pipeline_account_id=account)
    assert f"pipeline_account_id is '{account}'" in said


@pytest.mark.parametrize(
    ("setting", "service", "longest"),
    [
        ("pipeline_queue_name", "SQS", 80),
        ("pipeline_dead_letter_queue_name", "SQS", 80),
        ("pipeline_function_name", "Lambda", 64),
        ("pipeline_producer_role_name", "IAM", 64),
        ("pipeline_processor_role_name", "IAM", 64),
        ("pipeline_table_name", "DynamoDB", 255),
        ("pipeline_producer_name", "EC2", 255),
    ],
)
def test_a_name_that_is_too_long_is_refused_and_the_longest_is_taken(setting: str, service: str, longest: int):
    assert refused(**{setting: "n" * longest}) == []
    (said,) = refused(**{setting: "n" * (longest + 1)})
    assert said.startswith(f"{setting} is 'nnn")
    assert f"{longest + 1} characters; {service} takes {longest} at most" in said


def test_times_that_would_lose_messages_in_an_outage_are_refused():
    assert refused(pipeline_function_timeout=15, pipeline_batching_window=0, pipeline_queue_maximum_receives=41) == []
    (said,) = refused(pipeline_function_timeout=15, pipeline_batching_window=0, pipeline_queue_maximum_receives=40)
    assert "pipeline_queue_visibility_timeout is 90 s and pipeline_queue_maximum_receives 40" in said
    (said,) = refused(pipeline_queue_visibility_timeout=179, pipeline_queue_maximum_receives=100)
    assert "at least 6 x pipeline_function_timeout (30 s)" in said


def test_no_instance_at_all_is_refused():
    (said,) = refused(pipeline_producer_count=0)
    assert "pipeline_producer_count is 0" in said


@pytest.mark.parametrize("alias", ["", "7", "a b", "live!", "a" * 129])
def test_an_alias_that_lambda_would_not_take_is_refused(alias: str):
    (said,) = refused(pipeline_function_alias=alias)
    assert f"pipeline_function_alias is '{alias}'" in said


def test_to_keep_no_version_is_refused():
    (said,) = refused(pipeline_function_versions_kept=0)
    assert "at least 1 version must stay" in said


@pytest.mark.parametrize(("setting", "found"), [("rows", 999), ("bytes", 16_777_215), ("bytes", 5 * 2**30 + 1)])
def test_an_outbox_that_is_too_small_or_does_not_fit_on_the_volume_is_refused(setting: str, found: int):
    (said,) = refused(**{f"pipeline_producer_outbox_{setting}": found})
    assert f"pipeline_producer_outbox_{setting} is {found}; " in said


def test_the_smallest_and_the_largest_outbox_are_taken():
    assert refused(pipeline_producer_outbox_rows=1_000, pipeline_producer_outbox_bytes=16_777_216) == []
    assert refused(pipeline_producer_outbox_bytes=5 * 2**30) == []
