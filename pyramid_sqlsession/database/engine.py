"""An engine of its own, created from the settings ``sqlsession.sqlalchemy.*``."""

from __future__ import annotations

import secrets
import select
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Any

from pyramid.exceptions import ConfigurationError
from sqlalchemy import Engine, engine_from_config, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from ..driver_errors import mark_conflicts_retryable, refuses_writes
from .options import converted, missing_driver, parsed

_POLL = "pyramid_sqlsession poll"
# how a driver's connection tells its socket: psycopg, psycopg2 and mysqlclient; pg8000; PyMySQL;
# mysql-connector in Python; mariadb, whose public attribute would close what it shows
_SOCKETS = ("fileno", "_usock.fileno", "_sock.fileno", "_socket.sock.fileno", "_get_socket")
_LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


def memory_url() -> str:
    """The URL of a new database in this process's memory, which its threads share."""
    return f"sqlite:///file:/sqlsession-{secrets.token_hex(4)}?vfs=memdb&uri=true"


def make_engine(options: Mapping[str, Any]) -> tuple[Engine, str]:
    """An engine whose connections are in AUTOCOMMIT, and the isolation level of its writes.

    :param options: ``url`` and arguments of :func:`sqlalchemy.create_engine`, as text or as values.
    :raises ConfigurationError: if no engine can be made of them.
    """
    # parameters hold the session's data
    options = {"hide_parameters": True, "skip_autocommit_rollback": True, **options}
    level = options.pop("isolation_level", "READ COMMITTED")
    if level not in _LEVELS:
        raise ConfigurationError(
            f"sqlsession.sqlalchemy.isolation_level = {level!r} is not valid: expected "
            f"{' or '.join(_LEVELS)}, for writes (reads run in AUTOCOMMIT)"
        )
    try:
        options = converted(options)
        url = options["url"] = parsed(options["url"])
        is_sqlite = url.get_backend_name() == "sqlite"
        if is_sqlite and url.database in (None, "", ":memory:"):
            raise ValueError(
                "threads cannot share an SQLite database in memory: name a file, or set "
                "sqlsession.fallback_memory = true"
            )
        if is_sqlite:
            options["connect_args"] = {"timeout": 10, **options.get("connect_args", {})}
        engine = engine_from_config(options, prefix="", isolation_level="AUTOCOMMIT")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"cannot create an engine from sqlsession.sqlalchemy.*: {missing_driver(error)}"
        ) from error
    except (ArgumentError, NoSuchModuleError, ImportError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"cannot create an engine from sqlsession.sqlalchemy.*: {error}"
        ) from error
    mark_conflicts_retryable(engine)
    if is_sqlite:
        event.listen(engine, "connect", _tune_sqlite)
    else:
        _notice_closed_ones(engine)
        event.listen(engine, "handle_error", _leave_if_read_only)
    return engine, "SERIALIZABLE" if is_sqlite else level


def _tune_sqlite(dbapi_connection: Any, _record: Any) -> None:
    try:
        (mode,) = dbapi_connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.OperationalError:
        # a read-only or locked file keeps its mode
        return
    if mode == "wal":
        dbapi_connection.execute("PRAGMA synchronous = NORMAL")


def _leave_if_read_only(context: ExceptionContext) -> None:
    """Let the pool reconnect when a primary was demoted, so that it finds the new one.

    The connections stay open, and every write on them would fail. Nobody else uses this engine, so
    the error does not come from a transaction that was begun as read-only.
    """
    if context.sqlalchemy_exception is not None and refuses_writes(context.sqlalchemy_exception):
        context.is_disconnect = True


def _notice_closed_ones(engine: Engine) -> None:
    """Let the engine's pool replace connections that the server has closed, without a round trip.

    An idle connection receives data only when it is closed, because the server was restarted or an
    administrator ended it. The check is one system call; a connection that received anything else
    is replaced too.
    """

    def notice(dbapi_connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        # empty after a reconnect: a new connection is not checked
        poll = record.info.get(_POLL)
        if poll is None:
            record.info[_POLL] = _poll_of(dbapi_connection)
        elif poll.poll(0):
            raise InvalidatePoolError("the server has closed an idle connection")

    if hasattr(select, "poll"):
        event.listen(engine, "checkout", notice)


def _poll_of(dbapi_connection: Any) -> Any:
    """A poll object for the driver's socket; it reports nothing if the driver hides the socket."""
    poll = select.poll()
    for name in _SOCKETS:
        with suppress(AttributeError):
            poll.register(attrgetter(name)(dbapi_connection)(), select.POLLIN)
            break
    return poll
