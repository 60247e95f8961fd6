"""Connections from the engine of the application's database session, beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import SingletonThreadPool, StaticPool


def has_one_connection(engine: Engine) -> bool:
    """Whether the engine's pool always hands out the same connection, at least to a thread."""
    return isinstance(engine.pool, (StaticPool, SingletonThreadPool))


def has_connections(bind: Engine | Connection) -> TypeGuard[Engine]:
    """Whether it can provide connections that the application is not using."""
    return isinstance(bind, Engine) and not has_one_connection(bind)


def is_open(connection: Connection) -> bool:
    """Whether a transaction has begun on the driver's connection."""
    # ask the driver: SQLAlchemy only knows the transactions of this Connection object
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


def in_transaction(connection: Connection) -> AbstractContextManager[Any]:
    """A transaction, unless one is open."""
    # an open transaction belongs to the code that bound the session to this connection
    return nullcontext() if connection.in_transaction() else connection.begin()


class Beside:
    """Connections that do not interfere with the application's database session.

    If there is only one connection, because the session is bound to it or the pool has no other, it
    is used. In the second case it is kept open, since closing it would roll back the application's
    work, and it comes from an engine without listeners, since one that executes BEGIN would do so
    twice.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Engine, Connection] = WeakKeyDictionary()
        self._kept_by_thread: Any = threading.local()

    @contextmanager
    def reading(self, bind: Engine | Connection) -> Iterator[Connection]:
        """A connection for reading."""
        if isinstance(bind, Connection):
            with in_transaction(bind):
                yield bind
        elif has_one_connection(bind):
            yield self.only(bind)
        else:
            with bind.connect() as connection:
                yield connection

    @contextmanager
    def writing(self, bind: Engine | Connection) -> Iterator[Connection]:
        """A connection for writing, in a short transaction unless the application began one."""
        if isinstance(bind, Connection):
            with in_transaction(bind):
                yield bind
        elif has_one_connection(bind) and is_open(self.only(bind)):
            # the application began it and will end it
            yield self.only(bind)
        else:
            with bind.begin() as connection:
                yield connection

    def only(self, bind: Engine | Connection) -> Connection:
        """The only connection, where there is only one."""
        if isinstance(bind, Connection):
            return bind
        kept = self._kept if isinstance(bind.pool, StaticPool) else self._of_this_thread()
        connection = kept.get(bind)
        if connection is None:
            hide = bind.hide_parameters
            bare = Engine(bind.pool, bind.dialect, bind.url, hide_parameters=hide)
            connection = kept[bind] = bare.connect()
        return connection

    def _of_this_thread(self) -> WeakKeyDictionary[Engine, Connection]:
        if not hasattr(self._kept_by_thread, "connections"):
            self._kept_by_thread.connections = WeakKeyDictionary()
        kept: WeakKeyDictionary[Engine, Connection] = self._kept_by_thread.connections
        return kept
