"""What holds for any money and any message: the function, the table and the report say the same to the last digit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from ansible.module_utils.pipeline.aws.dead_letter_queue import QuarantinedMessage
from ansible.module_utils.pipeline.core.content import OWN_FIELDS, differing, fingerprint, plain, read_body, shown, storable
from ansible.module_utils.pipeline.reconciliation.matching import Matcher
from hypothesis import HealthCheck, assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lambda_harness import Cloud, body, emulated, message, process
from reconciliation_fakes import HOST, Entry, export
from strategies import bodies, good, numerals
from transaction import OWN_FIELDS as FUNCTIONS_OWN_FIELDS
from transaction import InvalidRecord, differing_fields, parse

examples = hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Any amount that DynamoDB can hold: 38 digits, from 1E-130 to 9.9...E+125.
amounts = st.tuples(st.integers(0, 10**38 - 1), st.integers(-130, 88)).map(lambda parts: f"{parts[0]}e{parts[1]}")
cents = st.decimals(0, 10**12, places=2).map(str)


def reconciled(cloud: Cloud, path: Path, entries: list[Entry]) -> Matcher:
    """The matcher of these entries, against what the cloud of the function's tests holds."""
    matcher = Matcher()
    list(matcher.load(export(path / "ledger.jsonl.gz", entries)))
    matcher.close_ledgers()
    matcher.match_items(cloud.items(), lambda item: False)
    for dead_letter in cloud.dead_letters():
        names = {name: attribute["StringValue"] for name, attribute in dead_letter["MessageAttributes"].items()}
        message_id, outbox_id, sent = dead_letter["MessageId"], names.get("outbox_id"), datetime.fromtimestamp(0, UTC)
        matcher.add_quarantined(QuarantinedMessage(message_id, "", "", {}, names["reason"], "", outbox_id, None, None, sent, 1))
    matcher.mark_lost()
    matcher.classify()
    return matcher


def identity(text: str) -> str | None:
    """The id that a producer reads from a body, if there is one."""
    found = (read_body(text) or {}).get("transaction_id")
    return found if isinstance(found, str) else None


def test_money_survives_from_json_to_the_report_to_the_last_digit(tmp_path: Path):
    with emulated() as cloud:

        @examples
        @given(amounts | cents)
        def check(amount: str) -> None:
            cloud.reset()
            text = body(amount=...)[:-1] + f', "amount": {amount}}}'
            assert process(message(text, "m-1", outbox_id=f"{HOST}/1")) == set()
            assert reconciled(cloud, tmp_path, [Entry("t-1", text)]).counts()["stored"] == 1
            item = cloud.item("t-1") or {}
            assert Decimal(shown(read_body(text) or {}, "amount") or "") == Decimal(shown(plain(item), "amount") or "") == Decimal(amount)

        check()


def test_any_other_amount_in_the_table_is_reported_with_both_to_the_last_digit(tmp_path: Path):
    with emulated() as cloud:

        @examples
        @given(amounts | cents, amounts | cents)
        @example("0.00", f"{10**38 - 1}e88")
        def check(sent: str, stored: str) -> None:
            assume(Decimal(sent) != Decimal(stored))
            cloud.reset()
            process(body(amount=...)[:-1] + f', "amount": {stored}}}')
            text = body(amount=...)[:-1] + f', "amount": {sent}}}'
            (found,) = reconciled(cloud, tmp_path, [Entry("t-1", text)]).altered()
            (field,) = found.fields
            assert (field["field"], Decimal(field["sent"]), Decimal(field["stored"])) == ("amount", Decimal(sent), Decimal(stored))

        check()


def test_any_body_ends_stored_or_quarantined_and_is_reported_so(tmp_path: Path):
    with emulated() as cloud:

        @examples
        @given(st.lists(bodies | good.map(json.dumps), min_size=1, max_size=12))
        def check(texts: list[str]) -> None:
            cloud.reset()
            texts = [text for text in texts if text == text.encode(errors="ignore").decode()]  # SQS takes no lone surrogates
            waiting = {f"m-{n}": message(text, f"m-{n}", outbox_id=f"{HOST}/{n}") for n, text in enumerate(texts, start=1)}
            while waiting:
                failed = process(*waiting.values())
                # What has no room for a reason is moved by SQS as it is.
                assert len(failed) < len(waiting)
                waiting = {name: record for name, record in waiting.items() if name in failed}
            matcher = reconciled(cloud, tmp_path, [Entry(identity(text), text) for text in texts])
            counts = matcher.counts()
            assert counts["sent"] == counts["stored"] + counts["quarantined"]
            assert (counts["lost"], counts["altered"], counts["repaired"], matcher.count("doubled")) == (0, 0, 0, 0)

        check()


@examples
@given(bodies | good.map(json.dumps) | numerals.map(lambda text: f'{{"transaction_id": "t", "amount": {text}}}'))
def test_what_the_function_would_store_is_storable_and_the_same(text: str):
    try:
        item = parse(text)
    except InvalidRecord:
        assert not storable(read_body(text))
        return
    assert storable(read_body(text))
    assert differing(read_body(text) or {}, item) == []
    assert fingerprint(read_body(text) or {}) == fingerprint(plain(item))


@examples
@given(good.map(json.dumps), good.map(json.dumps))
def test_both_readings_agree_on_what_differs(one: str, other: str):
    assert differing(read_body(one) or {}, parse(other)) == differing_fields(parse(one), parse(other))


@examples
@given(good.map(json.dumps), good.map(json.dumps))
def test_two_bodies_have_one_fingerprint_exactly_when_they_store_the_same(one: str, other: str):
    same = fingerprint(read_body(one) or {}) == fingerprint(read_body(other) or {})
    assert same == (differing_fields(parse(one), parse(other)) == [])


def test_the_functions_own_fields_are_left_out_by_both():
    assert FUNCTIONS_OWN_FIELDS <= OWN_FIELDS
