"""An engine of the store's own, for applications without a database session.

Reads run in AUTOCOMMIT: one round trip each. A write takes a connection of its own that joins the
request's transaction and is committed after everything else in it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import Pool
from transaction.interfaces import IDataManager
from zope.interface import implementer

from ..driver_errors import MYSQL, translated
from ..table.record import Record
from ..table.rows import Storage
from ..transactions import COMMITTED
from .connections import commit, connect, create_table, hardly_waiting, roll_back
from .engine import make_engine
from .reader import Reader

log = logging.getLogger("pyramid_sqlsession")


@implementer(IDataManager)
class _JoinedWrite:
    """A write connection as a resource of the request's transaction; it votes last.

    A failure of our own COMMIT after another resource has voted, and so perhaps committed, must
    not fail the request: a retry would do the other's work twice.
    """

    def __init__(self, connection: Connection, transaction: Any) -> None:
        self.connection = connection
        self.transaction_manager = None
        self._transaction = transaction
        self._lost = False

    def committed(self) -> bool:
        return self._transaction.status == COMMITTED and not self._lost

    def abort(self, transaction: Any) -> None:
        roll_back(self.connection)
        self.connection.close()

    def tpc_begin(self, transaction: Any) -> None:
        """Nothing to do: the connection is in a transaction."""

    def commit(self, transaction: Any) -> None:
        """Nothing to do: the statements were executed when the session was saved."""

    def tpc_vote(self, transaction: Any) -> None:
        try:
            commit(self.connection)
        except Exception:
            # there is no public way to ask who has voted
            if not transaction._voted:
                raise
            self._lost = True
            log.exception("the session was not stored: its COMMIT failed after the application's")
        self.connection.close()

    def tpc_finish(self, transaction: Any) -> None:
        """Nothing to do: the vote has committed."""

    def tpc_abort(self, transaction: Any) -> None:
        """Nothing to do: a one-phase commit cannot be taken back."""

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        return f"~~pyramid_sqlsession:{id(self)}"


class OwnDatabase:
    """An engine made from ``sqlsession.sqlalchemy.*``; it connects when it is first needed.

    :param options: ``url`` and arguments of :func:`sqlalchemy.create_engine`, as text or as values.
    :param create: make the table when the engine first connects.
    :raises ConfigurationError: if no engine can be made of the options.
    """

    def __init__(self, options: Mapping[str, Any], storage: Storage, *, create: bool) -> None:
        self._engine, self._write_level = make_engine(options)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._is_memory = self._engine.url.query.get("vfs") == "memdb"
        self._anchor: Any = None
        self._inherited: list[Pool] = []
        self._storage = storage
        self._reader = Reader(self._engine, storage)
        self._create = create
        self._pid = os.getpid()
        self._preparing = threading.Lock()

    def __str__(self) -> str:
        if self._is_memory:
            return "a database in the memory of this process"
        # a query may hold a password too
        return f"an engine of its own, {self._engine.url.set(query={})!r}"

    def enter(self, request: Any) -> None:
        """Nothing to do: most requests need no connection."""

    def load(self, request: Any, transaction: Any, id: bytes) -> Record | None:
        joined = self._joined(transaction)
        if joined is not None:
            return self._storage.load(joined.connection, id)
        self._ready()
        return self._reader.load(id)

    @contextmanager
    def reading(self, request: Any, transaction: Any) -> Iterator[Connection]:
        joined = self._joined(transaction)
        if joined is not None:
            yield joined.connection
            return
        with self._ready().connect() as connection:
            yield connection

    def writing(self, request: Any, transaction: Any) -> tuple[Connection, Callable[[], bool]]:
        joined = self._joined(transaction)
        if joined is None:
            connection = self._begin()
            joined = _JoinedWrite(connection, transaction)
            transaction.join(joined)
            transaction.set_data(self, joined)
        return joined.connection, joined.committed

    @contextmanager
    def beside(self, request: Any) -> Iterator[Connection]:
        with self._begin() as connection:
            yield connection
            commit(connection)

    @contextmanager
    def touching(self, request: Any) -> Iterator[Connection]:
        engine = self._ready()
        # MySQL's touch is two statements, and needs a transaction
        is_one_statement = engine.dialect.name not in MYSQL
        begun = engine.connect() if is_one_statement else connect(engine, self._write_level)
        with begun as connection, hardly_waiting(connection):
            yield connection
            commit(connection)

    def engine(self) -> Engine:
        return self._ready()

    def close(self) -> None:
        with self._preparing:
            if self._anchor is not None:
                self._anchor.close()
                self._anchor = None
                self._create = True
            self._engine.dispose()

    def _joined(self, transaction: Any) -> _JoinedWrite | None:
        try:
            joined: _JoinedWrite = transaction.data(self)
        except (AttributeError, KeyError):
            return None
        return joined

    def _begin(self) -> Connection:
        connection = connect(self._ready(), self._write_level)
        try:
            if self._is_sqlite:
                # a transaction that upgrades from reading to writing cannot wait for its turn
                with translated(self._storage.table.fullname):
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            connection.close()
            raise
        return connection

    def _ready(self) -> Engine:
        if self._create or self._pid != os.getpid():
            with self._preparing:
                self._prepare()
        return self._engine

    def _prepare(self) -> None:
        if self._pid != os.getpid():
            # sockets opened before a fork belong to the parent process; the pool is kept because
            # mysqlclient says goodbye on them when its connections become garbage
            self._inherited.append(self._engine.pool)
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        if self._is_memory and self._anchor is None:
            # the database lives as long as somebody is connected to it
            self._anchor = self._engine.raw_connection()
        if self._create:
            create_table(self._storage.table, self._engine)
            self._create = False
