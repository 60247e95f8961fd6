"""The request's transaction: which one it is, and what became of it."""

from __future__ import annotations

from typing import Any

from pyramid_tm import is_tm_active
from transaction.interfaces import NoTransaction

# the ``status`` of a transaction.interfaces.ITransaction, for which there are no public names
COMMITTED = "Committed"
COMMIT_FAILED = "Commit failed"


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
