"""What the modules have in common: options from their DOCUMENTATION, least values, errors that fail the module, and results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.common.yaml import yaml_load

from .errors import AWS_ERRORS
from .terminal import printable

# What an argument spec takes as it is from the documentation of an option.
COPIED = ("type", "elements", "required", "default", "choices")


class OptionError(Exception):
    """An option with which a module cannot work. The text names it, the value found and the values allowed."""


def argument_spec(documentation: str) -> dict[str, Any]:
    """The argument spec that a module's DOCUMENTATION describes, so that each option stands in one place."""
    return _spec(yaml_load(documentation)["options"])


def _spec(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: {key: option[key] for key in COPIED if key in option}
        | ({"options": _spec(option["suboptions"])} if "suboptions" in option else {})
        for name, option in options.items()
    }


def require_least(options: Mapping[str, Any], **least: float) -> None:
    """Raises OptionError for the first of these options that is less than its least value."""
    for name, smallest in least.items():
        if options[name] < smallest:
            raise OptionError(f"{name} must be at least {smallest}: found {options[name]}")


def with_diff(outcome: Any) -> dict[str, Any]:
    """The fields of an outcome as a module returns them, its `before` and `after` as the diff."""
    result = vars(outcome).copy()
    return {"diff": {"before": result.pop("before"), "after": result.pop("after")}, **result}


@contextlib.contextmanager
def failing(module: Any, cannot: str, *own: type[Exception]) -> Iterator[None]:
    """Fail the module for an error of AWS, with `cannot` before its text, and for `own` errors, whose text says everything."""
    try:
        yield
    except own as error:
        module.fail_json(msg=printable(str(error)))
    except AWS_ERRORS as error:
        module.fail_json_aws(error, msg=cannot)
