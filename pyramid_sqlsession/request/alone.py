"""Reading and writing in a request without a transaction, which cannot be retried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from ..driver_errors import is_conflict, reason
from ..exceptions import SessionBusy, SessionConflict
from ..watch import Watch

T = TypeVar("T")

_ATTEMPTS = 3


def undone_with(transaction: Any) -> Watch:
    """Prevent a retry because of a conflict in this block if *transaction* is None.

    :raises SessionBusy: instead of an error that would cause a retry.
    """
    return Watch(_refuse_to_retry, transaction)


def _refuse_to_retry(error: BaseException, transaction: Any) -> None:
    is_about_it = isinstance(error, SessionConflict) or (
        isinstance(error, DBAPIError) and is_conflict(error.orig)
    )
    if transaction is None and is_about_it:
        keys = getattr(error, "keys", ())
        raise SessionBusy(
            f"{reason(error)}; this request has no transaction and is not retried", keys
        ) from error


def repeated(write: Callable[[], T]) -> T:
    """Run a short transaction, and repeat it a few times if the database reports a conflict.

    :raises SessionBusy: if it conflicts each time, or if both requests changed the same keys.
    """
    attempts_left = _ATTEMPTS
    while True:
        attempts_left -= 1
        try:
            with undone_with(None):
                return write()
        except SessionBusy as error:
            if error.keys or not attempts_left:
                raise
