"""Statements that SQLAlchemy compiles once.

For each execution it would look the statement up, process the types and build a result that knows
them, which takes longer than the database does. A statement goes around that unless somebody would
notice. The connection's transaction, errors and log are SQLAlchemy's nevertheless.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Engine
from sqlalchemy.engine.interfaces import BindTyping

Converter = Callable[[Any], Any]


@dataclass(frozen=True)
class Compiled:
    """A statement as the driver's cursor takes it.

    ``names``
      Those of the parameters in their order; None if the driver takes them by their names.
    ``constants``
      Values that are part of the statement.
    ``converters``
      What makes the driver's values of some of the parameters.
    """

    sql: str
    names: tuple[str, ...] | None
    constants: Mapping[str, Any]
    converters: tuple[tuple[str, Converter], ...]
    options: Mapping[str, Any] | None

    def bound(self, values: Mapping[str, Any]) -> Any:
        """The parameters with these values, as the cursor takes them."""
        bound = {**self.constants, **values}
        for name, convert in self.converters:
            bound[name] = convert(bound[name])
        return bound if self.names is None else tuple([bound[name] for name in self.names])

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """The result on a connection; its rows hold what the driver returns."""
        return connection.exec_driver_sql(self.sql, self.bound(values), self.options)


@lru_cache(maxsize=256)
def compiled(statement: Any, dialect: Dialect) -> Compiled | None:
    """The statement for this dialect; None if SQLAlchemy computes something at each execution."""
    it: Any = statement.compile(dialect=dialect)
    is_computed = (
        dialect.bind_typing is BindTyping.SETINPUTSIZES
        or it.escaped_bind_names
        or it.insert_prefetch
        or it.update_prefetch
        or any(bind.expanding or bind.literal_execute for bind in it.bind_names)
    )
    if is_computed:
        return None
    binds = it.bind_names.items()
    converters = ((name, _converter(bind.type, dialect)) for bind, name in binds)
    return Compiled(
        sql=str(it),
        names=tuple(it.positiontup) if it.positional else None,
        constants={name: bind.effective_value for bind, name in binds if not bind.required},
        converters=tuple({name: convert for name, convert in converters if convert}.items()),
        options=statement.get_execution_options() or None,
    )


def _converter(type_: Any, dialect: Dialect) -> Converter | None:
    converter: Converter | None = type_.dialect_impl(dialect).bind_processor(dialect)
    return converter


def is_observed(engine: Engine) -> bool:
    """Whether something observes SQLAlchemy's statements: the debug toolbar, ``echo``."""
    listeners = engine.dispatch
    return bool(
        listeners.before_cursor_execute
        or listeners.after_cursor_execute
        or listeners.before_execute
        or listeners.after_execute
        or engine.logger.isEnabledFor(logging.INFO)
    )


def renames(bind: Connection | Engine) -> bool:
    """Whether the names of schemas are replaced when statements are executed."""
    return bool(bind.get_execution_options().get("schema_translate_map"))
