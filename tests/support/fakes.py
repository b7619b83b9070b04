"""What most fakes need: a clock that only waiting moves, and errors as AWS raises them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError


class FakeClock:
    """Can be passed as a `Clock`. `passed` is for how many seconds somebody has waited; `on_wait` is called after each wait."""

    def __init__(self, start: datetime = datetime(2026, 11, 24, 12, 0, tzinfo=UTC), on_wait: Callable[[], object] = lambda: None) -> None:
        self.start, self.passed, self.on_wait = start, 0.0, on_wait

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    def wait(self, seconds: float) -> None:
        self.passed += seconds
        self.on_wait()


def client_error(code: str, operation: str = "Operation", status: int = 400, message: str = "refused") -> ClientError:
    """An error as boto3 raises it for an answer of AWS."""
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)
