"""Reads rows on separate connections, directly on the driver's cursor where possible.

SQLAlchemy's event listeners and type processing cost several times as much as reading one row by
its key. A model whose types need neither is read with SQL that SQLAlchemy has compiled once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Engine, Enum, Integer, LargeBinary, Select, String
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..driver_errors import has_waited, translated
from ..table.record import Record
from ..table.rows import Rows

_PLAIN = (Integer, LargeBinary, String)

FirstRow = Callable[[bytes], Sequence[Any] | None]


class Reader:
    """Reads rows outside of transactions.

    :param engine: in AUTOCOMMIT.
    """

    def __init__(self, engine: Engine, rows: Rows) -> None:
        self._engine = engine
        self._rows = rows
        self._first_row: FirstRow | None = None
        renames = bool(engine.get_execution_options().get("schema_translate_map"))
        if not renames and all(
            _is_plain(column.type, engine.dialect) for column in rows.select.selected_columns
        ):
            self._first_row = first_row_of(rows.select, engine)

    def load(self, id: bytes) -> Record | None:
        """The row, or None: as :meth:`Rows.load`."""
        if self._first_row is not None and not _is_listened_to(self._engine):
            try:
                row = self._first_row(id)
            except PoolTimeout:
                # all connections are in use: asking again would wait as long once more
                raise
            except Exception as error:
                # SQLAlchemy will raise any other error again
                if has_waited(error):
                    with translated(self._rows.table.fullname):
                        raise self._as_sqlalchemy_says(error) from error
            else:
                return None if row is None else Record.of(row)
        with self._engine.connect() as connection:
            return self._rows.load(connection, id)

    def _as_sqlalchemy_says(self, error: Exception) -> BaseException:
        dialect: Any = self._engine.dialect
        return DBAPIError.instance(None, None, error, dialect.loaded_dbapi.Error, dialect=dialect)


def first_row_of(select: Select[Any], engine: Engine) -> FirstRow:
    """A function that takes the one parameter of a SELECT and returns the first row, or None."""
    dialect = engine.dialect
    compiled: Any = select.compile(dialect=dialect)
    sql = str(compiled)
    ((name, parameter),) = compiled.binds.items()
    bind = parameter.type.dialect_impl(dialect).bind_processor(dialect) or bytes

    def first_row(value: bytes) -> Sequence[Any] | None:
        parameters = (bind(value),) if compiled.positional else {name: bind(value)}
        connection = engine.raw_connection()
        try:
            with closing(connection.cursor()) as cursor:
                cursor.execute(sql, parameters)
                row = cursor.fetchone()
        except BaseException:
            connection.invalidate()
            raise
        finally:
            connection.close()
        return row

    return first_row


def _is_plain(type_: Any, dialect: Any) -> bool:
    """Whether values are returned as the driver returns them."""
    if not isinstance(type_, _PLAIN) or isinstance(type_, Enum):
        return False
    # for these types the processor does not depend on the column's type code
    return type_.dialect_impl(dialect).result_processor(dialect, None) is None


def _is_listened_to(engine: Engine) -> bool:
    """Whether something observes SQLAlchemy's statements: the debug toolbar, ``echo``."""
    listeners = engine.dispatch
    return bool(
        listeners.before_cursor_execute
        or listeners.after_cursor_execute
        or engine.logger.isEnabledFor(logging.INFO)
    )
