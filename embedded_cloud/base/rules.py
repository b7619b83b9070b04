"""What all rules share: a refusal, AWS's waiting times, and the context that a rule reads."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ministack.core import responses

from embedded_cloud.base.calls import Call
from embedded_cloud.base.ministack_backend import Answer
from embedded_cloud.base.moto_backend import MotoBackend


class Refusal(NamedTuple):
    """An error in AWS's words: code, text and HTTP status."""

    code: str
    message: str
    status: int = 400


class Times:
    """When an account's events happened, and whether less than some of AWS's seconds ago. `scale` shortens those (0: no waiting)."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._noted: dict[tuple[str, str, str], float] = {}

    def scaled(self, seconds: float) -> float:
        """How long so many of AWS's seconds take here, in seconds."""
        return seconds * self._scale

    def note(self, event: str, key: str) -> None:
        self._noted[responses.get_account_id(), event, key] = time.monotonic()

    def is_within(self, event: str, key: str, seconds: float) -> bool:
        """Whether `event` was noted for `key` less than `seconds` of AWS's ago."""
        noted = self._noted.get((responses.get_account_id(), event, key), -math.inf)
        return time.monotonic() - noted < self.scaled(seconds)


@dataclass(frozen=True)
class RuleContext:
    """What a rule may read. `free_plan` says whether the account is on the Free account plan, which launches eligible types only."""

    times: Times
    moto: MotoBackend
    free_plan: bool = False

    @property
    def ec2(self) -> Any:
        """moto's EC2 backend of the request's region. Use it on moto's thread only."""
        return self.moto.backend("ec2", responses.get_region())


# A rule looks at a call before an emulator does: AWS's refusal, or None.
Rule = Callable[[Call, RuleContext], Refusal | None]
# Remembers something of a call that succeeded, with the body of its answer, for a rule to read later.
Note = Callable[[Call, bytes, RuleContext], None]
# Changes MiniStack's answer to a call into AWS's.
Rewrite = Callable[[Call, Answer, RuleContext], Answer]
