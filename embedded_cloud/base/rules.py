"""What all rules share: a refusal, AWS's waiting times, and the context that a rule reads."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ministack.core import responses

from embedded_cloud.base.calls import Call
from embedded_cloud.base.ministack_backend import Answer
from embedded_cloud.base.moto_backend import MotoBackend


@dataclass(frozen=True)
class Refusal:
    """An error in AWS's words: code, text and HTTP status."""

    code: str
    message: str
    status: int = 400


class Times:
    """When events happened, and whether that is less than some of AWS's seconds ago. `scale` shortens AWS's seconds (0: no waiting)."""

    def __init__(self, scale: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._scale = scale
        self._clock = clock
        self._noted: dict[tuple[str, str], float] = {}

    def scaled(self, seconds: float) -> float:
        """How long so many of AWS's seconds take here, in seconds."""
        return seconds * self._scale

    def now(self) -> float:
        return self._clock()

    def note(self, event: str, key: str) -> None:
        self._noted[event, key] = self._clock()

    def is_within(self, event: str, key: str, seconds: float) -> bool:
        """Whether `event` was noted for `key` less than `seconds` of AWS's ago."""
        noted = self._noted.get((event, key))
        if noted is None:
            return False
        if self._clock() - noted < self.scaled(seconds):
            return True
        del self._noted[event, key]
        return False


@dataclass
class RuleContext:
    """What a rule may read. `free_plan` says whether the account is on the Free account plan, which launches eligible types only."""

    times: Times
    moto: MotoBackend
    free_plan: bool = False
    # Mappings that are being deleted, as Lambda described them last, by UUID.
    deleted_mappings: dict[str, dict[str, Any]] = field(default_factory=dict)
    # What is left of a table's capacity, by the table's id and the kind of unit: units, and the time when they were counted.
    capacity: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

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


def account_key(name: str) -> str:
    """The key of something that an account has once, such as a role."""
    return f"{responses.get_account_id()}:{name}"
