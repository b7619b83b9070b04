"""Late and repeated messages: the first write stays as it is, and a batch costs the calls that docs/reconciliation.md says."""

from __future__ import annotations

from collections import Counter

import pytest
from lambda_harness import Cloud, body, emulated, message, process

BATCH = 10


def batch(amount: str = "12.30") -> list[dict]:
    return [message(body(transaction_id=f"t-{number}", amount=...)[:-1] + f', "amount": {amount}}}') for number in range(BATCH)]


def calls(cloud: Cloud) -> Counter[str]:
    return Counter(name for name, _ in cloud.calls)


def test_a_batch_of_new_transactions_takes_one_insert():
    with emulated() as cloud:
        assert process(*batch()) == set()
        assert calls(cloud) == {"BatchExecuteStatement": 1}


@pytest.mark.parametrize("times", [1, 3])
def test_a_batch_that_comes_again_takes_one_insert_and_one_read_and_changes_nothing(times: int):
    with emulated() as cloud:
        process(*batch())
        first = cloud.items()
        for _ in range(times):
            cloud.calls.clear()
            assert process(*batch("12.3")) == set()
            assert calls(cloud) == {"BatchExecuteStatement": 1, "BatchGetItem": 1}
        assert cloud.items() == first
        assert cloud.reasons() == []


def test_a_batch_of_conflicts_takes_one_insert_one_read_and_one_send_and_changes_nothing():
    with emulated() as cloud:
        process(*batch())
        first = cloud.items()
        cloud.calls.clear()
        assert process(*batch("13")) == set()
        assert calls(cloud) == {"BatchExecuteStatement": 1, "BatchGetItem": 1, "SendMessageBatch": 1}
        assert cloud.items() == first
        assert cloud.reasons() == ["conflict"] * BATCH


def test_a_repeat_within_its_batch_takes_no_read():
    with emulated() as cloud:
        assert process(*batch()[:5], *batch()[:5]) == set()
        assert calls(cloud) == {"BatchExecuteStatement": 1}
        assert len(cloud.items()) == 5
