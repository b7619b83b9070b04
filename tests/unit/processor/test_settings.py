"""The function's environment: what is read, and the error that names what is wrong with it."""

from __future__ import annotations

from decimal import Decimal

import lambda_harness
import pytest
from processor_settings import Settings, SettingsError, settings

GOOD = {
    "TABLE_NAME": "RealTimeTransactions",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/000000000000/dead",
    "HIGH_VALUE_THRESHOLD": "10000",
    "MEDIUM_VALUE_THRESHOLD": "1000.5",
    "AWS_LAMBDA_FUNCTION_VERSION": "7",
}


def test_a_good_environment_is_read_with_exact_thresholds():
    expected = Settings("RealTimeTransactions", GOOD["DEAD_LETTER_QUEUE_URL"], Decimal("10000"), Decimal("1000.5"), "7")
    assert Settings.read(GOOD) == expected


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_variable_is_named(name: str):
    with pytest.raises(SettingsError, match=name):
        Settings.read({key: value for key, value in GOOD.items() if key != name})


BAD = [
    ("TABLE_NAME", 'x"; DROP'),
    ("TABLE_NAME", "ab"),
    ("TABLE_NAME", "RealTimeTransactions\n"),
    ("DEAD_LETTER_QUEUE_URL", "arn:aws:sqs:us-east-1:000000000000:dead"),
    ("HIGH_VALUE_THRESHOLD", "many"),
    ("HIGH_VALUE_THRESHOLD", "NaN"),
    ("HIGH_VALUE_THRESHOLD", "Infinity"),
    ("MEDIUM_VALUE_THRESHOLD", "-1"),
    ("MEDIUM_VALUE_THRESHOLD", "10000.01"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "live"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_wrong_variable_is_named_with_what_was_found(name: str, value: str):
    with pytest.raises(SettingsError) as caught:
        Settings.read(GOOD | {name: value})
    assert name in str(caught.value)
    assert value.strip() in str(caught.value)


def test_equal_thresholds_leave_no_medium_category():
    equal = Settings.read(GOOD | {"MEDIUM_VALUE_THRESHOLD": "10000"})
    assert [equal.category(Decimal(amount)) for amount in ("9999.99", "10000")] == ["standard", "high_value"]


def test_a_wrong_environment_fails_the_invocation_before_any_call():
    with lambda_harness.emulated(HIGH_VALUE_THRESHOLD="much") as cloud:
        with pytest.raises(SettingsError, match="HIGH_VALUE_THRESHOLD is 'much'"):
            lambda_harness.process(lambda_harness.body())
        assert cloud.calls == []


def test_the_environment_is_read_once():
    with lambda_harness.emulated():
        assert settings() is settings()
