"""A visit waits for no lock, and its connection goes back to the pool as it came."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Engine, create_engine, event, text
from support.apps import EPOCH, Clock, configurator, own_configurator, serve, show
from support.servers import Backend, on_servers
from webtest import TestApp

from pyramid_sqlsession.database.aside import maintaining

DAY = 86400

# what other programs do to a table while visitors read it
LOCKS = [
    pytest.param("postgresql", "LOCK TABLE sqlsession IN SHARE MODE", id="postgresql-share"),
    pytest.param(
        "postgresql", "LOCK TABLE sqlsession IN EXCLUSIVE MODE", id="postgresql-exclusive"
    ),
    pytest.param(
        "postgresql", "CREATE INDEX another ON sqlsession (created)", id="postgresql-create-index"
    ),
    pytest.param("mariadb", "LOCK TABLES sqlsession READ", id="mariadb-lock-tables"),
    pytest.param("mariadb", "FLUSH TABLES sqlsession WITH READ LOCK", id="mariadb-dump"),
    pytest.param("mysql", "LOCK TABLES sqlsession READ", id="mysql-lock-tables"),
    pytest.param("mysql", "FLUSH TABLES sqlsession WITH READ LOCK", id="mysql-dump"),
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(request: Any) -> None:
    request.session["n"] = 1


def last_seen(engine: Engine) -> int:
    """The committed last_seen of the only row."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT last_seen FROM sqlsession")).scalar_one())


def own(url: str, clock: Clock) -> TestApp:
    """An application whose sessions have an engine of their own."""
    config = own_configurator(url)
    app = serve(config, put=put, show=show)
    config.registry.getUtility(ISessionFactory).clock = clock
    return app


def shared(url: str, clock: Clock, **options: Any) -> TestApp:
    return serve(configurator(create_engine(url, **options), clock=clock), put=put, show=show)


def in_autocommit(url: str, clock: Clock) -> TestApp:
    return shared(url, clock, isolation_level="AUTOCOMMIT")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("backend", "lock"), LOCKS, indirect=["backend"])
@pytest.mark.parametrize("make", [shared, in_autocommit, own])
def test_a_visit_does_not_wait_for_a_lock_of_the_whole_table(
    make: Callable[[str, Clock], TestApp],
    backend: Backend,
    lock: str,
    engine: Engine,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make(backend.url, clock)
    app.get("/put")
    clock.advance(DAY)
    # nobody lets go of it while the request runs: whoever waits, waits for ever
    with engine.connect() as other:
        other.execute(text(lock))
        assert app.get("/show").json == {"n": 1}
        other.rollback()
        if backend.dialect == "mysql":
            other.execute(text("UNLOCK TABLES"))
    assert last_seen(engine) == EPOCH
    lines = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
    assert ["was not recorded" in line for line in lines] == [True]
    app.get("/show")
    assert last_seen(engine) == EPOCH + DAY


CHOSEN = {
    "postgresql": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET lock_timeout = 7000",
    ),
    "mysql": (
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET lock_wait_timeout = 77, innodb_lock_wait_timeout = 7",
    ),
}
ASKED = {
    "postgresql": "SELECT current_setting('transaction_isolation'), "
    "current_setting('lock_timeout')",
    "mariadb": "SELECT @@tx_isolation, @@lock_wait_timeout, @@innodb_lock_wait_timeout, "
    "@@autocommit",
    "mysql": "SELECT @@transaction_isolation, @@lock_wait_timeout, @@innodb_lock_wait_timeout, "
    "@@autocommit",
}


def chosen_by_a_listener(backend: Backend) -> Engine:
    """An engine with one connection, whose level and patience a listener has set."""
    engine = create_engine(backend.url, pool_size=1, max_overflow=0)

    def choose(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for statement in CHOSEN[backend.dialect]:
            cursor.execute(statement)
        connection.commit()

    event.listen(engine, "connect", choose)
    return engine


def state(engine: Engine, backend: Backend) -> list[Any]:
    with engine.connect() as connection:
        number = connection.connection.dbapi_connection
        return [id(number), *connection.execute(text(ASKED[backend.name])).one()]


@on_servers
def test_a_visit_leaves_its_connection_as_a_listener_has_set_it(
    backend: Backend, engine: Engine, clock: Clock
) -> None:
    chosen = chosen_by_a_listener(backend)
    app = serve(configurator(chosen, clock=clock), put=put, show=show)
    before = state(chosen, backend)
    app.get("/put")
    clock.advance(DAY)
    app.get("/show")
    assert last_seen(engine) == EPOCH + DAY
    assert state(chosen, backend) == before


@on_servers
def test_a_visit_that_could_not_be_recorded_leaves_it_likewise(
    backend: Backend, engine: Engine, clock: Clock
) -> None:
    chosen = chosen_by_a_listener(backend)
    app = serve(configurator(chosen, clock=clock), put=put, show=show)
    before = state(chosen, backend)
    app.get("/put")
    clock.advance(DAY)
    lock = {
        "postgresql": "LOCK TABLE sqlsession IN SHARE MODE",
        "mysql": "LOCK TABLES sqlsession READ",
    }
    with engine.connect() as other:
        other.execute(text(lock[backend.dialect]))
        # a request that wrote would wait, as is its right
        app.get("/show")
        other.rollback()
        other.invalidate()
    assert last_seen(engine) == EPOCH
    assert state(chosen, backend) == before


@on_servers
def test_the_cleaning_leaves_a_connection_as_a_listener_has_set_it(backend: Backend) -> None:
    chosen = chosen_by_a_listener(backend)
    before = state(chosen, backend)
    level = {"postgresql": "SHOW transaction_isolation", "mysql": "SELECT 'READ COMMITTED'"}
    with maintaining(chosen) as connection:
        assert connection.scalar(text(level[backend.dialect])).lower() == "read committed"
    assert state(chosen, backend) == before


def test_a_listener_that_queries_when_a_transaction_begins_comes_after_us(
    postgresql: Backend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(postgresql.url, isolation_level="REPEATABLE READ")

    def choose_tenant(connection: Any) -> None:
        connection.execute(text("SELECT set_config('app.tenant', 'one', true)"))

    event.listen(engine, "begin", choose_tenant)
    app = serve(configurator(engine, clock=clock), put=put, show=show)
    app.get("/put")
    clock.advance(DAY)
    app.get("/show")
    assert last_seen(engine) == EPOCH + DAY
    assert [it for it in caplog.records if it.levelno >= logging.WARNING] == []


@on_servers
def test_a_connection_that_died_in_its_pool_is_a_log_line_and_then_replaced(
    backend: Backend, engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    one = create_engine(backend.url, pool_size=1, max_overflow=0)
    app = serve(configurator(one, clock=clock), put=put, show=show)
    app.get("/put")
    clock.advance(DAY)
    ask, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mysql": ("SELECT connection_id()", "KILL {}"),
    }[backend.dialect]

    def die(request: Any) -> Any:
        answer = show(request)
        number = request.dbsession.scalar(text(ask))
        request.tm.abort()
        with engine.connect() as other:
            other.execute(text(kill.format(number)))
        request.tm.begin()
        return answer

    dying = serve(configurator(one, clock=clock), die=die)
    dying.set_cookie("session", app.cookies["session"])
    assert dying.get("/die").json == {"n": 1}
    assert "was not recorded" in caplog.text
    app.get("/show")
    assert last_seen(engine) == EPOCH + DAY
