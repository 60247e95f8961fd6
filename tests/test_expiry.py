"""Expiry at read, and what refreshes a session."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from sqlalchemy import Engine, create_engine, update
from support.apps import (
    EPOCH,
    TABLE,
    Clock,
    SessionRow,
    configurator,
    rows,
    serve,
    session_cookies,
    statements,
)
from support.servers import Backend
from webtest import TestApp
from zope.sqlalchemy import mark_changed

from pyramid_sqlsession import SQLSessionFactory
from pyramid_sqlsession.cookie import id_of

HOUR = 3600
DAY = 86400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(sqlite: Backend) -> Iterator[Engine]:
    engine = create_engine(sqlite.url)
    yield engine
    engine.dispose()


def write(request: Any) -> Any:
    request.session["n"] = request.session.get("n", 0) + 1
    return dict(request.session)


def read(request: Any) -> Any:
    return dict(request.session)


def remember_me(request: Any) -> Any:
    request.session["n"] = 1
    request.session.max_age = 30 * DAY


def forget_me(request: Any) -> Any:
    request.session.max_age = None


def only_max_age(request: Any) -> Any:
    request.session.max_age = 60


def browser(engine: Engine, clock: Clock, **options: Any) -> TestApp:
    views = {view.__name__: view for view in (write, read, remember_me, forget_me, only_max_age)}
    return serve(configurator(engine, clock=clock, **options), **views)


def max_age_of(response: Any) -> int | None:
    """The Max-Age that the response's session cookie has, None for a cookie without."""
    (header,) = session_cookies(response)
    for part in header.split("; "):
        if part.startswith("Max-Age="):
            return int(part.removeprefix("Max-Age="))
    return None


def test_a_session_expires_when_it_was_not_used_for_its_ttl(engine: Engine, clock: Clock) -> None:
    app = browser(engine, clock, ttl="1h")
    app.get("/write")
    clock.advance(3599)
    assert app.get("/read").json == {"n": 1}
    clock.advance(3600)
    assert app.get("/read").json == {}


def test_an_expired_session_is_not_used_again(engine: Engine, clock: Clock) -> None:
    app = browser(engine, clock, ttl="1h")
    app.get("/write")
    old = app.cookies["session"]
    clock.advance(3600)
    assert app.get("/write").json == {"n": 1}
    assert app.cookies["session"] != old
    assert {row["id"] for row in rows(engine)} == {
        id_of(old),
        id_of(app.cookies["session"]),
    }


def test_every_visit_that_uses_the_session_refreshes_it(engine: Engine, clock: Clock) -> None:
    app = browser(engine, clock, ttl="1h")
    app.get("/write")
    for _ in range(10):
        clock.advance(3000)
        assert app.get("/read").json == {"n": 1}


def test_a_changed_ttl_applies_to_stored_sessions_at_once(database: Engine, clock: Clock) -> None:
    app = browser(database, clock, ttl="1h")
    app.get("/write")
    clock.advance(601)
    shorter = browser(database, clock, ttl="10m")
    shorter.set_cookie("session", app.cookies["session"])
    assert shorter.get("/read").json == {}
    assert app.get("/read").json == {"n": 1}


def test_the_lifetime_of_the_cookie_wins_over_ttl(database: Engine, clock: Clock) -> None:
    app = browser(database, clock, ttl="1h", cookie_max_age="2h")
    assert max_age_of(app.get("/write")) == 7200
    clock.advance(7199)
    assert app.get("/read").json == {"n": 1}
    clock.advance(7200)
    assert app.get("/read").json == {}


def test_the_sessions_own_lifetime_wins_over_both(engine: Engine, clock: Clock) -> None:
    app = browser(engine, clock, ttl="1h", cookie_max_age="2h")
    assert max_age_of(app.get("/remember_me")) == 30 * DAY
    assert rows(engine)[0]["max_age"] == 30 * DAY
    clock.advance(30 * DAY - 1)
    assert app.get("/read").json == {"n": 1}


def test_setting_and_clearing_max_age_sends_the_cookie_again(
    database: Engine, clock: Clock
) -> None:
    app = browser(database, clock)
    assert max_age_of(app.get("/write")) is None
    assert max_age_of(app.get("/remember_me")) == 30 * DAY
    assert session_cookies(app.get("/remember_me")) == []
    assert max_age_of(app.get("/forget_me")) is None
    assert max_age_of(app.get("/only_max_age")) == 60
    assert rows(database)[0]["max_age"] == 60


def test_a_max_age_alone_makes_no_session(database: Engine, clock: Clock) -> None:
    app = browser(database, clock)
    assert session_cookies(app.get("/only_max_age")) == []
    assert rows(database) == []


def test_the_absolute_timeout_is_never_extended(engine: Engine, clock: Clock) -> None:
    app = browser(engine, clock, ttl="1h", absolute_ttl="90m", cookie_max_age="1h")
    assert max_age_of(app.get("/write")) == 3600
    clock.advance(3000)
    assert max_age_of(app.get("/write")) == 5400 - 3000
    clock.advance(2399)
    assert app.get("/read").json == {"n": 2}
    clock.advance(1)
    assert app.get("/read").json == {}


def test_activity_is_recorded_once_per_touch_interval(
    backend: Backend, engine: Engine, clock: Clock
) -> None:
    lock = ["SELECT"] if backend.dialect == "mysql" else []
    app = browser(engine, clock, touch_interval="1m")
    app.get("/write")
    clock.advance(59)
    with statements(engine) as seen:
        app.get("/read")
    assert [statement.split()[0] for statement in seen] == ["SELECT"]
    clock.advance(1)
    with statements(engine) as seen:
        app.get("/read")
    assert [statement.split()[0] for statement in seen] == ["SELECT", *lock, "UPDATE"]
    with statements(engine) as seen:
        app.get("/read")
    assert [statement.split()[0] for statement in seen] == ["SELECT"]
    assert rows(engine)[0]["last_seen"] == EPOCH + 60


def test_a_touch_writes_neither_data_nor_version(engine: Engine, clock: Clock) -> None:
    app = browser(engine, clock, touch_interval="1m")
    app.get("/write")
    (before,) = rows(engine)
    clock.advance(60)
    app.get("/read")
    (after,) = rows(engine)
    assert after == {**before, "last_seen": EPOCH + 60}


@pytest.mark.parametrize(
    ("touch_interval", "slack"), [(1, 1000 // 10), (10, 30 * 10)], ids=["tenth", "touches"]
)
@pytest.mark.parametrize("view", ["read", "write"])
def test_the_purge_column_stays_for_a_tenth_of_the_lifetime_and_for_thirty_touches(
    database: Engine, clock: Clock, touch_interval: int, slack: int, view: str
) -> None:
    app = browser(database, clock, ttl="1000", touch_interval=touch_interval)
    app.get("/write")
    assert rows(database)[0]["purge_after"] == EPOCH + 1000 + slack
    clock.advance(slack)
    app.get(f"/{view}")
    (row,) = rows(database)
    assert (row["last_seen"], row["purge_after"]) == (clock.now, EPOCH + 1000 + slack)
    clock.advance(touch_interval)
    app.get(f"/{view}")
    assert rows(database)[0]["purge_after"] == clock.now + 1000 + slack


def test_the_purge_column_comes_nearer_when_a_session_is_no_longer_remembered(
    database: Engine, clock: Clock
) -> None:
    app = browser(database, clock, ttl="1000", touch_interval=1)
    app.get("/remember_me")
    assert rows(database)[0]["purge_after"] == EPOCH + 33 * DAY
    app.get("/forget_me")
    assert rows(database)[0]["purge_after"] == EPOCH + 1100


def test_the_default_interval_is_a_tenth_of_the_lifetime_and_at_most_five_minutes(
    database: Engine, clock: Clock
) -> None:
    for ttl, interval in ((600, 60), (14 * DAY, 300), (5, 1)):
        app = browser(database, clock, ttl=ttl)
        app.get("/write")
        clock.advance(interval - 1)
        app.get("/read")
        clock.advance(1)
        app.get("/read")
        last_seen = {row["id"]: row["last_seen"] for row in rows(database)}
        assert last_seen[id_of(app.cookies["session"])] == clock.now


def test_an_interval_longer_than_a_short_session_is_shortened(
    database: Engine, clock: Clock
) -> None:
    app = browser(database, clock, touch_interval="1h")
    app.get("/write")
    app.get("/only_max_age")
    clock.advance(6)
    app.get("/read")
    assert rows(database)[0]["last_seen"] == EPOCH + 6


def test_a_sliding_cookie_is_sent_again_when_its_lifetime_moved_and_only_then(
    engine: Engine, clock: Clock
) -> None:
    app = browser(engine, clock, cookie_max_age="1h", touch_interval="1m")
    assert max_age_of(app.get("/write")) == 3600
    token = app.cookies["session"]
    assert session_cookies(app.get("/write")) == []
    clock.advance(5)
    assert session_cookies(app.get("/read")) == []
    assert session_cookies(app.get("/write")) == []
    clock.advance(60)
    assert max_age_of(app.get("/read")) == 3600
    assert session_cookies(app.get("/read")) == []
    clock.advance(60)
    assert max_age_of(app.get("/write")) == 3600
    assert app.cookies["session"] == token


def test_a_cookie_whose_end_the_absolute_timeout_fixes_is_not_sent_again(
    database: Engine, clock: Clock
) -> None:
    app = browser(
        database, clock, ttl="1h", absolute_ttl="2h", cookie_max_age="90m", touch_interval="5m"
    )
    ends = [clock.now + (max_age_of(app.get("/write")) or 0)]
    for _ in range(10):
        clock.advance(600)
        response = app.get("/read")
        if session_cookies(response):
            ends.append(clock.now + (max_age_of(response) or 0))
    assert rows(database)[0]["last_seen"] == clock.now
    # 600, 1200 and 1800 seconds later, and then no more
    assert [end - EPOCH for end in ends] == [5400, 6000, 6600, 7200]


def test_where_somebody_else_owns_the_transaction_a_visit_is_recorded_all_the_same(
    backend: Backend, engine: Engine, clock: Clock
) -> None:
    lock = ["SELECT"] if backend.dialect == "mysql" else []
    app = browser(engine, clock, touch_interval="1m")
    app.get("/write")
    clock.advance(DAY)
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    try:
        with statements(engine) as seen:
            app.get("/read", extra_environ={"tm.active": True, "tm.manager": manager})
    finally:
        manager.abort()
    assert [statement.split()[0] for statement in seen] == ["SELECT", *lock, "UPDATE"]
    assert rows(engine)[0]["last_seen"] == EPOCH + DAY


def test_so_it_is_by_an_engine_of_its_own(backend: Backend, engine: Engine, clock: Clock) -> None:
    factory = SQLSessionFactory(
        sqlalchemy={"url": backend.url}, model=SessionRow, clock=clock, cleanup_interval=None
    )
    config = configurator(engine)
    config.set_session_factory(factory)
    app = serve(config, write=write, read=read)
    app.get("/write")
    clock.advance(DAY)
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    app.get("/read", extra_environ={"tm.active": True, "tm.manager": manager})
    manager.abort()
    assert rows(engine)[0]["last_seen"] == EPOCH + DAY


def test_a_cookie_that_ends_with_the_browser_is_sent_once(database: Engine, clock: Clock) -> None:
    app = browser(database, clock, touch_interval="1m")
    app.get("/write")
    clock.advance(60)
    assert session_cookies(app.get("/read")) == []
    clock.advance(60)
    assert session_cookies(app.get("/write")) == []


def times(request: Any) -> Any:
    session = request.session
    return [session.created, session.last_seen, session.expires_at]


def test_a_view_is_told_when_the_session_was_seen_and_when_it_expires(
    engine: Engine, clock: Clock
) -> None:
    config = configurator(engine, clock=clock, ttl="1h", touch_interval="5m")
    app = serve(config, write=write, times=times)
    # nothing is stored yet: the times of the session that would be
    assert app.get("/times").json == [EPOCH, EPOCH, EPOCH + HOUR]
    app.get("/write")
    clock.advance(299)
    # this activity is not recorded
    assert app.get("/times").json == [EPOCH, EPOCH, EPOCH + HOUR]
    clock.advance(1)
    # this one is
    assert app.get("/times").json == [EPOCH, EPOCH, EPOCH + 300 + HOUR]
    assert app.get("/times").json == [EPOCH, EPOCH + 300, EPOCH + 300 + HOUR]
    clock.advance(HOUR - 1)
    assert app.get("/times").json == [EPOCH, EPOCH + 300, clock.now + HOUR]


def test_what_is_told_about_the_expiry_is_what_happens(engine: Engine, clock: Clock) -> None:
    config = configurator(engine, clock=clock, ttl="1h", absolute_ttl="2h")
    app = serve(config, write=write, times=times, read=read)
    app.get("/write")
    for _ in range(2):
        clock.advance(3000)
        expires_at = app.get("/times").json[2]
    assert expires_at == EPOCH + 2 * HOUR
    clock.now = expires_at - 1
    assert app.get("/read").json == {"n": 1}
    clock.now = expires_at
    assert app.get("/read").json == {}


def test_a_lifetime_that_is_set_counts_at_once(database: Engine, clock: Clock) -> None:
    def remember(request: Any) -> Any:
        request.session.max_age = 30 * DAY
        return times(request)

    app = serve(configurator(database, clock=clock), write=write, times=times, remember=remember)
    app.get("/write")
    clock.advance(10)
    assert app.get("/remember").json == [EPOCH, EPOCH, clock.now + 30 * DAY]
    assert app.get("/times").json == [EPOCH, clock.now, clock.now + 30 * DAY]


def test_a_clock_that_jumps_back_does_not_move_the_expiry(database: Engine, clock: Clock) -> None:
    app = serve(configurator(database, clock=clock, ttl="1h"), write=write, times=times)
    app.get("/write")
    clock.advance(-7200)
    assert app.get("/times").json == [EPOCH, EPOCH, EPOCH + HOUR]


def test_a_clock_that_jumps_back_does_no_harm(engine: Engine, clock: Clock) -> None:
    app = browser(engine, clock, touch_interval="1m")
    app.get("/write")
    clock.advance(-7200)
    assert app.get("/read").json == {"n": 1}
    assert app.get("/write").json == {"n": 2}
    assert rows(engine)[0]["last_seen"] == EPOCH


def test_a_read_in_a_request_that_is_aborted_counts_as_a_visit(
    database: Engine, clock: Clock
) -> None:
    def doomed(request: Any) -> Any:
        request.tm.doom()
        return write(request)

    app = serve(configurator(database, clock=clock), write=write, doomed=doomed)
    app.get("/write")
    clock.advance(DAY)
    app.get("/doomed")
    (row,) = rows(database)
    assert (row["version"], row["last_seen"]) == (1, EPOCH + DAY)


def test_an_aborted_max_age_is_not_sent_when_the_visit_is_recorded(
    database: Engine, clock: Clock
) -> None:
    def doomed(request: Any) -> Any:
        request.tm.doom()
        remember_me(request)

    app = serve(configurator(database, clock=clock), write=write, doomed=doomed)
    app.get("/write")
    clock.advance(DAY)
    assert session_cookies(app.get("/doomed")) == []


def test_a_touch_that_fails_is_a_log_line(
    engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def vanish(request: Any) -> Any:
        data = read(request)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE sqlsession")
        return data

    config = configurator(engine, {"tm.activate_hook": "support.apps.no_transaction"}, clock=clock)
    app = serve(config, write=write, vanish=vanish)
    app.get("/write")
    clock.advance(DAY)
    assert app.get("/vanish").json == {"n": 1}
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "was not recorded" in record.getMessage()
    assert app.cookies["session"] not in caplog.text


def test_a_vanished_row_is_not_touched_and_not_missed(engine: Engine, clock: Clock) -> None:
    def vanish(request: Any) -> Any:
        read(request)
        request.dbsession.connection().execute(TABLE.delete())
        mark_changed(request.dbsession, transaction_manager=request.tm)

    app = serve(configurator(engine, clock=clock, cookie_max_age="10d"), write=write, vanish=vanish)
    app.get("/write")
    clock.advance(DAY)
    assert session_cookies(app.get("/vanish")) == []
    assert rows(engine) == []


@pytest.mark.parametrize(
    "nonsense",
    [
        {"data": b"{"},
        {"data": b"[1]"},
        {"data": b""},
        {"data": b"\xff\xfe"},
        {"created": -5},
        {"last_seen": 0},
        {"version": 0},
        {"max_age": -1},
        # no database could store what comes after these
        {"version": 2**31 - 1},
        {"last_seen": 2**63 - 1},
        {"created": 2**63 - 1},
    ],
    ids=str,
)
def test_a_row_that_makes_no_sense_is_an_empty_session_and_a_log_line(
    engine: Engine, clock: Clock, nonsense: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = browser(engine, clock)
    app.get("/write")
    old = app.cookies["session"]
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(**nonsense))
    assert app.get("/read").json == {}
    assert id_of(old).hex() in caplog.text
    assert old not in caplog.text
    assert app.get("/write").json == {"n": 1}
    assert app.cookies["session"] != old
    assert len(rows(engine)) == 2


def test_a_null_where_sqlite_lets_it_in_is_an_empty_session(
    database: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app = browser(database, clock)
    with database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE sqlsession")
        connection.exec_driver_sql(
            "CREATE TABLE sqlsession (id, user_id, data, version, created, last_seen, max_age, "
            "purge_after, replaced, note_id, lineage)"
        )
    app.get("/write")
    for column in ("data", "version", "created", "last_seen", "purge_after", "lineage"):
        with database.begin() as connection:
            connection.exec_driver_sql(f"UPDATE sqlsession SET {column} = NULL")
        assert app.get("/read").json == {}
    with database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM sqlsession")
    app.get("/write")
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE sqlsession SET last_seen = 'yesterday'")
    assert app.get("/read").json == {}
    assert caplog.text.count("cannot read row") == 7
