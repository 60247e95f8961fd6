"""The way to the database through the SQLAlchemy session that the application has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

from pyramid.exceptions import ConfigurationError
from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import SingletonThreadPool, StaticPool
from zope.sqlalchemy import mark_changed

from ..driver_errors import mark_conflicts_retryable
from ..exceptions import SessionDataError
from ..table.model import create_table
from ..table.record import Record
from ..table.rows import Rows
from ..transactions import COMMITTED
from .aside import touching
from .base import Writing
from .connections import giving_up

_ONE_CONNECTION = (StaticPool, SingletonThreadPool)


class AppDatabase:
    """The SQLAlchemy session that the application keeps on its requests.

    :param attribute: its name there.
    :param create: make the table before the first request's view runs.
    """

    def __init__(self, attribute: str, model: Any, rows: Rows, *, create: bool) -> None:
        self._attribute = attribute
        self._rows = rows
        # a session that routes reads to a replica has to give the primary, which knows all sessions
        self._bind_arguments = {"mapper": inspect(model), "clause": rows.table.update()}
        self._create = create
        self._entered = False
        self._engine: Engine | None = None
        self._marked: WeakSet[Engine] = WeakSet()
        self._kept: Any = SimpleNamespace()
        self._kept_by_thread: Any = threading.local()

    def __str__(self) -> str:
        return f"the application's database session, request.{self._attribute}"

    def enter(self, request: Any) -> None:
        if self._engine is not None or not self._has_session(request):
            return
        bind = self._bind(request)
        self._mark(bind.engine)
        if self._create and not self._entered:
            # before the view: at save, SQLite would lock itself out, MySQL commits at CREATE TABLE
            create_table(self._rows.table, bind)
        if isinstance(bind, Engine) and not isinstance(bind.pool, _ONE_CONNECTION):
            self._engine = bind
        self._entered = True

    def load(self, request: Any, transaction: Any, id: bytes) -> Record | None:
        with self.reading(request, transaction) as connection:
            return self._rows.load(connection, id)

    @contextmanager
    def reading(self, request: Any, transaction: Any) -> Iterator[Connection]:
        # something above the tween, a security policy for instance, may read before it is entered
        self.enter(request)
        if transaction is not None:
            try:
                connection = self._connection(self._session(request))
                with giving_up(connection):
                    yield connection
            except SessionDataError:
                raise
            except Exception:
                # after a failed statement a COMMIT may report success and store nothing
                transaction.doom()
                raise
            return
        bind = self._bind(request)
        if isinstance(bind, Connection):
            with _in_transaction(bind):
                yield self._known(bind)
        elif (shared := self._shared_connection(bind)) is not None:
            yield shared
        else:
            with bind.connect() as connection:
                yield self._known(connection)

    @contextmanager
    def writing(self, request: Any, transaction: Any) -> Iterator[Writing]:
        if transaction is None:
            with self._beside(request) as connection, giving_up(connection):
                # it is durable for whoever has left this block without an error
                yield connection, lambda: True
            return
        dbsession = self._session(request)
        # Core does not flush by itself, and the session's row may refer to a row of this request
        dbsession.flush()
        connection = self._connection(dbsession)
        mark_changed(dbsession, transaction_manager=request.tm)
        with giving_up(connection):
            yield connection, lambda: transaction.status == COMMITTED

    @contextmanager
    def _beside(self, request: Any) -> Iterator[Connection]:
        bind = self._bind(request)
        if isinstance(bind, Connection):
            with _in_transaction(bind):
                yield self._known(bind)
        elif (shared := self._shared_connection(bind)) is not None and _is_open(shared):
            # the application has begun, and will end it
            yield shared
        else:
            with bind.begin() as connection:
                yield self._known(connection)

    @contextmanager
    def touching(self, request: Any) -> Iterator[Connection]:
        bind = self._bind(request)
        if _is_one_connection(bind):
            with self._beside(request) as connection:
                yield connection
            return
        with touching(bind.engine) as connection:
            yield self._known(connection)

    def is_shared(self, request: Any) -> bool:
        return _is_one_connection(self._bind(request))

    def engine(self) -> Engine | None:
        return self._engine

    def close(self) -> None:
        """Nothing to do: every connection belongs to the application's pool."""

    def _has_session(self, request: Any) -> bool:
        # a subscriber of NewRequest sets it after the tweens were entered
        return isinstance(getattr(request, self._attribute, None), (Session, scoped_session))

    def _session(self, request: Any) -> Session:
        dbsession = getattr(request, self._attribute, None)
        if isinstance(dbsession, scoped_session):
            dbsession = dbsession()
        if not isinstance(dbsession, Session):
            raise ConfigurationError(
                f"request.{self._attribute} is missing or no SQLAlchemy session ({dbsession!r}): "
                "set sqlsession.dbsession to the name of the attribute that is one"
            )
        return dbsession

    def _connection(self, dbsession: Session) -> Connection:
        return self._known(dbsession.connection(bind_arguments=self._bind_arguments))

    def _bind(self, request: Any) -> Engine | Connection:
        return self._session(request).get_bind(**self._bind_arguments)

    def _known(self, connection: Connection) -> Connection:
        self._mark(connection.engine)
        return connection

    def _mark(self, engine: Engine) -> None:
        if engine not in self._marked:
            mark_conflicts_retryable(engine)
            self._marked.add(engine)

    def _shared_connection(self, engine: Engine) -> Connection | None:
        """A connection that is the application's own too, if the engine's pool has no other.

        It is kept open, and as it is: closing it would roll back the application's work. It comes
        from an engine without listeners, since one that says BEGIN would say it twice.
        """
        if isinstance(engine.pool, StaticPool):
            kept = self._kept
        elif isinstance(engine.pool, SingletonThreadPool):
            kept = self._kept_by_thread
        else:
            return None
        if getattr(kept, "engine", None) is not engine:
            hide = engine.hide_parameters
            bare = Engine(engine.pool, engine.dialect, engine.url, hide_parameters=hide)
            kept.engine, kept.connection = engine, bare.connect()
        connection: Connection = kept.connection
        return connection


def _is_one_connection(bind: Engine | Connection) -> bool:
    """Whether whatever is done there is done on the application's own connection."""
    return isinstance(bind, Connection) or isinstance(bind.pool, _ONE_CONNECTION)


def _is_open(connection: Connection) -> bool:
    """Whether somebody has begun a transaction on the driver's connection."""
    # the driver's word: SQLAlchemy knows of the transactions of this Connection object only
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


def _in_transaction(connection: Connection) -> AbstractContextManager[Any]:
    """A transaction, unless there is one."""
    # a transaction that is open belongs to whoever bound the session to this connection
    return nullcontext() if connection.in_transaction() else connection.begin()
