"""The module pipeline_reconciliation as Ansible runs it: what it returns and writes, and what it refuses."""

from __future__ import annotations

import json
import runpy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from aws_fakes import TABLE
from reconciliation_fakes import HOST, Entry, World, body, entry

MODULE = Path(__file__).resolve().parents[4] / "plugins" / "modules" / "pipeline_reconciliation.py"


@pytest.fixture
def module(world: World, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(check_mode: bool = False, **options: Any) -> dict[str, Any]:
        given = {
            "ledgers": world.ledgers,
            "table": TABLE,
            "queue_url": world.queue_url,
            "dead_letter_queue_url": world.quarantine_url,
            "report_directory": str(world.directory / "report"),
            "settle_seconds": 1,
            "timeout": 5,
            "region": "us-east-1",
            "_ansible_check_mode": check_mode,
        }
        with patch_module_args(given | options), pytest.raises(SystemExit):
            runpy.run_path(str(MODULE), run_name="__main__")
        return json.loads(capsys.readouterr().out)

    return run


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def plant(world: World) -> None:
    """One stored, one lost, one altered, and one of each of the latter two whose body was pruned."""
    world.ledger(
        entry("stored"),
        entry("lost"),
        entry("altered"),
        Entry("lost-pruned", None, "reconciled"),
        Entry("altered-pruned", None, "reconciled"),
    )
    world.store(body("stored"))
    for identity in ("altered", "altered-pruned"):
        world.store(body(identity), amount=Decimal(1))


def test_it_returns_what_it_found_and_writes_it_to_files(world: World, module: Any):
    plant(world)
    result = module()
    assert result["changed"] is False
    assert {name: count for name, count in result["counts"].items() if count} == {"sent": 5, "stored": 1, "lost": 2, "altered": 2}
    assert result["settled_through"] == {HOST: 1}
    assert lines(result["lost_file"]) == [{"outbox_id": f"{HOST}/2", "transaction_id": "lost"}]
    assert lines(result["altered_file"]) == [{"outbox_id": f"{HOST}/3", "transaction_id": "altered"}]
    assert (result["to_resend"], Path(result["repaired_file"]).exists()) == ({"lost": 1, "repaired": 0}, False)
    written = json.loads(Path(result["report_file"]).read_text())
    assert [(one["transaction_id"], one["resendable"]) for one in written["lost"]] == [("lost", True), ("lost-pruned", False)]
    assert written["counts"] == result["counts"]
    assert result["aws_seconds"] == round(result["read_units"] / 25, 1) > 0


def test_a_repair_deletes_only_what_can_be_sent_again(world: World, module: Any):
    plant(world)
    result = module(repair_altered=True)
    assert (result["changed"], result["repaired"], result["to_resend"]["repaired"]) == (True, 1, 1)
    assert lines(result["repaired_file"]) == [{"outbox_id": f"{HOST}/3", "transaction_id": "altered", "body": body("altered")}]
    assert world.stored() == {"stored", "altered-pruned"}


def test_what_only_a_producer_that_is_gone_could_send_again_is_left_alone(world: World, module: Any):
    plant(world)
    world.ledger(entry("both", "9.00"), name="gone")
    world.ledger(entry("both", "9.00"), name="web-2")
    result = module(repair_altered=True, ledgers=world.ledgers[2:], kept_ledgers=world.ledgers[:2])
    assert result["counts"] | {"lost": 3, "altered": 2} == result["counts"]
    assert (result["changed"], result["repaired"], world.stored()) == (False, 0, {"stored", "altered", "altered-pruned"})
    assert lines(result["lost_file"]) == [{"outbox_id": "web-2/1", "transaction_id": "both"}]
    failed = {one["check"]: one["found"] for one in result["checks"] if not one["passed"]}
    assert "both," in failed["reconciliation: nothing is lost"]
    assert "lost (cannot be sent again: its body is pruned, or its producer is gone)" in failed["reconciliation: nothing is lost"]


def test_check_mode_deletes_nothing_and_says_what_it_would(world: World, module: Any):
    plant(world)
    result = module(check_mode=True, repair_altered=True)
    assert (result["changed"], result["repaired"], result["to_resend"]["repaired"]) == (True, 1, 0)
    assert "altered" in world.stored()


def test_nothing_is_repaired_while_a_ledger_is_missing(world: World, module: Any):
    """The item may be what the silent producer sent."""
    plant(world)
    result = module(repair_altered=True, missing_ledgers=["web-2"])
    assert (result["changed"], result["repaired"]) == (False, 0)
    assert "altered" in world.stored()


def test_a_table_that_is_not_there_is_a_failed_check_and_no_count(world: World, module: Any):
    world.ledger(entry("a"))
    result = module(table="Nowhere", repair_altered=True)
    (failed,) = [one for one in result["checks"] if not one["passed"]]
    assert failed["check"] == "reconciliation: table, queue and quarantine were read whole"
    assert "ResourceNotFoundException" in failed["found"]
    assert (set(result["counts"].values()), result["settled_through"]) == ({None}, {})


def test_without_any_ledger_nothing_was_looked_at_and_that_fails(world: World, module: Any):
    failed = [one for one in module()["checks"] if not one["passed"]]
    assert [(one["check"], one["expected"]) for one in failed] == [
        ("reconciliation: every producer's ledger is there", "at least one ledger")
    ]


def test_a_ledger_that_is_cut_off_fails_the_module(world: World, module: Any):
    world.ledger(entry("a"))
    path = Path(world.ledgers[0])
    path.write_bytes(path.read_bytes()[:-20])
    result = module()
    assert result["failed"]
    assert f"ledger export {path}, line " in result["msg"]
    assert "it is cut off or damaged" in result["msg"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"settle_seconds": 0}, "settle_seconds must be at least 1: found 0"),
        ({"timeout": -1}, "timeout must be at least 0: found -1"),
        ({"read_rate": -0.5}, "read_rate must be at least 0: found -0.5"),
        ({"read_capacity": 0}, "read_capacity must be at least 1: found 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(world: World, module: Any, options: dict[str, Any], complaint: str):
    assert complaint in module(**options)["msg"]


def test_archives_are_found_in_their_directory(world: World, module: Any):
    world.ledger(entry("a"))
    (world.directory / "exports").mkdir()
    (world.directory / "exports" / "half.jsonl.gz").write_bytes(b"")
    result = module(quarantine_directory=str(world.directory / "exports"))
    assert "half.jsonl.gz is not whole" in result["msg"]
