"""What can go wrong, as seen by an application."""

from __future__ import annotations

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
    """The session was changed when it was too late to store the change.

    The row is written when the response leaves the save tween; later changes would be lost.
    """


class SessionDataError(ValueError):
    """The session holds a value that its serializer cannot store, or its row one it cannot read.

    The message names the path of a value, for instance ``session['cart'][0]``.
    """


class SessionTooLarge(SessionDataError):
    """The serialized session is longer than ``sqlsession.max_size`` bytes."""


class SessionLost(RuntimeError):
    """The session was written in a transaction that cannot be committed any more.

    Somebody has caught a database error, or rolled the application's database session back.
    """


class SessionNotLive(RuntimeError):
    """The session of :meth:`SQLSession.require_live` was ended, or its token replaced."""


class SessionTableError(RuntimeError):
    """The session table is missing, lacks a column of the model, or keeps a row as it is.

    The last is what row-level security or a trigger may do without an error.
    """
