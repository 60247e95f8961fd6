"""What zope.sqlalchemy knows about the application's database session."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session, scoped_session
from transaction.interfaces import NoTransaction
from zope.sqlalchemy import datamanager
from zope.sqlalchemy.datamanager import STATUS_READONLY, ZopeTransactionEvents


def unwrapped(dbsession: Any) -> Any:
    """The database session itself where it is one for each thread."""
    return dbsession() if isinstance(dbsession, scoped_session) else dbsession


def takes_part(dbsession: Session, transaction: Any) -> bool:
    """Whether the database session ends with this transaction, committed or rolled back."""
    events = _events_of(dbsession)
    if events is None:
        # without events it was joined by hand, or not at all
        return _state_of(dbsession) is not None
    try:
        return bool(events.transaction_manager.get() is transaction)
    except NoTransaction:
        return False


def is_read_only(dbsession: Session) -> bool:
    """Whether the application registered it as read-only, so that it is never committed."""
    events = _events_of(dbsession)
    initial = None if events is None else events.initial_state
    return STATUS_READONLY in (initial, _state_of(dbsession))


def mark_changed(dbsession: Session, manager: Any) -> None:
    """Have it committed, with the application's other options, such as ``keep_session``.

    :param manager: the request's transaction manager.
    """
    events = _events_of(dbsession)
    if events is None:
        datamanager.mark_changed(dbsession, transaction_manager=manager)
    else:
        events.mark_changed(dbsession)


def _events_of(dbsession: Session) -> Any:
    # registered may be the session itself, its sessionmaker, or the class
    for listener in dbsession.dispatch.after_begin:
        owner = getattr(listener, "__self__", None)
        if isinstance(owner, ZopeTransactionEvents):
            return owner
    return None


def _state_of(dbsession: Session) -> Any:
    # there is no public way to ask whether it has joined
    return datamanager._SESSION_STATE.get(dbsession)
