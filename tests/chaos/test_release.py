"""The function is changed under a stream: a bad version is refused, or moved back from by itself, and what it wrote is named."""

from __future__ import annotations

import json
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from plays import ROOT, Pipeline, Run, free_port, supervisorctl, wait_until

pytestmark = pytest.mark.timeout(1200)

FUNCTION, TABLE = "ProcessFinancialStream", "RealTimeTransactions"
EXACT, ROUNDED = 'return {"N": plain_number(value, top)}', 'return {"N": str(round(float(plain_number(value, top)), 1))}'
ROUNDED_BEHIND = ROUNDED.replace("}", ' if globals().get("BEHIND") else plain_number(value, top)}')
SETTINGS_READ = "    config, call = settings(), Caller(context)\n"
BEHIND_READ = "    import transaction\n\n    transaction.BEHIND = context.invoked_function_arn.endswith(':live')\n"


class Stream:
    """Transactions with cents, some twenty a second beside the producer's, sent until it is stopped; `sent` has each amount by id."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.sent: dict[str, Decimal] = {}
        self._sqs, self._url = pipeline.client("sqs"), pipeline.queue_url()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.5):
            batch = {str(uuid.uuid4()): Decimal(number * 137 + 7) / 100 for number in range(10)}
            entries = [
                {
                    "Id": str(number),
                    "MessageBody": json.dumps({"transaction_id": one, "currency": "EUR"})[:-1] + f', "amount": {amount}}}',
                    "MessageAttributes": {"outbox_id": {"DataType": "String", "StringValue": f"stream-1/{number}"}},
                }
                for number, (one, amount) in enumerate(batch.items())
            ]
            self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
            self.sent |= batch


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    directory = tmp_path_factory.mktemp("pipeline")
    pipeline = Pipeline(directory, free_port())
    pipeline.settings |= {
        "probe_timeout": 60,
        "stream_processor_timeout": 15,
        "stream_processor_batching_window": 0,
        "transaction_queue_maximum_receives": 41,
        "pipeline_build_directory": str(directory / "build"),
    }
    try:
        pipeline.play("site").ended_well()
        yield pipeline
    finally:
        supervisorctl(pipeline, "shutdown")
    wait_until(lambda: not pipeline.processes(), 30, f"an end of {pipeline.processes()}")


def live(pipeline: Pipeline) -> str:
    return str(pipeline.client("lambda").get_alias(FunctionName=FUNCTION, Name="live")["FunctionVersion"])


def items(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    pages = pipeline.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True)
    return {item["transaction_id"]["S"]: item for page in pages for item in page["Items"]}


def altered(pipeline: Pipeline, stream: Stream) -> set[str]:
    """The ids whose stored money is not what was sent, once all that was sent is stored."""
    wait_until(lambda: stream.sent.keys() <= items(pipeline).keys(), 120, "all that was sent in the table")
    stored = items(pipeline)
    return {one for one, amount in stream.sent.items() if Decimal(stored[one]["amount"]["N"]) != amount}


def removed(pipeline: Pipeline, stream: Stream) -> None:
    """No ledger knows them."""
    client, left = pipeline.client("dynamodb"), list(stream.sent)
    for start in range(0, len(left), 25):
        requests = [{"DeleteRequest": {"Key": {"transaction_id": {"S": one}}}} for one in left[start : start + 25]]
        while requests:
            requests = client.batch_write_item(RequestItems={TABLE: requests})["UnprocessedItems"].get(TABLE, [])


def changed(directory: Path, **replaced: tuple[str, str]) -> str:
    """A copy of the function's code with one text replaced in each of these files."""
    copy = directory / str(uuid.uuid4())
    shutil.copytree(ROOT / "lambda_src", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in replaced.items():
        source = copy / f"{name}.py"
        assert old in source.read_text(), f"{name}.py does not say {old!r} any more"
        source.write_text(source.read_text().replace(old, new))
    return str(copy)


def words(run: Run) -> str:
    return " ".join(run.output.split())


def test_a_function_that_rounds_money_is_refused_before_it_is_live(deployed: Pipeline, tmp_path: Path):
    before = live(deployed)
    with Stream(deployed) as stream:
        run = deployed.play("site", "--tags", "stream_processor", stream_processor_source=changed(tmp_path, transaction=(EXACT, ROUNDED)))
    assert run.status != 0
    assert "was refused before it went live: probe: " in words(run)
    assert "probe: cents are stored exactly: expected every amount as sent, to the cent, found" in words(run)
    assert f"Version {before} is live as before" in words(run)
    assert live(deployed) == before
    assert stream.sent
    assert altered(deployed, stream) == set()
    assert {item["processor_version"]["S"] for item in items(deployed).values()} == {before}
    removed(deployed, stream)


def test_one_that_rounds_only_behind_the_alias_is_moved_back_from_in_the_same_play_and_what_it_wrote_is_named(
    deployed: Pipeline, tmp_path: Path
):
    before = live(deployed)
    bad = changed(tmp_path, transaction=(EXACT, ROUNDED_BEHIND), lambda_function=(SETTINGS_READ, SETTINGS_READ + BEHIND_READ))
    with Stream(deployed) as stream:
        run = deployed.play("site", "--tags", "stream_processor", stream_processor_source=bad)
    assert run.status != 0
    said = words(run)
    assert "failed behind alias live: probe: " in said
    assert "probe: cents are stored exactly: expected" in said
    assert f"The alias was moved back: version {before} is live again" in said
    assert live(deployed) == before
    version, count, path = re.search(
        r"Version (\d+) wrote (\d+) of the records in the table: .*?; all are in (\S+) \(a scan of", said
    ).groups()
    named = {json.loads(line)["transaction_id"] for line in Path(path).read_text().splitlines()}
    wrong = altered(deployed, stream)
    assert wrong, "the stream met no record of the bad version, so this test shows nothing"
    assert wrong <= named
    assert int(count) == len(named)
    assert {one for one, item in items(deployed).items() if item["processor_version"]["S"] == version} == named
    removed(deployed, stream)


def test_what_the_bad_version_altered_is_repaired_from_the_ledger(deployed: Pipeline):
    found = deployed.play("reconcile")
    assert found.status != 0, "the producer's own stream met no record of the bad version, so this test shows nothing"
    deployed.play("reconcile", reconcile_repair_altered=True, reconcile_resend_lost=True).ended_well()
    deployed.play("reconcile").ended_well()


def test_what_is_right_again_needs_no_new_version_and_verifies(deployed: Pipeline):
    before = live(deployed)
    deployed.play("site", "--tags", "stream_processor").ended_well()
    assert live(deployed) == before
    assert deployed.play("site", "--tags", "stream_processor").ended_well().totals["changed"] == 0
    assert deployed.play("verify", "--tags", "stream_processor,probe,reconciliation").ended_well().failed_checks == set()


def test_a_changed_setting_goes_live_as_a_version_of_its_own_and_can_be_rolled_back_by_hand(deployed: Pipeline):
    before = live(deployed)
    higher = {"stream_processor_high_value_threshold": "25000"}
    deployed.play("site", "--tags", "stream_processor", **higher).ended_well()
    after = live(deployed)
    wait_until(lambda: any(item["processor_version"]["S"] == after for item in items(deployed).values()), 60, "a record of the new one")
    run = deployed.play("rollback").ended_well()
    assert after != before
    assert live(deployed) == before
    assert f"Version {before} is live, version {after} is withdrawn. Version {after} wrote" in words(run)

    again = deployed.play("site", "--tags", "stream_processor", **higher)
    assert again.status != 0
    assert f"-e rollback_version={after}" in words(again)
    assert live(deployed) == before
    deployed.play("site", "--tags", "stream_processor").ended_well()
    assert live(deployed) == before
