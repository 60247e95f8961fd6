"""Pyramid sessions that are rows of your SQL database, written in the request's own transaction.

::

    config.include('pyramid_sqlsession')
"""

from __future__ import annotations

from typing import Any

from pyramid.config.actions import action_method
from pyramid.interfaces import ISessionFactory
from pyramid.tweens import EXCVIEW
from pyramid.viewderivers import INGRESS

from .activity import session_visit
from .cookie import cookie_values
from .data.serializer import Serializer
from .events import (
    CookieRejected,
    SessionConflicted,
    SessionCreated,
    SessionEnded,
    SessionEvent,
    SessionRegenerated,
)
from .exceptions import (
    SessionBusy,
    SessionClosed,
    SessionConflict,
    SessionDataError,
    SessionLost,
    SessionNotLive,
    SessionTableError,
    SessionTooLarge,
)
from .factory import SQLSessionFactory
from .included import INCLUDED, SAVE, TM, where_included
from .keywords import SQLSessionOptions
from .session.mapping import SQLSession
from .sqlsessions import SQLSessions
from .table.model import SessionMixin
from .table.told import UserSession
from .tween import check_explicit_tweens, save_tween_factory
from .upkeep.deletion import ExpiredSession

__all__ = [
    "CookieRejected",
    "ExpiredSession",
    "SQLSession",
    "SQLSessionFactory",
    "SQLSessionOptions",
    "SQLSessions",
    "Serializer",
    "SessionBusy",
    "SessionClosed",
    "SessionConflict",
    "SessionConflicted",
    "SessionCreated",
    "SessionDataError",
    "SessionEnded",
    "SessionEvent",
    "SessionLost",
    "SessionMixin",
    "SessionNotLive",
    "SessionRegenerated",
    "SessionTableError",
    "SessionTooLarge",
    "UserSession",
    "cookie_values",
    "includeme",
    "save_tween_factory",
]


def includeme(config: Any) -> None:
    """Register the session factory that the ``sqlsession.*`` settings describe, and its tween.

    The settings are read when the configuration is committed, so that later calls of
    ``config.add_settings`` count. ``config.set_session_factory`` overrides the factory.

    :raises ConfigurationError: at the commit, for wrong settings.
    """
    # without _info a configuration error would name "Line 0 of file None"
    _configure(config, _info=where_included())


def _register(config: Any) -> None:
    config.include("pyramid_tm")
    config.add_tween(SAVE, under=TM, over=EXCVIEW)
    # outside the permission check: a forbidden request counts too
    config.add_view_deriver(session_visit, under=INGRESS, over="secured_view")
    config.add_request_method(SQLSessions, "sqlsessions", reify=True)

    def register() -> None:
        factory = SQLSessionFactory.from_ini(config.registry.settings)
        for name in ("", INCLUDED):
            config.registry.registerUtility(factory, ISessionFactory, name)

    introspectable = config.introspectable(
        "session factory", None, "pyramid_sqlsession", "session factory"
    )
    config.action(ISessionFactory, register, introspectables=(introspectable,))
    # after everything that may still change the tweens or the session factory
    config.action(None, lambda: check_explicit_tweens(config.registry), order=1000)


_configure: Any = action_method(_register)
