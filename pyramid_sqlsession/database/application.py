"""Database access through the application's SQLAlchemy session."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from pyramid.exceptions import ConfigurationError
from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session

from ..driver_errors import MYSQL
from ..exceptions import SessionLost, see
from ..table.record import Record
from ..table.rows import Rows
from ..transactions import COMMITTED
from .aside import touching
from .base import Writing
from .beside import Beside, has_connections, has_one_connection
from .connections import dooming, giving_up
from .creation import Creation
from .guard import guard
from .joined import join, joined_in
from .lost import (
    LOST,
    WRITTEN,
    has_changes,
    has_not_begun,
    has_written,
    is_getting_connection,
    is_lost,
    let_go,
)
from .registered import is_read_only, mark_changed, takes_part, unwrapped
from .shown import ShownEngines

log = logging.getLogger("pyramid_sqlsession")


class AppDatabase:
    """The SQLAlchemy session that the application keeps on its requests.

    It is looked up when the request first needs a connection, since the application may choose it
    by request, or raise an error. If it is not part of the request's transaction, only its engine
    is used, with separate connections.

    :param attribute: its name on the request.
    :param create: create the table when a request first needs it.
    """

    def __init__(self, attribute: str, model: Any, rows: Rows, *, create: bool) -> None:
        self._attribute = attribute
        self._model = model
        self._rows = rows
        # makes a session that routes reads to a replica return the primary, which has all rows
        self._bind_arguments = {"mapper": inspect(model), "clause": rows.table.update()}
        self._creation = Creation(rows.table, wanted=create)
        self._engines = ShownEngines()
        self._beside = Beside()
        self._has_warned = False

    def __str__(self) -> str:
        return f"the application's database session, request.{self._attribute}"

    def notice(self, request: Any) -> None:
        # one that the application has used itself: its COMMIT may meet a conflict too
        dbsession = unwrapped(vars(request).get(self._attribute))
        if isinstance(dbsession, Session):
            # reported when the session is used
            with suppress(Exception):
                self._shown(dbsession)

    def flush(self, request: Any, transaction: Any, is_asked_for: bool) -> None:
        name = self._attribute
        found = getattr(request, name, None) if is_asked_for else vars(request).get(name)
        dbsession = unwrapped(found)
        is_there = isinstance(dbsession, Session) and has_changes(dbsession)
        if not is_there or not takes_part(dbsession, transaction):
            return
        # sessions may be elsewhere, and a request that does not use its session connects to nothing
        connection_of = self._connection if is_asked_for else lambda _: None
        # no engine for the session model is reported when the session is used
        with suppress(UnboundExecutionError):
            if is_lost(dbsession, transaction, connection_of):
                return
        dbsession.flush()

    def load(self, request: Any, transaction: Any, id: bytes) -> Record | None:
        with self.reading(request, transaction) as connection:
            return self._rows.load(connection, id)

    @contextmanager
    def reading(self, request: Any, transaction: Any) -> Iterator[Connection]:
        dbsession = self._session(request)
        joins = self._joins(dbsession, transaction)
        if joins and is_lost(dbsession, transaction, self._connection):
            joins = False
            if getattr(request, "exception", None) is not None:
                # the error was not caught, and a commit veto that accepts its page could not commit
                transaction.doom()
        bind, can_read = self._ready(dbsession, joins=joins)
        joined = joined_in(transaction, bind)
        is_in_it = joins or joined is not None
        with self._creation.watching(bind.engine), dooming(transaction if is_in_it else None):
            connection = self._connection(dbsession) if can_read else None
            if joined is not None:
                connection = joined.connection
            if connection is None:
                with self._beside.reading(bind) as beside:
                    yield beside
            else:
                with giving_up(connection):
                    yield connection

    @contextmanager
    def writing(self, request: Any, transaction: Any) -> Iterator[Writing]:
        dbsession = self._session(request)
        joins = self._joins(dbsession, transaction)
        if joins and is_lost(dbsession, transaction, self._connection):
            joins = False
            with dooming(transaction):
                self._give_up(dbsession, transaction, getattr(request, "exception", None))
        bind, _ = self._ready(dbsession, joins=joins)
        with self._creation.watching(bind.engine), dooming(transaction):
            if joins and not is_read_only(dbsession):
                with giving_up(connection := self._joined(dbsession, request.tm)):
                    yield connection, lambda: transaction.status == COMMITTED
            elif transaction is not None and has_connections(bind):
                joined = joined_in(transaction, bind) or join(transaction, bind, bind.connect())
                with giving_up(joined.connection):
                    yield joined.connection, joined.committed
            else:
                with self._beside.writing(bind) as connection, giving_up(connection):
                    # durable once this block is left without an error
                    yield connection, lambda: True

    def touching(self, request: Any) -> AbstractContextManager[Connection]:
        bind = self._shown(self._session(request))
        return touching(bind) if has_connections(bind) else self._beside.writing(bind)

    def is_shared(self, request: Any) -> bool:
        return not has_connections(self._shown(self._session(request)))

    def engine(self, request: Any) -> Engine | None:
        bind, _ = self._ready(self._session(request), joins=False)
        return bind if has_connections(bind) else None

    def engines(self) -> list[Engine] | None:
        return self._engines.lasting()

    def close(self) -> None:
        """Nothing to do: every connection belongs to the application's pool."""

    # ---- the application's database session

    def _session(self, request: Any) -> Session:
        dbsession = unwrapped(getattr(request, self._attribute, None))
        if not isinstance(dbsession, Session):
            raise ConfigurationError(
                f"request.{self._attribute} is missing or not a synchronous SQLAlchemy Session "
                f"({dbsession!r}): set sqlsession.dbsession to the name of the request attribute "
                "that is one"
            )
        return dbsession

    def _joins(self, dbsession: Session, transaction: Any) -> bool:
        """Whether it is part of the request's transaction."""
        if transaction is None:
            return False
        joins = takes_part(dbsession, transaction)
        if not (joins or self._has_warned):
            self._has_warned = True
            log.warning(
                "request.%s is not part of the request's transaction: sessions are stored in "
                "separate transactions on its engine. To store both in one, call "
                "zope.sqlalchemy.register(dbsession, transaction_manager=request.tm)",
                self._attribute,
            )
        return joins

    def _give_up(self, dbsession: Session, transaction: Any, error: Any) -> None:
        if error is not None or has_written(transaction, self):
            raise SessionLost(f"{WRITTEN.format(self._attribute)} {see('trouble-revoked')}")
        if not has_not_begun(dbsession):
            log.warning(LOST, self._attribute, self._attribute, see("trouble-lost"))
        if dbsession.is_active and dbsession.in_transaction():
            let_go(dbsession, dbsession.connection(bind_arguments=self._bind_arguments))

    def _joined(self, dbsession: Session, manager: Any) -> Connection:
        # Core does not flush, and the row may refer to another one of this request
        dbsession.flush()
        connection = dbsession.connection(bind_arguments=self._bind_arguments)
        mark_changed(dbsession, manager)
        guard(manager.get(), connection)
        manager.get().set_data(self, True)
        return connection

    def _shown(self, dbsession: Session) -> Engine | Connection:
        try:
            bind = dbsession.get_bind(**self._bind_arguments)
        except UnboundExecutionError as error:
            name = f"{self._model.__module__}.{self._model.__qualname__}"
            raise ConfigurationError(
                f"request.{self._attribute} has no engine for the session model {name}: add the "
                "model, or its base, to its binds, give it a default with bind=, or set "
                "sqlsession.sqlalchemy.url"
            ) from error
        self._engines.show(bind)
        return bind

    def _connection(self, dbsession: Session) -> Connection | None:
        """Its connection; None while it is getting one, if a listener reads the session."""
        if is_getting_connection(dbsession):
            return None
        return dbsession.connection(bind_arguments=self._bind_arguments)

    # ---- the table

    def _ready(self, dbsession: Session, *, joins: bool) -> tuple[Engine | Connection, bool]:
        """The engine or connection with the table, which is created if that is configured.

        Also returns whether the request can use the table through its database session.
        """
        bind, creation = self._shown(dbsession), self._creation
        if creation.is_done(bind.engine):
            return bind, joins
        if has_one_connection(bind.engine):
            creation.within(self._beside.only(bind))
            return bind, joins
        in_use = self._in_use(dbsession, bind, joins=joins)
        if in_use is not None and creation.would_wait_for(in_use):
            creation.within(in_use)
            return bind, joins
        creation.apart(bind.engine)
        # a snapshot from before its creation cannot read it there
        return bind, joins and (in_use is None or in_use.dialect.name not in MYSQL)

    def _in_use(
        self, dbsession: Session, bind: Engine | Connection, *, joins: bool
    ) -> Connection | None:
        """The connection that the request may already have used."""
        if isinstance(bind, Connection):
            return bind
        return self._connection(dbsession) if joins and dbsession.in_transaction() else None
