"""What the modules share: options from the documentation, least values, and errors that fail the module."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.pipeline.core.module import OptionError, argument_spec, failing, require_least
from botocore.exceptions import ClientError, EndpointConnectionError

DOCUMENTATION = r"""
module: sample
options:
  name: {description: Its name., type: str, required: true}
  state: {description: Whether it exists., type: str, choices: [present, absent], default: present}
  things:
    description: Things.
    type: list
    elements: dict
    default: []
    suboptions:
      size: {description: How large., type: int, default: 0}
"""


class Failed(Exception):
    """How the module failed, and with what."""


class Module:
    def fail_json(self, **returned: Any) -> None:
        raise Failed("fail_json", returned)

    def fail_json_aws(self, error: Exception, msg: str) -> None:
        raise Failed("fail_json_aws", {"msg": msg, "error": error})


def failure_of(error: BaseException) -> tuple[str, dict[str, Any]]:
    with pytest.raises(Failed) as failed, failing(Module(), "Cannot try", OptionError, OSError):
        raise error
    kind, returned = failed.value.args
    return kind, returned


def test_an_argument_spec_has_what_the_documentation_says_of_each_option():
    assert argument_spec(DOCUMENTATION) == {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "things": {"type": "list", "elements": "dict", "default": [], "options": {"size": {"type": "int", "default": 0}}},
    }


def test_a_value_below_the_least_is_named_with_what_is_allowed():
    require_least({"rate": 0.1, "limit": 0}, rate=0.1, limit=0)
    with pytest.raises(OptionError, match=r"^rate must be at least 0.1: found 0.05$"):
        require_least({"limit": 0, "rate": 0.05}, limit=0, rate=0.1)


@pytest.mark.parametrize(
    "error", [ClientError({"Error": {"Code": "AccessDenied"}}, "GetItem"), EndpointConnectionError(endpoint_url="http://x")]
)
def test_an_error_of_aws_fails_the_module_with_what_cannot_be_done(error: Exception):
    assert failure_of(error) == ("fail_json_aws", {"msg": "Cannot try", "error": error})


def test_an_own_error_fails_the_module_with_its_own_printable_text():
    assert failure_of(OptionError("name is \x1b[2J")) == ("fail_json", {"msg": "name is \\x1b[2J"})
    assert failure_of(OSError("full")) == ("fail_json", {"msg": "full"})


@pytest.mark.parametrize("other", [ValueError("a bug"), SystemExit(0)])
def test_anything_else_passes(other: BaseException):
    with pytest.raises(type(other)), failing(Module(), "Cannot try", OptionError):
        raise other
