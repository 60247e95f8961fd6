"""Making the table where a request first needs it: ``sqlsession.create_table``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from sqlalchemy import Connection, Engine, Table

from ..driver_errors import MYSQL, translated
from ..exceptions import SessionTableError
from ..table.storage import create_table
from .beside import in_transaction, is_open

_PATIENCE = {
    "postgresql": "SET LOCAL lock_timeout = '5s'",
    **dict.fromkeys(MYSQL, "SET SESSION lock_wait_timeout = 5"),
}
"""How to wait for a lock, which may be the request's own, no longer than five seconds."""


class Creation:
    """Makes the table once in each engine that it is shown, if that is *wanted*."""

    def __init__(self, table: Table, *, wanted: bool) -> None:
        self._table = table
        self._wanted = wanted
        self._done: WeakSet[Engine] = WeakSet()

    def is_done(self, engine: Engine) -> bool:
        """Whether the table is there for good, as far as this process knows or cares."""
        return not self._wanted or engine in self._done

    @contextmanager
    def watching(self, engine: Engine) -> Iterator[None]:
        """Have the table made again at its next use, if somebody has dropped it."""
        try:
            yield
        except SessionTableError:
            self.forget(engine)
            raise

    def forget(self, engine: Engine) -> None:
        """Have the table made at its next use."""
        self._done.discard(engine)

    def alone(self, engine: Engine) -> None:
        """Make it in an engine that nobody but us uses: no request has locked anything there."""
        create_table(self._table, engine)
        self._done.add(engine)

    def apart(self, engine: Engine) -> None:
        """Make it on a connection of its own: nobody else's work is committed or rolled back.

        :raises SessionConflict: if something is in the way.
        """
        patience = _PATIENCE.get(engine.dialect.name)
        with translated(self._table.fullname):
            if patience is None:
                create_table(self._table, engine)
            else:
                with engine.connect() as connection:
                    # whoever uses it next is to wait as long as ever
                    connection.detach()
                    connection.exec_driver_sql(patience)
                    create_table(self._table, connection)
                    connection.commit()
        self._done.add(engine)

    def within(self, connection: Connection) -> None:
        """Make it in the transaction that there is: if that is rolled back, it is made again."""
        with translated(self._table.fullname), in_transaction(connection):
            create_table(self._table, connection)

    def would_wait_for(self, connection: Connection) -> bool:
        """Whether a connection of its own would wait for what was done on this one."""
        if connection.dialect.name == "sqlite":
            return is_open(connection)
        # a foreign key locks the other table; on MySQL a table that is made commits everything
        return connection.dialect.name not in MYSQL and bool(self._table.foreign_keys)
