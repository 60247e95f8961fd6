"""The request's transaction: which one it is, whether it committed, and retries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyramid_tm import IRetryableError, is_tm_active
from transaction.interfaces import ISavepointDataManager, NoTransaction
from zope.interface import implementer

# the ``status`` of a transaction.interfaces.ITransaction, for which there are no public names
COMMITTED = "Committed"
COMMIT_FAILED = "Commit failed"

_ATTEMPT = "pyramid_sqlsession.attempt"


def current_transaction(request: Any) -> Any:
    """The transaction that pyramid_tm or the caller will end; None if there is none."""
    if not is_tm_active(request):
        return None
    try:
        transaction = request.tm.get()
    except NoTransaction:
        return None
    # nothing can join a transaction whose commit, by the view, has failed
    return None if transaction.status == COMMIT_FAILED else transaction


def is_lost(request: Any, transaction: Any) -> bool:
    """Whether this transaction can no longer commit what the request wrote."""
    if transaction.status == COMMITTED:
        return False
    try:
        return request.tm.get() is not transaction or transaction.status == COMMIT_FAILED
    except NoTransaction:
        return True


def fail_to_commit(transaction: Any, error: Exception) -> None:
    """Let the COMMIT of a transaction, if it comes, raise this error."""
    transaction.join(_Failure(error))


@implementer(ISavepointDataManager)
class Bystander:
    """A resource of a transaction that has nothing to commit or to roll back."""

    transaction_manager = None

    def savepoint(self) -> Bystander:
        """One whose :meth:`rollback` changes nothing."""
        return self

    def rollback(self) -> None:
        """Nothing to do."""

    def abort(self, transaction: Any) -> None:
        """Nothing to do, and nothing in the steps of a commit below."""

    tpc_begin = commit = tpc_vote = tpc_finish = tpc_abort = abort


class _Failure(Bystander):
    """A resource with which a transaction cannot be committed."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def tpc_begin(self, transaction: Any) -> None:
        raise self._error

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        # before all others
        return ""


# ---- the attempts of pyramid_retry


@dataclass(frozen=True)
class Attempt:
    """What an earlier attempt of a request found, which the next one cannot know.

    The database may refuse a write because the session was ended or regenerated meanwhile. The next
    attempt then finds nobody signed in: it would have nothing to sign out of, and would take a
    step-up for a sign-in, which would bring a revoked session back.

    ``lineage``, ``user``
      The session that was live, and its user.
    ``ends``
      Whether the attempt ended it, or signed that user out.
    """

    lineage: bytes
    user: Any
    ends: bool


def remember_attempt(request: Any, attempt: Attempt) -> None:
    """Store it for further attempts of this request."""
    request.environ[_ATTEMPT] = attempt


def earlier_attempt(request: Any) -> Attempt | None:
    """What an earlier attempt of this request stored; None if it stored nothing."""
    attempt: Attempt | None = request.environ.get(_ATTEMPT)
    return attempt


def has_attempts_left(request: Any) -> bool:
    """Whether pyramid_retry could run the request again."""
    attempts = request.environ.get("retry.attempts", 1)
    return bool(request.environ.get("retry.attempt", 0) + 1 < attempts)


def will_be_retried(request: Any, error: BaseException | None) -> bool:
    """Whether pyramid_retry runs the request again because of this error."""
    return has_attempts_left(request) and bool(IRetryableError.providedBy(error))
