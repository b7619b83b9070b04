"""docs/performance.md, made from the figures of `make bench`."""

from __future__ import annotations

from typing import Any

STEPS = {
    "create": "create (ours also sets up the producer's host, and probes the release)",
    "no change": "no change: `site.yml` (Terraform: apply)",
    "check": "`site.yml --check --diff` (Terraform: plan)",
    "verify": "`verify.yml`",
    "teardown": "`teardown.yml`: drained, proved, exported (the others only delete)",
    "teardown, discard_data": "`teardown.yml -e discard_data=default`",
}


def cell(figure: dict[str, float] | None, digits: int = 1) -> str:
    """A median with its spread."""
    if figure is None:
        return ""
    return f"{figure['median']:,.{digits}f} ({figure['min']:,.{digits}f} to {figure['max']:,.{digits}f})"


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def deploy(results: dict[str, Any]) -> str:
    text = ""
    for kind, title in {
        "quick": "The calls answer at once",
        "with latency": "80 ms more for each call, and the waiting times of AWS",
    }.items():
        if kind in results:
            tools = [name for name in ("ours", "Terraform", "boto3") if name in results[kind]]
            rows = [
                [STEPS[step], *(cell(results[kind][tool].get(step)) for tool in tools)] for step in STEPS if step in results[kind]["ours"]
            ]
            text += f"\n### {title}\n\n" + table(["seconds", *tools], rows)
    return text


def limits(results: dict[str, Any]) -> str:
    whole = {
        "the whole process": "whole",
        "the start of Ansible alone (`--version`)": "start",
        "a playbook without tasks, with this inventory": "empty",
    }
    rows = [[what, cell(results["whole"][name], 2)] for what, name in whole.items()]
    rows += [[f"play: {title}", cell(figure)] for title, figure in results["plays"].items()]
    each = [[name, cell(figure, 3)] for name, figure in results["each"].items()]
    return table(["no-change `site.yml`", "seconds"], rows) + "\n" + table(["each", "seconds"], each)


def processor(results: dict[str, Any]) -> str:
    rows, starts = [], []
    for name, figures in results["figures"].items():
        handler, _, what = name.partition(", ")
        if what == "start":
            starts.append([handler, cell(figures["start_ms"], 0), cell(figures["start_cpu_ms"], 0), cell(figures["memory_mb"], 0)])
        else:
            row = [what.removeprefix("batches of "), handler, cell(figures["batch_ms"]), cell(figures["record_cpu_us"], 0)]
            rows.append([*row, f"{figures['calls_a_record']['median']:.2f}", cell(figures["memory_mb"], 0)])
    heads = ["records a batch", "handler", "ms billed for a batch", "CPU, µs a record", "calls a record", "memory, MB"]
    return table(heads, rows) + "\n" + table(["start", "ms", "CPU, ms", "memory, MB"], starts)


def producer(results: dict[str, Any]) -> str:
    rows = [
        [name, cell(one["per_second"], 0), cell(one["cpu_s_per_1000"], 2), cell(one["calls_per_1000"], 0)]
        for name, one in results["figures"].items()
    ]
    heads = ["sender", "transactions a second", "CPU seconds for 1,000", "calls for 1,000"]
    return table(heads, rows) + f"\nThe disk made {results['fsyncs_a_second']:,.0f} small appends a second durable.\n"


def flow(results: dict[str, Any]) -> str:
    drained = [[name, cell(figure, 0)] for name, figure in results["drain"].items()]
    delays = [[rate, *(f"{one[name]:.2f}" for name in ("p50", "p95", "p99"))] for rate, one in results["delay"].items()]
    text = table([f"a queue of {results['count']:,} messages", "messages a second"], drained)
    return text + "\n" + table(["transactions a second", "p50, s", "p95, s", "p99, s"], delays)


def growth(results: dict[str, Any]) -> str:
    text = ""
    for what, title in {"producers": "producers", "ledgers": "ledgers of producers of before", "transactions": "transactions"}.items():
        rows = [[f"{int(number):,}", cell(one["no change"]), cell(one.get("verify"))] for number, one in results[what].items()]
        text += table([title, "no change, s", "`verify.yml`, s"], rows) + "\n"
    rows = [
        [f"{int(number):,}", cell(one["cpu_seconds"]), cell(one["peak_mib"], 0), cell(one["read_units"], 0)]
        for number, one in results["reconcile"].items()
    ]
    return text + table(["transactions reconciled", "CPU, s", "memory, MiB", "read units"], rows)


SECTIONS = {
    "deploy": (
        "Deploy, verify, remove",
        deploy,
        "Whole processes, the cloud already running. Terraform has the same resources (bench/terraform); boto3 is a script that"
        " makes, reads or deletes them and compares nothing (bench/peers/boto3_deploy.py).",
    ),
    "limits": (
        "Where the time of a no-change run goes",
        limits,
        "The rest is some thirty tasks: each is a process of Ansible's that resolves its variables, and ten of them run a module."
        " Modules run in forks of a process that has imported what they import; beside that, what Ansible alone takes for them.",
    ),
    "processor": (
        "The processor",
        processor,
        "Under the share of a CPU that Lambda gives a function of 128 MB (128/1769), with 5 ms for each call. The plain handler puts"
        " one item for each record; so does the one on Powertools' BatchProcessor (bench/peers). `start` is the import and one client.",
    ),
    "producer": (
        "The producer",
        producer,
        "Ours commits each transaction to its outbox on the disk before it is sent, and marks it after. 10 ms for each call.",
    ),
    "flow": (
        "From the queue to the table",
        flow,
        "On the embedded cloud, with all that it checks, on this machine's processors. The delay is from the call that sends a transaction"
        " until the table has it, with the mapping's default batch and no batching window.",
    ),
    "growth": (
        "How it grows",
        growth,
        "A run that changes nothing reads no transaction; it looks at each producer, five at a time (Ansible's forks), here all on this"
        " one machine. verify.yml compares every entry of every ledger with the table, so it grows with the transactions.",
    ),
}


def page(results: dict[str, Any]) -> str:
    text = "# How fast it is\n\nMade by `make bench`; do not edit it. Medians of interleaved rounds, smallest and largest in brackets.\n"
    for name, (title, section, said) in SECTIONS.items():
        if name in results:
            command = f"`python -m bench {name}` on {results[name]['machine']}."
            text += f"\n## {title}\n\n{said}\n\n{command}\n\n{section(results[name])}"
    return text
