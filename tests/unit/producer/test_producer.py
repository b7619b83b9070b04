"""The producer's settings and its stream of transactions."""

from __future__ import annotations

import json
import math
import uuid
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import pytest
from producer_fakes import URL, stream_of
from producer_settings import Settings, read_settings
from synthetic_transactions import SyntheticSource

VARIABLES = {"QUEUE_URL": URL, "AWS_REGION": "us-east-1", "PRODUCER_STATE_DIRECTORY": "/state"}

# Settings


def test_a_flag_wins_over_its_variable():
    given_flags = ["--rate", "2.5", "--count", "7", "--seed", "-3", "--linger", "0", "--region", "eu-west-1"]
    found = read_settings(
        given_flags, VARIABLES | {"PRODUCER_RATE": "9", "PRODUCER_COUNT": "8", "PRODUCER_LINGER": "9", "PRODUCER_SEED": "4"}
    )
    assert found == Settings(URL, "eu-west-1", "/state", 2.5, 0.0, 7, -3)


def test_every_option_is_a_variable_too():
    variables = {
        "PRODUCER_RATE": "0.3",
        "PRODUCER_COUNT": "5",
        "PRODUCER_SEED": "12",
        "PRODUCER_LINGER": "30",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "PRODUCER_STATE_DIRECTORY": "/state",
        "PRODUCER_SOURCE": "/feed",
        "PRODUCER_SOURCE_END": "stop",
        "PRODUCER_SOURCE_QUIET": "30",
        "PRODUCER_MESSAGE_BYTES": "2048",
        "PRODUCER_OUTBOX_ROWS": "1000",
        "PRODUCER_OUTBOX_BYTES": "16777216",
    }
    assert read_settings([], {"QUEUE_URL": URL} | variables) == Settings(
        URL, "eu-west-1", "/state", 0.3, 30.0, 5, 12, "/feed", False, 30.0, 2_048, 1_000, 16_777_216
    )


def test_an_empty_variable_counts_as_not_set():
    found = read_settings([], VARIABLES | {"PRODUCER_COUNT": "", "PRODUCER_RATE": " ", "AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1"})
    assert (found.count, found.rate, found.region) == (None, 1.0, "eu-west-1")


@pytest.mark.parametrize(
    "host", ["sqs.eu-central-1.amazonaws.com", "sqs.eu-central-1.amazonaws.com:443", "sqs.eu-central-1.amazonaws.com.cn"]
)
def test_the_region_of_an_amazon_url_is_taken_from_it(host: str):
    assert read_settings(["--queue-url", f"https://{host}/123456789012/q", "--state-directory", "s"], {}).region == "eu-central-1"


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--rate", each) for each in ("0", "-1", "nan", "inf", "10001", "many", "0.00001")]
    + [("--count", each) for each in ("0", "-1", "1.5", "ten")]
    + [("--linger", each) for each in ("-1", "301", "nan", "soon")]
    + [
        ("--seed", "abc"),
        ("--region", "virginia"),
        ("--source-end", "later"),
        ("--source-quiet", "0"),
        ("--message-bytes", "1048577"),
        ("--message-bytes", "1023"),
    ]
    + [("--outbox-rows", "999"), ("--outbox-bytes", "16777215")]
    + [
        ("--queue-url", each)
        for each in ("FinancialTransactionQueue", "ftp://h/000000000000/q", "http://h/1/q", "http://h:99999/000000000000/q")
    ]
    + [("--queue-url", each) for each in ("https://h/000000000000/q.fifo", "https://h/000000000000/q?x=1", "http://h:0/000000000000/q")],
)
def test_a_bad_value_names_flag_variable_and_value_and_exits_with_2(flag: str, value: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        read_settings([f"{flag}={value}"], VARIABLES)
    line = json.loads(capsys.readouterr().err)
    variable = {"--queue-url": "QUEUE_URL", "--region": "AWS_REGION"}.get(flag, f"PRODUCER_{flag[2:].upper().replace('-', '_')}")
    assert ended.value.code == 2
    assert f"argument {flag}: found '{value}', expected" in line["error"] and f"variable {variable}" in line["error"]
    assert line["what_to_do"]


def test_a_bad_variable_is_as_clear_as_a_bad_flag(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        read_settings([], VARIABLES | {"PRODUCER_RATE": "quick"})
    assert "found 'quick', expected a number from 0.0001 to 10000 (variable PRODUCER_RATE)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["QUEUE_URL", "AWS_REGION", "PRODUCER_STATE_DIRECTORY"])
def test_a_missing_setting_is_named(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        read_settings([], {variable: value for variable, value in VARIABLES.items() if variable != name})
    assert ended.value.code == 2 and name in json.loads(capsys.readouterr().err)["error"]


def test_a_password_in_the_url_is_refused_and_not_repeated(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        read_settings(["--queue-url", "https://me:hunter2@h/000000000000/q"], VARIABLES)
    assert "hunter2" not in capsys.readouterr().err


def test_help_names_every_variable(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        read_settings(["--help"], {})
    text = capsys.readouterr().out
    names = ["QUEUE_URL", "PRODUCER_RATE", "PRODUCER_COUNT", "PRODUCER_SEED", "PRODUCER_LINGER", "AWS_REGION", "AWS_DEFAULT_REGION"]
    names += [
        "PRODUCER_STATE_DIRECTORY",
        "PRODUCER_SOURCE",
        "PRODUCER_SOURCE_END",
        "PRODUCER_SOURCE_QUIET",
        "PRODUCER_MESSAGE_BYTES",
        "PRODUCER_OUTBOX_ROWS",
    ]
    names += ["PRODUCER_OUTBOX_BYTES"]
    assert ended.value.code == 0 and [name for name in names if name not in text] == []


# The stream


def test_a_transaction_has_the_six_fields_of_the_design():
    for found in stream_of(200):
        assert list(found) == ["transaction_id", "user_id", "amount", "currency", "timestamp", "merchant"]
        identity = uuid.UUID(found["transaction_id"])
        assert (str(identity), identity.version, identity.variant) == (found["transaction_id"], 4, uuid.RFC_4122)
        assert found["timestamp"].startswith("2026-01-01T") and found["timestamp"].endswith("Z")


def test_an_amount_is_a_number_with_two_decimals_and_was_never_a_float():
    for found in stream_of(3_000):
        assert isinstance(found["amount"], Decimal) and found["amount"].as_tuple().exponent == -2 and found["amount"] > 0


def test_a_body_is_compact_json_in_which_the_amount_has_no_quotes():
    body = SyntheticSource(1.0, 1, 0.0).draw(math.inf, 1).messages[0].body
    written = json.loads(body, parse_float=lambda text: f"<{text}>")
    compact = json.dumps(written, separators=(",", ":"), ensure_ascii=False)
    assert body == compact.replace('"<', "").replace('>"', "")


def test_amounts_hit_every_category():
    categories = Counter(
        "high" if each["amount"] >= 10_000 else "medium" if each["amount"] >= 1_000 else "standard" for each in stream_of(1_000)
    )
    assert categories["high"] >= 20 and categories["medium"] >= 20 and categories["standard"] >= 500


def test_the_same_seed_gives_the_same_stream_to_the_byte():
    assert stream_of(50, seed=7) == stream_of(50, seed=7)
    assert stream_of(50, seed=7) != stream_of(50, seed=8)


def test_the_rate_changes_nothing_but_the_timestamps_of_a_seeded_stream():
    def without(found: list[dict]) -> list[dict]:
        return [{key: value for key, value in each.items() if key != "timestamp"} for each in found]

    assert without(stream_of(50, rate=1.0)) == without(stream_of(50, rate=100.0))


def test_no_seed_gives_a_new_stream_with_the_time_of_day():
    one, other = (json.loads(SyntheticSource(1.0, None, 0.0).draw(math.inf, 1).messages[0].body) for _ in range(2))
    assert one["transaction_id"] != other["transaction_id"] and abs(json_age(one)) < 60


def json_age(found: dict) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(found["timestamp"])).total_seconds()


def test_the_gaps_are_exponential_around_the_rate():
    stream, moments = SyntheticSource(4.0, 5, 0.0), [0.0]
    for _ in range(20_000):
        moments.append(stream.next_moment(0.0))
        stream.draw(moments[-1], 1)
    gaps = [after - before for before, after in pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.25, rel=0.03)
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.015)  # e^-1 of an exponential
