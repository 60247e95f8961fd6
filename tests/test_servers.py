"""The test servers themselves: what every other test takes for granted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from support import servers
from support.patience import at_once, wait_until
from support.servers import (
    Backend,
    MariaDB,
    MySQL,
    PostgreSQL,
    Server,
    free_port,
    serving,
    unavailable,
)

DRIVERS = {
    "sqlite": ["sqlite+pysqlite"],
    "postgresql": ["postgresql+psycopg"],
    "mariadb": ["mysql+pymysql", "mysql+mysqldb", "mariadb+pymysql", "mariadb+mysqldb"],
    "mysql": ["mysql+pymysql", "mysql+mysqldb"],
}


@pytest.fixture(params=["postgresql", "mariadb", "mysql"])
def served(request: pytest.FixtureRequest) -> Backend:
    """A fresh database on each of the servers."""
    chosen: Backend = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def server(served: Backend) -> Server:
    """Each of the servers."""
    assert served.server is not None
    return served.server


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has a server running, and says which one and where."""
    program = (
        "import signal, time\n"
        "from support.servers import PostgreSQL, serving\n"
        # A job in the background has been told to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with serving(PostgreSQL) as server:\n"
        "    print(server.pid, server.directory.parent, flush=True)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        # A KeyboardInterrupt's traceback is no news here.
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(servers.__file__).parents[1])},
        cwd=tmp_path,
    ) as process:
        yield process
        process.kill()


def is_gone(pid: int) -> bool:
    """Whether this process has ended."""
    ps = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
    # A zombie has ended; whether the machine's init collects it is not ours to test.
    return not state.strip() or state.startswith("Z")


def test_a_database_answers(engine: Engine) -> None:
    """A statement goes through, by the driver that the fixture's URL names."""
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1 + 1")) == 2


def test_a_server_is_the_kind_it_says(served: Backend) -> None:
    """Nothing stands in for another database."""
    # MySQL says a number only
    versions = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "mysql": "9."}
    engine = create_engine(served.url, poolclass=NullPool)
    with engine.connect() as connection:
        assert versions[served.name] in str(connection.scalar(text("SELECT version()")))


def test_a_database_has_the_isolation_level_its_maker_ships(
    backend: Backend, engine: Engine
) -> None:
    """Tests about concurrency rest on these: a change here is a change of what they prove."""
    levels = {
        "sqlite": "SERIALIZABLE",
        "postgresql": "READ COMMITTED",
        "mariadb": "REPEATABLE READ",
        "mysql": "REPEATABLE READ",
    }
    with engine.connect() as connection:
        assert connection.get_isolation_level() == levels[backend.name]


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_fresh_database_is_empty(engine: Engine, attempt: int) -> None:
    """What one test made, the next one does not see."""
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE made_by_a_test (id INTEGER PRIMARY KEY)"))
    assert inspect(engine).get_table_names() == ["made_by_a_test"]


def test_a_database_holds_any_text(engine: Engine) -> None:
    """Text outside the basic plane comes back as it went in."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE words (word VARCHAR(20))"))
        connection.execute(text("INSERT INTO words VALUES (:word)"), {"word": "žluť 🐎"})
        assert connection.scalar(text("SELECT word FROM words")) == "žluť 🐎"


@pytest.mark.parametrize(
    ("name", "drivername"), [(name, driver) for name, some in DRIVERS.items() for driver in some]
)
def test_a_database_is_reached_by_every_driver(
    request: pytest.FixtureRequest, name: str, drivername: str
) -> None:
    """The same database by each driver that is supported, without a warning."""
    database: Backend = request.getfixturevalue(name)
    engine = create_engine(database.with_driver(drivername), poolclass=NullPool)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT '🐎'")) == "🐎"
    assert f"{engine.dialect.name}+{engine.dialect.driver}" == drivername


def test_a_database_is_dropped_under_an_open_transaction(server: Server) -> None:
    """A test that leaves a connection behind does not hold up the next one."""
    with server.database() as url:
        engine = create_engine(url)
        connection = engine.connect()
        connection.execute(text("CREATE TABLE busy (id INTEGER)"))
        connection.execute(text("INSERT INTO busy VALUES (1)"))
    with pytest.raises(DBAPIError):
        connection.execute(text("SELECT * FROM busy"))
    connection.close()
    engine.dispose()


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
def test_a_server_comes_back_with_what_was_committed(
    served: Backend, server: Server, end: object
) -> None:
    """Stopped or killed, under an open connection: same place, same data."""
    assert callable(end)
    engine = create_engine(served.url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO kept VALUES (1)"))
    before = server.pid
    end(server)
    wait_until(lambda: is_gone(before))
    with pytest.raises(DBAPIError), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    server.start()
    assert server.pid != before
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM kept")) == 1
    engine.dispose()


def test_a_server_left_stopped_is_started_for_the_next_test(server: Server) -> None:
    """One test's outage is not the next one's."""
    with server.database():
        server.stop()
        assert not server.running
    assert server.running
    server.stop()
    with server.database() as url:
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1


def test_stopping_and_starting_twice_is_harmless(server: Server) -> None:
    """Each says what is to be, not what is to be done."""
    server.stop()
    server.stop()
    server.kill()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid
    assert "not running" in repr(server)
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    assert str(server.port) in repr(server)


def test_a_server_wants_its_password(served: Backend) -> None:
    """Another user of the machine does not get into the tests' databases."""
    url = create_engine(served.url).url.set(password="wrong")
    with pytest.raises(DBAPIError):
        create_engine(url, poolclass=NullPool).connect()


def test_a_server_is_not_started_from_a_thread(server: Server) -> None:
    """It would end with the thread, by its parent-death signal."""
    server.stop()
    with pytest.raises(RuntimeError, match="main thread"):
        at_once(Server.start, [server])
    assert not server.running


def test_a_server_that_does_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    """The error shows the end of the server's own log."""
    server.stop()
    # MySQL sees it late, and MariaDB 11.8
    monkeypatch.setattr(servers, "TIMEOUT", 1 if server.name == "postgresql" else 5)
    command = (*server.command(), "--no-such-option")
    with monkeypatch.context() as patch:
        patch.setattr(server, "command", lambda: command)
        with pytest.raises(RuntimeError, match=r"does not start[^$]*no-such-option"):
            server.start()
    assert not server.running


def test_an_interrupted_run_leaves_nothing(
    postgresql: Backend, runner: subprocess.Popen[str]
) -> None:
    """Ctrl-C ends the server in good order and removes its files."""
    assert runner.stdout is not None
    pid, directory = runner.stdout.readline().split()
    runner.send_signal(signal.SIGINT)
    runner.wait(30)
    wait_until(lambda: is_gone(int(pid)))
    assert not Path(directory).exists()


def test_a_killed_run_leaves_no_server_and_the_next_one_cleans_up(
    postgresql: Backend, runner: subprocess.Popen[str]
) -> None:
    """Nobody is there to clean up after ``kill -9`` but the kernel, and then the next run."""
    assert runner.stdout is not None
    pid, directory = runner.stdout.readline().split()
    runner.kill()
    runner.wait(30)
    wait_until(lambda: is_gone(int(pid)))
    assert Path(directory).exists()
    os.utime(directory, (0, 0))
    servers.remove_leftovers()
    assert not Path(directory).exists()


def test_the_files_of_a_run_that_goes_on_are_left_alone(server: Server) -> None:
    """However old they are."""
    os.utime(server.directory.parent, (0, 0))
    servers.remove_leftovers()
    assert server.directory.exists()


def test_two_servers_have_two_ports() -> None:
    """Workers that run side by side each have servers of their own."""
    assert free_port() != free_port()


@pytest.mark.parametrize("kind", [PostgreSQL, MariaDB, MySQL])
def test_a_missing_server_is_skipped(monkeypatch: pytest.MonkeyPatch, kind: type[Server]) -> None:
    """One line says what is missing, and what would install it."""
    monkeypatch.setattr(servers, "PLACES", [])
    monkeypatch.setattr(servers, "NEWER", [])
    monkeypatch.delenv("CI", raising=False)
    advice = r"tests/support/(install|unpack)_servers\.sh"
    with pytest.raises(pytest.skip.Exception, match=advice), serving(kind):
        pass


@pytest.mark.parametrize("kind", [PostgreSQL, MariaDB, MySQL])
def test_a_missing_server_fails_where_nothing_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, kind: type[Server]
) -> None:
    """A run in CI does not pass for want of a database."""
    monkeypatch.setattr(servers, "PLACES", [])
    monkeypatch.setattr(servers, "NEWER", [])
    monkeypatch.setenv("CI", "true")
    advice = r"tests/support/(install|unpack)_servers\.sh .* and CI is set"
    with pytest.raises(pytest.fail.Exception, match=advice), serving(kind):
        pass


def test_a_missing_driver_is_skipped_or_fails_likewise(
    monkeypatch: pytest.MonkeyPatch, sqlite: Backend
) -> None:
    """A driver that cannot be built on a developer's machine does not stop the work there."""
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"mysql\+mysqldb is not installed"):
        sqlite.with_driver("mysql+mysqldb")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"mysql\+mysqldb is not installed"):
        sqlite.with_driver("mysql+mysqldb")


def test_an_empty_ci_variable_is_not_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """``CI= make test`` is how to try things as on a developer's machine."""
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception):
        unavailable("something")
