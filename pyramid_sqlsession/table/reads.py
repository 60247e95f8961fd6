"""The SQL that reads a session's row: its statements, built once for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from ..driver_errors import is_undecodable, translated
from ..exceptions import SessionConflict, SessionDataError, SessionTableError
from ..watch import Watch
from .json_text import read_as_text
from .model import MIXED_IN, is_copied, unique_columns
from .record import COLUMNS, Record


class Reads:
    """Reads the rows of a model.

    Every method takes an open connection, and the id: the 32 bytes of the primary key. All raise
    :class:`SessionConflict` if the database reports a conflict with another transaction, and
    :class:`SessionTableError` if the table does not match the model.

    :param remark: added to that error: how the model was chosen.
    """

    def __init__(self, model: Any, remark: str = "") -> None:
        self._remark = remark
        columns = self.columns = inspect(model).columns
        id = columns["id"]
        self.table: Table = id.table
        self.data_type = columns["data"].type
        self.own_columns = tuple(
            name
            for name, column in columns.items()
            if name not in MIXED_IN and isinstance(column, Column) and column.table is self.table
        )
        """The columns that the application's model has added."""
        unique = unique_columns(self.table)
        self._copied = tuple(name for name in self.own_columns if is_copied(columns[name], unique))
        row = select(*(read_as_text(columns[name]) for name in COLUMNS))
        this = id == bindparam("b_id")
        self.select = row.where(this)
        """Reads a row; its parameter is the id."""
        self._locking_select = self.select.with_for_update()
        these = id.in_(bindparam("b_ids", expanding=True))
        self._select_several = row.add_columns(id).where(these)
        self._own = select(*(columns[name] for name in self._copied or ("id",))).where(this)

    def hides(self, connection: Connection) -> bool:
        """Whether the database may hide rows from a locking SELECT that a plain one finds.

        PostgreSQL does if row-level security has a policy for SELECT and none for UPDATE. There is
        no other cause: a row that was changed or deleted since the snapshot is an error when it is
        locked, or a plain SELECT does not find it either.
        """
        return connection.dialect.name == "postgresql"

    def ignored(self, what: str) -> SessionTableError:
        """An error for a statement that the database ignored."""
        return SessionTableError(
            f"{what} on the session table {self.table.fullname!r} changed nothing, and the "
            "database reported no error. Look for row-level security, which needs policies that "
            "let the application SELECT, INSERT, UPDATE and DELETE all its sessions, and for a "
            "trigger or rule on the table that discards the statement"
        )

    def execute(self, connection: Connection, statement: Any, parameters: Any) -> Any:
        """The result of a statement on the table."""
        with self.translated():
            return connection.execute(statement, parameters)

    def translated(self) -> Watch:
        """A block in which the errors of statements on the table are translated."""
        return translated(self.table.fullname, self._remark)

    def load(self, connection: Connection, id: bytes, *, lock: bool = False) -> Record | None:
        """The row, or None.

        :param lock: lock it, and see what other transactions committed since this one began.
        :raises SessionDataError: if the type of a column cannot read its value.
        :raises SessionTableError: if the row exists and cannot be locked.
        """
        statement = self._locking_select if lock else self.select
        found = self._found(connection, statement, {"b_id": id})
        if not found and lock and self.hides(connection) and self.load(connection, id) is not None:
            raise self.ignored("UPDATE")
        return Record.of(found[0]) if found else None

    def load_several(self, connection: Connection, ids: Sequence[bytes]) -> list[Record | None]:
        """The rows of several ids, in their order; None for an id without a row.

        :raises SessionDataError: as :meth:`load` does, for any of them.
        """
        found = self._found(connection, self._select_several, {"b_ids": ids})
        records = {id: Record.of(row) for *row, id in found}
        return [records.get(id) for id in ids]

    def _found(self, connection: Connection, statement: Any, parameters: Any) -> Sequence[Any]:
        try:
            found: Sequence[Any] = self.execute(connection, statement, parameters).all()
        except (SessionConflict, SessionTableError):
            raise
        except SQLAlchemyError as error:
            if not is_undecodable(error):
                raise
            raise SessionDataError("a text in it is not valid UTF-8") from error
        except Exception as error:
            name = type(error).__name__
            raise SessionDataError(f"a column's type cannot read it ({name})") from error
        return found

    def own_values(self, connection: Connection, id: bytes) -> dict[str, Any]:
        """The values of the application's own columns of a row that may be copied to another row.

        Empty if the model has none, or if there is no such row.
        """
        if not self._copied:
            return {}
        row = self.execute(connection, self._own, {"b_id": id}).first()
        return {} if row is None else dict(zip(self._copied, row, strict=True))
