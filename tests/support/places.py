"""Databases, and the ways in which applications use them, for requests served at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from support.apps import Base, SessionRow, configurator, own_configurator, prefixed
from support.races import Site, view
from support.servers import TITLES, Backend, Server

from pyramid_sqlsession import SQLSessionFactory


@dataclass
class Place:
    """A database, and how the application uses it.

    :ivar own: sessions have an engine of their own; the application has no database session.
    :ivar late_fails: the database refuses to write a row that was committed since the request
        began: 40001, SQLITE_BUSY_SNAPSHOT. Elsewhere the write hits no row.
    :ivar waiting_fails: the same, for a row that was committed while the write waited for it.
    """

    name: str
    engine: Engine
    own: bool = False
    isolation_level: str | None = None
    late_fails: bool = False
    waiting_fails: bool = False
    sites: list[Site] = field(default_factory=list)
    factories: list[SQLSessionFactory] = field(default_factory=list)

    def serve(self, attempts: int | None = None, **settings: Any) -> Site:
        """An application.

        :param attempts: those of pyramid_retry, which is not included otherwise.
        :param settings: those of ``sqlsession.``.
        """
        values: dict[str, Any] = prefixed(settings)
        if attempts is not None:
            values["retry.attempts"] = attempts
        if self.own:
            config = self._without_dbsession(values, retry=attempts is not None)
        else:
            config = configurator(self.engine, values, retry=attempts is not None, create=False)
        config.add_route("view", "/")
        config.add_view(view, route_name="view", renderer="json")
        site = Site(config.make_wsgi_app(), self.engine)
        if self.own:
            factory: Any = config.registry.getUtility(ISessionFactory)
            self.factories.append(factory)
        self.sites.append(site)
        return site

    def _without_dbsession(self, values: dict[str, Any], *, retry: bool) -> Configurator:
        url = self.engine.url.render_as_string(hide_password=False)
        if self.isolation_level:
            values["sqlsession.sqlalchemy.isolation_level"] = self.isolation_level
        return own_configurator(url, values, retry=retry, model=SessionRow)

    @property
    def title(self) -> str:
        """The database, for the record of what was tried."""
        return TITLES[ALL_PLACES[self.name][0]]

    def waiting(self, connection: Connection) -> int:
        """How many transactions wait for another one's lock; always one on SQLite."""
        query = {
            "postgresql": "SELECT 'waiting', count(*) FROM pg_locks WHERE NOT granted",
            # innodb_trx would not do: whoever asks often is answered from a cache
            "mysql": "SHOW GLOBAL STATUS LIKE 'innodb_row_lock_current_waits'",
            "sqlite": "SELECT 'waiting', 1",
        }[self.engine.dialect.name]
        _, count = connection.execute(text(query)).one()
        return int(count)

    @contextmanager
    def watching(self) -> Iterator[Connection]:
        """A connection to look at the others' locks with."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    def wait_until_somebody_waits(self) -> None:
        """Come back when a transaction waits for another one's lock; at once on SQLite."""
        with self.watching() as connection:
            for _ in range(20_000):
                if self.waiting(connection):
                    return
        raise AssertionError("nobody waits")

    def start_again(self) -> None:
        """End what a test has left, and forget what it stored."""
        for site in self.sites:
            site.close()
        for factory in self.factories:
            factory.close()
        self.sites.clear()
        self.factories.clear()
        with self.engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())


def begin_by_ourselves(engine: Engine) -> None:
    """SQLAlchemy's recipe for SQLite: the first statement begins a transaction, a SELECT too."""

    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)


def journal(engine: Engine, mode: str) -> None:
    """Set a SQLite database's journal mode, and do not wait for the disk."""

    def connect(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA journal_mode = {mode}")

    event.listen(engine, "connect", connect)


def sqlite_place(backend: Backend, name: str) -> Place:
    engine = create_engine(backend.url)
    journal(engine, "WAL" if "wal" in name else "DELETE")
    if "begin" in name:
        begin_by_ourselves(engine)
    return Place(name, engine, late_fails="begin" in name, waiting_fails="begin" in name)


def server_place(backend: Backend, name: str, level: str, driver: str | None = None) -> Place:
    url = backend.with_driver(driver) if driver else backend.url
    fails = backend.name == "postgresql" and level != "READ COMMITTED"
    engine = create_engine(url, isolation_level=level)
    return Place(name, engine, late_fails=fails, waiting_fails=fails)


def snapshot_place(backend: Backend, name: str) -> Place:
    """MariaDB with snapshot isolation, its default from 11.6 on."""
    init = {"init_command": "SET SESSION innodb_snapshot_isolation = ON"}
    url = make_url(backend.url).update_query_dict(init)
    return Place(name, create_engine(url), late_fails=True, waiting_fails=True)


def own_place(backend: Backend, name: str, level: str | None = None) -> Place:
    return Place(
        name,
        create_engine(backend.url),
        own=True,
        isolation_level=level,
        waiting_fails=backend.name == "postgresql" and level is not None,
    )


def driver_place(backend: Backend, name: str, drivername: str, *, own: bool) -> Place:
    return Place(name, create_engine(backend.with_driver(drivername)), own=own)


ALL_PLACES: dict[str, tuple[str, Callable[[Backend, str], Place]]] = {
    "sqlite-rollback": ("sqlite", sqlite_place),
    "sqlite-wal": ("sqlite", sqlite_place),
    "sqlite-begin-wal": ("sqlite", sqlite_place),
    "sqlite-begin-rollback": ("sqlite", sqlite_place),
    "postgresql-read-committed": ("postgresql", partial(server_place, level="READ COMMITTED")),
    "postgresql-repeatable-read": ("postgresql", partial(server_place, level="REPEATABLE READ")),
    "postgresql-serializable": ("postgresql", partial(server_place, level="SERIALIZABLE")),
    "mariadb-read-committed": ("mariadb", partial(server_place, level="READ COMMITTED")),
    "mariadb-repeatable-read": ("mariadb", partial(server_place, level="REPEATABLE READ")),
    "mariadb-snapshot": ("mariadb", snapshot_place),
    "mysqlclient": (
        "mariadb",
        partial(server_place, level="REPEATABLE READ", driver="mysql+mysqldb"),
    ),
    "mysql-read-committed": ("mysql", partial(server_place, level="READ COMMITTED")),
    "mysql-repeatable-read": ("mysql", partial(server_place, level="REPEATABLE READ")),
    "own-sqlite": ("sqlite", own_place),
    "own-postgresql": ("postgresql", own_place),
    "own-postgresql-serializable": ("postgresql", partial(own_place, level="SERIALIZABLE")),
    "own-mariadb": ("mariadb", own_place),
    "own-mysql": ("mysql", own_place),
}
DRIVERS = {
    "sqlite-sqlite3": "sqlite+pysqlite",
    "postgresql-psycopg": "postgresql+psycopg",
    "postgresql-psycopg2": "postgresql+psycopg2",
    "postgresql-pg8000": "postgresql+pg8000",
    "mariadb-pymysql": "mysql+pymysql",
    "mariadb-mysqlclient": "mysql+mysqldb",
    "mariadb-mysqlconnector": "mysql+mysqlconnector",
    "mariadb-mariadbconnector": "mariadb+mariadbconnector",
    "mysql-pymysql": "mysql+pymysql",
    "mysql-mysqlclient": "mysql+mysqldb",
    "mysql-mysqlconnector": "mysql+mysqlconnector",
}
BY_DRIVER: dict[str, tuple[str, Callable[[Backend, str], Place]]] = {
    f"{name}-{way}": (
        name.partition("-")[0],
        partial(driver_place, drivername=drivername, own=way == "own-engine"),
    )
    for name, drivername in DRIVERS.items()
    for way in ("dbsession", "own-engine")
}
# the places whose database refuses a write that comes too late
REFUSING = (
    "sqlite-begin-wal",
    "sqlite-begin-rollback",
    "postgresql-repeatable-read",
    "postgresql-serializable",
    "mariadb-snapshot",
)


@contextmanager
def open_place(request: pytest.FixtureRequest, name: str) -> Iterator[Place]:
    kind, make = (ALL_PLACES | BY_DRIVER)[name]
    with ExitStack() as stack:
        if kind == "sqlite":
            path = request.getfixturevalue("tmp_path_factory").mktemp(name) / "database.sqlite"
            backend = Backend(kind, f"sqlite:///{path}")
        else:
            server: Server = request.getfixturevalue(f"{kind}_server")
            backend = Backend(kind, stack.enter_context(server.database()), server)
        place = make(backend, name)
        stack.callback(place.engine.dispose)
        Base.metadata.create_all(place.engine)
        yield place


def in_places(names: Iterable[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("opened_place", list(names), indirect=True, scope="module")


everywhere = in_places(ALL_PLACES)
# where a request that has read lets others commit, so that they can be taken step by step
step_by_step = in_places(name for name in ALL_PLACES if name != "sqlite-begin-rollback")
# where a statement that finds a row locked waits for it
where_writes_wait = in_places(name for name in ALL_PLACES if "begin" not in name)
where_late_writes_merge = in_places(name for name in ALL_PLACES if name not in REFUSING)
