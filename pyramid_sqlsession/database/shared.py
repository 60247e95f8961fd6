"""Connections that are the application's own: their pools have no others."""

from __future__ import annotations

import threading
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import SingletonThreadPool, StaticPool


def has_one_connection(engine: Engine) -> bool:
    """Whether the engine's pool hands out one connection over and over, at least to a thread."""
    return isinstance(engine.pool, (StaticPool, SingletonThreadPool))


def has_connections(bind: Engine | Connection) -> TypeGuard[Engine]:
    """Whether it gives connections that are not the application's just now."""
    return isinstance(bind, Engine) and not has_one_connection(bind)


def is_open(connection: Connection) -> bool:
    """Whether somebody has begun a transaction on the driver's connection."""
    # the driver's word: SQLAlchemy knows of the transactions of this Connection object only
    return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))


class SharedConnections:
    """A connection of each engine whose pool has no other than the application's.

    It is kept open, and as it is: closing it would roll back the application's work. It comes from
    an engine without listeners, since one that says BEGIN would say it twice.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Engine, Connection] = WeakKeyDictionary()
        self._kept_by_thread: Any = threading.local()

    def of(self, engine: Engine) -> Connection:
        """That of this engine, which has one only: see :func:`has_one_connection`."""
        kept = self._kept if isinstance(engine.pool, StaticPool) else self._of_this_thread()
        connection = kept.get(engine)
        if connection is None:
            hide = engine.hide_parameters
            bare = Engine(engine.pool, engine.dialect, engine.url, hide_parameters=hide)
            connection = kept[engine] = bare.connect()
        return connection

    def _of_this_thread(self) -> WeakKeyDictionary[Engine, Connection]:
        if not hasattr(self._kept_by_thread, "connections"):
            self._kept_by_thread.connections = WeakKeyDictionary()
        kept: WeakKeyDictionary[Engine, Connection] = self._kept_by_thread.connections
        return kept
