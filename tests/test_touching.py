"""Recording that a visitor was there: beside everything else, in nobody's way."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from pyramid.config import Configurator
from sqlalchemy import Engine, create_engine, event, make_url, text
from support.apps import (
    EPOCH,
    Broken,
    Clock,
    configurator,
    listening,
    rows,
    serve,
    session_cookies,
    show,
)
from support.patience import at_once, wait_until
from support.servers import Backend, PostgreSQL, Standby, on_servers, serving
from webtest import TestApp

from pyramid_sqlsession import SQLSessionFactory
from pyramid_sqlsession.table.model import SQLSessionRow

HOUR = 3600
DAY = 24 * HOUR
WAITS = {
    "postgresql": {"options": "-c lock_timeout=500"},
    "mysql": {"init_command": "SET innodb_lock_wait_timeout = 1"},
    "sqlite": {"timeout": 7},
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(request: Any) -> Any:
    request.session["n"] = 1


both_ways = pytest.mark.parametrize("way", ["dbsession", "own engine"])


def configured(way: str, url: str, clock: Clock, engine: dict[str, Any], **options: Any) -> Any:
    """An application's configuration, with arguments of create_engine and sqlsession's options."""
    if way == "dbsession":
        return configurator(create_engine(url, **engine), clock=clock, **options)
    config = Configurator()
    config.include("pyramid_sqlsession")
    options |= {"cleanup_interval": 0, "model": SQLSessionRow, "sqlalchemy": {"url": url, **engine}}
    config.set_session_factory(SQLSessionFactory(clock=clock, **options))
    return config


@pytest.fixture(params=["dbsession", "own engine"])
def site(request: pytest.FixtureRequest, backend: Backend, clock: Clock) -> TestApp:
    """An application whose session is a day old, on connections that do not wait for locks."""
    waits = {"connect_args": WAITS[backend.dialect]}
    app = serve(configured(request.param, backend.url, clock, waits), put=put, show=show)
    app.get("/put")
    clock.advance(DAY)
    return app


def last_seen(engine: Engine) -> int:
    """The committed last_seen of the only row."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT last_seen FROM sqlsession")).scalar_one())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ---- locked, read-only, gone


def test_a_row_that_another_transaction_has_locked_is_left_alone(
    site: TestApp, backend: Backend, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as other:
        other.execute(text("UPDATE sqlsession SET purge_after = purge_after + 1"))
        assert site.get("/show").json == {"n": 1}
    assert last_seen(engine) == EPOCH
    assert warnings(caplog) == []
    assert site.get("/show").json == {"n": 1}
    assert last_seen(engine) == EPOCH + DAY


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_touch_hardly_waits_for_sqlite_and_leaves_it_as_patient_as_it_was(
    site: TestApp, engine: Engine, clock: Clock
) -> None:
    patience = []

    def ask(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        ((milliseconds,),) = cursor.connection.execute("PRAGMA busy_timeout")
        patience.append((statement.split()[0], milliseconds))

    with listening(Engine, "before_cursor_execute", ask):
        for _ in range(2):
            clock.advance(DAY)
            site.get("/show")
    assert last_seen(engine) == clock.now
    assert patience == [("SELECT", 7000), ("UPDATE", 50)] * 2


def test_a_read_only_request_that_comes_too_late_to_record_itself_succeeds(
    postgresql: Backend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(postgresql.url)
    app = serve(configurator(engine, clock=clock), put=put, show=show)
    app.get("/put")
    clock.advance(DAY)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(
            f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = on"
        )
    engine.dispose()
    assert app.get("/show").json == {"n": 1}
    assert last_seen(engine) == EPOCH
    (warning,) = warnings(caplog)
    assert warning.endswith("was not recorded: cannot execute UPDATE in a read-only transaction")
    assert app.cookies["session"] not in caplog.text


def test_a_read_only_transaction_of_the_application_is_no_obstacle(
    postgresql: Backend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def report(request: Any) -> Any:
        request.dbsession.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY"))
        return dict(request.session)

    engine = create_engine(postgresql.url)
    app = serve(configurator(engine, clock=clock), put=put, report=report)
    app.get("/put")
    clock.advance(DAY)
    assert app.get("/report").json == {"n": 1}
    assert last_seen(engine) == EPOCH + DAY
    assert warnings(caplog) == []


def test_a_hot_standby_answers_requests_that_only_read(
    postgresql: Backend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    primary = postgresql.server
    assert isinstance(primary, PostgreSQL)
    engine = create_engine(postgresql.url)
    browser = serve(configurator(engine, clock=clock), put=put)
    browser.get("/put")
    with serving(Standby, primary) as standby:
        assert isinstance(standby, Standby)
        standby.catch_up()
        url = make_url(postgresql.url).set(port=standby.port)
        copy = create_engine(url)
        app = serve(configurator(copy, clock=clock, create=False), show=show)
        app.set_cookie("session", browser.cookies["session"])
        clock.advance(DAY)
        assert app.get("/show").json == {"n": 1}
        copy.dispose()
    (warning,) = warnings(caplog)
    assert "read-only transaction" in warning


def test_whatever_goes_wrong_with_a_touch_is_a_log_line(
    engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def interfere(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE"):
            raise Broken("no error of SQLAlchemy's")

    event.listen(engine, "before_cursor_execute", interfere)
    app = serve(configurator(engine, clock=clock), put=put, show=show)
    app.get("/put")
    clock.advance(DAY)
    assert app.get("/show").json == {"n": 1}
    (warning,) = warnings(caplog)
    assert "was not recorded: no error of SQLAlchemy's" in warning


# ---- at the same time


@on_servers
@both_ways
def test_of_requests_at_once_one_records_the_visit_and_none_is_in_its_way(
    way: str, backend: Backend, engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    browsers, rounds = 4, 25
    together = threading.Barrier(browsers, timeout=20)

    def read(request: Any) -> Any:
        dict(request.session)
        # all have read the same last_seen, and answer at the same moment
        together.wait()

    strict = {"isolation_level": "REPEATABLE READ"}
    config = configured(way, backend.url, clock, strict, cookie_max_age="10d")
    app = serve(config, put=put, read=read)
    app.get("/put")
    headers = {"Cookie": f"session={app.cookies['session']}"}
    answers: list[list[str]] = []

    def browse(_: int) -> list[str]:
        return session_cookies(TestApp(app.app).get("/read", headers=headers))

    for _ in range(rounds):
        clock.advance(HOUR)
        answers += at_once(browse, range(browsers))
        assert last_seen(engine) == clock.now
    assert len(answers) == rounds * browsers
    assert sum(map(len, answers)) == rounds
    assert warnings(caplog) == []


def test_a_touch_beside_a_write_of_the_same_second_leaves_what_was_written(
    engine: Engine, clock: Clock
) -> None:
    def remember(request: Any) -> Any:
        request.session.max_age = 30 * DAY

    def slow(request: Any) -> Any:
        data = show(request)
        other = TestApp(app.app)
        other.set_cookie("session", app.cookies["session"])
        clock.now = EPOCH
        other.get("/remember")
        clock.advance(DAY)
        return data

    app = serve(configurator(engine, clock=clock), put=put, slow=slow, remember=remember)
    app.get("/put")
    app.get("/slow")
    (row,) = rows(engine)
    assert (row["version"], row["last_seen"]) == (2, EPOCH)
    assert row["purge_after"] == EPOCH + 33 * DAY


@on_servers
@both_ways
def test_a_touch_is_a_transaction_on_connections_in_autocommit_too(
    way: str, backend: Backend, engine: Engine, clock: Clock
) -> None:
    locked = []

    def look(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE"):
            with engine.connect() as other:
                free = text("SELECT last_seen FROM sqlsession FOR UPDATE SKIP LOCKED")
                locked.append(other.execute(free).first() is None)

    autocommit = {"isolation_level": "AUTOCOMMIT"} if way == "dbsession" else {}
    app = serve(configured(way, backend.url, clock, autocommit), put=put, show=show)
    app.get("/put")
    clock.advance(DAY)
    with listening(Engine, "after_cursor_execute", look):
        assert app.get("/show").json == {"n": 1}
    assert locked == [True]
    assert last_seen(engine) == clock.now


# ---- PostgreSQL's heap-only tuples


def updates(engine: Engine) -> tuple[int, int]:
    """How many rows were updated, and how many of these without touching an index."""
    statement = (
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sqlsession'"
    )
    with engine.connect() as connection:
        every, hot = connection.execute(text(statement)).one()
    return int(every), int(hot)


@pytest.mark.parametrize(
    ("ttl", "interval"), [("14d", 300), ("15m", 90)], ids=["two weeks", "a quarter of an hour"]
)
def test_at_least_95_percent_of_the_touches_are_hot_updates(
    postgresql: Backend, clock: Clock, ttl: str, interval: int
) -> None:
    sessions, visits = 60, 40

    def fill(request: Any) -> None:
        request.session["text"] = "x" * 600

    engine, observer = create_engine(postgresql.url), create_engine(postgresql.url)
    config = configurator(engine, clock=clock, ttl=ttl, absolute_ttl="30d")
    app = serve(config, fill=fill, show=show)
    tokens = []
    for _ in range(sessions):
        app.reset()
        app.get("/fill")
        tokens.append(app.cookies["session"])
    for _ in range(visits):
        clock.advance(interval)
        for token in tokens:
            app.reset()
            app.set_cookie("session", token)
            assert len(app.get("/show").json["text"]) == 600
    # a connection reports what it did when it ends
    engine.dispose()
    wait_until(lambda: updates(observer)[0] >= sessions * visits)
    every, hot = updates(observer)
    assert every == sessions * visits
    assert hot / every >= 0.95
