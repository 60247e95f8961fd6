"""The session factory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory
from zope.interface import implementer

from .frames import discreet
from .included import described, is_included
from .keywords import SQLSessionOptions
from .request.respond import respond, warn_if_unsaved
from .request.visit import Phase, Visit
from .session.mapping import SQLSession
from .settings.options import Settings
from .store import Store, make_store

if TYPE_CHECKING:
    # Python 3.10 has none, and an annotation is not worth a dependency
    from typing_extensions import Unpack

_VISIT = "_pyramid_sqlsession_visit"

_SECOND = (
    "this SQLSessionFactory is not the application's: an application has one, set with "
    "config.set_session_factory(), and only its sessions are saved"
)


@implementer(ISessionFactory)
class SQLSessionFactory:
    """Makes ``request.session``, stored as a row of a SQL database.

    ``config.include('pyramid_sqlsession')`` registers one made from the ini settings. To configure
    it in Python instead, include the package and then call
    ``config.set_session_factory(SQLSessionFactory(ttl='12h'))``.

    :param clock: what time it is, in epoch seconds; the system's clock by default.
    :param options: the settings, without the prefix ``sqlsession.``: see :doc:`settings`.
    :raises ConfigurationError: for an unknown option or a value that is not allowed.
    """

    clock: Callable[[], float]
    """What time it is, in epoch seconds. Tests may set it to travel in time."""

    @discreet
    def __init__(
        self,
        *,
        clock: Callable[[], float] | None = None,
        **options: Unpack[SQLSessionOptions],
    ) -> None:
        self.settings = Settings.from_options(options)
        self.clock = clock or _system_clock
        self._store: Store | None = None

    @classmethod
    @discreet
    def from_ini(cls, settings: Mapping[str, Any]) -> SQLSessionFactory:
        """A factory made from the ``sqlsession.*`` settings of a registry.

        :raises ConfigurationError: as the constructor does.
        """
        factory = cls()
        factory.settings = Settings.from_ini(settings)
        return factory

    def __call__(self, request: Any) -> SQLSession:
        """The session of a request; always the same object.

        :raises ConfigurationError: if nothing would save its sessions: the package is not included,
            the application has not been made yet, or it has set another session factory.
        """
        visit = self.visit(request)
        if not visit.handed_out:
            visit.handed_out = True
            request.add_response_callback(partial(respond, visit))
            if visit.phase is Phase.OUTSIDE:
                request.add_finished_callback(partial(warn_if_unsaved, visit))
        return visit.session

    def visit(self, request: Any) -> Visit:
        """The request's use of its session, which is part of the implementation.

        :raises ConfigurationError: if nothing would save its sessions.
        """
        attributes = request.__dict__
        visit: Visit | None = attributes.get(_VISIT)
        if self._store is None:
            raise ConfigurationError(_why_nothing_saves(self, request.registry))
        if visit is None:
            visit = attributes[_VISIT] = Visit(self._store, request)
        elif visit.store is not self._store:
            raise ConfigurationError(_SECOND)
        return visit

    @discreet
    def prepare(self, registry: Any) -> None:
        """Put together, once, what all requests share. The tween's factory calls it.

        :raises ConfigurationError: if the settings, the model and the application do not fit.
        """
        if self._store is not None:
            return
        self._store = make_store(self.settings, registry, self._now)

    def close(self) -> None:
        """Stop the cleanup thread, and close the connections of an engine of its own.

        Sessions in memory are lost. The next request starts and opens them again.
        """
        if self._store is not None:
            self._store.cleaner.stop()
            self._store.database.close()

    def _now(self) -> int:
        return int(self.clock())


def _why_nothing_saves(factory: SQLSessionFactory, registry: Any) -> str:
    """Why the save tween of the application has not prepared a factory that makes a session."""
    registered = registry.queryUtility(ISessionFactory)
    if isinstance(registered, SQLSessionFactory) and registered is not factory:
        return _SECOND
    if registered is not factory:
        return (
            f"the application's session factory is {described(registry, registered)}: nothing "
            "saves the sessions that a SQLSessionFactory makes for it. Pass the SQLSessionFactory "
            "itself to config.set_session_factory(), without a wrapper"
        )
    if is_included(registry):
        return (
            "SQLSessionFactory was asked for a session before the application was made: call "
            "config.make_wsgi_app() first"
        )
    return (
        "SQLSessionFactory is the session factory, but nothing saves its sessions: also call "
        "config.include('pyramid_sqlsession')"
    )


def _system_clock() -> float:
    # looked up at each call: freezegun, for instance, puts another function there
    return time.time()
