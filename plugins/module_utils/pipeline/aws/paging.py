"""Answers of AWS: all pages of one, none for what is missing, and requests in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from ..core.errors import error_code

Answer = TypeVar("Answer")
# What IAM, DynamoDB, Lambda and (in two ways) SQS answer for what does not exist.
ABSENT = frozenset({"NoSuchEntity", "ResourceNotFoundException", "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})


def pages(client: Any, operation: str, key: str, **request: Any) -> list[Any]:
    """All entries under `key` of a paginated operation."""
    return [entry for page in client.get_paginator(operation).paginate(**request) for entry in page.get(key) or []]


def unless_missing(call: Callable[..., Answer], missing: Iterable[str] = ABSENT, **request: Any) -> Answer | None:
    """The answer of one call, or None when its error code is one of `missing`. Other errors are raised."""
    try:
        return call(**request)
    except ClientError as error:
        if error_code(error) in missing:
            return None
        raise


def in_chunks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The values in lists of at most `size`."""
    everything = list(values)
    return (everything[start : start + size] for start in range(0, len(everything), size))
