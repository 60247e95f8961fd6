"""Reads rows on separate connections, directly on the driver's cursor where possible.

SQLAlchemy's event listeners and type processing cost several times as much as reading one row by
its key. A model whose types need neither is read with SQL that SQLAlchemy has compiled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Engine, Enum, Integer, LargeBinary, String
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection

from ..driver_errors import has_waited, is_outdated, translated
from ..table.compiled import Compiled, compiled, is_observed, renames
from ..table.record import Record
from ..table.rows import Rows

_PLAIN = (Integer, LargeBinary, String)

_CURSOR = "pyramid_sqlsession cursor"
_MOST_KEPT = 10_000
"""Bytes and characters of a row that may stay in memory until the connection reads another one."""


class Reader:
    """Reads rows outside of transactions.

    :param engine: in AUTOCOMMIT.
    """

    def __init__(self, engine: Engine, rows: Rows) -> None:
        self._engine = engine
        self._rows = rows
        types = [column.type for column in rows.select.selected_columns]
        can = not renames(engine) and all(_is_plain(it, engine.dialect) for it in types)
        self._select = compiled(rows.select, engine.dialect) if can else None
        self._texts = [number for number, it in enumerate(types) if isinstance(it, String)]
        self._is_psycopg = engine.driver == "psycopg"
        # it would otherwise be sent bytes as hexadecimal digits
        self._is_binary = self._is_psycopg

    def load(self, id: bytes) -> Record | None:
        """The row, or None: as :meth:`Rows.load`."""
        if self._select is not None and not is_observed(self._engine):
            try:
                row = self._first_row(self._select, id)
            except PoolTimeout:
                # all connections are in use: asking again would wait as long once more
                raise
            except Exception as error:
                # SQLAlchemy will raise any other error again
                if has_waited(error):
                    with translated(self._rows.table.fullname):
                        raise self._as_sqlalchemy_says(error) from error
                if is_outdated(error):
                    # the other connections have prepared the same
                    self._engine.dispose()
            else:
                return None if row is None else Record.of(row)
        with self._engine.connect() as connection:
            return self._rows.load(connection, id)

    def _first_row(self, select: Compiled, id: bytes) -> Sequence[Any] | None:
        if self._is_binary:
            try:
                row = self._fetched(select, id)
            except self._dbapi.NotSupportedError as error:
                if is_outdated(error):
                    raise
                # of a ClientCursor
                row = None
            else:
                if row is None or not any(isinstance(row[it], bytes) for it in self._texts):
                    return row
            # else a text has a type that the driver does not know, such as citext
            self._is_binary = False
        return self._fetched(select, id)

    def _fetched(self, select: Compiled, id: bytes) -> Sequence[Any] | None:
        parameters = select.bound({"b_id": id})
        connection = self._engine.raw_connection()
        try:
            if self._is_psycopg:
                return self._on_kept_cursor(connection, select.sql, parameters)
            with closing(connection.cursor()) as cursor:
                cursor.execute(select.sql, parameters)
                row: Sequence[Any] | None = cursor.fetchone()
                return row
        except BaseException:
            connection.invalidate()
            raise
        finally:
            connection.close()

    def _on_kept_cursor(
        self, connection: PoolProxiedConnection, sql: str, parameters: Any
    ) -> Sequence[Any] | None:
        """The row. To set up a new cursor takes psycopg a quarter of the time that a read does."""
        is_binary = self._is_binary
        kept = connection.info.pop((_CURSOR, is_binary), None)
        cursor: Any = kept or connection.cursor(binary=is_binary)
        cursor.execute(sql, parameters)
        row: Sequence[Any] | None = cursor.fetchone()
        if sum(len(it) for it in row or () if isinstance(it, (bytes, str))) <= _MOST_KEPT:
            connection.info[_CURSOR, is_binary] = cursor
        return row

    def _as_sqlalchemy_says(self, error: Exception) -> BaseException:
        dialect = self._engine.dialect
        return DBAPIError.instance(None, None, error, self._dbapi.Error, dialect=dialect)

    @property
    def _dbapi(self) -> Any:
        return self._engine.dialect.loaded_dbapi


def _is_plain(type_: Any, dialect: Any) -> bool:
    """Whether values are returned as the driver returns them."""
    if not isinstance(type_, _PLAIN) or isinstance(type_, Enum):
        return False
    # for these types the processor does not depend on the column's type code
    return type_.dialect_impl(dialect).result_processor(dialect, None) is None
