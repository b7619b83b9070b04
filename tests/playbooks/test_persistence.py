"""The embedded cloud keeps its state in memory and loses it when it ends. The plays of `make demo` restore all that was sent.

Each test starts with what the one before it restored. The feed grows meanwhile, also while no cloud runs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from plays import ROOT, Pipeline, Run, supervisorctl, wait_until

PRODUCER, TABLE = "FinancialTransactionProducer", "RealTimeTransactions"
SENT = ("user_id", "amount", "currency", "timestamp", "merchant")
Contents = dict[str, tuple[str, ...]]
# Verify looks at the last fifty lines of the log, ten transactions each. The odd records come before these.
LINES = 600


@dataclass
class Demo:
    """A pipeline on a feed, deployed as `make demo` does."""

    pipeline: Pipeline
    feed: Path
    written: int = 0

    def write(self, count: int) -> None:
        with self.feed.open("a") as file:
            for number in range(self.written, self.written + count):
                file.write(transaction(f"line-{number}", f"{number}.25"))
        self.written += count

    def words(self) -> list[str]:
        """The plays and options that `make demo` names."""
        recipe = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        (words,) = re.findall(r"ansible-playbook (.*)", recipe)
        return shlex.split(words)

    def run(self) -> Run:
        first, *others = self.words()
        return self.pipeline.play(first.removesuffix(".yml"), *others)

    def stored(self) -> Contents:
        """The items of the table, as they were sent."""
        pages = self.pipeline.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True)
        items = [item for page in pages for item in page["Items"]]
        return {item["transaction_id"]["S"]: tuple(next(iter(item[name].values())) for name in SENT) for item in items}

    def counts(self) -> dict[str, int]:
        """The counts of the last reconciliation."""
        return json.loads((self.pipeline.directory / "reconcile" / "reconciliation.json").read_text())["counts"]

    def outbox(self) -> dict[str, Any]:
        directory = self.pipeline.directory / PRODUCER
        command = [str(directory / "financial_producer.pyz"), "outbox", "--json", "--state-directory", str(directory / "state")]
        done = subprocess.run([shutil.which("python3") or "", "-Es", *command], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def pid(self, program: str) -> int:
        return int(supervisorctl(self.pipeline, "pid", *([program] if program else [])))


def transaction(name: str, amount: str) -> str:
    fields = {"user_id": "u-1", "currency": "EUR", "timestamp": "2026-11-24T12:00:00Z", "merchant": "Corner Shop"}
    return json.dumps({"transaction_id": name, **fields})[:-1] + f', "amount": {amount}}}\n'


def cloud_killed(demo: Demo) -> None:
    """supervisord restarts it by itself; the new one is empty."""
    before = demo.pid("embedded_cloud")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: demo.pid("embedded_cloud") not in (0, before), 60, "another cloud")


def supervisord_killed(demo: Demo) -> None:
    producer = demo.pid(PRODUCER)
    os.kill(demo.pid(""), signal.SIGKILL)
    # The feed is quiet, so the producer notices only that its parent ended.
    wait_until(lambda: not Path(f"/proc/{producer}").exists(), 30, "an end of the producer, which holds the outbox")


def swept(demo: Demo) -> None:
    """Remove what a reboot removes: the directory of the socket, and the temporary files."""
    configuration = (demo.pipeline.directory / "supervisor" / "supervisord.conf").read_text()
    shutil.rmtree(Path(re.findall("^file=(.*)$", configuration, re.MULTILINE)[0]).parent)
    shutil.rmtree(demo.pipeline.directory / "tmp")


def stopped(demo: Demo) -> None:
    supervisorctl(demo.pipeline, "shutdown")
    wait_until(lambda: not demo.pipeline.processes(), 60, f"an end of {demo.pipeline.processes()}")


@pytest.fixture(scope="module")
def demo(pipeline: Pipeline) -> Demo:
    """The feed has two contents under one id, of which one is stored, a record that can never be stored, and many others."""
    made = Demo(pipeline, pipeline.directory / "feed.jsonl")
    made.feed.write_text(transaction("twice", "1.10") + transaction("poison", '"none"'))
    made.write(LINES)
    with made.feed.open("a") as file:
        file.write(transaction("twice", "2.20"))
    made.write(LINES)
    pipeline.settings |= {"producer_service_feed": str(made.feed), "producer_service_linger": 0.2}
    run = made.run().ended_well()
    assert "began again" not in run.output
    return made


def comes_back(demo: Demo, before: Contents, counted: dict[str, int]) -> Run:
    """Run the demo. It says what happened and passes; everything, also what was written since, is stored or quarantined."""
    run = demo.run().ended_well()
    assert "The embedded cloud ended and began again, empty" in run.message
    assert "-e reconcile_resend_lost=true sends again what is lost" in run.message
    assert run.failed_checks == set()
    after, more = demo.stored(), 1 + demo.written - counted["stored"]
    # Either of two contents under one id may be stored first.
    assert {name: after.get(name) for name in before if name != "twice"} == {name: before[name] for name in before if name != "twice"}
    assert set(after) == {"twice", *(f"line-{number}" for number in range(demo.written))}
    assert demo.counts() == counted | {"sent": counted["sent"] + more, "stored": counted["stored"] + more}
    return run


def test_a_first_demo_says_nothing_of_a_cloud_that_ended(demo: Demo):
    assert demo.counts() | {"sent": 3 + demo.written, "stored": 1 + demo.written, "quarantined": 2, "lost": 0} == demo.counts()


def test_after_a_kill_of_the_cloud_the_producer_keeps_what_it_takes_in_and_the_next_demo_brings_all_back(demo: Demo):
    before, counted = demo.stored(), demo.counts()
    cloud_killed(demo)
    demo.write(30)
    wait_until(lambda: demo.outbox()["unsent"] >= 30, 60, "an outbox with what cannot be sent")
    comes_back(demo, before, counted)


def test_after_a_kill_of_supervisord_a_teardown_removes_nothing_and_after_a_reboot_the_next_demo_brings_all_back(demo: Demo):
    before, counted = demo.stored(), demo.counts()
    supervisord_killed(demo)
    demo.write(30)
    run = demo.pipeline.play("teardown")  # it starts a cloud to look for leftovers
    assert run.status != 0, run.output[-3000:]
    assert "Nothing was removed" in run.message
    assert demo.outbox()["bodies"] >= 3 + counted["stored"] - 1

    stopped(demo)
    swept(demo)
    said = comes_back(demo, before, counted).message

    # site.yml names the command that brings all back: it is what the demo ran.
    (command,) = set(re.findall(r"ansible-playbook (reconcile\.yml .*?) sends again", said))
    play, *options = shlex.split(command)
    assert play in demo.words()
    assert options == [word for word in demo.words() if not word.endswith(".yml")]
