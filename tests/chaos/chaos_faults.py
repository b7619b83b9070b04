"""The faults, each with the protection that makes it harmless, and a way to take that protection away.

A fault is a context: it is there inside, and gone outside. The stream flows meanwhile; whatever takes time goes by the stream's own count.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from chaos_world import FUNCTION, QUEUE, TABLE, World, replace_once
from plays import ROOT, wait_until

Context = Callable[[World], AbstractContextManager[None]]

INSERTS = ["dynamodb:PartiQLInsert", "dynamodb:BatchExecuteStatement"]
SENDS = ["sqs:SendMessage"]
# Where the producer can be killed, one point between every pair of its steps: a name, lines of its code, and whether it is before them.
FAILPOINTS = (
    ("before-commit", "        entries = self._durably(lambda: self.outbox.add(draft))", True),
    ("after-commit", "        self._drawn += len(entries)", False),
    ("before-request", "        return client.send_message_batch(", True),
    ("after-request", '        taken = {each["Id"]', True),
    ("after-mark", "        self._sent += len(done)", False),
)


@dataclass(frozen=True)
class Fault:
    """`seconds` is how long it lasts, by the stream's count. `recovery`, where something must be done after it, is what, and how.

    `protection` says what makes it harmless, and is there until all has settled where it is a context (`within`); `without` takes it away.
    Where it is a way of doing something, `instead` is the other way.
    """

    name: str
    inject: Context
    protection: str
    without: Context
    seconds: float = 4.0
    recovery: str = ""
    recover: Callable[[World], None] | None = None
    instead: Context | None = None
    within: Context | None = None
    mixes: bool = True


# --- ways to break things ------------------------------------------------------------------------------------------------


def requests(*documents: dict[str, object]) -> Context:
    """Requests of the producer and the function fail."""
    return lambda world: world.failing_requests(*documents)


def deliveries(**shares: float) -> Context:
    """Something goes wrong between the queue and the function."""
    return lambda world: world.mishaps(**shares)


@contextlib.contextmanager
def function_killed(world: World) -> Iterator[None]:
    """Killed with its batch, at any point; and half of the time after its work, before its answer."""
    with deliveries(killed=0.5)(world):
        for _ in range(4):
            world.pipeline.kill_function_workers()
            world.stream.pass_by(0.5)
        yield


def patched_function(*patches: tuple[str, str, str]) -> Context:
    return lambda world: world.patched_function(*patches)


def patched_producer(*patches: tuple[str, str, str]) -> Context:
    return lambda world: world.patched_producer(*patches)


# The program looks at no PYTHON... variable, so what is to run inside it is named in its own first lines.
FIRST_LINES = "import os\nimport signal\nimport sys\n"
INSIDE = f"import sys\nsys.path.append({str(Path(__file__).parent / 'inside')!r})\nimport chaos_clock\n"


@contextlib.contextmanager
def producer_killed(world: World) -> Iterator[None]:
    """With a point between every pair of its steps, and killed at each."""
    patches = [("financial_producer.py", FIRST_LINES, INSIDE + FIRST_LINES)]
    for name, text, before in FAILPOINTS:
        indent = text[: len(text) - len(text.lstrip())]
        call = f'{indent}__import__("chaos_failpoint").reach("{name}")'
        patches.append(("sending.py", text, f"{call}\n{text}" if before else f"{text}\n{call}"))
    with world.patched_producer(*patches):
        for name, _text, _before in FAILPOINTS:
            (world.failpoints / name).touch()
            wait_until(lambda name=name: not (world.failpoints / name).exists(), 60, f"a kill {name}")
            wait_until(world.service_pid, 60, "a service that was started anew")
        yield


@contextlib.contextmanager
def function_throttled(world: World) -> Iterator[None]:
    functions = world.client("lambda")
    functions.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)
    try:
        yield
    finally:
        functions.delete_function_concurrency(FunctionName=FUNCTION)


@contextlib.contextmanager
def function_failing(world: World) -> Iterator[None]:
    with world.patched_function(
        ("lambda_function.py", "    config, call = settings(), partial(call_in_time, context)\n", "    raise RuntimeError\n")
    ):
        yield


@contextlib.contextmanager
def table_gone(world: World) -> Iterator[None]:
    """With all that it held; made anew as it was."""
    world.stream.pass_by(2)  # so that it holds some of this stream
    tables = world.client("dynamodb")
    was = tables.describe_table(TableName=TABLE)["Table"]
    tags = tables.list_tags_of_resource(ResourceArn=was["TableArn"])["Tags"]
    units = {name: was["ProvisionedThroughput"][name] for name in ("ReadCapacityUnits", "WriteCapacityUnits")}
    tables.delete_table(TableName=TABLE)
    try:
        yield
    finally:
        shape = {name: was[name] for name in ("KeySchema", "AttributeDefinitions")}
        tables.create_table(TableName=TABLE, ProvisionedThroughput=units, Tags=tags, **shape)
        tables.get_waiter("table_exists").wait(TableName=TABLE)


@contextlib.contextmanager
def partial_answers_ignored(world: World) -> Iterator[None]:
    """ReportBatchItemFailures is not set for a while, in which the table refuses half of what it is given."""
    functions, mapping = world.client("lambda"), world.mapping()
    world.set_visibility(15)  # Lambda compares it with the function's timeout now
    functions.update_event_source_mapping(UUID=mapping, FunctionResponseTypes=[])
    try:
        with requests({"actions": INSERTS, "kinds": ["entries"]})(world):
            yield
    finally:
        wait_until(lambda: functions.get_event_source_mapping(UUID=mapping)["State"] == "Enabled", 30, "a mapping that is enabled")
        functions.update_event_source_mapping(UUID=mapping, FunctionResponseTypes=["ReportBatchItemFailures"])
        world.tune()


@contextlib.contextmanager
def clock_wrong(world: World) -> Iterator[None]:
    """Twenty minutes slow: SQS takes no signature that is over fifteen minutes off."""
    with world.patched_producer(("financial_producer.py", FIRST_LINES, INSIDE + FIRST_LINES)):
        world.clock_file.write_text("-1200")
        try:
            yield
        finally:
            world.clock_file.unlink()


# --- protections taken away ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def nothing_is_done(world: World) -> Iterator[None]:
    """What brings it back is not done."""
    yield


def receives(count: int) -> Context:
    """Messages are given up after so many receives."""

    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        url, sqs = world.pipeline.queue_url(), world.client("sqs")
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]["RedrivePolicy"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(json.loads(before) | {"maxReceiveCount": count})})
        try:
            yield
        finally:
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": before})

    return inject


duplicates_are_conflicts = patched_function(
    ("lambda_function.py", "        fields = differing_fields(self.item, held)\n", '        fields = ["amount"]\n')
)
nothing_is_reported = patched_function(
    (
        "lambda_function.py",
        "    unsettled = [state for state in states if state.outcome in (Outcome.RETRIED, Outcome.REDRIVE)]\n",
        "    unsettled: list[RecordState] = []\n",
    )
)
last_write_wins = patched_function(
    ("lambda_function.py", "        if not all(PLAIN_NAME.fullmatch(name) for name in item):\n", "        if item:\n"),
    ("lambda_function.py", "TableName=self.name, Item=state.item, ConditionExpression=condition)", "TableName=self.name, Item=state.item)"),
)
quarantine_is_assumed = patched_function(
    (
        "lambda_function.py",
        """            for state, _ in messages:
                state.detail |= {"quarantine_error": describe(error)}
        return
""",
        """            for state, _ in messages:
                state.outcome = Outcome.QUARANTINED
        return
""",
    )
)
FAILED_REQUEST = "            self._outage, self._failed = self._outage + 1, self.now()\n"
DROPPED = "            self._mark({each: 'unknown' for each in batch.entries})\n            self._ready.remove(batch)\n            return\n"
failed_requests_are_dropped = patched_producer(("sending.py", FAILED_REQUEST, DROPPED + FAILED_REQUEST))
refusals_are_dropped = patched_producer(
    (
        "sending.py",
        FAILED_REQUEST,
        "            if why.refused:\n" + "".join(f"    {line}\n" for line in DROPPED.splitlines()) + FAILED_REQUEST,
    )
)
every_entry_counts_as_taken = patched_producer(
    (
        "sending.py",
        '        taken = {each["Id"]: each["MessageId"] for each in answer.get("Successful", [])}\n',
        '        taken = {str(n): "unknown" for n in range(len(batch.entries))}\n',
    )
)
marked_before_it_is_sent = patched_producer(
    (
        "sending.py",
        '        entries = [{"Id": str(n), "MessageBody": each.body,',
        '        self._mark({each: \'unknown\' for each in batch.entries})\n        entries = [{"Id": str(n), "MessageBody": each.body,',
    ),
    ("sending.py", "        if done := {", "        if done := {} and {"),
)


def resend_lost(world: World) -> None:
    """As an operator does: reconcile, and have what is lost sent again."""
    world.play("reconcile", reconcile_resend_lost=True)


def judge_conflicts_anew(world: World) -> None:
    """By the table that there is now: what was first in one that is gone may be second, and a conflict that is delivered again stored."""
    world.play("quarantine", quarantine_action="replay", quarantine_reason="conflict", quarantine_confirm=True).ended_well()


def resend_lost_and_judge_conflicts_anew(world: World) -> None:
    resend_lost(world)
    judge_conflicts_anew(world)


@contextlib.contextmanager
def site_changes_the_producer(world: World) -> Iterator[None]:
    """Another linger, for which the service is described anew and started again; and every other role compares what it has."""
    world.play("site", producer_service_linger=0.3).ended_well()
    world.tune()
    yield


@contextlib.contextmanager
def queue_made_anew(world: World) -> Iterator[None]:
    """What a play does that replaces a queue instead of changing it."""
    with function_throttled(world):
        world.stream.pass_by(2)
        world.client("sqs").delete_queue(QueueUrl=world.pipeline.queue_url())
        world.play("site").ended_well()
    world.tune()
    yield


# Every record counts as done, and nothing is stored: what a careless change of the function may come to.
FORGETFUL = (
    ("lambda_function.py", "    ready = [state for state in states if state.item]\n", "    ready: list[RecordState] = []\n"),
    (
        "lambda_function.py",
        "    unsettled = [state for state in states if state.outcome in (Outcome.RETRIED, Outcome.REDRIVE)]\n",
        "    unsettled: list[RecordState] = []\n",
    ),
)


@contextlib.contextmanager
def functions_deployed(world: World) -> Iterator[None]:
    """By site.yml, which tries a version before it goes live: one that stores nothing, and then a good one."""
    source = Path(tempfile.mkdtemp(dir=world.directory))
    for path in (ROOT / "lambda_src").glob("*.py"):
        shutil.copy2(path, source)
    for name, text, other in FORGETFUL:
        replace_once(source / name, text, other)
    run = world.play("site", "--tags", "stream_processor", stream_processor_source=str(source))
    assert run.status != 0, "a function that stores nothing went live"
    world.play("site", "--tags", "stream_processor").ended_well()
    yield


FAULTS = (
    Fault("producer killed between every pair of steps", producer_killed, "an outbox: committed before it is sent, marked after",
          marked_before_it_is_sent, seconds=1, mixes=False),
    Fault("function killed", function_killed, "what is stored already counts as done", duplicates_are_conflicts),
    Fault("function timing out", deliveries(timed_out=0.7), "many receives before a message is given up", receives(1)),
    Fault("table throttled", requests({"actions": INSERTS, "kinds": ["throttling", "entries"]}), "each record that failed is reported",
          nothing_is_reported),
    Fault("table gone, with what it held", table_gone, "bodies are kept until they are reconciled", nothing_is_done,
          recovery="resend --lost, and replay of the conflicts", recover=resend_lost_and_judge_conflicts_anew, mixes=False),
    Fault("queue refusing sends", requests({"actions": SENDS, "queue": QUEUE, "kinds": ["throttling", "error_503", "closed_before"]}),
          "what was not taken stays unsent", failed_requests_are_dropped),
    Fault("some entries of a batch refused", requests({"actions": SENDS, "queue": QUEUE, "kinds": ["entries"]}),
          "only what SQS says it took is marked", every_entry_counts_as_taken),
    Fault("dead-letter queue refusing sends", requests({"actions": SENDS, "queue": f"{QUEUE}-dlq", "kinds": ["error_500", "throttling"]}),
          "a record is settled only when it is quarantined", quarantine_is_assumed, seconds=6),
    Fault("answers lost after the call took effect", requests({"actions": [*SENDS, *INSERTS], "kinds": ["closed_after"], "rate": 0.6}),
          "what is stored already counts as done", duplicates_are_conflicts),
    Fault("delivered twice, and out of order", deliveries(twice=0.6, shuffled=0.6, twice_seconds=3), "the first write wins",
          last_write_wins, seconds=6),
    Fault("credentials expired", requests({"actions": SENDS, "queue": QUEUE, "kinds": ["expired"]}), "what was refused stays unsent",
          refusals_are_dropped),
    Fault("clock twenty minutes slow", clock_wrong, "what was refused stays unsent", refusals_are_dropped, mixes=False),
    Fault("ReportBatchItemFailures removed", partial_answers_ignored, "reconciliation names what is lost", nothing_is_done,
          recovery="resend --lost", recover=resend_lost, mixes=False),
    Fault("deploys under load, the first of a function that stores nothing", functions_deployed, "a version is tried before it goes live",
          nothing_is_done, seconds=1, instead=patched_function(*FORGETFUL), mixes=False),
    Fault("site under load, the producer changed", site_changes_the_producer, "what is there is changed, not replaced",
          nothing_is_done, seconds=1, instead=queue_made_anew, mixes=False),
)  # fmt: skip

# AWS, as deployed: a visibility timeout of 185 s and 21 receives last 3,700 s, which an outage of an hour nearly uses up. So here.
OUTAGE_RECEIVES = 21
OUTAGE_SHARE = 3600 / (185 * (OUTAGE_RECEIVES - 1))


def lasting_an_hour(inject: Context, visibility: int) -> Context:
    """Time compressed: as large a part of what the receives last as an hour is of what they last as deployed."""

    @contextlib.contextmanager
    def lasting(world: World) -> Iterator[None]:
        with inject(world):
            world.stream.pass_by(OUTAGE_SHARE * visibility * (OUTAGE_RECEIVES - 1))
        yield

    return lasting


def receives_of(count: int, visibility: int) -> Context:
    """What a message has before it is given up."""

    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        world.set_visibility(visibility)
        try:
            with receives(count)(world):
                yield
        finally:
            world.tune()

    return inject
