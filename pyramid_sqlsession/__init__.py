"""Pyramid sessions that are rows of your SQL database, written in the request's own transaction.

::

    config.include('pyramid_sqlsession')
"""

from __future__ import annotations

from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory, ITweens
from pyramid.tweens import EXCVIEW, excview_tween_factory
from pyramid_tm import tm_tween_factory

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
    SessionClosed,
    SessionConflict,
    SessionDataError,
    SessionTableError,
    SessionTooLarge,
)
from .factory import SQLSessionFactory
from .session.mapping import SQLSession
from .sqlsessions import SQLSessions
from .table.model import SessionMixin
from .table.sessions import UserSession
from .tween import save_tween_factory

__all__ = [
    "CookieRejected",
    "SQLSession",
    "SQLSessionFactory",
    "SQLSessions",
    "Serializer",
    "SessionClosed",
    "SessionConflict",
    "SessionConflicted",
    "SessionCreated",
    "SessionDataError",
    "SessionEnded",
    "SessionEvent",
    "SessionMixin",
    "SessionRegenerated",
    "SessionTableError",
    "SessionTooLarge",
    "UserSession",
    "includeme",
    "save_tween_factory",
]

_TM = "pyramid_tm.tm_tween_factory"
_SAVE = "pyramid_sqlsession.save_tween_factory"


def _check_explicit_tweens(registry: Any) -> None:
    explicit = [factory for _, factory in registry.getUtility(ITweens).explicit]
    if not explicit or not isinstance(registry.queryUtility(ISessionFactory), SQLSessionFactory):
        return
    wanted = [tm_tween_factory, save_tween_factory, excview_tween_factory]
    if [factory for factory in explicit if factory in wanted] not in (wanted, wanted[:2]):
        raise ConfigurationError(
            "the pyramid.tweens setting must list pyramid_sqlsession's tween, which stores the "
            f"session, under pyramid_tm's and over the exception views':\n  {_TM}\n  {_SAVE}\n"
            f"  {EXCVIEW}"
        )


def includeme(config: Any) -> None:
    """Register the session factory that the ``sqlsession.*`` settings describe, and its tween.

    The settings are read when the configuration is committed, so that later calls of
    ``config.add_settings`` count. ``config.set_session_factory`` overrides the factory.

    :raises ConfigurationError: at the commit, for wrong settings.
    """
    config.include("pyramid_tm")
    config.add_tween(_SAVE, under=_TM, over=EXCVIEW)
    config.add_request_method(SQLSessions, "sqlsessions", reify=True)

    def register() -> None:
        factory = SQLSessionFactory.from_ini(config.registry.settings)
        config.registry.registerUtility(factory, ISessionFactory)

    introspectable = config.introspectable(
        "session factory", None, "pyramid_sqlsession", "session factory"
    )
    config.action(ISessionFactory, register, introspectables=(introspectable,))
    # order: after everything that may still change the tweens or the session factory
    config.action(None, lambda: _check_explicit_tweens(config.registry), order=1000)
