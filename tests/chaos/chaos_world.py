"""A deployed pipeline under a steady stream, and the ways to break it and to look at it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sqlite3
import time
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.pipeline.core.clock import system_clock
from aws_fakes import swept
from chaos_judge import Content, Verdict, judge, read_dead_letters, read_items
from chaos_stream import Line, Stream
from plays import ROOT, Pipeline, Run, free_port, supervisorctl, wait_until

SERVICE = "FinancialTransactionProducer"
FUNCTION, ALIAS = "ProcessFinancialStream", "live"
TABLE = "RealTimeTransactions"
QUEUE = "FinancialTransactionQueue"
RATE = 10
# Seconds after which a message that failed shows again: the deployed 90 would be waited out after every fault. Lambda compares it with the
# function's timeout when the mapping is made or changed, not later; so a slow invocation may meet its own messages again, which is a fault
# as good as any.
VISIBILITY = 3
# How long everything may take to arrive after a fault. A service that ended within its first seconds is started anew after 1, 2, 3 ... s.
RECOVERY_SECONDS = 120
# Counters must be zero so long before what is missing counts as lost: longer than a producer's backoff after its first failures.
QUIET_SECONDS = 4.0


class World:
    """One pipeline, its stream and its faults."""

    def __init__(self, directory: Path, rate: float = RATE) -> None:
        self.directory, self.rate = directory, rate
        self.stream = Stream(directory / "feed.jsonl", rate)
        self.clock_file, self.failpoints = directory / "clock", directory / "failpoints"
        self.failpoints.mkdir()
        # Whether several faults are there at once: of those not each must be met.
        self.mixing = False
        self._failing: list[dict[str, Any]] = []
        self._mishaps: dict[str, float] = {}
        port = free_port()
        producer = {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}/_imds/{SERVICE}/",
            "CHAOS_CLOCK": str(self.clock_file),
            "CHAOS_FAILPOINTS": str(self.failpoints),
        }
        settings = {
            "transaction_table_write_capacity": 1000,
            # The judge reads all of the stream several times a second.
            "transaction_table_read_capacity": 10000,
            "stream_processor_timeout": 15,
            "stream_processor_batching_window": 0,
            "transaction_queue_maximum_receives": 41,
            "producer_service_feed": str(self.stream.path),
            "producer_service_linger": 0.2,
            "probe_timeout": 60,
            "teardown_drain_timeout": 120,
            "reconciliation_settle_seconds": 4,
            "quarantine_directory": str(directory / "quarantine"),
            "producer_service_environment": producer,
        }
        self.pipeline = Pipeline(directory / "pipeline", port, settings)
        self.pipeline.directory.mkdir()

    # --- life ----------------------------------------------------------------------------------------------------------

    def deploy(self) -> None:
        self.pipeline.play("site").ended_well()
        self.tune()

    def deploy_anew(self) -> None:
        """After a teardown: with a stream of its own, since a new outbox would read the old one from its start."""
        self.stream.end()
        self.stream = Stream(self.stream.path.with_name(f"{self.stream.path.stem}-next.jsonl"), self.rate, seed=2)
        self.pipeline.settings["producer_service_feed"] = str(self.stream.path)
        self.deploy()

    def tune(self, **attributes: Any) -> None:
        """The short times of this suite, which site.yml would not deploy."""
        wanted = {"VisibilityTimeout": str(VISIBILITY)} | attributes
        self.client("sqs").set_queue_attributes(QueueUrl=self.pipeline.queue_url(), Attributes=wanted)

    def end(self) -> None:
        self.stream.end()
        if (self.pipeline.directory / "supervisor" / "supervisord.conf").exists():
            supervisorctl(self.pipeline, "shutdown")
            wait_until(lambda: not self.pipeline.processes(), 30, f"an end of {self.pipeline.processes()}")

    def client(self, service: str) -> Any:
        return self.pipeline.client(service)

    def play(self, name: str, *options: str, **settings: Any) -> Run:
        return self.pipeline.play(name, *options, **settings)

    # --- faults --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def failing_requests(self, *documents: dict[str, Any]) -> Iterator[None]:
        """Have requests of the roles fail, beside those that fail already."""
        mine = [{"roles": True, "rate": 1.0} | document for document in documents]
        self._put("faults", self._failing + mine)
        self._failing += mine
        try:
            yield
            # A version of the function that was just made takes its time to start.
            wait_until(lambda: self.mixing or self._requests_met(), 60, "a request that met the fault")
        finally:
            for document in mine:
                self._failing.remove(document)
            self._put("faults", self._failing)

    @contextlib.contextmanager
    def mishaps(self, **shares: float) -> Iterator[None]:
        """Have something go wrong between the queue and the function, beside what goes wrong already."""
        before = dict(self._mishaps)
        self._mishaps |= shares
        self._put("deliveries", self._mishaps)
        try:
            yield
            wait_until(lambda: self.mixing or sum(self._get("deliveries")["met"].values()), 60, "a delivery that met the fault")
        finally:
            for name in shares:
                self._mishaps.pop(name)
            self._mishaps |= {name: share for name, share in before.items() if name in shares}
            self._put("deliveries", self._mishaps)

    def _requests_met(self) -> int:
        counts = self._get("faults")
        return sum(sum(one["faults"].values()) for one in (counts if isinstance(counts, list) else [counts]))

    def _put(self, page: str, document: Any) -> None:
        put(self.pipeline, page, document)

    def _get(self, page: str) -> Any:
        with urllib.request.urlopen(f"{self.pipeline.endpoint}/_embedded_cloud/{page}", timeout=30) as response:
            return json.load(response)

    def set_visibility(self, seconds: int) -> None:
        self.tune(VisibilityTimeout=str(seconds))

    # --- the producer --------------------------------------------------------------------------------------------------

    @property
    def service_directory(self) -> Path:
        return self.pipeline.directory / SERVICE

    @property
    def outbox(self) -> Path:
        return next(self.service_directory.rglob("outbox.sqlite3"))

    def service_pid(self) -> int:
        """0 while the service does not run."""
        found = supervisorctl(self.pipeline, "pid", SERVICE).strip()
        return int(found) if found.isdecimal() else 0

    def restart_service(self) -> None:
        supervisorctl(self.pipeline, "restart", SERVICE)
        wait_until(self.service_pid, 30, "a service that runs")

    def kill_service(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            pid = self.service_pid()
            if pid:
                os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def patched_producer(self, *patches: tuple[str, str, str]) -> Iterator[None]:
        """Have the service run with (file, text, other text) replaced, each exactly once, and with what is in `inside` at hand."""
        program = self.service_directory / "financial_producer.pyz"
        kept = program.read_bytes()
        with zipfile.ZipFile(program) as archive:
            sources = {name: archive.read(name).decode() for name in archive.namelist()}
        program.write_bytes(packed(sources, patches))
        self.restart_service()
        try:
            yield
        finally:
            program.write_bytes(kept)
            self.restart_service()

    # --- the function --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def patched_function(self, *patches: tuple[str, str, str]) -> Iterator[None]:
        """Have the alias point to a version with (file, text, other text) replaced, each exactly once."""
        functions = self.client("lambda")
        before = functions.get_alias(FunctionName=FUNCTION, Name=ALIAS)["FunctionVersion"]
        functions.update_function_code(FunctionName=FUNCTION, ZipFile=packed(python_files(ROOT / "lambda_src"), patches))
        self._settled()
        version = functions.publish_version(FunctionName=FUNCTION)["Version"]
        functions.update_alias(FunctionName=FUNCTION, Name=ALIAS, FunctionVersion=version)
        try:
            yield
        finally:
            functions.update_alias(FunctionName=FUNCTION, Name=ALIAS, FunctionVersion=before)
            functions.update_function_code(FunctionName=FUNCTION, ZipFile=packed(python_files(ROOT / "lambda_src"), ()))
            self._settled()
            functions.delete_function(FunctionName=FUNCTION, Qualifier=version)

    def _settled(self) -> None:
        functions = self.client("lambda")
        wait_until(
            lambda: functions.get_function_configuration(FunctionName=FUNCTION)["LastUpdateStatus"] == "Successful",
            30,
            "an updated function",
        )

    def mapping(self) -> str:
        (mapping,) = self.client("lambda").list_event_source_mappings(FunctionName=f"{FUNCTION}:{ALIAS}")["EventSourceMappings"]
        return mapping["UUID"]

    # --- what became of the stream ---------------------------------------------------------------------------------------

    def dead_letters(self) -> dict[str, list[Content]]:
        with swept(self.client("sqs"), self.pipeline.queue_url("-dlq"), system_clock(), 30) as found:
            assert found.complete, found.error
            return read_dead_letters(message.body for message in found.messages)

    def verdict(self, lines: Iterable[Line]) -> Verdict:
        sent = list(lines)
        return judge(sent, read_items(self.client("dynamodb"), TABLE, (line.transaction_id for line in sent)), self.dead_letters())

    def waiting(self) -> int:
        """Messages of the queue, in whatever state; and what the outbox has not sent, or not read of the feed."""
        names = [f"ApproximateNumberOfMessages{state}" for state in ("", "NotVisible", "Delayed")]
        counts = self.client("sqs").get_queue_attributes(QueueUrl=self.pipeline.queue_url(), AttributeNames=names)["Attributes"]
        return sum(int(count) for count in counts.values()) + self.unsent()

    def unsent(self) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self.outbox}?mode=ro", uri=True, timeout=10)) as connection:
            (unsent,) = connection.execute("SELECT count(*) FROM entry WHERE state = 'unsent'").fetchone()
            (offset,) = connection.execute("SELECT coalesce(max(offset), 0) FROM feed_file").fetchone()
        return unsent + (offset < self.stream.path.stat().st_size)

    def flow(self) -> int:
        """Have the stream flow and see it arrive: what was changed before has started then. Gives the number of its first line."""
        first = len(self.stream.lines)
        self.stream.start()
        self.stream.pass_by(0.5)

        def arrived() -> bool:
            ids = {line.transaction_id for line in self.stream.lines[first:] if not line.invalid}
            return bool(read_items(self.client("dynamodb"), TABLE, ids))

        wait_until(arrived, RECOVERY_SECONDS, "a transaction of the stream in the table")
        return first

    def is_deployed(self) -> bool:
        return TABLE in self.client("dynamodb").list_tables()["TableNames"]

    def reconciled(self) -> dict[str, int]:
        """What the pipeline's own reconciliation counts."""
        run = self.play("reconcile")
        report = max((self.pipeline.directory / "reconcile").glob("*.json"), key=lambda path: path.stat().st_mtime, default=None)
        assert report, run.output[-3000:]
        return json.loads(report.read_text(encoding="utf-8"))["counts"]

    def settle(self, lines: list[Line], seconds: float = RECOVERY_SECONDS) -> None:
        """Return when each line is where it belongs, or nothing is under way any more, or the time is up."""
        # An invalid line, and one with another amount, belong in the dead-letter queue, whose reading takes a while: only at the end.
        plain = {line.transaction_id for line in lines if not line.invalid}
        end, quiet_since = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < end:
            if self.waiting():
                quiet_since = time.monotonic()
            if plain <= read_items(self.client("dynamodb"), TABLE, plain).keys() and self.verdict(lines).harm == 0:
                return
            if time.monotonic() - quiet_since > QUIET_SECONDS:
                return
            pause()


def put(pipeline: Pipeline, page: str, document: Any) -> None:
    """Set what goes wrong in the embedded cloud; nothing for an empty document."""
    body = json.dumps(document or {}).encode()
    request = urllib.request.Request(f"{pipeline.endpoint}/_embedded_cloud/{page}", body, method="PUT")
    with urllib.request.urlopen(request, timeout=30):
        pass


def pause() -> None:
    """Between two looks."""
    time.sleep(0.25)


def replace_once(path: Path, text: str, other: str) -> None:
    """A protection that is no longer where it was taken away from must not be thought removed."""
    source = path.read_text(encoding="utf-8")
    assert source.count(text) == 1, f"{path} has {source.count(text)} times: {text}"
    path.write_text(source.replace(text, other), encoding="utf-8")


def python_files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.py")}


def packed(sources: dict[str, str], patches: Iterable[tuple[str, str, str]]) -> bytes:
    """A zip of these files (name: text), with (file, text, other text) replaced."""
    for name, text, other in patches:
        assert sources[name].count(text) == 1, f"{name} has {sources[name].count(text)} times: {text}"
        sources[name] = sources[name].replace(text, other)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), source)
    return content.getvalue()
