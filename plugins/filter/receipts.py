"""The receipt without which nothing that holds data is deleted: what this run of ansible-playbook may delete, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from ansible import constants
from ansible.errors import AnsibleFilterError

# The directory for temporary files that each run of Ansible makes for itself, of a random name; its workers inherit it.
THIS_RUN = os.path.basename(constants.DEFAULT_LOCAL_TMP)


def receipt(names: Iterable[str]) -> dict[str, Any]:
    """A receipt of this run for what is named."""
    return {"run": THIS_RUN, "names": sorted(names)}


def covers(given: Any, name: str) -> bool:
    """True if the receipt was written in this run and names `name`. Anything else is an error that says what to do."""
    if isinstance(given, dict) and given.get("run") == THIS_RUN and name in given.get("names", []):
        return True
    raise AnsibleFilterError(
        f"{name} may hold data that was not kept in this run, so it was not removed. Run teardown.yml without --limit, --start-at-task and"
        " --skip-tags: it drains, proves and exports first, and then removes. To give the data up instead, run it with"
        " -e discard_data=<environment>."
    )


class FilterModule:
    """What Ansible asks for the filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"receipt": receipt, "covers": covers}
