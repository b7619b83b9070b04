"""The CI workflow runs what was read when it was written, and can change nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).resolve().parents[3] / ".github" / "workflows").glob("*"))
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version_beside_it(workflow: Path):
    uses = [line.strip(" -") for line in workflow.read_text().splitlines() if "uses:" in line]
    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_the_token_reads_and_every_job_ends(workflow: Path):
    document = yaml.safe_load(workflow.read_text())
    jobs = document["jobs"].values()
    assert document["permissions"] == {"contents": "read"}
    assert [job for job in jobs if "permissions" in job] == []
    assert all(job["timeout-minutes"] <= 90 for job in jobs)
