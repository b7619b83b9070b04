"""Wherever SSH ends while a ledger is fetched, it is this run's, whole, or it is missing and said so: never what was there before."""

from __future__ import annotations

import gzip
import json
import os
import stat
from pathlib import Path

import pytest
from ansible.module_utils.pipeline.reconciliation.ledger import LedgerExport
from outbox import Draft, Outbox
from outbox_records import Message
from plays import ROOT, Pipeline

# Runs what it is told on this machine. A host named cut-3 answers three calls; the third is cut off in the middle, and then nothing is.
SSH = """#!/bin/bash
command="${@: -1}" host="${@: -2:1}"
calls="$(dirname "$0")/$host"
echo >>"$calls"
left=$(( ${host#cut-} - $(wc -l <"$calls") ))
[ "$left" -ge 0 ] || exit 255
[ "$left" -gt 0 ] || { bash -c "$command" | head -c 100; exit 255; }
exec bash -c "$command"
"""
PLAY = [
    {
        "hosts": "producers",
        "ignore_unreachable": True,
        "tasks": [{"name": "Ledger", "ansible.builtin.import_role": {"name": "reconciliation", "tasks_from": "export_ledger"}}],
    },
    {
        "hosts": "operator",
        "tasks": [
            {
                "name": "Tell",
                "ansible.builtin.copy": {
                    "dest": "{{ told }}",
                    "mode": "0600",
                    "content": "{{ dict(groups.producers | zip(groups.producers | map('extract', hostvars)"
                    " | map(attribute='reconciliation_ledger_problem'))) | to_json }}",
                },
            }
        ],
    },
]
CUTS = range(1, 9)


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """What was said of each host, "" where all is well, and the directory of the files; in each was another run's ledger before."""
    directory = tmp_path_factory.mktemp("fetch")
    ssh, ledgers, play, inventory = (directory / name for name in ("ssh", "ledgers", "play.yml", "hosts.yml"))
    ssh.write_text(SSH)
    ssh.chmod(0o700)
    outbox = Outbox(directory / "producer" / "state", exclusive=True)
    outbox.add(Draft([Message("new", '{"transaction_id": "new", "amount": 1}', "1", None)]))
    outbox.close()
    hosts = {f"cut-{calls}": {} for calls in CUTS}
    ledgers.mkdir()
    for host in hosts:
        closing = {"ledger": "before", "entries": 0, "first": None, "last": None, "exported_at": "2026-01-01T00:00:00Z"}
        (ledgers / f"{host}.jsonl.gz").write_bytes(gzip.compress(json.dumps(closing).encode() + b"\n"))
    far = {
        "ansible_connection": "ssh",
        "ansible_ssh_executable": str(ssh),
        "ansible_ssh_args": "",
        "ansible_ssh_transfer_method": "piped",
        "ansible_ssh_retries": 0,
    }
    every = {
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "producer_service_name": "it",
        "producer_service_source": str(ROOT / "producer_src"),
        "producer_service_directory": str(directory / "producer"),
        "producer_service_manager": "supervisord",
        "pipeline_account_id": "000000000000",
        "pipeline_sqs_endpoint": "http://127.0.0.1:9",
        "producer_service_ledger_directory": str(ledgers),
        "told": str(directory / "told.json"),
    }
    operator = {"hosts": {"here": {"ansible_connection": "local"}}}
    groups = {"operator": operator, "producers": {"hosts": hosts, "vars": far}}
    inventory.write_text(json.dumps({"all": {"children": groups}}))
    variables = directory / "group_vars" / "all"
    variables.mkdir(parents=True)
    (variables / "00_settings.yml").symlink_to(ROOT / "inventories" / "shared" / "settings.yml")
    (variables / "90_own.yml").write_text(json.dumps(every))
    (directory / "producer" / "financial_producer.pyz").symlink_to(ROOT / "producer_src")
    play.write_text(json.dumps(PLAY))
    run = Pipeline(directory, 0).run("ansible-playbook", "-f", "4", "-i", str(inventory), str(play))
    assert run.status in (0, 4), run.output
    return json.loads((directory / "told.json").read_text()), ledgers


def test_it_is_this_runs_or_it_is_missing_and_said_so(fetched: tuple[dict[str, str], Path]):
    told, ledgers = fetched
    for host, problem in told.items():
        path = ledgers / f"{host}.jsonl.gz"
        if problem:
            assert host in problem
            assert b"before" not in gzip.decompress(path.read_bytes() or gzip.compress(b"")), f"{host}: a former run's file is there"
        else:
            assert [one.transaction_id for one in LedgerExport(str(path))] == ["new"]
    assert {bool(problem) for problem in told.values()} == {True, False}, told


def test_only_the_owner_may_read_them(fetched: tuple[dict[str, str], Path]):
    ledgers = fetched[1]
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in ledgers.iterdir()} == {0o600}
    assert stat.S_IMODE(ledgers.stat().st_mode) == 0o700
