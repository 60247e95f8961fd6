"""The session factory: puts one request's session together from the settings' parts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import IRequestExtensions, IRequestFactory, ISessionFactory
from pyramid.request import Request
from zope.interface import implementer

from .cookie import Cookie
from .data.codec import Codec
from .database.application import AppDatabase, Database
from .database.engine import memory_url
from .database.own import OwnDatabase
from .lifetime import Lifetime
from .request.save import is_changed
from .request.visit import Visit
from .session.mapping import SQLSession
from .settings import Settings
from .store import Store
from .table.model import resolve_model
from .table.rows import Storage
from .table.sessions import Accounts
from .upkeep.cleanup import Cleaner
from .upkeep.purge import Purge

log = logging.getLogger("pyramid_sqlsession")

_FOUR_WAYS = """pyramid_sqlsession knows no database to keep sessions in. Do one of these:
  * give requests a SQLAlchemy session called dbsession, as the cookiecutter's applications do
  * sqlsession.dbsession = NAME, if that attribute of the request has another name
  * sqlsession.sqlalchemy.url = URL, for an engine of the store's own{url}
  * sqlsession.fallback_memory = true, for development"""

_VISIT = "_pyramid_sqlsession_visit"


@implementer(ISessionFactory)
class SQLSessionFactory:
    """Makes ``request.session``, stored as a row of a SQL database.

    ``config.include('pyramid_sqlsession')`` registers one made from the ini settings. To set it up
    in Python instead, include the package all the same and then call
    ``config.set_session_factory(SQLSessionFactory(ttl='12h'))``.

    :param clock: epoch seconds. It is the attribute ``clock`` too, which tests may set to travel in
        time.
    :param options: every setting of the reference, without the prefix ``sqlsession.``.
    :raises ConfigurationError: for an unknown option or a value that is not allowed.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, **options: Any) -> None:
        self.settings = Settings.from_options(options)
        self.clock = clock
        self._store: Store | None = None

    @classmethod
    def from_ini(cls, settings: Mapping[str, Any]) -> SQLSessionFactory:
        """A factory made from the ``sqlsession.*`` settings of a registry.

        :raises ConfigurationError: as the constructor does.
        """
        factory = cls()
        factory.settings = Settings.from_ini(settings)
        return factory

    def __call__(self, request: Any) -> SQLSession:
        """The session of a request, the same however often it is asked for.

        :raises ConfigurationError: if the package was not included.
        """
        visit = self.visit(request)
        if not visit.handed_out:
            visit.handed_out = True
            request.add_response_callback(visit.respond)
            request.add_finished_callback(_warn_if_unsaved)
        return visit.session

    def visit(self, request: Any) -> Visit:
        """The request's use of its session, which is part of the implementation.

        :raises ConfigurationError: if the package was not included.
        """
        attributes = request.__dict__
        visit: Visit | None = attributes.get(_VISIT)
        if visit is None:
            if self._store is None:
                raise ConfigurationError(
                    "SQLSessionFactory is set as the session factory, but nothing saves its "
                    "sessions: call config.include('pyramid_sqlsession') too"
                )
            visit = attributes[_VISIT] = Visit(self._store, request)
        return visit

    def prepare(self, registry: Any) -> None:
        """Put together, once, what all requests share. The tween's factory calls it.

        :raises ConfigurationError: if the settings, the model and the application do not fit.
        """
        if self._store is not None:
            return
        settings = self.settings
        model = resolve_model(settings.model)
        storage = Storage(model)
        database = _choose_database(settings, registry, model, storage)
        lifetime = Lifetime(settings)
        purge = Purge(storage, lifetime, self._now)
        self._store = Store(
            settings=settings,
            database=database,
            storage=storage,
            codec=Codec(
                settings.serializer,
                storage.data_type,
                settings.max_size,
                _make_encryption(settings),
            ),
            cookie=Cookie(settings),
            lifetime=lifetime,
            purge=purge,
            accounts=Accounts(storage, lifetime, purge, self._now),
            cleaner=Cleaner(
                database,
                purge,
                interval=settings.cleanup_interval,
                batch=settings.cleanup_batch,
            ),
            clock=self._now,
        )
        log.info("sessions are rows of %s, through %s", storage.table.fullname, database)

    def close(self) -> None:
        """Stop the cleaning, and close the connections of the store's own engine.

        What is kept in memory is gone. The next request starts and opens them anew.
        """
        if self._store is not None:
            self._store.cleaner.stop()
            self._store.database.close()

    def _now(self) -> int:
        return int(self.clock())


def _choose_database(settings: Settings, registry: Any, model: Any, storage: Storage) -> Database:
    if settings.sqlalchemy:
        create = settings.create_table is not False
        return OwnDatabase(settings.sqlalchemy, storage, create=create)
    attribute = settings.dbsession or "dbsession"
    if settings.dbsession or _requests_have(registry, attribute):
        create = bool(settings.create_table)
        return AppDatabase(attribute, model, storage, create=create)
    if settings.fallback_memory:
        log.warning("sqlsession.fallback_memory: every session dies with this process")
        return OwnDatabase({"url": memory_url()}, storage, create=True)
    has_url = "sqlalchemy.url" in (registry.settings or {})
    url = " (here: sqlsession.sqlalchemy.url = %(sqlalchemy.url)s)" if has_url else ""
    raise ConfigurationError(_FOUR_WAYS.format(url=url))


def _make_encryption(settings: Settings) -> Any:
    if not (settings.encryption_keys or settings.seal):
        return None
    try:
        from .data.encryption import Encryption
    except ImportError as error:
        raise ConfigurationError(
            "sqlsession.encryption_keys and sqlsession.seal need the package cryptography: "
            "pip install 'pyramid_sqlsession[encryption]'"
        ) from error
    return Encryption(
        settings.encryption_keys, seal=settings.seal, migrate=settings.encryption_migrate
    )


def _requests_have(registry: Any, attribute: str) -> bool:
    extensions = registry.queryUtility(IRequestExtensions)
    if extensions is not None and attribute in {*extensions.descriptors, *extensions.methods}:
        return True
    return hasattr(registry.queryUtility(IRequestFactory, default=Request), attribute)


def _warn_if_unsaved(request: Any) -> None:
    visit: Visit = request.__dict__[_VISIT]
    if not visit.entered and is_changed(visit):
        log.warning(
            "changes of the session are not stored: the request did not pass "
            "pyramid_sqlsession's tween (a script, pshell, or a subrequest without tweens)"
        )
