"""The exceptions that an application may see."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from transaction.interfaces import TransientError


class SessionConflict(TransientError):  # type: ignore[misc]  # transaction has no types
    """Another request changed the same session at the same time.

    It is a ``transaction.interfaces.TransientError``: pyramid_retry runs the request again, which
    then sees what the other request stored.
    """

    keys: tuple[Any, ...]
    """The keys that both requests changed; empty if the database reports the conflict."""

    def __init__(self, message: str, keys: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.keys = keys


class SessionBusy(RuntimeError):
    """Another request changed the same session, and this one has no transaction.

    It is not a :class:`SessionConflict`: what a request did without a transaction cannot be undone,
    so it is not run again.
    """

    keys: tuple[Any, ...]
    """The keys that both requests changed; empty if the database reports the conflict."""

    def __init__(self, message: str, keys: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.keys = keys


class SessionClosed(RuntimeError):
    """The session was changed after it was stored.

    The row is written when the response leaves the save tween. Later changes would be lost.
    """


class SessionDataError(ValueError):
    """The serializer cannot store a value of the session, or cannot read the row.

    The message names the path of the value, for example ``session['cart'][0]``.
    """


class SessionTooLarge(SessionDataError):
    """The serialized session has more than ``sqlsession.max_size`` bytes."""


class SessionLost(RuntimeError):
    """The session was written in a transaction that can no longer be committed.

    The application caught a database error, or rolled its database session back.
    """


class SessionNotLive(RuntimeError):
    """:meth:`SQLSession.require_live` found that the session was ended or regenerated."""


class SessionTableError(RuntimeError):
    """The session table is missing, lacks a column of the model, or ignores a statement.

    Row-level security or a trigger may ignore a statement without an error.
    """


def see(anchor: str) -> str:
    """The end of a message: where the documentation explains it."""
    return f"(see {_documentation()}troubleshooting.html#{anchor})"


@cache
def _documentation() -> str:
    """The address that the package's metadata have, or nothing: the name of the page remains."""
    try:
        urls = metadata("pyramid_sqlsession").get_all("Project-URL") or []
    except PackageNotFoundError:
        # not installed: on a path, or in an archive
        return ""
    addresses = dict(url.split(", ", 1) for url in urls)
    address = addresses.get("Documentation")
    return "" if address is None else f"{address.rstrip('/')}/"
