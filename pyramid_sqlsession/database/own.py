"""An engine of its own, for applications without a database session.

Reads run in AUTOCOMMIT: one round trip each. A write takes a connection of its own that joins the
request's transaction and is committed after everything else in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import Pool

from ..driver_errors import translated
from ..table.record import Record
from ..table.rows import Rows
from .aside import touching
from .base import Writing
from .connections import commit, connect, dooming, giving_up
from .creation import Creation
from .engine import make_engine
from .joined import join, joined_in
from .reader import Reader


class OwnDatabase:
    """An engine made from ``sqlsession.sqlalchemy.*``; it connects when it is first needed.

    :param options: ``url`` and arguments of :func:`sqlalchemy.create_engine`, as text or as values.
    :param create: create the table when the engine first connects.
    :raises ConfigurationError: if the options are wrong.
    """

    def __init__(self, options: Mapping[str, Any], rows: Rows, *, create: bool) -> None:
        self._engine, self._write_level = make_engine(options)
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._is_memory = self._engine.url.query.get("vfs") == "memdb"
        self._anchor: Any = None
        self._inherited: list[Pool] = []
        self._rows = rows
        self._reader = Reader(self._engine, rows)
        self._creation = Creation(rows.table, wanted=create)
        self._pid = os.getpid()
        self._preparing = threading.Lock()

    def __str__(self) -> str:
        if self._is_memory:
            return "a database in the memory of this process"
        # a query may hold a password too
        return f"an engine of its own, {self._engine.url.set(query={})!r}"

    def notice(self, request: Any) -> None:
        """Nothing to do: there is only one engine."""

    def flush(self, request: Any, transaction: Any, is_asked_for: bool) -> None:
        """Nothing to do: the application's database session, if it has one, is not known."""

    def load(self, request: Any, transaction: Any, id: bytes) -> Record | None:
        joined = joined_in(transaction, self)
        if joined is not None:
            return self._rows.load(joined.connection, id)
        self._ready()
        with self._creation.watching(self._engine):
            return self._reader.load(id)

    @contextmanager
    def reading(self, request: Any, transaction: Any) -> Iterator[Connection]:
        joined = joined_in(transaction, self)
        if joined is not None:
            with dooming(transaction):
                yield joined.connection
            return
        with self._creation.watching(self._engine), self._ready().connect() as connection:
            yield connection

    @contextmanager
    def writing(self, request: Any, transaction: Any) -> Iterator[Writing]:
        if transaction is None:
            with (
                self._creation.watching(self._engine),
                self._begin() as connection,
                giving_up(connection),
            ):
                # durable once this block is left without an error
                yield connection, lambda: True
                commit(connection)
            return
        with self._creation.watching(self._engine), dooming(transaction):
            joined = joined_in(transaction, self) or join(transaction, self, self._begin())
            with giving_up(joined.connection):
                yield joined.connection, joined.committed

    def touching(self, request: Any) -> AbstractContextManager[Connection]:
        return touching(self._ready())

    def is_shared(self, request: Any) -> bool:
        return False

    def engine(self, request: Any) -> Engine:
        return self._ready()

    def engines(self) -> list[Engine]:
        return [self._ready()]

    def close(self) -> None:
        with self._preparing:
            if self._anchor is not None:
                self._anchor.close()
                self._anchor = None
                self._creation.forget(self._engine)
            self._engine.dispose()

    def _begin(self) -> Connection:
        connection = connect(self._ready(), self._write_level)
        try:
            if self._is_sqlite:
                # a transaction that upgrades from reading to writing cannot wait for its turn
                with translated(self._rows.table.fullname):
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            connection.close()
            raise
        return connection

    def _ready(self) -> Engine:
        if self._pid != os.getpid() or not self._creation.is_done(self._engine):
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
            # the database lives as long as a connection to it is open
            self._anchor = self._engine.raw_connection()
        if not self._creation.is_done(self._engine):
            self._creation.alone(self._engine)
