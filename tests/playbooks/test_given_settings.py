"""Every setting is given to the real plays as text with -e. Text means the same as the typed value; a bad value changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from plays import ROOT, Pipeline, Run, confirm_alarm_address, listings

SPECIFIED = [
    item
    for file in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml"))
    for entry in yaml.safe_load(file.read_text())["argument_specs"].values()
    for item in entry.get("options", {}).items()
]
DERIVED = {name for name, spec in SPECIFIED if spec.get("derived")}
# What teardown.yml, reconcile.yml, quarantine.yml and rollback.yml do is no setting, nor is a role's state.
SWITCHES = "(confirm|discard|reconcile|rollback)_.*|quarantine_(action|confirm|reason|id|since|until|limit|repair)|.*_state"
SETTINGS = sorted(name for name in {name for name, _ in SPECIFIED} - DERIVED if not re.fullmatch(SWITCHES, name))
# These differ from the inventory's values, so that a setting which is ignored shows.
OTHERS = {
    "pipeline_tags": {"CostCenter": 4711, "Prod": True},
    "stream_processor_high_value_threshold": 20000.5,
    "stream_processor_medium_value_threshold": 2000,
    "transaction_table_read_capacity": 30,
    "transaction_table_write_capacity": 31,
    "transaction_queue_maximum_message_size": 131072,
    "transaction_queue_retention": 1209600,
    "transaction_queue_maximum_receives": 22,
    "transaction_queue_dead_letter_retention": 604800,
    "stream_processor_memory": 512,
    "stream_processor_timeout": 60,
    "stream_processor_versions_kept": 3,
    "stream_processor_read_units": 100,
    "stream_processor_log_retention_days": 14,
    "stream_processor_batch_size": 9,
    "stream_processor_batching_window": 4,
    "stream_processor_maximum_concurrency": 4,
    "producer_instance_volume_size": 9,
    "producer_service_rate": 3.5,
    "producer_service_linger": 0.5,
    "producer_service_outbox_rows": 10000,
    "producer_service_outbox_bytes": 33554432,
    "producer_instance_ssh_sources": ["127.0.0.1/32", "203.0.113.7/32"],
    "observability_message_age": 600,
    "observability_in_flight": 40,
    "observability_email": "me@example.com",
    "transaction_queue_settle_seconds": 1,
    "probe_log_timeout": 9,
    "observability_no_traffic": 600,
    "probe_timeout": 120,
    "teardown_needs_confirmation": True,
    "reconciliation_settle_seconds": 1,
    "reconciliation_timeout": 50,
    "reconciliation_verify_timeout": 9,
    "reconciliation_read_rate": 1000,
    "reconciliation_quarantine_age": 86400,
    "quarantine_rate": 10.5,
    "quarantine_timeout": 60,
    "quarantine_samples": 2,
    "teardown_drain_timeout": 60,
}


def typed(pipeline: Pipeline) -> dict[str, Any]:
    """Every setting with its value from OTHERS or from the inventory."""
    loader, variables = (
        DataLoader(),
        {"inventory_dir": str(ROOT / "inventories" / "local"), "embedded_cloud_directory": str(pipeline.directory)},
    )
    for file in sorted((ROOT / "inventories" / "local" / "group_vars" / "all").iterdir()):
        variables |= loader.load_from_file(str(file), trusted_as_template=True)
    variables |= OTHERS | {"embedded_cloud_port": pipeline.port, "embedded_cloud_directory": str(pipeline.directory)}
    variables["teardown_export_directory"] = str(pipeline.directory / "exports")
    templar = Templar(loader=loader, variables=variables)
    return {name: templar.template(variables[name]) for name in SETTINGS if name in variables}  # the rest belongs to other inventories


def as_text(settings: dict[str, Any]) -> list[str]:
    """The same settings as words of a command: -e name=text."""
    words: list[str] = []
    for name, value in settings.items():
        text = value if isinstance(value, str) else "" if value is None else json.dumps(value, separators=(",", ":"))
        quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        words += ["-e", f"{name}={quoted if ' ' in text else text}"]
    return words


@pytest.fixture(scope="module")
def values(pipeline: Pipeline) -> dict[str, Any]:
    return typed(pipeline)


@pytest.fixture(scope="module")
def deployed(pipeline: Pipeline, values: dict[str, Any]) -> Iterator[Pipeline]:
    """The pipeline, deployed with each setting given as text."""
    pipeline.settings = {}
    pipeline.play("site", *as_text(values)).ended_well()
    confirm_alarm_address(pipeline)
    yield pipeline


def said(run: Run) -> str:
    return " ".join(run.output.split())


def test_every_setting_of_the_file_is_among_those_that_are_given(values: dict[str, Any]):
    shared = yaml.safe_load((ROOT / "inventories" / "shared" / "settings.yml").read_text())
    assert set(shared) - DERIVED <= set(values)


def test_the_typed_values_change_nothing_where_the_same_was_given_as_text(deployed: Pipeline, values: dict[str, Any]):
    run = deployed.play("site", **values).ended_well()
    assert run.totals["changed"] == 0, run.output
    configuration = deployed.client("lambda").get_function_configuration(FunctionName="ProcessFinancialStream")
    assert (configuration["Timeout"], configuration["Environment"]["Variables"]["HIGH_VALUE_THRESHOLD"]) == (60, "20000.5")
    queue = deployed.client("sqs").list_queue_tags(QueueUrl=deployed.queue_url())["Tags"]
    assert queue == {"CostCenter": "4711", "Prod": "true", "Pipeline": "financial-transactions", "Environment": "default"}


def test_verify_takes_each_setting_as_text(deployed: Pipeline, values: dict[str, Any]):
    run = deployed.play("verify", *as_text(values)).ended_well()
    assert (run.failed_checks, run.totals["changed"]) == (set(), 0)


WAYS = {
    "all": ("site",),
    "no-guard": ("site", "--skip-tags", "always"),
    "one-role": ("site", "--tags", "transaction_queue", "--skip-tags", "always"),
    "producers": ("site", "--limit", "producers", "--skip-tags", "always"),
    "later": ("site", "--start-at-task", "Create, update or remove the IAM roles"),
    "check": ("site", "--check"),
    "verify": ("verify", "--skip-tags", "always"),
    "teardown": ("teardown", "--skip-tags", "always"),
    "teardown-one-role": ("teardown", "--tags", "transaction_table"),
    "reconcile": ("reconcile", "--tags", "reconciliation", "--skip-tags", "always"),
    "quarantine": ("quarantine", "--skip-tags", "always"),
    "rollback": ("rollback", "--skip-tags", "always"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_bad_setting_or_an_unknown_name_ends_every_play_before_its_first_task(deployed: Pipeline, way: str):
    before = listings(deployed)
    bad = dict.fromkeys(SETTINGS, "6O\x1b[2J")  # an escape sequence is not a value of any type
    run = deployed.play(*WAYS[way], "-e", "reconcile_resend_los=true", **bad)
    assert run.status != 0
    assert "Nothing was changed" in said(run)
    assert "TASK [" not in run.output
    assert "'reconcile_resend_los' is no setting. Did you mean reconcile_resend_lost?" in said(run)
    assert [name for name in SETTINGS if f"-e: {name} is " not in run.output] == []
    assert listings(deployed) == before


def test_teardown_takes_each_setting_as_text(deployed: Pipeline, values: dict[str, Any]):
    deployed.play("teardown", *as_text(values), "-e", "confirm_teardown=default").ended_well()
    assert not deployed.answers()
