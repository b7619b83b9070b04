"""Interleaved measurements, and what is told of them: medians with their spread."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Lambda gives a function of this much memory one whole vCPU (AWS Lambda developer guide, "Configure Lambda function memory").
MEBIBYTES_A_CPU = 1769
QUOTA_PERIOD = 0.02  # seconds; as Lambda's hosts have it
CGROUPS = Path("/sys/fs/cgroup")

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".local" / "bench"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def packed(name: str, *sources: Path) -> Path:
    """A function's package of these files; a single one becomes the file that the function's handler is in."""
    path = WORK / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for source in sources:
            archive.write(source, source.name if len(sources) > 1 else "lambda_function.py")
    return path


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def wait_until(condition: Callable[[], object], limit: float, what: str, pause: float = 0.02) -> None:
    """Look until `condition` holds. Raises TimeoutError with `what` after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit:.0f} s: {what}")
        time.sleep(pause)


def interleaved(rounds: int, works: Mapping[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """What each piece of work returns in each round; one after the other in every round, so that a busy machine is busy for all."""
    found: dict[str, list[Any]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            found[name].append(work())
            say(f"round {number + 1} of {rounds}: {name}")
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def spreads(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """The spread of each figure over the rounds."""
    return {name: spread([one[name] for one in rounds]) for name in rounds[0]}


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextlib.contextmanager
def cpu_quota(mebibytes: int) -> Iterator[Path | None]:
    """A control group with the share of a CPU that Lambda gives a function of this memory: write a process id into the file.

    None where this user may make no control group: then the caller computes what the quota would do.
    """
    share = mebibytes / MEBIBYTES_A_CPU
    period, quota = int(QUOTA_PERIOD * 1e6), int(share * QUOTA_PERIOD * 1e6)
    version_2 = (CGROUPS / "cgroup.controllers").exists()
    group = (CGROUPS if version_2 else CGROUPS / "cpu") / f"bench-{os.getpid()}"
    try:
        group.mkdir()
        if version_2:
            (group / "cpu.max").write_text(f"{quota} {period}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
    except OSError:
        yield None
        return
    try:
        yield group / "cgroup.procs"
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)
