"""An attribute is set when it means something else than what is wanted, and only then."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.queue_attributes import differing

ALLOW = {"redrivePermission": "byQueue", "sourceQueueArns": ["arn:a", "arn:b"]}


@pytest.mark.parametrize(
    ("wanted", "found", "text"),
    [
        (ALLOW, None, '{"redrivePermission": "byQueue", "sourceQueueArns": ["arn:a", "arn:b"]}'),
        (ALLOW, '{"redrivePermission":"allowAll"}', '{"redrivePermission": "byQueue", "sourceQueueArns": ["arn:a", "arn:b"]}'),
        (True, "false", "true"),
        ("", "alias/key", ""),
        (None, "alias/key", ""),
        (30, "31", "30"),
    ],
    ids=["absent", "another", "boolean", "gone", "none", "number"],
)
def test_what_differs_is_sent_as_text(wanted: Any, found: str | None, text: str):
    assert differing({"Name": wanted}, {} if found is None else {"Name": found}) == {"Name": text}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(ALLOW, '{"sourceQueueArns":["arn:b","arn:a"],"redrivePermission":"byQueue"}'), (True, "true"), ("", None), (30, "30")],
    ids=["order", "boolean", "gone", "number"],
)
def test_what_means_the_same_is_not_sent(wanted: Any, found: str | None):
    assert differing({"Name": wanted}, {"Other": "1"} if found is None else {"Name": found}) == {}
