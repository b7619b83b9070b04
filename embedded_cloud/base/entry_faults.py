"""A fault that the fault injector turns on for one request, and the patches of SQS and DynamoDB carry out on its batch."""

from contextvars import ContextVar

# Set for the SendMessageBatch or BatchExecuteStatement under way, whose task has a context of its own.
half_refused: ContextVar[bool] = ContextVar("half_refused", default=False)


def is_refused(number: int) -> bool:
    """Whether that fault refuses the entry of this number, from 0: every other one, from the first."""
    return half_refused.get() and number % 2 == 0
