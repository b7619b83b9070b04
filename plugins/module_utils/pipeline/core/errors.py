"""Errors of AWS: their codes, their text, and whether a retry can help."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

AWS_ERRORS = (BotoCoreError, ClientError)
# Temporary errors that AWS sends with status 400, like permanent ones.
THROTTLES = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


def error_code(error: BaseException) -> str:
    """The code of an AWS error; empty where there is none."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def explain(error: Exception) -> str:
    """An AWS error as "Code (operation): message"; any other as "Type: message"."""
    if isinstance(error, ClientError):
        message = error.response.get("Error", {}).get("Message", "no message")
        return f"{error_code(error) or 'unknown error'} ({error.operation_name}): {message}"
    return f"{type(error).__name__}: {error}"


def is_lasting(error: Exception) -> bool:
    """Whether no retry can help (no permission, no such thing), unlike after a throttle, a lost connection or a server error."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        return status < 500 and error_code(error) not in THROTTLES
    return isinstance(error, BotoCoreError) and not isinstance(error, (ConnectionError, HTTPClientError))
