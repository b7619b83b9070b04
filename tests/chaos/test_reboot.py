"""The producer's host goes down at once while the queue refuses what it sends: what was taken in arrives after the next boot.

On a guest of the rehearsal; skipped where none can run, and in words why.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from chaos_judge import Verdict
from chaos_report import Report, Row
from chaos_world import put
from plays import ROOT, Pipeline, Run, free_port, supervisorctl, wait_until

GUEST = ROOT / "tests" / "rehearsal" / "guest"
GUESTS = ROOT / ".local" / "guests"
SERVICE, TABLE = "FinancialTransactionProducer-rehearsal", "RealTimeTransactions-rehearsal"
STATE = f"/var/lib/{SERVICE}"
ROW = "host rebooted, without a shutdown"


@dataclass
class Host(Pipeline):
    """A pipeline whose producer is a guest on 127.0.0.1:`ssh_port`."""

    ssh_port: int = 0

    @property
    def guest(self) -> str:
        return f"chaos-{self.ssh_port}"

    def play(self, name: str, *options: str, **settings: Any) -> Run:
        return super().play(name, "-i", "inventories/rehearsal", *options, guest_name=self.guest, guest_port=self.ssh_port, **settings)

    def try_shell(self, script: str) -> subprocess.CompletedProcess[str]:
        known = GUESTS / self.guest / "known_hosts"
        command = [
            "ssh",
            "-q",
            "-i",
            str(GUESTS / "id_ed25519"),
            "-p",
            str(self.ssh_port),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "ConnectTimeout=3",
        ]
        command += ["-o", f"UserKnownHostsFile={known}", "ec2-user@127.0.0.1", "sudo bash -eu"]
        return subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)

    def shell(self, script: str) -> str:
        done = self.try_shell(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def unsent(self) -> set[str]:
        """Ids of what the outbox holds."""
        program = "runuser -u financial-producer -- venv-*/bin/python -Es financial_producer.pyz"
        lines = self.shell(f"cd /opt/{SERVICE}; {program} ledger --json --state-directory {STATE}").splitlines()
        return {entry["transaction_id"] for entry in map(json.loads, lines[:-1]) if entry["state"] == "unsent"}

    def reboot(self) -> None:
        # The kernel, and so the id of the boot, is this machine's: the guest's first process is what a boot of it makes anew.
        started = "cut -d' ' -f22 /proc/1/stat"
        before = self.shell(started)
        self.try_shell("systemctl reboot --force --force")  # no service is stopped, no file system is unmounted
        wait_until(lambda: self.try_shell(started).stdout not in ("", before), 120, "a host that came up again")
        wait_until(lambda: self.try_shell(f"systemctl is-active {SERVICE}").stdout == "active\n", 60, "a service that was started at boot")

    def stored(self, ids: set[str]) -> set[str]:
        found: set[str] = set()
        for page in self.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True):
            found |= {item["transaction_id"]["S"] for item in page["Items"]}
        return found & ids


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    missing = subprocess.run([str(GUEST), "check"], capture_output=True, text=True, check=False).stderr.strip()
    if missing:
        pytest.skip(missing)
    settings = {"probe_timeout": 60, "producer_service_rate": 10, "producer_service_linger": 0.2}
    made = Host(tmp_path_factory.mktemp("reboot"), free_port(), settings, ssh_port=free_port())
    try:
        subprocess.run([str(GUEST), "start", made.guest, str(made.ssh_port)], check=True, timeout=600)
        made.play("site").ended_well()
        yield made
    finally:
        subprocess.run([str(GUEST), "stop", made.guest], check=True, timeout=120)
        if (made.directory / "supervisor" / "supervisord.conf").exists():
            supervisorctl(made, "shutdown")
            wait_until(lambda: not made.processes(), 30, f"an end of {made.processes()}")


def lose_power(host: Host) -> tuple[set[str], set[str], float]:
    """What was taken in and could not be sent before, what of it is stored in the end, and seconds from the boot until then."""
    refusing = {"rate": 1.0, "roles": True, "actions": ["sqs:SendMessage"], "kinds": ["closed_before"]}
    put(host, "faults", refusing)
    wait_until(lambda: len(host.unsent()) >= 30, 60, "an outbox with 30 transactions")
    held = host.unsent()
    host.reboot()
    put(host, "faults", {})
    booted = time.monotonic()
    while host.stored(held) != held and time.monotonic() - booted < 40:
        time.sleep(0.5)
    return held, host.stored(held), time.monotonic() - booted


def test_what_was_taken_in_arrives_after_the_next_boot(host: Host, report: Report):
    held, stored, seconds = lose_power(host)
    verdict = Verdict(sent=len(held), stored=len(stored), lost=len(held - stored))
    report.faults.append(Row(ROW, verdict, round(seconds, 1), "", "the outbox is on the disk, written through"))
    assert verdict.harm == 0


def test_it_does_not_when_the_outbox_is_in_memory(host: Host, report: Report):
    host.shell(
        f"systemctl stop {SERVICE}; mount -t tmpfs -o mode=0700 tmpfs {STATE}; chown financial-producer: {STATE}; systemctl start {SERVICE}"
    )
    held, stored, _seconds = lose_power(host)
    verdict = Verdict(sent=len(held), stored=len(stored), lost=len(held - stored))
    report.without[ROW] = verdict.in_words
    assert verdict.harm > 0
