"""Listeners for SQLAlchemy, the application's registry and the log.

They are installed once in a process that has the panel, and do nothing unless a request is being
observed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from pyramid.events import BeforeTraversal
from sqlalchemy import Delete, Engine, Insert, Select, Table, Update, event
from sqlalchemy.engine import ExceptionContext

from ..driver_errors import reason
from ..events import SessionEvent
from ..transactions import current_transaction
from .observed import Observed, Statement, current, observed_of
from .readable import described, parameter

_PREFIX = "b_"
"""Of the parameters in the package's own statements."""


def listen() -> None:
    """Listen to all engines and to the package's log. Calling it again has no effect."""
    for name, listener in LISTENERS.items():
        if not event.contains(Engine, name, listener):
            event.listen(Engine, name, listener)
    logging.getLogger("pyramid_sqlsession").addHandler(_HANDLER)


def listen_in(config: Any) -> None:
    """Subscribe to the application's events."""
    config.add_subscriber(_note_event, SessionEvent)
    config.add_subscriber(_note_transaction, BeforeTraversal)


# ---- the application


def _note_event(event: SessionEvent) -> None:
    observed = observed_of(event.request)
    if observed is not None:
        observed.events.append(event)


def _note_transaction(event: Any) -> None:
    observed = observed_of(event.request)
    if observed is not None:
        observed.transaction = current_transaction(event.request)


class _Handler(logging.Handler):
    """Adds the package's warnings to the request that is being observed."""

    def emit(self, record: logging.LogRecord) -> None:
        observed = current()
        if observed is not None:
            error = f": {described(record.exc_info[1])}" if record.exc_info else ""
            observed.warnings.append(record.getMessage() + error)


_HANDLER = _Handler(logging.WARNING)


# ---- statements


def _begin(_connection: Any, _cursor: Any, _sql: str, _values: Any, *_more: Any) -> None:
    observed = current()
    if observed is not None:
        observed.began = perf_counter()


def _end(_connection: Any, cursor: Any, sql: str, _values: Any, context: Any, _many: bool) -> None:
    observed = current()
    if observed is not None and _concerns(context, observed.visit.store.rows.table):
        reads = context.compiled.statement.is_select
        _note(observed, sql, context, None if reads else cursor.rowcount, None)


def _fail(failure: ExceptionContext) -> None:
    observed, context = current(), failure.execution_context
    if observed is not None and _concerns(context, observed.visit.store.rows.table):
        error = reason(failure.original_exception)
        _note(observed, str(failure.statement), context, None, error)


LISTENERS: dict[str, Callable[..., None]] = {
    "before_cursor_execute": _begin,
    "after_cursor_execute": _end,
    "handle_error": _fail,
}


def _concerns(context: Any, table: Table) -> bool:
    """Whether a statement reads or writes the session table."""
    compiled = getattr(context, "compiled", None)
    statement = getattr(compiled, "statement", None)
    if isinstance(statement, Select):
        return table in statement.get_final_froms()
    return isinstance(statement, (Insert, Update, Delete)) and statement.table is table


def _note(observed: Observed, sql: str, context: Any, rows: int | None, error: str | None) -> None:
    parameters = {
        name.removeprefix(_PREFIX): value
        for name, value in context.compiled_parameters[0].items()
        if name.startswith(_PREFIX)
    }
    observed.statements.append(
        Statement(
            kind=_kind(context, parameters),
            sql=sql,
            parameters=", ".join(parameter(*item) for item in parameters.items()),
            version=parameters.get("version"),
            milliseconds=(perf_counter() - observed.began) * 1000,
            rows=rows,
            error=error,
            is_of_save=observed.is_saving,
            transaction=observed.visit.transaction,
        )
    )


def _kind(context: Any, parameters: Mapping[str, Any]) -> str:
    """The purpose of a statement, derived from its parameters."""
    if context.isupdate and not parameters:
        # changes nothing: locks SQLite before a read
        return "read"
    if not context.isupdate:
        return "insert" if context.isinsert else "delete" if context.isdelete else "read"
    if "replaced" in parameters:
        return "mark"
    if "data" in parameters:
        return "update" if "last_seen" in parameters else "rewrite"
    return "touch" if "last_seen" in parameters else "update"
