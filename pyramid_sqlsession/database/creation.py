"""Creates the table when a request first needs it: ``sqlsession.create_table``."""

from __future__ import annotations

from weakref import WeakSet

from sqlalchemy import Connection, Engine, Table

from ..driver_errors import MYSQL, translated
from ..exceptions import SessionTableError
from ..table.storage import create_table
from ..watch import Watch
from .beside import in_transaction, is_open

_PATIENCE = {
    "postgresql": "SET LOCAL lock_timeout = '5s'",
    **dict.fromkeys(MYSQL, "SET SESSION lock_wait_timeout = 5"),
}
"""Statements that limit the wait for a lock, perhaps the request's own, to five seconds."""


class Creation:
    """Creates the table once in each engine that is used, if *wanted*."""

    def __init__(self, table: Table, *, wanted: bool) -> None:
        self._table = table
        self._wanted = wanted
        self._done: WeakSet[Engine] = WeakSet()

    def is_done(self, engine: Engine) -> bool:
        """Whether the table needs no creation, as far as this process knows."""
        return not self._wanted or engine in self._done

    def watching(self, engine: Engine) -> Watch:
        """Create the table again at its next use if it has been dropped."""
        return Watch(self._look, engine)

    def _look(self, error: BaseException, engine: Engine) -> None:
        if isinstance(error, SessionTableError):
            self.forget(engine)

    def forget(self, engine: Engine) -> None:
        """Create the table at its next use."""
        self._done.discard(engine)

    def alone(self, engine: Engine) -> None:
        """Create it in an engine of our own, where no request has locked anything."""
        create_table(self._table, engine)
        self._done.add(engine)

    def apart(self, engine: Engine) -> None:
        """Create it on a separate connection, which commits or rolls back nobody else's work.

        :raises SessionConflict: if a lock prevents it.
        """
        patience = _PATIENCE.get(engine.dialect.name)
        with translated(self._table.fullname):
            if patience is None:
                create_table(self._table, engine)
            else:
                with engine.connect() as connection:
                    # its changed timeout must not return to the pool
                    connection.detach()
                    connection.exec_driver_sql(patience)
                    create_table(self._table, connection)
                    connection.commit()
        self._done.add(engine)

    def within(self, connection: Connection) -> None:
        """Create it in the current transaction; if that is rolled back, it is created again."""
        with translated(self._table.fullname), in_transaction(connection):
            create_table(self._table, connection)

    def would_wait_for(self, connection: Connection) -> bool:
        """Whether a separate connection would wait for locks of this one."""
        if connection.dialect.name == "sqlite":
            return is_open(connection)
        # a foreign key locks the other table; on MySQL, CREATE TABLE commits everything
        return connection.dialect.name not in MYSQL and bool(self._table.foreign_keys)
