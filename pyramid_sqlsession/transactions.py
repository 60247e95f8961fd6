"""The request's transaction: which one it is, what became of it, and whether it is tried again."""

from __future__ import annotations

from typing import Any

from pyramid_tm import IRetryableError, is_tm_active
from transaction.interfaces import NoTransaction

# the ``status`` of a transaction.interfaces.ITransaction, for which there are no public names
COMMITTED = "Committed"
COMMIT_FAILED = "Commit failed"

_LEFT = "pyramid_sqlsession.left"


def current_transaction(request: Any) -> Any:
    """The transaction that pyramid_tm, or whoever called us, will end; None if there is none."""
    if not is_tm_active(request):
        return None
    try:
        transaction = request.tm.get()
    except NoTransaction:
        return None
    # nothing can join a transaction whose commit, by the view, has failed
    return None if transaction.status == COMMIT_FAILED else transaction


def is_lost(request: Any, transaction: Any) -> bool:
    """Whether nothing of what the request wrote in this transaction can be committed any more."""
    if transaction.status == COMMITTED:
        return False
    try:
        return request.tm.get() is not transaction or transaction.status == COMMIT_FAILED
    except NoTransaction:
        return True


# ---- the attempts of pyramid_retry


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
