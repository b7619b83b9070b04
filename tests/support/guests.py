"""Pipelines whose producer runs on a guest of this machine, reached over SSH as an instance is (tests/rehearsal/guest)."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plays import ROOT, Pipeline, Run, ended, free_port

GUEST = ROOT / "tests" / "rehearsal" / "guest"
GUESTS = ROOT / ".local" / "guests"
SERVICE, TABLE = "FinancialTransactionProducer-rehearsal", "RealTimeTransactions-rehearsal"
HOME, STATE = f"/opt/{SERVICE}", f"/var/lib/{SERVICE}"


@dataclass
class GuestPipeline(Pipeline):
    """A pipeline whose producer is the guest `guest` on 127.0.0.1:`ssh_port`."""

    guest: str = ""
    ssh_port: int = 0

    def play(self, name: str, *options: str, **settings: Any) -> Run:
        where = {"guest_name": self.guest, "guest_port": self.ssh_port} | settings
        return super().play(name, "-i", "inventories/rehearsal", *options, **where)

    def try_shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """What became of a script that root ran on the guest."""
        known = GUESTS / self.guest / "known_hosts"
        command = ["ssh", "-q", "-i", str(GUESTS / "id_ed25519"), "-p", str(self.ssh_port), "-o", "IdentitiesOnly=yes"]
        command += ["-o", "ConnectTimeout=3", "-o", f"UserKnownHostsFile={known}", "ec2-user@127.0.0.1", "sudo bash -eu"]
        return subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)

    def shell(self, script: str) -> str:
        """What a script prints that root runs on the guest; it must end well."""
        done = self.try_shell(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ledger(self) -> list[dict[str, Any]]:
        """What the host's outbox has, and the line that proves it whole."""
        program = "runuser -u financial-producer -- venv-*/bin/python -Es financial_producer.pyz"
        return [json.loads(line) for line in self.shell(f"cd {HOME}; {program} ledger --json --state-directory {STATE}").splitlines()]


@contextlib.contextmanager
def guest_pipeline(directory: Path, **settings: Any) -> Iterator[GuestPipeline]:
    """One with a guest that is up and a cloud that is not; at the end neither is."""
    port = free_port()
    made = GuestPipeline(directory, free_port(), settings, guest=f"test-{port}", ssh_port=port)
    try:
        subprocess.run([str(GUEST), "start", made.guest, str(port)], check=True, timeout=600)
        yield made
    finally:
        subprocess.run([str(GUEST), "stop", made.guest], check=True, timeout=120)
        ended(made)
