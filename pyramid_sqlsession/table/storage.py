"""Making the table, and looking at what stores it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from weakref import WeakSet

from sqlalchemy import Connection, Engine, Table, inspect, text
from sqlalchemy.exc import DBAPIError

from ..driver_errors import MYSQL
from ..exceptions import SessionTableError

log = logging.getLogger("pyramid_sqlsession")

_FIND = text(
    "SELECT tables.engine FROM information_schema.tables AS tables "
    "JOIN information_schema.engines AS engines ON engines.engine = tables.engine "
    "WHERE table_name = :table AND table_schema = coalesce(:schema, database()) "
    "AND engines.transactions = 'NO'"
)

_SHARED_BY_ALL = text("SHOW GLOBAL VARIABLES LIKE 'group_replication_single_primary_mode'")

_seen: WeakSet[Engine] = WeakSet()


def create_table(table: Table, bind: Engine | Connection) -> None:
    """Create the table and its indexes unless they exist; who commits a connection is its owner.

    :raises SessionTableError: in a group of MySQL servers that all take writes.
    """
    is_mysql = bind.dialect.name in MYSQL
    if is_mysql:
        _refuse_in_a_group(table, bind)
    try:
        # what fails must not take along the transaction that it is in; MySQL has committed that
        if isinstance(bind, Connection) and not is_mysql:
            with bind.begin_nested():
                table.create(bind, checkfirst=True)
        else:
            table.create(bind, checkfirst=True)
    except DBAPIError:
        # another process may have been faster
        if not inspect(bind).has_table(table.name, schema=table.schema):
            raise
    with _connected(bind) as connection:
        look_at_storage(table, connection)


def _connected(bind: Engine | Connection) -> AbstractContextManager[Connection]:
    return bind.connect() if isinstance(bind, Engine) else nullcontext(bind)


def _refuse_in_a_group(table: Table, bind: Engine | Connection) -> None:
    """The same table made on several members at once is the end of the group."""
    if inspect(bind).has_table(table.name, schema=table.schema):
        return
    with _connected(bind) as connection:
        found = connection.execute(_SHARED_BY_ALL).first()
    if found is not None and found[1] == "OFF":
        raise SessionTableError(
            f"the session table {table.fullname!r} is missing, and is not created where "
            "group_replication_single_primary_mode = OFF: members that create it at the same time "
            "break the group. Create it with your migrations (Alembic), on one member"
        )


def look_at_storage(table: Table, connection: Connection) -> None:
    """Warn of a table in a storage engine without transactions, as MySQL and MariaDB have them.

    It is looked at once in a process, for each engine of SQLAlchemy's.
    """
    engine = connection.engine
    if connection.dialect.name not in MYSQL or engine in _seen:
        return
    _seen.add(engine)
    names = {"table": table.name, "schema": connection.schema_for_object(table)}
    found = connection.execute(_FIND, names).scalar()
    if found is not None:
        log.warning(
            "the session table %s uses the storage engine %s, which has no transactions: sessions "
            "of failed requests are stored, some of them by halves. Run ALTER TABLE %s ENGINE = "
            "InnoDB",
            table.fullname,
            found,
            table.fullname,
        )
