"""A fault that the fault injector turns on for one request, and the patches of SQS and DynamoDB carry out on its batch."""

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager

_half_refused = contextvars.ContextVar("half_refused", default=False)


@contextmanager
def half_refused() -> Iterator[None]:
    """Of the SendMessageBatch or BatchExecuteStatement handled meanwhile, every other entry is refused, from the first."""
    token = _half_refused.set(True)
    try:
        yield
    finally:
        _half_refused.reset(token)


def is_refused(number: int) -> bool:
    """Whether that fault refuses the entry of this number, from 0."""
    return _half_refused.get() and number % 2 == 0
