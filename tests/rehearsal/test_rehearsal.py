"""The plays against a systemd host reached over SSH, in the order an operator goes; each test starts where the one before ended."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from guests import GUESTS, HOME, SERVICE, STATE, GuestPipeline, guest_pipeline
from plays import AWS_INVENTORY, ROOT, aws_pipeline, free_port, listings, wait_until

UNIT = f"/etc/systemd/system/{SERVICE}.service"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestPipeline]:
    with guest_pipeline(tmp_path_factory.mktemp("rehearsal"), probe_timeout=30) as made:
        yield made


def journal(rehearsal: GuestPipeline) -> list[dict[str, Any]]:
    """The program's own lines since the guest was booted."""
    lines = rehearsal.shell(f"journalctl --quiet --output=cat --unit={SERVICE}").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_check_mode_works_on_an_empty_host_and_makes_nothing(rehearsal: GuestPipeline):
    rehearsal.play("site", "--tags", "embedded_cloud").ended_well()
    rehearsal.play("site", "--check", "--diff").ended_well()
    assert rehearsal.shell("ls /opt; getent passwd financial-producer || true") == ""


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"guest_port": free_port()}, "Connection refused"),
        ({"ansible_user": "stranger"}, "Permission denied"),
    ],
    ids=["refused", "denied"],
)
def test_a_host_that_lets_nobody_in_is_said_with_what_to_look_at(rehearsal: GuestPipeline, where: dict[str, Any], reason: str):
    run = rehearsal.play("site", "--tags", "producer_service", __producer_instance_connection_seconds=3, **where)
    assert run.status != 0
    said = " ".join(run.output.split())
    assert re.search(f"did not let this machine in within 3 s: .*{reason}.* Expected was a login as", said)
    assert "ansible-playbook site.yml -i inventories/rehearsal" in said


def test_a_full_disk_stops_before_anything_is_changed_on_the_host(rehearsal: GuestPipeline):
    rehearsal.shell("mount -t tmpfs -o size=16m tmpfs /opt")
    run = rehearsal.play("site", "--tags", "producer_service")
    assert run.status != 0
    assert "guest has 16 MiB free on /opt, the service needs 300 MiB. Nothing was changed there." in " ".join(run.output.split())
    assert rehearsal.shell("ls /opt; getent passwd financial-producer || true; umount /opt") == ""


def test_site_deploys(rehearsal: GuestPipeline):
    rehearsal.play("site").ended_well()
    assert rehearsal.shell(f"systemctl is-active {SERVICE}") == "active\n"


def test_a_second_site_changes_nothing_and_one_look_at_the_host_is_enough(rehearsal: GuestPipeline):
    run = rehearsal.play("site").ended_well()
    assert run.totals["changed"] == 0, run.output
    assert "Look at the service and its files" in run.output and "Install the program" not in run.output, run.output


def test_check_mode_says_that_nothing_would_change(rehearsal: GuestPipeline):
    run = rehearsal.play("site", "--check", "--diff").ended_well()
    assert run.totals["changed"] == 0, run.output


def test_verify_passes_and_changes_nothing(rehearsal: GuestPipeline):
    run = rehearsal.play("verify").ended_well()
    assert run.failed_checks == set()
    assert run.totals["changed"] == 0


def test_an_upgrade_in_place_loses_nothing(rehearsal: GuestPipeline):
    before = len(journal(rehearsal))
    old = rehearsal.ledger()[-1]
    # All that is drawn waits for its batch when the stop comes.
    rehearsal.play("site", "--tags", "producer_service", producer_service_rate=5, producer_service_linger=20).ended_well()
    wait_until(lambda: len(journal(rehearsal)) > before, 60, "the program's new start")
    rehearsal.play("site", "--tags", "producer_service").ended_well()

    lines = journal(rehearsal)
    stops = [line for line in lines if line["event"] == "stopped"]
    assert len(stops) == 2
    assert [(line["unsent"], line["reason"]) for line in stops] == [(0, "signal")] * 2
    sent = {one for line in lines if line["event"] == "sent" for one in line["transaction_ids"]}
    table = rehearsal.client("dynamodb").get_paginator("scan")

    def missing() -> set[str]:
        pages = table.paginate(TableName="RealTimeTransactions-rehearsal", ConsistentRead=True)
        return sent - {item["transaction_id"]["S"] for page in pages for item in page["Items"]}

    wait_until(lambda: not missing(), 60, f"all of {len(sent)} in the table")
    *entries, new = rehearsal.ledger()
    assert (new["ledger"], new["first"]) == (old["ledger"], 1) and new["last"] == new["entries"] > old["entries"]
    assert {entry["transaction_id"] for entry in entries} >= sent


@dataclass(frozen=True)
class Sabotage:
    """What root does to the host; the checks that must fail by name; what root undoes because no play does."""

    name: str
    do: str
    caught_as: frozenset[str]
    undo: str = ""


SABOTAGES = [
    Sabotage(
        "service masked",
        f"systemctl stop {SERVICE}; rm {UNIT}; systemctl mask {SERVICE}",
        frozenset({"running", "starts at boot", "unit"}),
    ),
    Sabotage("program altered", f"printf x >>{HOME}/financial_producer.pyz", frozenset({"program"})),
    Sabotage("virtual environment broken", f"rm -r {HOME}/venv-*/lib/python3*/site-packages/botocore", frozenset({"packages"})),
    Sabotage(
        "wrong queue URL",
        # Halted, it stays active and logs nothing: one that goes on is refused by the cloud, and is started again, at a time of its own.
        f"sed -i '/^QUEUE_URL=/s/Queue/Wrong/' {HOME}/settings.env; systemctl restart {SERVICE}; systemctl kill --signal=STOP {SERVICE}",
        frozenset({"settings"}),
    ),
    Sabotage(
        "outbox damaged",
        f"systemctl stop {SERVICE}; cp -a {STATE} {STATE}.whole; head -c 8192 /dev/urandom >{STATE}/outbox.sqlite3",
        frozenset({"running", "outbox is whole"}),
        f"systemctl stop {SERVICE}; rm -r {STATE}; mv {STATE}.whole {STATE}",
    ),
    Sabotage(
        # What sudo runs and what systemd starts from now on sees a clock that is ten minutes slow.
        "clock ten minutes off",
        f"""
        printf 'LD_PRELOAD={FAKETIME}\\nFAKETIME=-10m\\nFAKETIME_DONT_FAKE_MONOTONIC=1\\n' >/etc/clock
        echo 'Defaults env_file=/etc/clock' >/etc/sudoers.d/clock
        systemctl set-environment $(cat /etc/clock); systemctl restart {SERVICE}
        """,
        frozenset({"clock"}),
        f"""
        rm /etc/sudoers.d/clock; systemctl unset-environment LD_PRELOAD FAKETIME FAKETIME_DONT_FAKE_MONOTONIC
        systemctl restart {SERVICE}
        """,
    ),
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name.replace(" ", "-"))
def test_a_sabotage_is_caught_by_name_and_mended(rehearsal: GuestPipeline, sabotage: Sabotage):
    rehearsal.shell(sabotage.do)

    broken = rehearsal.play("verify", "--tags", "producer_service", probe_timeout=6)
    assert broken.status != 0
    assert {f"producer {SERVICE}: {name}" for name in sabotage.caught_as} <= broken.failed_checks, broken.output[-4000:]

    if sabotage.undo:
        rehearsal.shell(sabotage.undo)
    rehearsal.play("site", "--tags", "producer_service").ended_well()
    assert rehearsal.play("verify", "--tags", "producer_service").ended_well().failed_checks == set()


def test_teardown_leaves_nothing_on_the_host_or_in_the_cloud_and_runs_clean_twice(rehearsal: GuestPipeline):
    everything = f"find /etc /opt /home /var/lib /run/systemd/units -iname '*{SERVICE}*' -o -iname '*financial?producer*'"
    assert rehearsal.shell(everything) != ""

    rehearsal.play("teardown", "--skip-tags", "embedded_cloud").ended_well()

    assert {kind: names for kind, names in listings(rehearsal).items() if names} == empty_cloud()
    assert rehearsal.shell(everything) == ""
    assert rehearsal.shell("getent passwd financial-producer || getent group financial-producer || true") == ""
    assert rehearsal.shell(f"systemctl list-units --all --no-legend '{SERVICE}*'") == ""
    again = rehearsal.play("teardown").ended_well()
    assert again.totals["failed"] == 0
    assert not rehearsal.answers()


def test_the_inventory_of_aws_finds_the_host_by_its_tags_and_goes_the_whole_way(
    rehearsal: GuestPipeline, start_cloud: Callable[..., Any], tmp_path: Path
):
    """From an empty account to an empty account. The guest stands where the address of the instance leads."""
    cloud = start_cloud("--guests")
    endpoint = cloud.endpoint
    ssh = "-o StrictHostKeyChecking=accept-new -o HostKeyAlias={{ aws_instance_id }} -o IdentitiesOnly=yes"
    settings = {
        "ansible_host": "127.0.0.1",
        "ansible_port": rehearsal.ssh_port,
        "ansible_ssh_common_args": f"{ssh} -o UserKnownHostsFile={tmp_path}/known_hosts",
        "producer_instance_ssh_sources": ["127.0.0.1/32"],
        "producer_service_rate": 2,
        "producer_service_linger": 1,
        "producer_service_environment": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{endpoint}/_imds/FinancialTransactionProducer/"},
    }
    aws = aws_pipeline(tmp_path, endpoint, cloud.config, **settings)
    let_in(rehearsal, Path(aws.settings["producer_instance_key_file"]))
    empty = listings(aws)

    aws.play("site", *AWS_INVENTORY).ended_well()

    assert rehearsal.shell("systemctl is-active FinancialTransactionProducer") == "active\n"
    assert aws.play("site", *AWS_INVENTORY).ended_well().totals["changed"] == 0
    verified = aws.play("verify", *AWS_INVENTORY).ended_well()
    assert re.search(r"^FinancialTransactionProducer-i-[0-9a-f]+ ", verified.output, re.MULTILINE)
    assert re.search(r"^ *reconciliation +\| pass ", verified.output, re.MULTILINE)

    aws.play("teardown", *AWS_INVENTORY, "-e", "confirm_teardown=default").ended_well()
    assert listings(aws) == empty
    assert rehearsal.shell("ls /opt; getent passwd financial-producer || true") == ""


def let_in(rehearsal: GuestPipeline, key: Path) -> None:
    """Make the key pair that site.yml then finds, and have the host know it, as cloud-init does from the instance's metadata."""
    key.parent.mkdir(mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "FinancialTransactionProducer", "-f", str(key)], check=True)
    rehearsal.shell(f"echo '{key.with_suffix('.pub').read_text().strip()}' >>/home/ec2-user/.ssh/authorized_keys")


def empty_cloud() -> dict[str, list[str]]:
    """What an account has before anything is made in it."""
    return {"security groups": ["default"]}


def test_the_key_pair_is_the_operators_alone():
    assert (GUESTS / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert Path(ROOT / ".gitignore").read_text().splitlines().count("/.local/") == 1
