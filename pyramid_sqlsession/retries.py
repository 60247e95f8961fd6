"""The attempts of a request: what pyramid_retry will do, and what one of them tells the next."""

from __future__ import annotations

from typing import Any

from pyramid_tm import IRetryableError

_LEFT = "pyramid_sqlsession.left"


def remember_left(request: Any, handle: bytes) -> None:
    """Tell further attempts of this request that it signs out of a session it has found live.

    The database may refuse that because the session gets another token at the same time. The next
    attempt finds nobody signed in, and the view has nothing to sign out of.
    """
    request.environ[_LEFT] = handle


def has_left(request: Any, handle: bytes) -> bool:
    """Whether an earlier attempt of this request has left the user of this session."""
    return bool(request.environ.get(_LEFT) == handle)


def has_attempts_left(request: Any) -> bool:
    """Whether a request could be run again."""
    attempts = request.environ.get("retry.attempts", 1)
    return bool(request.environ.get("retry.attempt", 0) + 1 < attempts)


def will_be_retried(request: Any, error: BaseException | None) -> bool:
    """Whether the request is run again because of this error."""
    return has_attempts_left(request) and bool(IRetryableError.providedBy(error))
