"""However deeply a body is nested, whoever reads it goes on: it is quarantined, reconciled, listed and exported like any other."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.pipeline.aws.dead_letter_queue import transaction_id_in
from ansible.module_utils.pipeline.core.bounded_json import LEVELS, decode
from ansible.module_utils.pipeline.core.content import differing, fingerprint, read_body, shown, storable
from ansible.module_utils.pipeline.export.run import ExportError, whole_ledger
from ansible.module_utils.pipeline.quarantine.archive import ArchiveError, purged
from ansible.module_utils.pipeline.quarantine.repairs import NotRepairableError, Repair, repaired
from ansible.module_utils.pipeline.reconciliation.ledger import LedgerError, LedgerExport
from feed_lines import parse_line
from hypothesis import given
from hypothesis import strategies as st
from lambda_harness import emulated, message, process
from quarantine_fakes import World as Quarantine
from quarantine_fakes import emulated as emulated_quarantine
from quarantine_fakes import text
from reconciliation_fakes import HOST, Entry, World
from transaction import InvalidRecord, parse

DEPTHS = [1, 32, 100, 500, 700, 950, 1_000, 10_000, 100_000]
OPENINGS = {"lists": ("[", "]"), "objects": ('{"a":', "}"), "both": ('[{"a":', "}]")}
depths = pytest.mark.parametrize("depth", DEPTHS)


def nested(depth: int, form: str = "lists", identity: str = "a") -> str:
    """A transaction that is valid but for a member nested so deeply."""
    opening, closing = OPENINGS[form]
    return f'{{"transaction_id": "{identity}", "amount": 1.5, "deep": {opening * depth}1{closing * depth}}}'


@depths
@pytest.mark.parametrize("form", OPENINGS)
def test_every_reader_of_a_body_answers(depth: int, form: str):
    body = nested(depth, form)
    found = read_body(body)
    fits = storable(found)
    assert transaction_id_in(body) == "a"
    assert len(fingerprint(found or {})) == 32
    assert differing(found or {}, {}) == ["amount", "deep", "transaction_id"][: 3 * bool(found)]
    assert shown(found or {}, "deep") is None or found
    try:
        parse(body)
    except InvalidRecord as error:
        assert (error.reason, fits) == ("nesting_too_deep", False)
    else:
        assert fits
    judged = parse_line(body.encode(), 2**20)
    assert judged in ("not_json", "too_large") or judged.body == body
    if found is None:
        with pytest.raises(NotRepairableError, match=f"nested in more than {LEVELS} levels"):
            repaired(body, [Repair.read("set amount 2")])
    else:
        assert '"amount": 2,' in repaired(body, [Repair.read("set amount 2")])


@depths
def test_what_surrounds_a_body_is_refused_with_its_own_error(depth: int, tmp_path: Path):
    path, deep = tmp_path / "deep.jsonl.gz", "[" * depth + "]" * depth
    lines: dict[type[Exception], Callable[[], object]] = {
        LedgerError: lambda: list(LedgerExport(str(path))),
        ArchiveError: lambda: list(purged(tmp_path)),
        ExportError: lambda: whole_ledger(path),
    }
    for line in (deep, f'{{"ledger": {deep}}}', f'{{"outbox_id": {deep}}}', f'{{"archive": "q", "messages": {deep}}}'):
        path.write_bytes(gzip.compress(line.encode() + b"\n"))
        for error, read in lines.items():
            with pytest.raises(error):
                read()
    if depth > LEVELS:
        with pytest.raises(ValueError, match="expected JSON"):
            Repair.read(f"set extra {deep}")


def test_the_function_quarantines_it():
    with emulated():
        bodies = [nested(depth, form) for depth in DEPTHS if depth > 32 for form in OPENINGS]
        records = [message(body, f"m-{number}") for number, body in enumerate(bodies)]
        for record in records:
            assert process(record) == set(), "it was not quarantined"


def test_the_quarantine_lists_archives_and_leaves_it(tmp_path: Path):
    with emulated_quarantine() as world:
        of_the_quarantine(world.emptied(tmp_path))


def of_the_quarantine(world: Quarantine) -> None:
    # SQS takes 256 KiB here.
    bodies = [nested(depth, identity=f"t-{depth}") for depth in DEPTHS if depth > 32]
    for body in bodies:
        world.add_dead_letter(body, "nesting_too_deep")
    # A history that somebody else wrote is kept as it was found.
    world.add_dead_letter(nested(1), "throttled", text(history="[" * 5_000))
    assert world.act("list", samples=99).facts["total"] == len(bodies) + 1
    assert world.act("archive").facts["archived"] == len(bodies) + 1
    for repair in ([], ["set amount 2"]):
        report = world.act("replay", repair, confirmed=False)
        assert (report.facts["left_count"], report.facts["sent"], report.errors) == (len(bodies), 1, [])
    assert world.act("replay").facts["sent"] == 1


def test_sent_twice_and_quarantined_it_is_reconciled(aws: None, tmp_path: Path):
    world = World(tmp_path)
    bodies = [nested(depth, identity=f"t-{depth}") for depth in DEPTHS if depth > 32]
    entries = [Entry(f"t-{number}", body) for number, body in enumerate(bodies)]
    world.ledger(*entries, *entries)
    for number, body in enumerate(bodies, start=1):
        world.quarantine(body, f"{HOST}/{number}", "nesting_too_deep")
        world.quarantine(body, f"{HOST}/{number + len(bodies)}", "conflict")
    assert world.failed(run := world.run()) == {}
    counts = {"sent": len(bodies), "quarantined": len(bodies), "copies": len(bodies)}
    assert run.matcher.counts() | counts == run.matcher.counts()
    assert len(world.report(run)["conflicts"]) == len(bodies)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\ab', max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='[{"\\', max_size=4), inner),
    max_leaves=60,
)


@given(values)
def test_what_is_not_deep_is_read_whatever_brackets_its_texts_hold(value: object):
    wide = [value, "[" * 200, '"{' * 200, "\\", *([[]] * 200)]
    assert decode(json.dumps(wide)) == wide


@given(st.text(alphabet='[]{}"\\,: 1a', max_size=400), st.integers(0, 3))
def test_no_text_ends_the_reading_in_another_way(text: str, times: int):
    try:
        decode(text * 10**times)
    except ValueError:
        return
