"""Whatever a transaction holds, nothing of it reaches a terminal but what can be printed; a printed command can be run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from ansible.module_utils.pipeline.core.checks import make_check
from ansible.module_utils.pipeline.core.terminal import aws_command, printable
from ansible.module_utils.pipeline.report.table import make_report
from hypothesis import given
from hypothesis import strategies as st
from quarantine_fakes import emulated, record
from reconciliation_fakes import World, body, entry

NASTY = "a\x1b[2J\x1b]0;title\x07\r\n\x9b31m\u202e\u2028\x7f"
texts = st.text(st.characters() | st.sampled_from(NASTY) | st.characters(categories=["Cs"]))


@given(texts)
def test_any_text_becomes_printable_and_what_is_stays(text: str):
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    if text.isprintable():
        assert printable(text) == text


@given(texts)
def test_a_report_prints_lines_of_its_own_alone(text: str):
    found = {"check": text, "passed": False, "expected": text, "found": text, "remedy": text}
    for check in (found, make_check(text, False, text, text, remedy=text)):
        report = make_report([{"checks": [check]}, {"failed": True, "msg": text}], "Title")
        assert all(line.isprintable() for line in [*report.table, *report.message.split("\n")])
        assert len(report.message.split("\n")) == 4 + bool(text)


def test_what_a_reconciliation_finds_can_be_printed(aws: None, tmp_path: Path):
    world = World(tmp_path)
    world.ledger(entry(NASTY), entry(f"altered{NASTY}"))
    world.store(body(f"altered{NASTY}"), merchant=NASTY)
    world.store(body(f"nobody's{NASTY}", "5"))
    found = world.failed(world.run())
    assert len(found) >= 3
    assert all(text.isprintable() for text in found.values())


@pytest.mark.parametrize("action", ["list", "archive", "replay", "purge"])
def test_what_the_quarantine_tells_can_be_printed(tmp_path: Path, action: str):
    with emulated() as made:
        world = made.emptied(tmp_path)
        nasty = NASTY.replace("\x07", "").replace("\x1b", "\x7f")  # of what SQS takes
        world.add_dead_letter(record(1, transaction_id=NASTY, merchant=NASTY), "conflict", outbox_id=nasty)
        world.add_dead_letter(record(2, transaction_id=NASTY, amount=NASTY), nasty)
        world.dynamodb.put_item(TableName="RealTimeTransactions", Item={"transaction_id": {"S": NASTY}, "amount": {"N": "1"}})
        for repair in ["parse amount"], ["rename amount x"]:
            report = world.act(action, repair if action == "replay" else None, confirmed=action != "replay")
            assert report.lines
            assert all(line.isprintable() for line in [*report.lines, *report.errors])


CLOUDS = {
    "aws": {"AWS_PROFILE": "default", "AWS_REGION": "eu-central-1"},
    "a profile with a quote": {"AWS_PROFILE": "Ann's $HOME", "AWS_REGION": "us-east-1"},
    "embedded": {
        "AWS_CONFIG_FILE": "/a clone/.local/aws.cfg",
        "AWS_PROFILE": "embedded-cloud",
        "AWS_REGION": "us-east-1",
        "AWS_URL": "http://127.0.0.1:4566",
    },
}


@pytest.mark.parametrize("cloud", CLOUDS.values(), ids=list(CLOUDS))
def test_a_command_is_for_the_cloud_that_the_module_works_on(monkeypatch: pytest.MonkeyPatch, cloud: dict[str, str]):
    for name in CLOUDS["embedded"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in cloud.items():
        monkeypatch.setenv(name, value)
    words = shlex.split(aws_command("lambda list-functions --max-items 1"))
    assert words[: words.index("aws")] == [f"{name}={value}" for name, value in cloud.items() if name == "AWS_CONFIG_FILE"]
    given = words[words.index("aws") + 1 :]
    assert given[:4] == ["lambda", "list-functions", "--max-items", "1"]
    options = dict(zip(given[4::2], given[5::2], strict=True))
    url = {"--endpoint-url": cloud["AWS_URL"]} if "AWS_URL" in cloud else {}
    assert options == {"--profile": cloud["AWS_PROFILE"], "--region": cloud["AWS_REGION"]} | url


def test_no_other_command_of_the_aws_cli_is_printed():
    files = [path for path in (Path(__file__).parents[4] / "plugins").rglob("*.py") if path.name != "terminal.py"]
    assert len(files) > 50
    assert [str(path) for path in files if re.search(r"\baws [a-z0-9]+ [a-z]+-[a-z-]+", path.read_text(encoding="utf-8"))] == []
