"""Fixtures: a fresh database for each test, on SQLite, PostgreSQL, MariaDB and MySQL.

A test that is true of every database takes ``backend`` (or ``engine``) and runs on all four; one
that is about a single database takes ``sqlite``, ``postgresql``, ``mariadb`` or ``mysql``. A server
is started when the first test asks for it.
"""

from __future__ import annotations

import random
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from hypothesis import settings
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry, Pool
from support.apps import close_served
from support.places import Place, open_place
from support.servers import Backend, MariaDB, MySQL, PostgreSQL, Server, serving, use_newer_servers
from support.trials import Trials

from pyramid_sqlsession.upkeep.cleanup import Cleaner

_DIALECTS = re.compile("sqlite|postgresql|m(?=ariadb|ysql)")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the suites that try things often."""
    parser.addoption("--scale", type=int, default=1, help="try everything N times as often")
    parser.addoption("--share", type=int, default=1, help="try one in N cases of each test")
    parser.addoption(
        "--newer-servers", action="store_true", help="start those of unpack_servers.sh"
    )
    parser.addoption("--record", type=Path, help="append what was tried to this file")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed for the random tests, unless one is given; and the servers."""
    if config.option.newer_servers:
        use_newer_servers()
    if config.option.hypothesis_seed is None:
        given = getattr(config, "workerinput", {})
        config.option.hypothesis_seed = given.get("seed", secrets.randbelow(2**32))
    # where CI is set they would do the same in each run
    settings.register_profile("seeded", settings.get_profile("ci"), derandomize=False)
    settings.load_profile("seeded")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist the seed that is printed here."""
    node.workerinput["seed"] = node.config.option.hypothesis_seed


def pytest_report_header(config: pytest.Config) -> str:
    """Say how to repeat what the random tests do."""
    return f"random tests: to repeat them, --hypothesis-seed={config.option.hypothesis_seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not in the share of each test's cases, other ones with each seed.

    Something of every test stays for each dialect of SQL: of a test of every database one case on
    SQLite, one on PostgreSQL, and one on MariaDB or MySQL.
    """
    option, cases = config.option, dict[str, list[pytest.Item]]()
    for item in items:
        name, _, case = item.nodeid.partition("[")
        cases.setdefault(" ".join([name, *_DIALECTS.findall(case)]), []).append(item)
    chosen = set[pytest.Item]()
    for name, them in cases.items():
        chance = random.Random(f"{option.hypothesis_seed} {name}")
        chosen.update(chance.sample(them, -(-len(them) // option.share)))
    left_out = [item for item in items if item not in chosen]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item in chosen]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it again where something has failed: a quiet run has no header."""
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(pytest_report_header(terminalreporter.config))


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Trials:
    """How often to try, what, and where to write it down."""
    option = request.config.option
    return Trials(option.scale, option.record, int(option.hypothesis_seed))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL server for the whole run."""
    with serving(PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """A MariaDB server for the whole run."""
    with serving(MariaDB) as server:
        yield server


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[Server]:
    """A MySQL server for the whole run."""
    with serving(MySQL) as server:
        yield server


@pytest.fixture
def sqlite(tmp_path: Path) -> Backend:
    """A fresh SQLite database in a file."""
    return Backend("sqlite", f"sqlite:///{tmp_path / 'database.sqlite'}")


@pytest.fixture
def sqlite_engine(sqlite: Backend) -> Iterator[Engine]:
    """A plain SQLAlchemy engine on it, for what is the same on every database."""
    engine = create_engine(sqlite.url)
    yield engine
    engine.dispose()


@pytest.fixture
def postgresql(postgresql_server: Server) -> Iterator[Backend]:
    """A fresh database on a real PostgreSQL server."""
    with postgresql_server.database() as url:
        yield Backend(postgresql_server.name, url, postgresql_server)


@pytest.fixture
def mariadb(mariadb_server: Server) -> Iterator[Backend]:
    """A fresh database on a real MariaDB server."""
    with mariadb_server.database() as url:
        yield Backend(mariadb_server.name, url, mariadb_server)


@pytest.fixture
def mysql(mysql_server: Server) -> Iterator[Backend]:
    """A fresh database on a real MySQL server."""
    with mysql_server.database() as url:
        yield Backend(mysql_server.name, url, mysql_server)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "mysql"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """A fresh database, on each of the four in turn."""
    chosen: Backend = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def engine(backend: Backend) -> Iterator[Engine]:
    """A plain SQLAlchemy engine on the fresh database."""
    engine = create_engine(backend.url)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def nothing_left_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the thread's transaction, every cleaning, and the connections of every engine.

    SQLite's connections are looked at: Python 3.13 warns of one that is left open whenever its
    memory is freed, which is in the middle of another test.
    """
    engines: set[Engine] = set()
    opened: list[sqlite3.Connection] = []
    cleaners: set[Cleaner] = set()
    start = Cleaner.start

    def remember_and_start(cleaner: Cleaner) -> None:
        cleaners.add(cleaner)
        start(cleaner)

    monkeypatch.setattr(Cleaner, "start", remember_and_start)

    def remember(connection: Connection) -> None:
        engines.add(connection.engine)

    def remember_opened(connection: Any, record: ConnectionPoolEntry) -> None:
        if isinstance(connection, sqlite3.Connection):
            opened.append(connection)

    event.listen(Engine, "engine_connect", remember)
    event.listen(Pool, "connect", remember_opened)
    yield
    event.remove(Pool, "connect", remember_opened)
    event.remove(Engine, "engine_connect", remember)
    transaction.abort()
    close_served()
    for cleaner in cleaners:
        cleaner.stop()
    assert "pyramid_sqlsession cleanup" not in {thread.name for thread in threading.enumerate()}
    for engine in engines:
        engine.dispose()
    assert not [connection for connection in opened if _is_open(connection)]


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018  # a closed one knows nothing any more
    except sqlite3.ProgrammingError:
        return False
    return True


@pytest.fixture(scope="module")
def with_toolbar() -> Iterator[None]:
    """Let the debug toolbar and our panel listen to all engines no longer than a module's tests.

    They do as soon as they are imported, and then nothing is read without SQLAlchemy any more: they
    are imported here and not above.
    """
    from pyramid_debugtoolbar.panels import sqla

    from pyramid_sqlsession.debugtoolbar.listeners import LISTENERS

    names = ("before_cursor_execute", "after_cursor_execute")
    theirs = {name: getattr(sqla, f"_{name}") for name in names}
    for name, listener in theirs.items():
        if not event.contains(Engine, name, listener):
            event.listen(Engine, name, listener)
    yield
    for name, listener in (*theirs.items(), *LISTENERS.items()):
        if event.contains(Engine, name, listener):
            event.remove(Engine, name, listener)


@pytest.fixture
def base() -> Iterator[type[DeclarativeBase]]:
    """A declarative base whose classes are forgotten after the test."""

    class OwnBase(DeclarativeBase):
        pass

    yield OwnBase
    OwnBase.registry.dispose()


@pytest.fixture(scope="module")
def opened_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A database for all tests of a module: a new one for each would take minutes."""
    with open_place(request, request.param) as place:
        yield place


@pytest.fixture
def place(opened_place: Place) -> Iterator[Place]:
    """An empty database, used in one way."""
    yield opened_place
    opened_place.start_again()
