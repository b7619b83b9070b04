"""Each way of breaking the pipeline is caught by verify.yml by name, and mended by site.yml."""

from __future__ import annotations

import io
import json
import os
import signal
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from plays import ACCOUNT, REGION, ROOT, Pipeline, supervisorctl, wait_until

FUNCTION = "ProcessFinancialStream"
QUEUE = "FinancialTransactionQueue"
TABLE = "RealTimeTransactions"
PROCESSOR_ROLE = "Lambda-SQS-DynamoDB-Role"
PRODUCER = "FinancialTransactionProducer"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}"
LOG_GROUP = f"/aws/lambda/{FUNCTION}"


def mapping_id(pipeline: Pipeline) -> str:
    (mapping,) = pipeline.client("lambda").list_event_source_mappings(EventSourceArn=QUEUE_ARN)["EventSourceMappings"]
    return mapping["UUID"]


def delete_mapping(pipeline: Pipeline) -> None:
    pipeline.client("lambda").delete_event_source_mapping(UUID=mapping_id(pipeline))


def change_mapping(pipeline: Pipeline, **changes: object) -> None:
    """Change it once Lambda has done what it was told before."""
    client, uuid = pipeline.client("lambda"), mapping_id(pipeline)
    wait_until(lambda: client.get_event_source_mapping(UUID=uuid)["State"] in ("Enabled", "Disabled"), 10, "a mapping at rest")
    client.update_event_source_mapping(UUID=uuid, **changes)


def disable_mapping(pipeline: Pipeline) -> None:
    change_mapping(pipeline, Enabled=False)


def add_second_mapping(pipeline: Pipeline) -> None:
    """By another alias: Lambda refuses another mapping of the same queue and the same function."""
    client = pipeline.client("lambda")
    client.create_alias(FunctionName=FUNCTION, Name="second", FunctionVersion="$LATEST")
    client.create_event_source_mapping(FunctionName=f"{FUNCTION}:second", EventSourceArn=QUEUE_ARN, BatchSize=1)


def map_to_latest(pipeline: Pipeline) -> None:
    change_mapping(pipeline, FunctionName=FUNCTION)


def edit_latest(pipeline: Pipeline) -> None:
    pipeline.client("lambda").update_function_configuration(FunctionName=FUNCTION, MemorySize=512)


def share_the_alias(pipeline: Pipeline) -> None:
    """With a version that does the same, which somebody published."""
    client = pipeline.client("lambda")
    client.update_function_configuration(FunctionName=FUNCTION, Description="somebody's")
    wait_until(lambda: client.get_function_configuration(FunctionName=FUNCTION)["LastUpdateStatus"] == "Successful", 10, "an end")
    version = client.publish_version(FunctionName=FUNCTION)["Version"]
    client.update_alias(FunctionName=FUNCTION, Name="live", RoutingConfig={"AdditionalVersionWeights": {version: 0.5}})


def add_filter(pipeline: Pipeline) -> None:
    criteria = {"Filters": [{"Pattern": json.dumps({"body": {"currency": ["NONE"]}})}]}
    change_mapping(pipeline, FilterCriteria=criteria)


def remove_partial_batch_responses(pipeline: Pipeline) -> None:
    change_mapping(pipeline, FunctionResponseTypes=[])


def remove_dynamodb_permission(pipeline: Pipeline) -> None:
    iam, arn = pipeline.client("iam"), f"arn:aws:iam::{ACCOUNT}:policy/{PROCESSOR_ROLE}"
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    document["Statement"] = [statement for statement in document["Statement"] if "dynamodb" not in json.dumps(statement)]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True)


def add_inline_policy(pipeline: Pipeline) -> None:
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::any/*"}]}
    pipeline.client("iam").put_role_policy(RoleName=PROCESSOR_ROLE, PolicyName="extra", PolicyDocument=json.dumps(document))


def open_port(pipeline: Pipeline) -> None:
    rule = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    pipeline.client("ec2").authorize_security_group_ingress(GroupName=PRODUCER, IpPermissions=[rule])


def deploy_code(pipeline: Pipeline, old: str, new: str) -> None:
    """Have the function's code live, by hand, with one thing changed."""
    package, changed = io.BytesIO(), False
    with zipfile.ZipFile(package, "w") as archive:
        for source in sorted((ROOT / "lambda_src").glob("*.py")):
            text = source.read_text()
            changed = changed or old in text
            archive.writestr(source.name, text.replace(old, new))
    assert changed, f"nothing in lambda_src says {old!r} any more"
    client = pipeline.client("lambda")
    version = client.update_function_code(FunctionName=FUNCTION, ZipFile=package.getvalue(), Publish=True)["Version"]
    client.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=version)


def delete_log_group(pipeline: Pipeline) -> None:
    pipeline.client("logs").delete_log_group(logGroupName=LOG_GROUP)


def stop_producer(pipeline: Pipeline) -> None:
    assert "stopped" in supervisorctl(pipeline, "stop", PRODUCER)


def remove_redrive_policy(pipeline: Pipeline) -> None:
    pipeline.client("sqs").set_queue_attributes(QueueUrl=pipeline.queue_url(), Attributes={"RedrivePolicy": ""})


def delete_table(pipeline: Pipeline) -> None:
    pipeline.client("dynamodb").delete_table(TableName=TABLE)


@dataclass(frozen=True)
class Sabotage:
    """How to break something; the checks that must fail by name; the role whose tag mends it."""

    name: str
    do: Callable[[Pipeline], None]
    caught_as: tuple[str, ...]
    mended_by: str


def miscategorise(pipeline: Pipeline) -> None:
    deploy_code(pipeline, *MISCATEGORISING)


def round_money(pipeline: Pipeline) -> None:
    deploy_code(pipeline, *ROUNDING)


# What the code says, and what it is changed to say.
MISCATEGORISING = ("if amount >= self.high_value", "if amount > self.high_value")
ROUNDING = ('return {"N": plain_number(value, top)}', 'return {"N": str(round(float(plain_number(value, top)), 1))}')

SABOTAGES = [
    Sabotage("mapping deleted", delete_mapping, (f"mapping {FUNCTION}: exists",), "stream_processor"),
    Sabotage("mapping disabled", disable_mapping, (f"mapping {FUNCTION}: state",), "stream_processor"),
    Sabotage("second mapping", add_second_mapping, (f"mapping {FUNCTION}: count",), "stream_processor"),
    Sabotage("mapping to $LATEST", map_to_latest, (f"mapping {FUNCTION}: function_arn",), "stream_processor"),
    Sabotage("$LATEST edited", edit_latest, (f"alias {FUNCTION}:live: latest_differs_in",), "stream_processor"),
    Sabotage("alias shared", share_the_alias, (f"alias {FUNCTION}:live: weights",), "stream_processor"),
    Sabotage("filter added", add_filter, (f"mapping {FUNCTION}: filters",), "stream_processor"),
    Sabotage(
        "ReportBatchItemFailures removed",
        remove_partial_batch_responses,
        (f"mapping {FUNCTION}: function_response_types",),
        "stream_processor",
    ),
    Sabotage(
        "dynamodb permission removed",
        remove_dynamodb_permission,
        (f"policy {PROCESSOR_ROLE}: document", "probe: its transactions are stored"),
        "iam_roles",
    ),
    Sabotage(
        "function miscategorises a boundary",
        miscategorise,
        (f"alias {FUNCTION}:live: checked", f"function {FUNCTION}: code_sha256", "probe: boundary 10000.00 is high_value"),
        "stream_processor",
    ),
    Sabotage(
        "function rounds money",
        round_money,
        (f"alias {FUNCTION}:live: checked", f"function {FUNCTION}: code_sha256", "probe: cents are stored exactly"),
        "stream_processor",
    ),
    Sabotage("log group missing", delete_log_group, (f"log group {LOG_GROUP}: exists",), "stream_processor"),
    Sabotage("producer stopped", stop_producer, (f"producer {PRODUCER}: running",), "producer_service"),
    Sabotage("redrive policy removed", remove_redrive_policy, (f"queue {QUEUE}: redrive_policy",), "transaction_queue"),
    Sabotage("table missing", delete_table, (f"table {TABLE}: exists", "probe: its transactions are stored"), "transaction_table"),
    Sabotage("extra ingress rule", open_port, (f"security group {PRODUCER}: ingress",), "producer_instance"),
]


@pytest.fixture(scope="module")
def deployed(pipeline: Pipeline) -> Pipeline:
    # A failed batch is hidden for six times the function's timeout: short here, so that it is soon tried again.
    pipeline.settings |= {
        "pipeline_verify_timeout": 5,
        # What site.yml releases is to be judged, and not how busy this machine is.
        "stream_processor_probe_timeout": 30,
        "pipeline_function_timeout": 15,
        "pipeline_batching_window": 0,
        "pipeline_queue_maximum_receives": 200,
    }
    pipeline.play("site").ended_well()
    pipeline.play("verify").ended_well()
    return pipeline


# Two or three at a time where they touch different resources or properties; the ones that stop the whole flow first, so that what they
# left in the queue, hidden for a visibility timeout, has been tried again when the last test looks.
TOGETHER = [
    ("dynamodb permission removed", "extra ingress rule", "mapping to $LATEST"),
    ("table missing", "redrive policy removed"),
    ("mapping deleted", "log group missing", "alias shared"),
    ("mapping disabled", "filter added", "producer stopped", "$LATEST edited"),
    ("second mapping", "function rounds money"),
    ("ReportBatchItemFailures removed", "function miscategorises a boundary"),
]


def test_every_sabotage_is_tried():
    assert sorted(name for names in TOGETHER for name in names) == sorted(sabotage.name for sabotage in SABOTAGES)


@pytest.mark.parametrize("names", TOGETHER, ids=lambda names: "-and-".join(names).replace(" ", "-"))
def test_verify_names_each_and_nothing_else_and_site_mends_it(deployed: Pipeline, names: tuple[str, ...]):
    """What is not mended fails the next one, which would name it too."""
    sabotages = [sabotage for sabotage in SABOTAGES if sabotage.name in names]
    for sabotage in sabotages:
        sabotage.do(deployed)

    found = deployed.play("verify")
    mended = deployed.play("site", "--tags", ",".join(sabotage.mended_by for sabotage in sabotages))

    assert found.status != 0, f"verify.yml passed with: {names}"
    message = " ".join(found.output.split())
    wanted = [check for sabotage in sabotages for check in sabotage.caught_as]
    for check in wanted:
        assert f"{check}: expected" in message, found.output[-8000:]
    assert resources(found.failed_checks) == resources(wanted)
    mended.ended_well()


def resources(checks: Iterable[str]) -> set[str]:
    """What the checks are about, without those that look at what comes out at the end and so may fail whatever is broken."""
    return {check.rpartition(": ")[0] for check in checks if not check.startswith(("probe: ", "producer: ", "reconciliation: "))}


def test_an_extra_inline_policy_is_named_with_what_to_do(deployed: Pipeline):
    """site.yml does not remove what it did not make: deleting somebody's policy is the operator's decision."""
    add_inline_policy(deployed)
    found = deployed.play("verify", "--tags", "iam_roles")
    deployed.client("iam").delete_role_policy(RoleName=PROCESSOR_ROLE, PolicyName="extra")
    assert found.status != 0
    assert f"role {PROCESSOR_ROLE}: inline_policies: expected" in " ".join(found.output.split())


def test_a_service_that_runs_and_sends_nothing_is_named_beside_the_other_checks(deployed: Pipeline):
    pid, log = int(supervisorctl(deployed, "pid", PRODUCER)), deployed.directory / PRODUCER / f"{PRODUCER}.log"
    os.kill(pid, signal.SIGSTOP)
    try:
        os.truncate(log, 0)
        found = deployed.play("verify", "--tags", "producer_service", pipeline_verify_timeout=3)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert found.failed_checks == {"producer: the ids it logged are in the table"}
    assert "5 properties" in found.output, "the other checks of the service are gone"
    assert "Action failed" not in found.output, "a task ran out of tries"


def test_all_is_well_after_all_was_mended(deployed: Pipeline):
    assert deployed.play("site").ended_well().totals["changed"] == 0
    wait_until(lambda: no_probe_records(deployed), 90, "an end of the records that broken runs left in the queue")
    # What a function stored that rounds, and what went with the table, is put right from the ledger.
    deployed.play("reconcile", reconcile_repair_altered=True, reconcile_resend_lost=True).ended_well()
    assert deployed.play("verify").ended_well().failed_checks == set()


def no_probe_records(pipeline: Pipeline) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = pipeline.client("sqs").get_queue_attributes(QueueUrl=pipeline.queue_url(), AttributeNames=names)["Attributes"]
    return sum(int(count) for count in counts.values()) < 20


def test_a_package_is_the_same_to_the_byte_wherever_it_is_built(deployed: Pipeline, tmp_path: Path):
    built = (ROOT / ".local" / "build" / f"{FUNCTION}.zip").read_bytes()
    deployed.play("site", "--tags", "stream_processor", pipeline_build_directory=str(tmp_path)).ended_well()
    assert (tmp_path / f"{FUNCTION}.zip").read_bytes() == built
