"""The producer's host goes down at once while the queue refuses what it sends: what was taken in arrives after the next boot.

On a guest of the rehearsal; skipped where none can run, and in words why.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from chaos_judge import Verdict
from chaos_report import Report, Row
from chaos_world import put
from guests import GUEST, SERVICE, STATE, TABLE, GuestPipeline, guest_pipeline
from plays import wait_until

ROW = "host rebooted, without a shutdown"


def unsent(host: GuestPipeline) -> set[str]:
    """Ids of what the outbox holds."""
    return {entry["transaction_id"] for entry in host.ledger()[:-1] if entry["state"] == "unsent"}


def reboot(host: GuestPipeline) -> None:
    # The kernel, and so the id of the boot, is this machine's: the guest's first process is what a boot of it makes anew.
    started = "cut -d' ' -f22 /proc/1/stat"
    before = host.shell(started)
    host.try_shell("systemctl reboot --force --force")  # no service is stopped, no file system is unmounted
    wait_until(lambda: host.try_shell(started).stdout not in ("", before), 120, "a host that came up again")
    wait_until(lambda: host.try_shell(f"systemctl is-active {SERVICE}").stdout == "active\n", 60, "a service that was started at boot")


def stored(host: GuestPipeline, ids: set[str]) -> set[str]:
    found: set[str] = set()
    for page in host.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True):
        found |= {item["transaction_id"]["S"] for item in page["Items"]}
    return found & ids


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestPipeline]:
    missing = subprocess.run([str(GUEST), "check"], capture_output=True, text=True, check=False).stderr.strip()
    if missing:
        pytest.skip(missing)
    settings = {"probe_timeout": 60, "producer_service_rate": 10, "producer_service_linger": 0.2}
    with guest_pipeline(tmp_path_factory.mktemp("reboot"), **settings) as made:
        made.play("site").ended_well()
        yield made


def lose_power(host: GuestPipeline) -> tuple[set[str], set[str], float]:
    """What was taken in and could not be sent before, what of it is stored in the end, and seconds from the boot until then."""
    refusing = {"rate": 1.0, "roles": True, "actions": ["sqs:SendMessage"], "kinds": ["closed_before"]}
    put(host, "faults", refusing)
    wait_until(lambda: len(unsent(host)) >= 30, 60, "an outbox with 30 transactions")
    held = unsent(host)
    reboot(host)
    put(host, "faults", {})
    booted = time.monotonic()
    while stored(host, held) != held and time.monotonic() - booted < 40:
        time.sleep(0.5)
    return held, stored(host, held), time.monotonic() - booted


def test_what_was_taken_in_arrives_after_the_next_boot(host: GuestPipeline, report: Report):
    held, arrived, seconds = lose_power(host)
    verdict = Verdict(sent=len(held), stored=len(arrived), lost=len(held - arrived))
    report.faults.append(Row(ROW, verdict, round(seconds, 1), "", "the outbox is on the disk, written through"))
    assert verdict.harm == 0


def test_it_does_not_when_the_outbox_is_in_memory(host: GuestPipeline, report: Report):
    host.shell(
        f"systemctl stop {SERVICE}; mount -t tmpfs -o mode=0700 tmpfs {STATE}; chown financial-producer: {STATE}; systemctl start {SERVICE}"
    )
    held, arrived, _seconds = lose_power(host)
    verdict = Verdict(sent=len(held), stored=len(arrived), lost=len(held - arrived))
    report.without[ROW] = verdict.in_words
    assert verdict.harm > 0
