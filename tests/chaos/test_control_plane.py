"""site, verify and teardown with a tenth of the operator's calls failing and 80 ms of latency: all pass, and nothing is made twice.

FAULT_SEEDS holds the seeds to try, one run of a minute or two for each: `FAULT_SEEDS="1 2 3 4 5" pytest tests/chaos/test_control_plane.py`.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

import pytest
from plays import Pipeline, listings, supervisorctl, wait_until

SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1").split()]
STRANGER = "somebody-elses-queue"
# One of each, but for the alarms and the queues, roles and policies that come in pairs; one version of the function and its alias; the
# security group beside AWS's default one.
DEPLOYED = {
    "queues": 2,
    "tables": 1,
    "functions": 1,
    "versions": 2,
    "mappings": 1,
    "log groups": 1,
    "parameters": 0,
    "roles": 2,
    "policies": 2,
    "instance profiles": 1,
    "users": 0,
    "instances": 1,
    "security groups": 2,
    "key pairs": 0,
    "volumes": 1,
    "network interfaces": 1,
    "addresses": 0,
    "alarms": 8,
    "topics": 0,
    "subscriptions": 0,
    "dashboards": 0,
}


def faults(pipeline: Pipeline, **wanted: Any) -> dict[str, Any]:
    """What was counted since they were last set; sets them anew when told to."""
    body = json.dumps(wanted).encode() if wanted else None
    request = urllib.request.Request(f"{pipeline.endpoint}/_embedded_cloud/faults", data=body, method="PUT" if body else "GET")
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def count(listed: dict[str, list[str]]) -> dict[str, int]:
    return {kind: len(names) for kind, names in listed.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_plays_pass_and_make_nothing_twice(pipeline: Pipeline, seed: int):
    bad_day = {"embedded_cloud_fault_rate": 0.1, "embedded_cloud_fault_seed": seed, "embedded_cloud_latency": 80}
    met = {}

    pipeline.play("site", **bad_day).ended_well()
    met["site"] = faults(pipeline)
    again = pipeline.play("site").ended_well()
    assert again.totals["changed"] == 0, again.output
    assert faults(pipeline)["rate"] == 0
    assert count(listings(pipeline)) == DEPLOYED

    assert pipeline.play("verify", **bad_day).ended_well().failed_checks == set()
    met["verify"] = faults(pipeline)

    # Something that is not ours keeps the cloud running, so that it can be asked what is left.
    faults(pipeline, rate=0)
    pipeline.client("sqs").create_queue(QueueName=STRANGER)
    pipeline.play("teardown", **bad_day).ended_well()
    met["teardown"] = faults(pipeline)
    faults(pipeline, rate=0)
    assert count(listings(pipeline)) == dict.fromkeys(DEPLOYED, 0) | {"queues": 1, "security groups": 1}

    supervisorctl(pipeline, "shutdown")
    wait_until(lambda: not pipeline.processes(), 30, f"an end of {pipeline.processes()}")
    print(f"\nseed {seed}: " + "; ".join(f"{play}: {found['faults']} of {found['requests']}" for play, found in met.items()))
    assert all(sum(found["faults"].values()) > 0 for found in met.values())
