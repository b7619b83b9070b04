"""The results of a run, as the tables of docs/chaos.md."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from chaos_judge import Verdict

COUNTS = ("sent", "stored", "quarantined", "lost", "altered", "doubled", "given_up")
HEAD = (*(name.replace("_", " ") for name in COUNTS), "seconds to recover", "brought back by")
# What docs/chaos.md says before its tables, which the suite writes anew.
MARK = "<!-- written by make chaos; what is below is of its last run -->"


@dataclass(frozen=True)
class Row:
    """What became of the stream under a fault; `seconds` from the fault's end until all that was sent was where it belongs."""

    name: str
    verdict: Verdict
    seconds: float
    recovery: str = ""
    protection: str = ""


@dataclass
class Report:
    """All rows of a run; `without` has the harm by the fault's name when its protection was taken away."""

    faults: list[Row] = field(default_factory=list)
    mixes: list[Row] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def tables(self) -> list[str]:
        """Both tables, in Markdown."""
        lines = [f"| fault | {' | '.join(HEAD)} | without its protection |", "|---|" + "---:|" * (len(COUNTS) + 1) + "---|---|"]
        for row in self.faults:
            harm = self.without.get(row.name, "")
            lines.append(f"{_cells(row)} {harm and f'{harm} ({row.protection})'} |")
        lines += ["", f"| random mix | {' | '.join(HEAD)} |", "|---|" + "---:|" * (len(COUNTS) + 1) + "---|"]
        return lines + [_cells(row) for row in self.mixes]

    def write(self, directory: Path) -> None:
        """Write the part of chaos.md below the mark."""
        page = directory / "chaos.md"
        head = page.read_text(encoding="utf-8").partition(MARK)[0]
        ended = datetime.now(UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
        said = f"Run of {ended}, which took {round(time.monotonic() - self.started) // 60} minutes."
        page.write_text("\n".join([f"{head}{MARK}", "", said, "", *self.tables()]) + "\n", encoding="utf-8")


def _cells(row: Row) -> str:
    counts = [f"{getattr(row.verdict, name):,}" for name in COUNTS]
    return f"| {row.name} | {' | '.join(counts)} | {row.seconds:.1f} | {row.recovery or 'itself'} |"
