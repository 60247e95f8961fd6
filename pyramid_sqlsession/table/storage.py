"""Creates the table, and checks its storage engine."""

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
    """Create the table and its indexes unless they exist. The caller commits a connection.

    :raises SessionTableError: in a group of MySQL servers that all take writes.
    """
    is_mysql = bind.dialect.name in MYSQL
    if is_mysql:
        _refuse_in_a_group(table, bind)
    try:
        # a failure must not affect the surrounding transaction; MySQL has committed it
        if isinstance(bind, Connection) and not is_mysql:
            with bind.begin_nested():
                table.create(bind, checkfirst=True)
        else:
            table.create(bind, checkfirst=True)
    except DBAPIError:
        # another process may have created it
        if not inspect(bind).has_table(table.name, schema=table.schema):
            raise
    with _connected(bind) as connection:
        look_at_storage(table, connection)


def _connected(bind: Engine | Connection) -> AbstractContextManager[Connection]:
    return bind.connect() if isinstance(bind, Engine) else nullcontext(bind)


def _refuse_in_a_group(table: Table, bind: Engine | Connection) -> None:
    """Members of a group that create the same table at once break the group."""
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
    """Warn about a storage engine without transactions, as MySQL and MariaDB have them.

    Checked once per process for each SQLAlchemy engine.
    """
    engine = connection.engine
    if connection.dialect.name not in MYSQL or engine in _seen:
        return
    _seen.add(engine)
    names = {"table": table.name, "schema": connection.schema_for_object(table)}
    found = connection.execute(_FIND, names).scalar()
    if found is not None:
        log.warning(
            "the session table %s uses the storage engine %s, which has no transactions: failed "
            "requests store their sessions anyway, perhaps incompletely. Run ALTER TABLE %s "
            "ENGINE = InnoDB",
            table.fullname,
            found,
            table.fullname,
        )
