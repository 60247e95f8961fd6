"""Reading and writing in a request without a transaction, which cannot be retried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from ..driver_errors import is_conflict, reason
from ..exceptions import SessionBusy, SessionConflict

T = TypeVar("T")

_ATTEMPTS = 3


@contextmanager
def undone_with(transaction: Any) -> Iterator[None]:
    """Prevent a retry because of a conflict in this block if *transaction* is None.

    :raises SessionBusy: instead of an error that would cause a retry.
    """
    try:
        yield
    except (SessionConflict, DBAPIError) as error:
        is_about_it = isinstance(error, SessionConflict) or is_conflict(error.orig)
        if transaction is not None or not is_about_it:
            raise
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
