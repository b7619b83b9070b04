"""Ledger exports: a whole one is read to the last entry, and one that proves nothing is refused with its path, the line and what to do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.pipeline.reconciliation.ledger import Closing, LedgerError, LedgerExport
from reconciliation_fakes import HOST, NOW, Entry, entry, export

Lines = list[dict[str, Any]]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return Path(export(tmp_path / "web-1.jsonl.gz", [entry("a"), Entry("b", None, "reconciled"), Entry("c", "{}", "unsent")], first=7))


def read(path: Path) -> LedgerExport:
    made = LedgerExport(str(path))
    list(made)
    return made


def rewritten(path: Path, change: Callable[[Lines], Any]) -> Path:
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    change(lines)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    return path


def test_a_whole_export_gives_its_entries_and_what_it_closes_with(whole: Path):
    entries, made = list(LedgerExport(str(whole))), read(whole)
    assert [(one.sequence, one.transaction_id, one.state) for one in entries] == [
        (7, "a", "sent"),
        (8, "b", "reconciled"),
        (9, "c", "unsent"),
    ]
    assert made.closing == Closing(HOST, 3, 7, 9, NOW.timestamp())


def test_an_export_without_entries_is_whole(tmp_path: Path):
    assert read(Path(export(tmp_path / "new.jsonl.gz", []))).closing == Closing(HOST, 0, None, None, NOW.timestamp())


@pytest.mark.parametrize("left", range(0, 100, 7))
def test_an_export_cut_off_anywhere_is_refused(whole: Path, left: int):
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) * left // 100])
    with pytest.raises(LedgerError, match=r"web-1\.jsonl\.gz, line \d+: .*export the ledger again"):
        read(whole)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda lines: lines.pop(), "the closing line is missing"),
        (lambda lines: lines.clear(), "it is empty"),
        (
            lambda lines: lines.pop(0),
            "it closes with 3 entries of ledger web-1-3fa9c2, 7 to 9, but has 2 entries",
        ),
        (lambda lines: lines.pop(1), "it closes with 3 entries"),
        (lambda lines: lines.pop(2), "it closes with 3 entries"),
        (lambda lines: lines.append(lines[0]), "there is more after the closing line"),
        (lambda lines: lines.insert(1, lines[0]), "sequence 7 follows 7"),
        (lambda lines: lines[1].update(outbox_id="web-2/8"), "an entry of ledger web-2 is among those of web-1-3fa9c2"),
        (lambda lines: lines[-1].update(ledger="web-2"), "it closes with 3 entries of ledger web-2"),
        (lambda lines: lines[-1].update(entries="3"), "it is no closing line"),
        (lambda lines: lines[-1].pop("exported_at"), "it is no closing line"),
        (lambda lines: lines[-1].update(exported_at="2026-11-24T12:00:00"), "it is no closing line"),
        (lambda lines: lines[0].update(state="gone"), "it is no entry of a ledger"),
        (lambda lines: lines[0].update(outbox_id="7"), "it is no entry of a ledger"),
        (lambda lines: lines[0].update(outbox_id=f"{HOST}/0"), "it is no entry of a ledger"),
        (lambda lines: lines[0].update(amount=12.3), "it is no entry of a ledger"),
        (lambda lines: lines[0].update(sent_at="yesterday"), "it is no entry of a ledger"),
        (lambda lines: lines[0].pop("transaction_id"), "it is no entry of a ledger"),
        (lambda lines: lines[0].update(body=None), "has no body; export with --bodies"),
        (lambda lines: lines.insert(0, ["entry"]), "it is no object"),
    ],
)
def test_an_export_that_is_not_whole_or_not_an_export_is_refused(whole: Path, change: Callable[[Lines], Any], complaint: str):
    with pytest.raises(LedgerError) as refused:
        read(rewritten(whole, change))
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", gzip.compress(b"not JSON\n"), gzip.compress(b'{"a": "\xff"}\n'), gzip.compress(b"[" * 9999)],
    ids=["an empty file", "no gzip", "no JSON", "no UTF-8", "too deep"],
)
def test_what_is_no_export_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "odd.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"odd\.jsonl\.gz"):
        read(path)


def test_an_export_with_damage_inside_is_refused(whole: Path):
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 0xFF
    whole.write_bytes(bytes(content))
    with pytest.raises(LedgerError):
        read(whole)


def test_an_export_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(LedgerError, match="cannot be read: No such file"):
        read(tmp_path / "none.jsonl.gz")


def test_an_id_that_utf_8_cannot_express_is_read_as_it_is(tmp_path: Path):
    path = Path(export(tmp_path / "odd.jsonl.gz", [Entry("\ud800", "{}")]))
    assert [one.transaction_id for one in LedgerExport(str(path))] == ["\ud800"]
