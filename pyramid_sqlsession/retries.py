"""What pyramid_retry will do, where it is in use."""

from __future__ import annotations

from typing import Any

from pyramid_tm import IRetryableError


def has_attempts_left(request: Any) -> bool:
    """Whether a request could be run again."""
    attempts = request.environ.get("retry.attempts", 1)
    return bool(request.environ.get("retry.attempt", 0) + 1 < attempts)


def will_be_retried(request: Any, error: BaseException | None) -> bool:
    """Whether the request is run again because of this error."""
    return has_attempts_left(request) and bool(IRetryableError.providedBy(error))
