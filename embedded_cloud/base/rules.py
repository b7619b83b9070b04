"""What the rules of fidelity share: a refusal, AWS's waiting times, and the world they look at."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ministack.core import responses

from embedded_cloud.base.calls import Call
from embedded_cloud.base.moto_backend import MotoBackend


@dataclass(frozen=True)
class Refusal:
    """An error in AWS's words: its code, its text, its HTTP status."""

    code: str
    message: str
    status: int = 400


class Times:
    """When what happened, and whether that is less than a number of AWS's seconds ago; `scale` shortens AWS's seconds (0: none passes)."""

    def __init__(self, scale: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._scale = scale
        self._clock = clock
        self._noted: dict[tuple[str, str], float] = {}

    def scaled(self, seconds: float) -> float:
        """What so many of AWS's seconds take here, in seconds."""
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
class World:
    """What a rule may look at. `free_plan` says whether the account is on the Free account plan, which launches eligible types only."""

    times: Times
    moto: MotoBackend
    free_plan: bool = False
    # Mappings that are being deleted, as Lambda described them last, by UUID.
    deleted_mappings: dict[str, dict[str, Any]] = field(default_factory=dict)
    # What is left of a table's capacity, by the table's id and the kind of unit: units, and the time they were counted at.
    capacity: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    @property
    def ec2(self) -> Any:
        """moto's EC2 backend of the request's region; only to be touched on moto's thread."""
        return self.moto.backend("ec2", responses.get_region())


Rule = Callable[[Call, World], Refusal | None]


def account_key(name: str) -> str:
    """The key of something that an account has once, such as a role."""
    return f"{responses.get_account_id()}:{name}"
