"""Broken surroundings: what a request gets, and that nothing worse comes of it."""

from __future__ import annotations

import gc
import os
import select
import sqlite3
from typing import Any

import pytest
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.response import Response
from pyramid_retry import RetryableException
from sqlalchemy import JSON, Engine, LargeBinary, TypeDecorator, create_engine, text, update
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.sql.dml import UpdateBase
from support.apps import (
    Base,
    Clock,
    SessionRow,
    configurator,
    own_configurator,
    rows,
    serve,
    session_cookies,
)
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import SessionConflict, SessionMixin
from pyramid_sqlsession.database.engine import _notice_closed_ones
from pyramid_sqlsession.driver_errors import is_conflict

TOKEN = "x" * 43


def write(request: Any) -> Any:
    request.session["n"] = request.session.get("n", 0) + 1
    return request.session["n"]


def read(request: Any) -> Any:
    return dict(request.session)


class SessionPolicy:
    """A security policy that looks into the session."""

    def authenticated_userid(self, request: Any) -> Any:
        return request.session.get("userid")

    def permits(self, request: Any, context: Any, permission: str) -> bool:
        return True


def with_error_page(config: Configurator) -> Configurator:
    """Render every exception with a page that uses the session."""

    def page(error: Exception, request: Any) -> Response:
        messages, token = request.session.peek_flash(), request.session.get_csrf_token()
        return Response(f"sorry {messages} {token}", status=500)

    config.add_exception_view(page, context=Exception)
    return config


def test_a_stale_cookie_does_not_keep_the_table_from_being_created(engine: Engine) -> None:
    """``tm.annotate_user`` reads the session before the save tween is entered."""
    config = configurator(engine, {"sqlsession.create_table": "true"}, create=False)
    Base.metadata.tables["note"].create(engine)
    config.set_security_policy(SessionPolicy())
    app = serve(config, write=write)
    app.set_cookie("session", TOKEN)
    assert app.get("/write").json == 1


@pytest.mark.parametrize("own_engine", [True, False])
def test_an_error_page_is_rendered_while_the_database_is_down(
    postgresql: Backend, own_engine: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(postgresql.url)
    config = own_configurator(postgresql.url) if own_engine else configurator(engine)
    app = serve(with_error_page(config), write=write, read=read)
    app.get("/write")
    assert postgresql.server is not None
    postgresql.server.stop()
    try:
        assert "sorry []" in app.get("/read", status=500).text
    finally:
        postgresql.server.start()
    assert "for an exception view" in caplog.text
    assert app.cookies["session"] not in caplog.text


def test_an_error_page_is_rendered_while_the_table_is_missing(engine: Engine) -> None:
    app = serve(with_error_page(configurator(engine, create=False)), read=read)
    app.set_cookie("session", TOKEN)
    assert "sorry []" in app.get("/read", status=500).text


def test_an_error_of_the_application_is_not_taken_for_unreadable_data(sqlite: Backend) -> None:
    engine = create_engine(sqlite.url)

    def broken(request: Any) -> Any:
        raise LookupError("the application's own")

    config = configurator(engine, {"sqlsession.dbsession": "broken"})
    config.add_request_method(broken, property=True)
    app = serve(config, read=read)
    app.set_cookie("session", TOKEN)
    with pytest.raises(LookupError, match="the application's own"):
        app.get("/read")


class Marked(TypeDecorator[bytes]):
    """A type that reads only what was written with the same mark."""

    impl = LargeBinary
    cache_ok = True
    mark = b"1"
    error: type[Exception] = ValueError

    def process_bind_param(self, value: Any, dialect: Any) -> bytes:
        return bytes(self.mark + value)

    def process_result_value(self, value: Any, dialect: Any) -> bytes:
        if value[:1] != self.mark:
            raise self.error("another mark")
        return bytes(value[1:])


def test_what_the_type_of_a_column_cannot_read_is_an_empty_session(
    engine: Engine, base: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class MarkedRow(SessionMixin, base):  # type: ignore[misc]  # a base of the test
        data: Mapped[bytes] = mapped_column(Marked)

    base.metadata.create_all(engine)
    config = configurator(engine, {"sqlsession.model": MarkedRow}, create=False)
    app = serve(config, write=write, read=read)
    app.get("/write")
    monkeypatch.setattr(Marked, "mark", b"2")
    assert app.get("/read").json == {}
    assert "its session is treated as empty" in caplog.text
    assert app.get("/write").json == 1


def test_an_error_of_sqlalchemys_own_is_not_taken_for_unreadable_data(
    sqlite: Backend, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class MarkedRow(SessionMixin, base):  # type: ignore[misc]  # a base of the test
        data: Mapped[bytes] = mapped_column(Marked)

    engine = create_engine(sqlite.url)
    base.metadata.create_all(engine)
    config = configurator(engine, {"sqlsession.model": MarkedRow}, create=False)
    app = serve(config, write=write, read=read)
    app.get("/write")
    monkeypatch.setattr(Marked, "mark", b"2")
    monkeypatch.setattr(Marked, "error", SQLAlchemyError)
    with pytest.raises(SQLAlchemyError, match="another mark"):
        app.get("/read")


def test_broken_text_in_a_json_column_is_an_empty_session(sqlite: Backend, base: Any) -> None:
    class JSONRow(SessionMixin, base):  # type: ignore[misc]  # a base of the test
        data: Mapped[Any] = mapped_column(JSON)

    engine = create_engine(sqlite.url)
    base.metadata.create_all(engine)
    config = configurator(engine, {"sqlsession.model": JSONRow}, create=False)
    app = serve(config, write=write, read=read)
    app.get("/write")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sqlsession SET data = '{broken'")
    assert app.get("/read").json == {}


def test_a_newer_row_that_cannot_be_read_is_a_conflict(engine: Engine) -> None:
    def meanwhile(request: Any) -> Any:
        request.session["n"] = 5
        with engine.begin() as connection:
            connection.execute(update(SessionRow).values(data=b"{", version=7))

    options = {"isolation_level": "READ COMMITTED"} if engine.dialect.name == "mysql" else {}
    app = serve(configurator(engine.execution_options(**options)), write=write, meanwhile=meanwhile)
    app.get("/write")
    with pytest.raises(
        SessionConflict, match=r"cannot read what another request stored in session"
    ):
        app.get("/meanwhile")
    (row,) = rows(engine)
    assert row["data"] == b"{"


def test_locked_in_the_name_of_a_column_is_no_conflict() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE account (name TEXT, locked_until INT UNIQUE)")
    connection.execute("INSERT INTO account VALUES ('a', 1)")
    for statement in ("INSERT INTO account VALUES ('b', 1)", "SELECT locked FROM account"):
        with pytest.raises(sqlite3.Error, match="locked") as caught:
            connection.execute(statement)
        assert not is_conflict(caught.value)
    connection.close()


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "READ UNCOMMITTED", "REPEATABEL READ"])
def test_a_level_that_breaks_the_writes_is_a_configuration_error(
    backend: Backend, level: str
) -> None:
    with pytest.raises(
        ConfigurationError, match=f"isolation_level = '{level}' is not valid: expected"
    ):
        own_configurator(
            backend.url, {"sqlsession.sqlalchemy.isolation_level": level}
        ).make_wsgi_app()


@pytest.mark.parametrize("system", ["this one", "one that cannot poll"])
def test_a_driver_that_does_not_tell_its_socket_can_be_used(
    sqlite: Backend, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system != "this one":
        monkeypatch.delattr(select, "poll")
    engine = create_engine(sqlite.url)
    _notice_closed_ones(engine)
    for _ in range(2):
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1


@pytest.mark.parametrize(("value", "pings"), [("false", 0), ("true", 1)])
def test_whether_connections_are_pinged_is_what_the_ini_file_says(
    postgresql: Backend, value: str, pings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def ping(dialect: Any, connection: Any) -> bool:
        seen.append(connection)
        return True

    monkeypatch.setattr(PGDialect_psycopg, "do_ping", ping)
    app = serve(
        own_configurator(postgresql.url, {"sqlsession.sqlalchemy.pool_pre_ping": value}),
        write=write,
    )
    app.get("/write")
    seen.clear()
    app.reset()
    app.get("/write")
    assert len(seen) == pings


def test_a_password_in_the_query_of_the_url_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    own_configurator("postgresql+psycopg://127.0.0.1:1/x?user=me&password=hunter2").make_wsgi_app()
    assert "through an engine of its own, postgresql+psycopg://127.0.0.1:1/x" in caplog.text
    assert "hunter2" not in caplog.text


def test_parallel_requests_record_a_visit_once(sqlite: Backend) -> None:
    engine, clock = create_engine(sqlite.url), Clock()

    def slow(request: Any) -> Any:
        data = read(request)
        if clock.now == due:
            other = TestApp(app.app)
            other.set_cookie("session", app.cookies["session"])
            assert session_cookies(other.get("/read"))
            clock.advance(1)
        return data

    config = configurator(engine, clock=clock, cookie_max_age="1d")
    app = serve(config, write=write, read=read, slow=slow)
    app.get("/write")
    clock.advance(1000)
    due = clock.now
    assert session_cookies(app.get("/slow")) == []
    assert rows(engine)[0]["last_seen"] == due


def test_a_request_that_is_run_again_still_gets_its_sliding_cookie(sqlite: Backend) -> None:
    engine, clock, attempts = create_engine(sqlite.url), Clock(), []

    def flaky(request: Any) -> Any:
        attempts.append(read(request))
        if len(attempts) == 1:
            raise RetryableException
        return attempts

    config = with_error_page(configurator(engine, retry=True, clock=clock, cookie_max_age="1h"))
    app = serve(config, write=write, flaky=flaky)
    app.get("/write")
    clock.advance(900)
    response = app.get("/flaky")
    assert len(response.json) == 2
    assert "Max-Age=3600" in session_cookies(response)[0]


def test_a_database_session_that_routes_reads_to_a_replica_reads_the_primary(
    sqlite: Backend,
) -> None:
    primary = create_engine(sqlite.url)
    path = primary.url.database
    replica = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **kw: Any) -> Any:
            return primary if self._flushing or isinstance(clause, UpdateBase) else replica

    def routed(request: Any) -> Session:
        session = Routing()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config = configurator(primary, {"sqlsession.dbsession": "routed"})
    config.add_request_method(routed, reify=True)
    app = serve(config, write=write)
    assert [app.get("/write").json for _ in range(2)] == [1, 2]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_does_not_end_its_parents_connections(mariadb: Backend) -> None:
    """mysqlclient says goodbye to the server when a connection becomes garbage."""
    pytest.importorskip("MySQLdb")
    app = serve(
        own_configurator(
            mariadb.with_driver("mysql+mysqldb"), {"sqlsession.sqlalchemy.pool_size": "1"}
        ),
        write=write,
        read=read,
    )
    app.get("/write")
    child = os.fork()
    if child == 0:
        works = app.get("/read").json == {"n": 1}
        gc.collect()
        os._exit(0 if works else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert app.get("/read").json == {"n": 1}


def test_an_explicit_tween_list_without_pyramid_tm_is_a_configuration_error(
    sqlite: Backend,
) -> None:
    tweens = "pyramid_sqlsession.save_tween_factory pyramid.tweens.excview_tween_factory"
    config = configurator(create_engine(sqlite.url), {"pyramid.tweens": tweens})
    with pytest.raises(ConfigurationError, match=r"pyramid_tm\.tm_tween_factory"):
        config.make_wsgi_app()


def test_an_error_is_not_swallowed_by_a_view_that_asks_in_a_broken_transaction(
    postgresql: Backend,
) -> None:
    engine = create_engine(postgresql.url)

    def broken(request: Any) -> Any:
        request.dbsession.execute(text("SELECT 1 / 0"))

    app = serve(with_error_page(configurator(engine)), write=write, broken=broken, read=read)
    app.get("/write")
    assert "sorry []" in app.get("/broken", status=500).text
    assert app.get("/read").json["n"] == 1
