"""What the benchmark makes of what it measured: medians with their spread, and a page with a row for each figure."""

from __future__ import annotations

import json
import urllib.request
import zipfile
from pathlib import Path

import pytest

from bench import growth, limits, measuring, report, services

SPREAD = {"median": 2.0, "min": 1.0, "max": 9.0, "n": 3}


def test_a_spread_is_the_median_and_both_ends():
    assert measuring.spread([9.0, 1.0, 2.0]) == SPREAD


def test_rounds_are_interleaved():
    done: list[str] = []
    found = measuring.interleaved(2, {name: lambda name=name: done.append(name) or len(done) for name in ("a", "b")})
    assert done == ["a", "b", "a", "b"]
    assert found == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize(("share", "value"), [(0.5, 51), (0.95, 96), (0.99, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int):
    assert measuring.percentile(list(range(1, 101)), share) == value


def test_the_page_has_every_step_and_names_the_command():
    steps = dict.fromkeys(report.STEPS, SPREAD)
    results = {"deploy": {"quick": {"ours": steps, "boto3": {"create": SPREAD}}, "machine": "a machine"}}
    text = report.page(results)
    assert "`python -m bench deploy` on a machine." in text
    rows = [line for line in text.splitlines() if "2.0 (1.0 to 9.0)" in line]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(report.STEPS.values())
    assert rows[0].count("2.0 (1.0 to 9.0)") == 2
    assert rows[1].count("2.0 (1.0 to 9.0)") == 1  # what a peer cannot do stays empty
    assert "The producer" not in text


def test_every_part_has_a_section_with_its_figures():
    grown = {"no change": SPREAD, "verify": SPREAD}
    results = {
        "limits": {
            "whole": dict.fromkeys(("start", "empty", "whole"), SPREAD),
            "plays": {"Run the producer": SPREAD},
            "each": {"a task": SPREAD},
        },
        "growth": {
            **{what: {"1": grown, "20000": grown} for what in ("producers", "ledgers", "transactions")},
            "reconcile": {"10000": dict.fromkeys(("cpu_seconds", "peak_mib", "read_units"), SPREAD)},
        },
    }
    text = report.page({name: found | {"machine": "a machine"} for name, found in results.items()})
    assert "| play: Run the producer | 2.0 (1.0 to 9.0) |" in text
    assert "| a task | 2.000 (1.000 to 9.000) |" in text
    assert text.count("| 20,000 | 2.0 (1.0 to 9.0) | 2.0 (1.0 to 9.0) |") == 3
    assert "| 10,000 | 2.0 (1.0 to 9.0) | 2 (1 to 9) | 2 (1 to 9) |" in text


def test_the_time_of_a_play_is_read_from_its_line():
    output = "Start the embedded cloud                0.3 s\n  CHANGED  3.0 s\nRun the producer    12.0 s\nDone in 13.1 s: 4 ok\n"
    assert limits.plays(output) == {"Start the embedded cloud": 0.3, "Run the producer": 12.0}


def test_more_producers_stand_beside_the_first():
    assert list(growth.more_producers(2)["producers"]["hosts"]) == ["producer-2", "producer-3"]
    assert growth.more_producers(0) == {"producers": {"hosts": {}}}


def call(url: str, operation: str, request: dict[str, object]) -> dict[str, object]:
    asked = urllib.request.Request(url, json.dumps(request).encode(), {"X-Amz-Target": f"Service.{operation}"})
    with urllib.request.urlopen(asked, timeout=10) as response:
        return json.load(response)


def test_the_server_answers_each_entry_and_counts_the_calls():
    with services.Services(1) as served:
        sent = call(served.url, "SendMessageBatch", {"Entries": [{"Id": "a"}, {"Id": "b"}]})
        stored = call(served.url, "BatchExecuteStatement", {"Statements": [{}, {}, {}]})
        assert served.counts() == {"SendMessageBatch": 1, "BatchExecuteStatement": 1}
    assert [entry["Id"] for entry in sent["Successful"]] == ["a", "b"]
    assert len(stored["Responses"]) == 3
    assert served.process.returncode == 0


def test_a_package_of_one_file_has_it_where_the_handler_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "WORK", tmp_path)
    handler = tmp_path / "some_handler.py"
    handler.write_text("def lambda_handler(event, context): return 1\n")
    assert zipfile.ZipFile(measuring.packed("p", handler)).namelist() == ["lambda_function.py"]
