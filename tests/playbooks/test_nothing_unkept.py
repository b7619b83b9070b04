"""Teardown never loses data, however it is called: all that existed still exists, or is in the export of this run.

All ways but the last find everything there at once: stored, quarantined, queued, rejected, unsent, and not read from the feed yet.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plays import ACCOUNT, REGION, ROOT, Pipeline, Run, ended, free_port, listings, supervisorctl, wait_until

# The first test waits for a deployment.
pytestmark = pytest.mark.timeout(600)

SERVICE, TABLE = "FinancialTransactionProducer", "RealTimeTransactions"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:FinancialTransactionQueue"
GATE = "may hold data that was not kept in this run"
HOLDERS = ("producer_service", "producer_instance", "transaction_queue", "transaction_table")


def line(identity: str, amount: int = 1) -> str:
    return json.dumps(
        {"transaction_id": identity, "user_id": f"of-{identity}", "amount": amount, "currency": "EUR", "timestamp": "2026-11-24T10:00:00Z"}
    )


# The feed at the start. Its last line conflicts with its first.
REJECTED = "no json at all"
FEED = [line("a"), line("b"), REJECTED, line("a", 2)]


class Flow:
    """A pipeline that reads a feed, and all the data that it holds."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.feed, self.queued = pipeline, pipeline.directory / "feed.jsonl", list[str]()
        self.state = pipeline.directory / SERVICE / "state"

    def append(self, *lines: str) -> None:
        with self.feed.open("a") as file:
            file.writelines(f"{one}\n" for one in lines)

    def ask(self, *command: str) -> list[dict[str, Any]]:
        """The JSON lines that a command of the producer prints; empty if there is no outbox."""
        if not (self.state / "outbox.sqlite3").exists():
            return []
        program = [sys.executable, "-Es", str(ROOT / "producer_src"), *command]
        done = subprocess.run([*program, "--state-directory", str(self.state)], capture_output=True, text=True, check=True, timeout=60)
        return [json.loads(one) for one in done.stdout.splitlines()]

    def holds(self) -> set[tuple[str, str]]:
        """All the data that exists, as (where, what)."""
        client, found = self.pipeline.client("dynamodb"), listings(self.pipeline)
        here = {("instance", one) for one in found["instances"]}
        if TABLE in found["tables"]:
            items = client.scan(TableName=TABLE, ConsistentRead=True)["Items"]
            here |= {("table", one["transaction_id"]["S"]) for one in items}
        if self.pipeline.queue_url() in found["queues"]:
            here |= {("queue", one) for one in self.queued}
        if self.pipeline.queue_url("-dlq") in found["queues"]:
            here |= {("quarantine", line("a", 2))}
        here |= {("outbox", one["outbox_id"]) for one in self.ask("ledger", "--json") if "outbox_id" in one}
        here |= {("rejected", one["content"]) for one in self.ask("rejected")}
        if self.state.exists():  # the feed is deleted with its host
            here |= {("feed", one) for one in self.feed.read_text().splitlines()}
        return here

    def exports(self) -> list[Path]:
        return sorted((self.pipeline.directory / "exports").glob("*"))


def exported(directory: Path) -> set[tuple[str, str]]:
    """The data of an export, by the same names as Flow.holds."""
    files = {path.name.partition(".")[0].partition("-")[0]: path for path in directory.glob("*.jsonl.gz")}
    records = {name: [json.loads(one) for one in gzip.decompress(path.read_bytes()).splitlines()] for name, path in files.items()}
    stored = [one["Item"]["transaction_id"]["S"] for one in records["table"]]
    entries = [one for one in records.get("ledger", []) if "outbox_id" in one]
    rejected = [one["content"] for one in records.get("rejected", [])]
    return {
        *(("table", one) for one in stored),
        *(("queue", one) for one in stored),
        *(("quarantine", one["body"]) for one in records["quarantine"]),
        *(("outbox", one["outbox_id"]) for one in entries),
        *(("feed", one["body"]) for one in entries),
        *(("rejected", one) for one in rejected),
        *(("feed", one) for one in rejected),
    }


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    directory = tmp_path_factory.mktemp("unkept")
    settings = {
        "producer_service_feed": str(directory / "feed.jsonl"),
        "teardown_drain_timeout": 4,
        "teardown_drain_quiet_seconds": 1,
        "producer_service_drain_seconds": 10,
    }
    made = Flow(Pipeline(directory, free_port(), settings))
    made.append(*FEED)
    made.pipeline.play("site").ended_well()
    quarantined = lambda: counted(made, "-dlq") == 1  # noqa: E731
    wait_until(lambda: {("table", "a"), ("table", "b")} <= made.holds() and quarantined(), 60, "what the feed had")
    yield made
    ended(made.pipeline)


def counted(flow: Flow, suffix: str = "") -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = flow.pipeline.queue_url(suffix)
    return sum(
        int(one) for one in flow.pipeline.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()
    )


def take(flow: Flow, enabled: bool) -> None:
    """Enable or disable the mapping. While it is disabled, no message is hidden for a visibility timeout."""
    functions = flow.pipeline.client("lambda")
    (mapping,) = functions.list_event_source_mappings(EventSourceArn=QUEUE_ARN)["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=enabled)


@pytest.fixture(scope="module")
def full(flow: Flow) -> Flow:
    """With data in every place that can hold some. The last tests remove the obstacles to a teardown, one after the other."""
    sqs = flow.pipeline.client("sqs")
    take(flow, False)
    flow.queued.append("queued")
    sqs.send_message(QueueUrl=flow.pipeline.queue_url(), MessageBody=line("queued"))
    policy = sqs.get_queue_attributes(QueueUrl=flow.pipeline.queue_url(), AttributeNames=["Policy"])["Attributes"]["Policy"]
    document = json.loads(policy)
    refusal = {"Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": document["Statement"][0]["Resource"]}
    refused = json.dumps(document | {"Statement": [*document["Statement"], refusal]})
    sqs.set_queue_attributes(QueueUrl=flow.pipeline.queue_url(), Attributes={"Policy": refused})
    flow.append(line("unsent"))
    wait_until(lambda: flow.ask("outbox", "--json")[0]["unsent"] == 1, 60, "an entry that cannot be sent")
    supervisorctl(flow.pipeline, "stop", SERVICE)
    flow.append(line("unread"))
    return flow


def nothing_is_lost(flow: Flow, run: Run, before: set[tuple[str, str]], exports: list[Path]) -> None:
    kept = set[tuple[str, str]]().union(*(exported(made) for made in flow.exports() if made not in exports))
    gone = before - flow.holds() - kept
    # The data of an instance is its outbox and its feed.
    lost = {one for one in gone if one[0] != "instance" or not kept}
    assert lost == set(), run.output[-6000:]


def alone(role: str, directory: Path) -> str:
    """A playbook that runs only this role, to remove its resources."""
    hosts = "producers" if role == "producer_service" else "operator[0]"
    play = {
        "hosts": hosts,
        "environment": "{{ aws_environment }}",
        "tasks": [{"ansible.builtin.import_role": {"name": role}, "vars": {f"{role}_state": "absent"}}],
    }
    path = directory / f"{role}.yml"
    path.write_text(json.dumps([play]))
    return str(path.with_suffix(""))


STALE = {
    "run": "ansible-local-1234abcdefgh",
    "names": [
        f"table {TABLE}",
        "queue FinancialTransactionQueue",
        "queue FinancialTransactionQueue-dlq",
        f"instances {SERVICE}",
        f"outbox of {SERVICE} on producer",
    ],
}
FORGED_FACTS = {"teardown_receipt": STALE, "teardown_kept": STALE}
# None of this is a valid receipt.
FORGED = ["-i", "inventories/local", "-i", "forged", "-e", "ansible_check_mode=true discard_data=default confirm_teardown=default"]
PATIENT = {"teardown_drain_timeout": 120}
NO_TASK = "No matching task"  # Ansible then runs nothing at all, and says so with status 0
# Each way ends with its sentence.
SHUT: dict[str, tuple[list[str], str]] = {
    "skip-tags-always": (["--skip-tags", "always", *FORGED], GATE),
    "tagged-without-always": (["--tags", "tagged", "--skip-tags", "always"], GATE),
    "limit-producers": (["--limit", "producers"], GATE),
    "limit-operator": (["--limit", "operator"], "producer was not asked"),
    "start-at-a-deletion": (["--start-at-task", "transaction_table : Create, update or remove the table", *FORGED], GATE),
    "start-at-the-export": (["--start-at-task", "Export the ledgers, the table and the quarantine"], NO_TASK),
    "start-at-the-receipt": (["--start-at-task", "Write the receipt of what may be deleted now"], "undefined"),
    "discard-another": (["-e", "discard_data=blue"], "discard_data is 'blue', the environment is default"),
}


@pytest.mark.parametrize(("options", "sentence"), SHUT.values(), ids=SHUT)
def test_a_run_that_skips_the_export_deletes_nothing(full: Flow, options: list[str], sentence: str, tmp_path: Path):
    before, exports = full.holds(), full.exports()
    assert len({where for where, _what in before}) == 7
    # An inventory of one's own, for -e takes neither name.
    forged = tmp_path / "forged.yml"
    forged.write_text(json.dumps({"all": {"hosts": dict.fromkeys(("workstation-1", "workstation-2", "producer"), FORGED_FACTS)}}))

    run = full.pipeline.play("teardown", *(str(forged) if option == "forged" else option for option in options))

    assert (run.status == 0) == (sentence == NO_TASK)
    assert sentence in run.message
    nothing_is_lost(full, run, before, exports)
    assert full.holds() == before


@pytest.mark.parametrize("role", HOLDERS)
def test_a_role_alone_deletes_nothing(full: Flow, role: str, tmp_path: Path):
    before, exports = full.holds(), full.exports()

    run = full.pipeline.play(alone(role, tmp_path), "-i", "inventories/local")

    assert run.status != 0
    assert GATE in run.message
    nothing_is_lost(full, run, before, exports)


def test_site_does_not_delete_by_a_setting(full: Flow):
    before, exports = full.holds(), full.exports()

    run = full.pipeline.play("site", "--tags", "transaction_table", transaction_table_state="absent")

    assert run.status != 0
    assert GATE in run.message
    nothing_is_lost(full, run, before, exports)


def test_a_check_needs_no_receipt_and_deletes_nothing(full: Flow):
    before = full.holds()

    run = full.pipeline.play("teardown", "--check").ended_well()

    assert "changed: [workstation-1]" in run.output
    assert full.holds() == before


# The following tests remove one obstacle after the other, in the order in which teardown.yml meets them.
def test_a_table_with_deletion_protection_is_reported_before_anything_is_deleted(full: Flow):
    before, exports = full.holds(), full.exports()
    dynamodb = full.pipeline.client("dynamodb")
    dynamodb.update_table(TableName=TABLE, DeletionProtectionEnabled=True)

    run = full.pipeline.play("teardown", "--tags", "tagged", "-e", "discard_data=default")

    assert run.status != 0
    assert f"Table {TABLE} has deletion protection" in run.message
    nothing_is_lost(full, run, before, exports)
    assert full.holds() == before
    dynamodb.update_table(TableName=TABLE, DeletionProtectionEnabled=False)


def test_a_security_group_that_is_used_elsewhere_is_reported_before_anything_is_deleted(full: Flow):
    before, ec2 = full.holds(), full.pipeline.client("ec2")
    (ours,) = ec2.describe_security_groups(GroupNames=[SERVICE])["SecurityGroups"]
    other = ec2.create_security_group(GroupName="somebody-elses", Description="refers to ours")["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": ours["GroupId"]}]}
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[rule])

    run = full.pipeline.play("teardown", "--tags", "producer_instance")

    assert run.status != 0
    assert f"Security group {SERVICE} is used by a rule of {other}" in run.message
    assert full.holds() == before
    ec2.delete_security_group(GroupId=other)


def state_of(ec2: Any, instance: str) -> str:
    (found,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
    return found["State"]["Name"]


def test_a_producer_that_does_not_answer_is_stopped_and_ends_the_teardown(full: Flow, tmp_path: Path):
    before, exports = full.holds(), full.exports()
    unreachable = tmp_path / "unreachable.yml"
    become = "ansible_become: true, ansible_become_exe: /nowhere/sudo"  # as on AWS: not for what is done here
    host = f"{{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: {free_port()}, {become}}}"
    unreachable.write_text(f"all: {{hosts: {{producer: {host}}}}}")
    ec2 = full.pipeline.client("ec2")
    (instance,) = listings(full.pipeline)["instances"]
    (group,) = ec2.describe_security_groups(GroupNames=[SERVICE])["SecurityGroups"]
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])

    run = full.pipeline.play("teardown", "-i", "inventories/local", "-i", str(unreachable), "--tags", "producer_service,transaction_table")

    assert run.status != 0
    said = run.message
    assert f"Stopped, so that nothing is sent meanwhile; the disk stays: {instance}" in said
    assert f"aws ec2 start-instances --profile embedded-cloud --region us-east-1 --instance-ids {instance}" in said
    assert state_of(ec2, instance) in ("stopping", "stopped")
    (group,) = ec2.describe_security_groups(GroupNames=[SERVICE])["SecurityGroups"]
    assert [source["CidrIp"] for rule in group["IpPermissions"] for source in rule["IpRanges"]] == ["127.0.0.1/32"]
    nothing_is_lost(full, run, before, exports)
    wait_until(lambda: state_of(ec2, instance) == "stopped", 60, "an end of the instance")
    ec2.start_instances(InstanceIds=[instance])
    wait_until(lambda: state_of(ec2, instance) == "running", 60, "the instance")  # whose role the producer needs


def test_with_unsent_records_nothing_is_deleted(full: Flow):
    before, exports = full.holds(), full.exports()

    run = full.pipeline.play("teardown", "--tags", "transaction_queue")

    assert run.status != 0
    assert "did not send everything in its outbox" in run.message
    nothing_is_lost(full, run, before, exports)
    assert full.holds() == before


def test_with_unread_lines_of_a_feed_nothing_is_deleted(full: Flow):
    sqs, url = full.pipeline.client("sqs"), full.pipeline.queue_url()
    policy = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
    sends = json.dumps(policy | {"Statement": policy["Statement"][:-1]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": sends})
    before, exports = full.holds(), full.exports()

    run = full.pipeline.play("teardown", "--tags", "transaction_table", producer_service_drain_seconds=60)

    assert run.status != 0
    said = run.message
    assert "feed of producer that are not read yet: 1; places of it that were not found again: 0" in said, run.output[-6000:]
    nothing_is_lost(full, run, before, exports)
    assert full.holds() == before


def test_with_messages_that_the_function_does_not_take_nothing_is_deleted(full: Flow):
    supervisorctl(full.pipeline, "start", SERVICE)
    wait_until(lambda: full.ask("outbox", "--json")[0]["feed_unread_lines"] == 0, 60, "an end of the feed")
    before, exports = full.holds(), full.exports()

    run = full.pipeline.play("teardown", "--tags", "producer_instance")

    assert run.status != 0
    assert "after 4 s (teardown_drain_timeout): the function does not take them" in run.message
    nothing_is_lost(full, run, before, exports)
    assert full.holds() == before


def test_a_run_that_starts_after_the_guard_deletes_nothing(full: Flow):
    take(full, True)
    wait_until(lambda: counted(full) == 0, 120, "an empty queue")
    before, exports = full.holds(), full.exports()

    run = full.pipeline.play("teardown", "--start-at-task", "Count what would be destroyed, and check whether it can be", **PATIENT)

    assert run.status != 0
    nothing_is_lost(full, run, before, exports)
    assert full.holds() == before


def test_an_idle_pipeline_is_exported_and_then_removed(full: Flow):
    before, exports = full.holds(), full.exports()
    assert len({where for where, _what in before}) == 7

    run = full.pipeline.play("teardown", "--skip-tags", "probe,reconciliation,embedded_cloud", **PATIENT).ended_well()

    nothing_is_lost(full, run, before, exports)
    assert full.holds() == set()
    (made,) = set(full.exports()) - set(exports)
    assert "rejected lines of producer: 1 in rejected-producer.jsonl.gz" in run.output
    assert before - {one for one in before if one[0] == "instance"} <= exported(made)
