"""Statements that SQLAlchemy compiles once.

For each execution it would look the statement up, process the types and build a result that knows
them, which takes longer than the database does. A statement goes around that unless somebody would
notice. The connection's transaction, errors and log are SQLAlchemy's nevertheless.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, CursorResult, Dialect, Engine, TypeDecorator
from sqlalchemy.engine.interfaces import BindTyping

Converter = Callable[[Any], Any]

_CONSTANTS = (int, str, bytes, type(None))


@dataclass(frozen=True)
class Compiled:
    """A statement as the driver's cursor takes it.

    ``statement``, ``sql``, ``options``
      As SQLAlchemy has it, as the database takes it, and the options of its execution.
    ``names``
      Those of the parameters in their order; None if the driver takes them by their names.
    ``constants``
      Values that are part of the statement.
    ``converters``
      What makes the driver's values of some of the parameters.
    """

    statement: Any
    sql: str
    options: Mapping[str, Any] | None
    names: tuple[str, ...] | None
    constants: Mapping[str, Any]
    converters: tuple[tuple[str, Converter], ...]

    def bound(self, values: Mapping[str, Any]) -> Any:
        """The parameters with these values, as the cursor takes them."""
        bound = {**self.constants, **values}
        for name, convert in self.converters:
            bound[name] = convert(bound[name])
        return bound if self.names is None else tuple([bound[name] for name in self.names])

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """The result on a connection; its rows hold what the driver returns."""
        try:
            bound = self.bound(values)
        except Exception:  # noqa: BLE001  # of a type, for a value that it refuses
            # SQLAlchemy raises it again, as one of its own
            return connection.execute(self.statement, values)
        return connection.exec_driver_sql(self.sql, bound, self.options)


_known: WeakKeyDictionary[Dialect, dict[Any, Compiled | None]] = WeakKeyDictionary()


def compiled(statement: Any, dialect: Dialect) -> Compiled | None:
    """The statement for this dialect; None if SQLAlchemy has more to do than to send it."""
    known = _known.setdefault(dialect, {})
    if statement not in known:
        known[statement] = _compiled(statement, dialect)
    return known[statement]


def _compiled(statement: Any, dialect: Dialect) -> Compiled | None:
    form: Any = statement.compile(dialect=dialect)
    binds = form.bind_names
    has_defaults = form.insert_prefetch or form.update_prefetch or form.effective_returning
    is_rewritten = form.escaped_bind_names or dialect.bind_typing is BindTyping.SETINPUTSIZES
    if has_defaults or is_rewritten or not all(map(_is_plain, binds)):
        return None
    converters = ((name, _converter(bind.type, dialect)) for bind, name in binds.items())
    return Compiled(
        statement=statement,
        sql=str(form),
        options=statement.get_execution_options() or None,
        names=tuple(form.positiontup) if form.positional else None,
        constants={binds[bind]: bind.value for bind in binds if not bind.required},
        converters=tuple({name: convert for name, convert in converters if convert}.items()),
    )


def _is_plain(bind: Any) -> bool:
    """Whether a parameter is one value, and one that was given or is always the same."""
    is_constant = bind.callable is None and isinstance(bind.value, _CONSTANTS)
    is_single = not (bind.expanding or bind.literal_execute)
    # a type of the application's own may look at the dialect, which is not to be kept alive
    is_usual = not isinstance(bind.type, TypeDecorator)
    return is_single and is_usual and (bind.required or is_constant)


def _converter(type_: Any, dialect: Dialect) -> Converter | None:
    converter: Converter | None = type_.dialect_impl(dialect).bind_processor(dialect)
    return converter


def execute(connection: Connection, statement: Any, values: Mapping[str, Any]) -> CursorResult[Any]:
    """The result of a statement without rows, compiled once unless somebody would notice."""
    is_usual = not (is_observed(connection) or renames(connection))
    ready = compiled(statement, connection.dialect) if is_usual else None
    if ready is None:
        return connection.execute(statement, values)
    return ready.execute(connection, values)


def is_observed(bind: Connection | Engine) -> bool:
    """Whether something observes SQLAlchemy's statements: the debug toolbar, ``echo``."""
    listeners = bind.dispatch
    return bool(
        listeners.before_cursor_execute
        or listeners.after_cursor_execute
        or listeners.before_execute
        or listeners.after_execute
        or bind.dialect.dispatch.do_execute
        or bind.engine.logger.isEnabledFor(logging.INFO)
    )


def renames(bind: Connection | Engine) -> bool:
    """Whether the names of schemas are replaced when statements are executed."""
    return bool(bind.get_execution_options().get("schema_translate_map"))
