"""Measures, and writes what was measured: .local/bench/results.json, and docs/performance.md made from it.

The figures are medians of interleaved rounds, with the smallest and the largest in brackets. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

from bench import deploy, flow, growth, limits, processor, producer, report
from bench.measuring import ROOT, WORK, say

PARTS = {
    "deploy": deploy.measure,
    "limits": limits.measure,
    "processor": processor.measure,
    "producer": producer.measure,
    "flow": flow.measure,
    "growth": growth.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure; all, if none is named")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--small", action="store_true", help="one round of a small form, to see that it works; no page is written")
    parser.add_argument("--results", type=Path, default=WORK / "results.json", help="the file of the figures")
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    results = json.loads(given.results.read_text()) if given.results.exists() and not given.small else {}
    began = time.time()
    for name in given.parts or PARTS:
        say(f"{name}, {time.time() - began:.0f} s after the start")
        results[name] = PARTS[name](1 if given.small else given.rounds, given.small)
        results[name]["machine"] = f"{os.cpu_count()} CPUs, Python {platform.python_version()}, {time.strftime('%Y-%m-%d', time.gmtime())}"
        given.results.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    if given.small:
        print(report.page(results))
    else:
        (ROOT / "docs" / "performance.md").write_text(report.page(results))
        say("docs/performance.md is written")


if __name__ == "__main__":
    sys.exit(main())
