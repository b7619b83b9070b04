"""verify.yml names each way of breaking the pipeline, and site.yml repairs it."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from drifts import empty_package, is_accepted, make_role
from plays import ACCOUNT, REGION, ROOT, Pipeline, supervisorctl, wait_until

FUNCTION = "ProcessFinancialStream"
QUEUE = "FinancialTransactionQueue"
TABLE = "RealTimeTransactions"
PROCESSOR_ROLE, PRODUCER_ROLE = "Lambda-SQS-DynamoDB-Role", "EC2-SQS-Role"
PRODUCER = "FinancialTransactionProducer"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}"
LOG_GROUP = f"/aws/lambda/{FUNCTION}"


def mapping_id(pipeline: Pipeline) -> str:
    (mapping,) = pipeline.client("lambda").list_event_source_mappings(EventSourceArn=QUEUE_ARN)["EventSourceMappings"]
    return mapping["UUID"]


def delete_mapping(pipeline: Pipeline) -> None:
    pipeline.client("lambda").delete_event_source_mapping(UUID=mapping_id(pipeline))


def change_mapping(pipeline: Pipeline, **changes: object) -> None:
    """Wait until Lambda has finished the last change, and make another one."""
    client, uuid = pipeline.client("lambda"), mapping_id(pipeline)
    wait_until(lambda: client.get_event_source_mapping(UUID=uuid)["State"] in ("Enabled", "Disabled"), 10, "a mapping at rest")
    client.update_event_source_mapping(UUID=uuid, **changes)


def disable_mapping(pipeline: Pipeline) -> None:
    change_mapping(pipeline, Enabled=False)


def add_second_mapping(pipeline: Pipeline) -> None:
    """With another alias, because Lambda refuses a second mapping of the same queue and function."""
    client = pipeline.client("lambda")
    client.create_alias(FunctionName=FUNCTION, Name="second", FunctionVersion="$LATEST")
    client.create_event_source_mapping(FunctionName=f"{FUNCTION}:second", EventSourceArn=QUEUE_ARN, BatchSize=1)


def map_to_latest(pipeline: Pipeline) -> None:
    change_mapping(pipeline, FunctionName=FUNCTION)


def edit_latest(pipeline: Pipeline) -> None:
    pipeline.client("lambda").update_function_configuration(FunctionName=FUNCTION, MemorySize=512)


def share_the_alias(pipeline: Pipeline) -> None:
    """Share it with another published version that does the same."""
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


def reserve_nothing(pipeline: Pipeline) -> None:
    pipeline.client("lambda").put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)


def delete_role(pipeline: Pipeline) -> None:
    iam = pipeline.client("iam")
    iam.detach_role_policy(RoleName=PROCESSOR_ROLE, PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/{PROCESSOR_ROLE}")
    iam.delete_role(RoleName=PROCESSOR_ROLE)


def recreate_role(pipeline: Pipeline) -> None:
    """All is as before except its id."""
    iam, arn = pipeline.client("iam"), f"arn:aws:iam::{ACCOUNT}:policy/{PROCESSOR_ROLE}"
    was = iam.get_role(RoleName=PROCESSOR_ROLE)["Role"]
    delete_role(pipeline)
    kept = {name: was[name] for name in ("RoleName", "Path", "Description", "MaxSessionDuration", "Tags")}
    iam.create_role(AssumeRolePolicyDocument=json.dumps(was["AssumeRolePolicyDocument"]), **kept)
    iam.attach_role_policy(RoleName=PROCESSOR_ROLE, PolicyArn=arn)


def recreate_profile(pipeline: Pipeline) -> None:
    """All is as before except its id."""
    iam = pipeline.client("iam")
    was = iam.get_instance_profile(InstanceProfileName=PRODUCER_ROLE)["InstanceProfile"]
    iam.remove_role_from_instance_profile(InstanceProfileName=PRODUCER_ROLE, RoleName=PRODUCER_ROLE)
    iam.delete_instance_profile(InstanceProfileName=PRODUCER_ROLE)
    iam.create_instance_profile(InstanceProfileName=PRODUCER_ROLE, Path=was["Path"], Tags=was["Tags"])
    iam.add_role_to_instance_profile(InstanceProfileName=PRODUCER_ROLE, RoleName=PRODUCER_ROLE)


def open_port(pipeline: Pipeline) -> None:
    rule = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    pipeline.client("ec2").authorize_security_group_ingress(GroupName=PRODUCER, IpPermissions=[rule])


def deploy_code(pipeline: Pipeline, changes: dict[str, str]) -> None:
    """Make the function's code live, by hand, with each key of `changes` replaced by its value."""
    package, missing = io.BytesIO(), set(changes)
    with zipfile.ZipFile(package, "w") as archive:
        for source in sorted((ROOT / "lambda_src").glob("*.py")):
            text = source.read_text()
            missing -= {old for old in changes if old in text}
            for old, new in changes.items():
                text = text.replace(old, new)
            archive.writestr(source.name, text)
    assert not missing, f"nothing in lambda_src says {missing} any more"
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
    """How to break it; the checks that must fail, the cause first; the tag that repairs it; whether it stops every transaction."""

    name: str
    do: Callable[[Pipeline], None]
    caught_as: tuple[str, ...]
    mended_by: str
    stops_all: bool = False


def falsify(pipeline: Pipeline) -> None:
    """The boundary of a category is off, and money is rounded: two checks of the probe, one for each."""
    deploy_code(
        pipeline,
        {
            "if amount >= self.high_value": "if amount > self.high_value",
            'return {"N": plain_number(value, top)}': 'return {"N": str(round(float(plain_number(value, top)), 1))}',
        },
    )


SABOTAGES = [
    Sabotage("mapping deleted", delete_mapping, (f"mapping {FUNCTION}: exists",), "stream_processor", True),
    Sabotage("mapping disabled", disable_mapping, (f"mapping {FUNCTION}: state",), "stream_processor", True),
    Sabotage("concurrency 0", reserve_nothing, (f"function {FUNCTION}: reserved_concurrency",), "stream_processor", True),
    # site.yml makes another role, so the function is made again for it.
    Sabotage(
        "role gone",
        delete_role,
        (f"role {PROCESSOR_ROLE}: exists", f"function {FUNCTION}: role_id"),
        "iam_roles,stream_processor",
        True,
    ),
    Sabotage("role made again", recreate_role, (f"function {FUNCTION}: role_id",), "stream_processor"),
    Sabotage("profile made again", recreate_profile, (f"instance {PRODUCER}: instance_profile_id",), "producer_instance"),
    Sabotage("second mapping", add_second_mapping, (f"mapping {FUNCTION}: count",), "stream_processor"),
    Sabotage("mapping to $LATEST", map_to_latest, (f"mapping {FUNCTION}: function_arn",), "stream_processor"),
    Sabotage("$LATEST edited", edit_latest, (f"alias {FUNCTION}:live: latest_differs_in",), "stream_processor"),
    Sabotage("alias shared", share_the_alias, (f"alias {FUNCTION}:live: weights",), "stream_processor"),
    Sabotage("filter added", add_filter, (f"mapping {FUNCTION}: filters",), "stream_processor", True),
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
        True,
    ),
    Sabotage(
        "function miscategorises a boundary and rounds money",
        falsify,
        (
            f"alias {FUNCTION}:live: checked",
            f"function {FUNCTION}: code_sha256",
            "probe: boundary 10000.00 is high_value",
            "probe: cents are stored exactly",
        ),
        "stream_processor",
    ),
    Sabotage("log group missing", delete_log_group, (f"log group {LOG_GROUP}: exists",), "stream_processor"),
    Sabotage("producer stopped", stop_producer, (f"producer {PRODUCER}: running",), "producer_service"),
    Sabotage("redrive policy removed", remove_redrive_policy, (f"queue {QUEUE}: redrive_policy",), "transaction_queue"),
    Sabotage("table missing", delete_table, (f"table {TABLE}: exists", "probe: its transactions are stored"), "transaction_table", True),
    Sabotage("extra ingress rule", open_port, (f"security group {PRODUCER}: ingress",), "producer_instance"),
]


@pytest.fixture
def deployed(deployed_pipeline: Pipeline) -> Pipeline:
    return deployed_pipeline


# As many at a time as touch different resources or properties, so that verify.yml and site.yml run once for all of them. The ones that stop
# the whole flow come first: what they left in the queue is hidden for a visibility timeout, and is tried again before the last test looks.
TOGETHER = [
    (
        *("dynamodb permission removed", "mapping to $LATEST", "alias shared", "log group missing"),
        *("extra ingress rule", "profile made again"),
    ),
    ("table missing", "mapping disabled", "filter added", "concurrency 0", "$LATEST edited", "producer stopped"),
    ("mapping deleted", "role made again", "redrive policy removed"),
    ("role gone",),
    # In this order: what changes the mapping expects that there is one.
    ("function miscategorises a boundary and rounds money", "ReportBatchItemFailures removed", "second mapping"),
]


def test_every_sabotage_is_tried():
    assert sorted(name for names in TOGETHER for name in names) == sorted(sabotage.name for sabotage in SABOTAGES)


@pytest.mark.parametrize("names", TOGETHER, ids=lambda names: "-and-".join(names).replace(" ", "-"))
def test_verify_names_each_and_nothing_else_and_site_mends_it(deployed: Pipeline, names: tuple[str, ...]):
    """If something is not repaired, the next test fails, because verify.yml names it there too."""
    by_name = {sabotage.name: sabotage for sabotage in SABOTAGES}
    sabotages = [by_name[name] for name in names]
    for sabotage in sabotages:
        sabotage.do(deployed)

    found = deployed.play("verify")
    mended = deployed.play("site", "--tags", ",".join(sabotage.mended_by for sabotage in sabotages))

    assert found.status != 0, f"verify.yml passed with: {names}"
    message = found.message
    wanted = [check for sabotage in sabotages for check in sabotage.caught_as]
    for check in wanted:
        assert f"{check}: expected" in message, found.output[-8000:]
    assert resources(found.failed_checks) == resources(wanted)
    causes = [sabotage.caught_as[0] for sabotage in sabotages if sabotage.stops_all]
    if causes:
        assert found.first_failed_check in causes
        (reason,) = set(re.findall(r"probe: its transactions are stored: expected .*?, found not tried: (.*?); what to do: ", message))
        assert set(causes) == set(reason.split("; "))
        assert "Send known transactions through the pipeline" not in message, "it was waited for"
    mended.ended_well()


def resources(checks: Iterable[str]) -> set[str]:
    """The resources of the checks, without the end-to-end checks, which may fail whatever is broken."""
    return {check.rpartition(": ")[0] for check in checks if not check.startswith(("probe: ", "producer: ", "reconciliation: "))}


def test_site_fails_where_it_cannot_repair_and_names_the_command_that_does(deployed: Pipeline):
    """Another function reads our queue, a volume has another type, the log group another class, and the alias points to $LATEST."""
    functions, logs, tags = deployed.client("lambda"), deployed.client("logs"), ("--tags", "stream_processor,producer_instance")
    other = {
        "FunctionName": "other",
        "Runtime": "python3.13",
        "Handler": "lambda_function.lambda_handler",
        "Role": make_role(deployed, "other"),
    }
    mapping = {"FunctionName": "other", "EventSourceArn": QUEUE_ARN, "BatchSize": 1, "Enabled": False}
    wait_until(lambda: is_accepted(functions.create_function, Code={"ZipFile": empty_package()}, **other), 60, "a role that Lambda knows")
    wait_until(lambda: is_accepted(functions.create_event_source_mapping, **mapping), 60, "its permission to read the queue")
    functions.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="$LATEST")
    for volume in deployed.client("ec2").describe_volumes()["Volumes"]:
        deployed.client("ec2").modify_volume(VolumeId=volume["VolumeId"], VolumeType="gp2")
    logs.delete_log_group(logGroupName=LOG_GROUP)
    logs.create_log_group(logGroupName=LOG_GROUP, logGroupClass="INFREQUENT_ACCESS")

    found, refused = deployed.play("verify", *tags), deployed.play("site", *tags)
    for command in set(re.findall(r"\S+ aws [a-z0-9]+ [a-z-]+(?: --[a-z-]+ [^\s;]+)+", found.message)):
        run_aws(command)
    mended, verified = deployed.play("site", *tags), deployed.play("verify", *tags)
    functions.delete_function(FunctionName="other")

    wanted = {f"mapping {FUNCTION}: count", f"instance {PRODUCER}: root_volume_type", f"log group {LOG_GROUP}: log_group_class"}
    assert wanted | {f"alias {FUNCTION}:live: published"} <= found.failed_checks
    assert refused.status != 0, "in sync, while something differs"
    assert f"mapping {FUNCTION}: count: expected 1, found 2; what to do: " in refused.message
    mended.ended_well()
    verified.ended_well()


def run_aws(command: str) -> None:
    """Run a command of the AWS CLI, as it is printed, with the SDK. Its other options are parameters, spelled as in the shell."""
    file, _, service, operation, *words = shlex.split(command)
    options = dict(zip(words[::2], words[1::2], strict=True))
    session = botocore.session.Session(profile=options.pop("--profile"))
    session.set_config_variable("config_file", file.removeprefix("AWS_CONFIG_FILE="))
    client = session.create_client(service, options.pop("--region"), endpoint_url=options.pop("--endpoint-url"))
    method = operation.replace("-", "_")
    parameters = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method]).input_shape.members
    spelled = {f"--{xform_name(name, '-')}": name for name in parameters}
    getattr(client, method)(**{spelled[option]: value for option, value in options.items()})


def newest_sent(pipeline: Pipeline) -> float:
    """Seconds since the producer last sent something."""
    state = next(pipeline.directory.rglob("outbox.sqlite3")).parent
    told = pipeline.run("python", str(ROOT / "producer_src"), "outbox", "--json", "--state-directory", str(state))
    return json.loads(told.ended_well().output)["newest_sent_seconds"]


def test_a_service_that_runs_and_sends_nothing_is_named_beside_the_other_checks(deployed: Pipeline):
    pid, soon = int(supervisorctl(deployed, "pid", PRODUCER)), {"producer_service_rate": 100}
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: newest_sent(deployed) > 12, 60, "a pause that is too long for a hundred a second")
        found = deployed.play("verify", "--tags", "producer_service", probe_timeout=3, **soon)
        quiet = deployed.play("verify", "--tags", "producer_service", producer_service_feed="/a/feed", **soon)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert found.failed_checks == {f"producer {PRODUCER}: sends"}
    quiet.ended_well()
    assert re.search(rf"producer {PRODUCER} +\| pass +\| \d+ checks", found.output), "the other checks of the service are gone"
    assert "Action failed" not in found.output, "a task ran out of tries"


def test_a_paused_producer_is_resumed_if_its_ledger_and_the_reconciliation_fail(deployed: Pipeline, tmp_path: Path):
    taken = tmp_path / "a-file"
    taken.write_text("")
    directories = {"producer_service_ledger_directory": str(taken), "reconciliation_directory": str(taken)}
    found = deployed.play("reconcile", reconcile_pause_producers=True, **directories)
    assert found.failed_checks == {"reconciliation: it could be made"}
    assert "RUNNING" in supervisorctl(deployed, "status", PRODUCER)


def test_verify_passes_after_all_repairs(deployed: Pipeline):
    wait_until(lambda: no_probe_records(deployed), 90, "an end of the records that broken runs left in the queue")
    # The rounded amounts and the deleted items are restored from the ledger.
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
