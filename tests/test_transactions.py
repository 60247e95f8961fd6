"""The session in the request's transaction: what commits, what rolls back, which cookie is sent."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest, HTTPFound
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from support.apps import (
    TABLE,
    VETO,
    Broken,
    Note,
    Resource,
    both_managers,
    configurator,
    every_manager,
    listening,
    notes,
    order,
    own_configurator,
    plain_engine,
    put,
    refuse,
    rows,
    serve,
    session_cookies,
    show,
    statements,
)
from support.servers import Backend, on_servers
from transaction.interfaces import NoTransaction, TransientError

from pyramid_sqlsession import SessionDataError
from pyramid_sqlsession.table.model import SQLSessionRow


def then(what: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A view that stores something, remembers it and goes on as *what* does."""

    def view(request: Any) -> Any:
        order(request)
        return what(request)

    return view


def throw(error: BaseException) -> Any:
    raise error


def error_page(config: Configurator, context: type[Exception], status: int = 500) -> Configurator:
    def page(error: Any, request: Any) -> Any:
        request.response.status_int = status
        return {"error": type(error).__name__, "text": str(error)}

    config.add_view(page, context=context, renderer="json")
    return config


def stored(engine: Engine, table: Any = TABLE) -> list[Any]:
    """The data of the committed sessions."""
    return [json.loads(row["data"]) for row in rows(engine, table)]


def warnings(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "pyramid_sqlsession" and record.levelno >= level
    ]


# ---- committed together, or not at all


@every_manager
def test_session_and_application_data_commit_together(engine: Engine, manager: Any) -> None:
    app = serve(configurator(engine, **manager), order=order, show=show)
    (cookie,) = session_cookies(app.get("/order"))
    assert cookie.startswith("session=")
    assert notes(engine) == ["ordered"]
    assert stored(engine) == [{"cart": [1]}]
    assert session_cookies(app.get("/order")) == []
    assert notes(engine) == ["ordered", "ordered"]
    assert app.get("/show").json == {"cart": [1, 1]}


def fail_at_vote(request: Any) -> Any:
    request.tm.get().join(Resource(refuse))
    return {}


def doom(request: Any) -> Any:
    request.tm.doom()
    return {}


def answer_400(request: Any) -> Any:
    request.response.status_int = 400
    return {}


def raise_400(request: Any) -> Any:
    raise HTTPBadRequest()


def raise_error(request: Any) -> Any:
    raise Broken("the view is broken")


every_failure = pytest.mark.parametrize(
    "failure",
    [fail_at_vote, doom, answer_400, raise_400, raise_error],
    ids=lambda failure: failure.__name__,
)


@every_manager
@every_failure
def test_a_transaction_that_fails_stores_no_session_and_sends_no_cookie(
    sqlite: Backend, manager: Any, failure: Any
) -> None:
    engine = plain_engine(sqlite.url)
    config = error_page(configurator(engine, VETO, **manager), Broken)
    response = serve(config, fail=then(failure)).get("/fail", status="*")
    assert response.status_int == {doom: 200, answer_400: 400, raise_400: 400}.get(failure, 500)
    assert session_cookies(response) == []
    assert notes(engine) == []
    assert rows(engine) == []


@every_failure
def test_a_transaction_that_fails_leaves_the_stored_session_as_it_was(
    engine: Engine, failure: Any
) -> None:
    config = error_page(configurator(engine, VETO), Broken)
    app = serve(config, order=order, fail=then(failure), show=show)
    app.get("/order")
    before = rows(engine)
    assert session_cookies(app.get("/fail", status="*")) == []
    assert rows(engine) == before
    assert notes(engine) == ["ordered"]
    assert app.get("/show").json == {"cart": [1]}


@every_manager
def test_an_error_without_an_exception_view_stores_nothing(engine: Engine, manager: Any) -> None:
    app = serve(configurator(engine, **manager), fail=then(raise_error), show=show)
    with pytest.raises(Broken):
        app.get("/fail")
    assert rows(engine) == []
    assert notes(engine) == []
    assert app.get("/show").json == {}


@every_failure
def test_a_logout_that_fails_leaves_the_session_and_its_cookie(
    engine: Engine, failure: Any
) -> None:
    def logout(request: Any) -> Any:
        request.session.invalidate()
        return failure(request)

    config = error_page(configurator(engine, VETO), Broken)
    app = serve(config, put=put, logout=logout, show=show)
    app.get("/put")
    assert session_cookies(app.get("/logout", status="*")) == []
    assert app.get("/show").json == {"cart": [1]}


@every_manager
def test_a_logout_removes_the_row_and_the_cookie(engine: Engine, manager: Any) -> None:
    def logout(request: Any) -> Any:
        request.session.invalidate()
        return {}

    app = serve(configurator(engine, **manager), put=put, logout=logout, show=show)
    app.get("/put")
    (cookie,) = session_cookies(app.get("/logout"))
    assert "Max-Age=0" in cookie
    assert rows(engine) == []
    assert "session" not in app.cookies
    assert app.get("/show").json == {}


def test_a_failed_commit_without_an_exception_view_is_an_error(engine: Engine) -> None:
    app = serve(configurator(engine), fail=then(fail_at_vote))
    with pytest.raises(Broken):
        app.get("/fail")
    assert rows(engine) == []
    assert notes(engine) == []


@pytest.fixture
def deferred(postgresql: Backend) -> Iterator[Engine]:
    """A database with a constraint that is checked at COMMIT."""
    engine = plain_engine(postgresql.url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE parent (id int PRIMARY KEY)"))
        connection.execute(
            text("CREATE TABLE child (parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
        )
    yield engine
    engine.dispose()


def insert_orphan(request: Any) -> Any:
    """Break a constraint that is checked at COMMIT."""
    request.dbsession.execute(text("INSERT INTO child VALUES (1)"))
    return {}


@every_manager
def test_a_constraint_that_fails_at_commit_takes_the_session_with_it(
    deferred: Engine, manager: Any
) -> None:
    config = error_page(configurator(deferred, **manager), IntegrityError, status=409)
    app = serve(config, fail=then(insert_orphan), put=put, show=show)
    response = app.get("/fail", status=409)
    assert session_cookies(response) == []
    assert rows(deferred) == []
    assert notes(deferred) == []
    app.get("/put")
    assert session_cookies(app.get("/fail", status=409)) == []
    assert app.get("/show").json == {"cart": [1]}


# ---- pyramid_retry


def fails_once(error: Exception, at: Callable[[Any, Exception], Any]) -> Callable[[Any], Any]:
    """A view that stores something, and that fails when it is run for the first time."""

    def view(request: Any) -> Any:
        order(request)
        if request.environ["retry.attempt"] == 0:
            at(request, error)
        return {"attempt": request.environ["retry.attempt"]}

    return view


def in_view(request: Any, error: Exception) -> None:
    raise error


def at_commit(request: Any, error: Exception) -> None:
    request.tm.get().join(Resource(lambda: throw(error)))


@both_managers
@pytest.mark.parametrize("moment", [in_view, at_commit], ids=lambda moment: moment.__name__)
def test_a_request_that_is_run_again_is_stored_once(
    engine: Engine, explicit: bool, moment: Any
) -> None:
    config = configurator(engine, explicit=explicit, retry=True)
    app = serve(config, order=fails_once(TransientError("busy"), moment), show=show)
    for total in (1, 2):
        response = app.get("/order")
        assert response.json == {"attempt": 1}
        assert len(session_cookies(response)) == (total == 1)
        assert stored(engine) == [{"cart": [1] * total}]
        assert notes(engine) == ["ordered"] * total


def test_a_conflict_that_the_database_reports_at_commit_is_run_again(postgresql: Backend) -> None:
    engine = plain_engine(postgresql.url)
    app = serve(configurator(engine, retry=True), order=order)
    fail_commits(engine, "sqlsession", "40001", times=1)
    response = app.get("/order")
    assert len(session_cookies(response)) == 1
    assert stored(engine) == [{"cart": [1]}]
    assert notes(engine) == ["ordered"]


def fail_commits(engine: Engine, table: str, sqlstate: str, times: int = 1000) -> None:
    """Make PostgreSQL fail at the COMMIT of what changes a table, a number of times."""
    # a sequence is not rolled back
    function = f"""
        CREATE FUNCTION fail_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('commits') <= {times} THEN
                RAISE 'no commit today' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NULL;
        END $$"""
    trigger = f"""
        CREATE CONSTRAINT TRIGGER fail_commit AFTER INSERT OR UPDATE OR DELETE ON {table}
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_commit()"""
    with engine.begin() as connection:
        for statement in ("CREATE SEQUENCE commits", function, trigger):
            connection.execute(text(statement))


# ---- raise HTTPFound


def flash_and_raise(request: Any) -> Any:
    request.session.flash("saved")
    request.dbsession.add(Note(text="saved"))
    raise HTTPFound("/elsewhere")


def flash_and_return(request: Any) -> Any:
    request.session.flash("saved")
    request.dbsession.add(Note(text="saved"))
    return HTTPFound("/elsewhere")


@every_manager
def test_a_raised_redirect_aborts_and_a_warning_names_the_veto(
    engine: Engine, manager: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = serve(configurator(engine, **manager), save=flash_and_raise)
    assert session_cookies(app.get("/save", status=302)) == []
    assert rows(engine) == []
    assert notes(engine) == []
    (warning,) = warnings(caplog)
    assert "tm.commit_veto = pyramid_tm.default_commit_veto" in warning


def test_a_raised_redirect_without_changes_warns_of_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def redirect(request: Any) -> Any:
        assert "user" not in request.session
        raise HTTPFound("/elsewhere")

    serve(configurator(engine), redirect=redirect).get("/redirect", status=302)
    assert warnings(caplog) == []


@every_manager
@pytest.mark.parametrize("setting", ["tm.commit_veto", "pyramid_tm.commit_veto"])
def test_a_raised_redirect_commits_where_a_veto_is_set(
    sqlite: Backend, manager: Any, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = plain_engine(sqlite.url)
    settings = {setting: "pyramid_tm.default_commit_veto"}
    app = serve(configurator(engine, settings, **manager), save=flash_and_raise)
    assert len(session_cookies(app.get("/save", status=302))) == 1
    assert stored(engine) == [{"_f_": ["saved"]}]
    assert notes(engine) == ["saved"]
    assert warnings(caplog) == []


@pytest.mark.parametrize("settings", [{}, VETO], ids=["no veto", "veto"])
def test_a_returned_redirect_commits(
    engine: Engine, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = serve(configurator(engine, settings), save=flash_and_return)
    assert len(session_cookies(app.get("/save", status=302))) == 1
    assert stored(engine) == [{"_f_": ["saved"]}]
    assert warnings(caplog) == []


# ---- a session that cannot be saved


def put_object(request: Any) -> Any:
    request.session["cart"] = [object()]
    return {}


says_commit = pytest.mark.parametrize(
    "settings",
    [{}, {"tm.commit_veto": lambda request, response: False}],
    ids=["no veto", "a veto that says commit"],
)


@every_manager
@says_commit
def test_a_value_that_cannot_be_stored_is_shown_by_the_exception_view_and_nothing_is_committed(
    engine: Engine, manager: Any, settings: Any
) -> None:
    config = error_page(configurator(engine, settings, **manager), SessionDataError, status=200)
    app = serve(config, order=order, bad=then(put_object), show=show)
    app.get("/order")
    before = rows(engine)
    response = app.get("/bad")
    assert response.json["error"] == "SessionDataError"
    assert "session['cart'][0]" in response.json["text"]
    assert session_cookies(response) == []
    assert notes(engine) == ["ordered"]
    assert rows(engine) == before
    assert app.get("/show").json == {"cart": [1]}


@says_commit
def test_a_value_that_cannot_be_stored_is_an_error_where_there_is_no_exception_view(
    engine: Engine, settings: Any
) -> None:
    app = serve(configurator(engine, settings), bad=then(put_object))
    with pytest.raises(SessionDataError, match="cart"):
        app.get("/bad")
    assert notes(engine) == []
    assert rows(engine) == []


@every_manager
def test_where_a_raised_redirect_commits_a_failing_save_keeps_the_redirect_and_commits_nothing(
    engine: Engine, manager: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(request: Any) -> Any:
        order(request)
        put_object(request)
        raise HTTPFound("/elsewhere")

    config = error_page(configurator(engine, VETO, **manager), SessionDataError)
    response = serve(config, bad=bad).get("/bad", status=302)
    assert response.location == "http://localhost/elsewhere"
    assert session_cookies(response) == []
    assert notes(engine) == []
    assert rows(engine) == []
    assert len(warnings(caplog, logging.ERROR)) == 1


def test_a_save_that_the_database_refuses_commits_nothing_of_the_application(
    postgresql: Backend,
) -> None:
    engine = plain_engine(postgresql.url)
    config = configurator(engine, {"tm.commit_veto": lambda request, response: False})
    app = serve(error_page(config, DBAPIError, status=200), order=order)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE sqlsession ADD CHECK (version > 1)"))
    response = app.get("/order")
    assert response.json["error"] == "IntegrityError"
    assert session_cookies(response) == []
    assert notes(engine) == []


# ---- views that end the transaction


@every_manager
@pytest.mark.parametrize("end", ["abort", "commit"])
def test_the_session_joins_the_transaction_that_the_view_has_begun(
    engine: Engine, manager: Any, end: str
) -> None:
    def begin_again(request: Any) -> Any:
        request.session["before"] = 1
        request.dbsession.add(Note(text="before"))
        getattr(request.tm, end)()
        request.tm.begin()
        request.session["after"] = 2
        request.dbsession.add(Note(text="after"))
        return {}

    app = serve(configurator(engine, **manager), put=put, again=begin_again, show=show)
    for existing in (False, True):
        assert len(session_cookies(app.get("/again"))) == (not existing)
        assert stored(engine) == [{"before": 1, "after": 2}]
        assert app.get("/show").json == {"before": 1, "after": 2}
    assert set(notes(engine)) == {"after"} | ({"before"} if end == "commit" else set())


@both_managers
def test_what_a_view_committed_early_does_not_carry_the_session_with_it(
    engine: Engine, explicit: bool
) -> None:
    def commit_and_fail(request: Any) -> Any:
        request.session["cart"] = [1]
        request.dbsession.add(Note(text="early"))
        request.tm.commit()
        request.tm.begin()
        request.tm.doom()
        return {}

    app = serve(configurator(engine, explicit=explicit), early=commit_and_fail)
    assert session_cookies(app.get("/early")) == []
    assert notes(engine) == ["early"]
    assert rows(engine) == []


@pytest.mark.parametrize("end", ["abort", "commit"])
def test_a_view_that_ends_the_transaction_itself_stores_no_session(
    engine: Engine, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """pyramid_tm has no transaction to commit then, and says so."""

    def finish(request: Any) -> Any:
        order(request)
        getattr(request.tm, end)()
        return {}

    app = serve(configurator(engine), finish=finish)
    with pytest.raises(NoTransaction):
        app.get("/finish")
    assert rows(engine) == []
    assert notes(engine) == (["ordered"] if end == "commit" else [])
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("end", ["abort", "commit"])
def test_a_thread_local_manager_begins_another_transaction_which_the_session_joins(
    engine: Engine, end: str
) -> None:
    def finish(request: Any) -> Any:
        order(request)
        getattr(request.tm, end)()
        return {}

    app = serve(configurator(engine, explicit=False), finish=finish)
    assert len(session_cookies(app.get("/finish"))) == 1
    assert stored(engine) == [{"cart": [1]}]


@both_managers
@pytest.mark.parametrize("end", ["abort", "commit"])
def test_an_exception_after_the_view_ended_the_transaction_stores_no_session(
    engine: Engine, explicit: bool, end: str
) -> None:
    def finish(request: Any) -> Any:
        order(request)
        getattr(request.tm, end)()
        raise Broken("after the end")

    config = error_page(configurator(engine, explicit=explicit), Broken)
    app = serve(config, finish=finish)
    if explicit:
        with pytest.raises(NoTransaction):
            app.get("/finish")
    else:
        assert session_cookies(app.get("/finish", status=500)) == []
    assert rows(engine) == []


# ---- application rows first


# SQLite cannot change a column's default
@on_servers
def test_the_row_of_the_session_may_refer_to_a_row_that_the_same_request_made(
    engine: Engine,
) -> None:
    """The application's rows are flushed first: the session's foreign key finds them."""

    def join(request: Any) -> Any:
        request.dbsession.autoflush = False
        request.dbsession.add(Note(id=7, text="a member"))
        return put(request)

    app = serve(configurator(engine), join=join)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE sqlsession ALTER COLUMN note_id SET DEFAULT 7"))
    assert len(session_cookies(app.get("/join"))) == 1
    (row,) = rows(engine)
    assert row["note_id"] == 7


def test_application_rows_are_written_before_the_row_of_the_session(engine: Engine) -> None:
    def early(request: Any) -> Any:
        put(request)
        request.dbsession.add(Note(text="later"))
        return {}

    app = serve(configurator(engine), early=early)
    for write in ("INSERT INTO sqlsession", "UPDATE sqlsession"):
        with statements(engine) as seen:
            app.get("/early")
        writes = [statement for statement in seen if not statement.startswith("SELECT")]
        assert len(writes) == 2
        assert writes[0].startswith("INSERT INTO note")
        assert writes[1].startswith(write)


# ---- statements


def test_a_visitor_without_a_cookie_costs_no_statement(engine: Engine) -> None:
    app = serve(configurator(engine), show=show)
    with statements(engine) as seen:
        response = app.get("/show")
    assert seen == []
    assert session_cookies(response) == []


@pytest.mark.parametrize("cookie", ["x", "A" * 42, "A" * 44, "A" * 42 + "!", "A" * 5000])
def test_a_cookie_that_is_no_token_costs_no_statement(sqlite: Backend, cookie: str) -> None:
    engine = plain_engine(sqlite.url)
    app = serve(configurator(engine), show=show)
    with statements(engine) as seen:
        assert app.get("/show", headers={"Cookie": f"session={cookie}"}).json == {}
    assert seen == []


def test_reading_a_session_costs_one_select_and_no_write(engine: Engine) -> None:
    def read_often(request: Any) -> Any:
        return [request.session["cart"], request.session.get("x"), len(request.session)]

    app = serve(configurator(engine), put=put, read=read_often)
    app.get("/put")
    with statements(engine) as seen:
        response = app.get("/read")
    (select,) = seen
    assert select.startswith("SELECT")
    assert session_cookies(response) == []


def test_a_request_that_does_not_use_the_session_costs_no_statement(engine: Engine) -> None:
    app = serve(configurator(engine), put=put, idle=lambda request: {})
    app.get("/put")
    with statements(engine) as seen:
        app.get("/idle")
    assert seen == []


def test_changing_a_session_costs_one_select_and_one_update(engine: Engine) -> None:
    app = serve(configurator(engine), put=put)
    app.get("/put")
    with statements(engine) as seen:
        response = app.get("/put")
    assert [statement.split()[0] for statement in seen] == ["SELECT", "UPDATE"]
    assert session_cookies(response) == []


def test_a_new_session_costs_one_insert(engine: Engine) -> None:
    app = serve(configurator(engine), put=put)
    with statements(engine) as seen:
        app.get("/put")
    assert [statement.split()[0] for statement in seen] == ["INSERT"]


def test_writing_what_is_there_already_costs_no_update(engine: Engine) -> None:
    def put_same(request: Any) -> Any:
        request.session["cart"] = [1]
        request.session["x"] = 1
        del request.session["x"]
        request.session.changed()
        return {}

    app = serve(configurator(engine), put=put, same=put_same)
    app.get("/put")
    before = rows(engine)
    with statements(engine) as seen:
        app.get("/same")
    assert [statement.split()[0] for statement in seen] == ["SELECT"]
    assert rows(engine) == before


def test_an_empty_session_is_not_stored(engine: Engine) -> None:
    def come_and_go(request: Any) -> Any:
        request.session["x"] = 1
        del request.session["x"]
        assert request.session.pop_flash() == []
        return {}

    app = serve(configurator(engine), come=come_and_go)
    with statements(engine) as seen:
        assert session_cookies(app.get("/come")) == []
    assert seen == []


# ---- an engine of its own


OWN_TABLE: Any = SQLSessionRow.__table__


@pytest.fixture
def own(backend: Backend, tmp_path: Path) -> Iterator[Engine]:
    """Where the sessions are: on SQLite in a file of their own, which has a lock of its own."""
    url = f"sqlite:///{tmp_path / 'sessions.sqlite'}" if backend.name == "sqlite" else backend.url
    engine = plain_engine(url)
    yield engine
    engine.dispose()


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def with_own_engine(
    engine: Engine, own: Engine, settings: dict[str, Any] | None = None, **options: Any
) -> Configurator:
    """An application with a database session, and sessions on an engine of their own."""
    values = {"sqlsession.sqlalchemy.url": url_of(own), "sqlsession.model": SQLSessionRow}
    return configurator(engine, {**values, **(settings or {})}, **options)


def alone(own: Engine, settings: dict[str, Any] | None = None, retry: bool = False) -> Configurator:
    """An application without a database session."""
    return own_configurator(url_of(own), settings, retry=retry)


@every_manager
def test_an_engine_of_our_own_commits_with_the_request(
    engine: Engine, own: Engine, manager: Any
) -> None:
    app = serve(with_own_engine(engine, own, **manager), order=order, show=show)
    assert len(session_cookies(app.get("/order"))) == 1
    assert session_cookies(app.get("/order")) == []
    assert stored(own, OWN_TABLE) == [{"cart": [1, 1]}]
    assert notes(engine) == ["ordered", "ordered"]
    assert app.get("/show").json == {"cart": [1, 1]}


@every_failure
def test_an_engine_of_our_own_stores_nothing_of_a_request_that_fails(
    engine: Engine, own: Engine, failure: Any
) -> None:
    config = error_page(with_own_engine(engine, own, VETO), Broken)
    app = serve(config, order=order, fail=then(failure), show=show)
    assert session_cookies(app.get("/fail", status="*")) == []
    app.get("/order")
    before = rows(own, OWN_TABLE)
    assert session_cookies(app.get("/fail", status="*")) == []
    assert rows(own, OWN_TABLE) == before
    assert notes(engine) == ["ordered"]
    assert app.get("/show").json == {"cart": [1]}


@every_failure
def test_an_engine_of_our_own_needs_no_other_database(own: Engine, failure: Any) -> None:
    def put_and_fail(request: Any) -> Any:
        put(request)
        return failure(request)

    config = error_page(alone(own, VETO), Broken)
    app = serve(config, put=put, fail=put_and_fail, show=show)
    assert len(session_cookies(app.get("/put"))) == 1
    assert session_cookies(app.get("/fail", status="*")) == []
    assert stored(own, OWN_TABLE) == [{"cart": [1]}]
    assert app.get("/show").json == {"cart": [1]}


def test_an_application_commit_that_fails_takes_the_session_on_our_own_engine_with_it(
    deferred: Engine,
) -> None:
    config = with_own_engine(deferred, deferred)
    app = serve(error_page(config, IntegrityError, status=409), fail=then(insert_orphan))
    assert session_cookies(app.get("/fail", status=409)) == []
    assert rows(deferred, OWN_TABLE) == []
    assert notes(deferred) == []


def constraint_at_commit(engine: Engine) -> Callable[[Any], Any]:
    """Our own COMMIT fails with an error that would be retryable."""

    def prepare(request: Any) -> Any:
        return {}

    fail_commits(engine, "sqlsession", "40001")
    return prepare


def connection_lost(engine: Engine) -> Callable[[Any], Any]:
    """Our own connection is gone after the application's COMMIT."""

    def kill() -> None:
        with psycopg.connect(url_of(engine).replace("+psycopg", "")) as connection:
            killed = connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE application_name = 'sessions' AND state = 'idle in transaction'"
            ).fetchall()
        assert killed == [(True,)]

    def prepare(request: Any) -> Any:
        # after zope.sqlalchemy's, before ours
        request.tm.get().join(Resource(kill, "~sz"))
        return {}

    return prepare


@pytest.mark.parametrize("cause", [constraint_at_commit, connection_lost])
def test_our_own_commit_that_fails_after_the_applications_is_logged_and_the_response_stands(
    postgresql: Backend, cause: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = plain_engine(postgresql.url)
    own = plain_engine(f"{postgresql.url}?application_name=sessions")
    runs = []

    def count(request: Any) -> Any:
        runs.append(1)
        order(request)
        fail(request)
        return {"ordered": True}

    config = with_own_engine(engine, own, retry=True)
    app = serve(config, count=count, show=show)
    fail = cause(engine)
    response = app.get("/count")
    assert response.json == {"ordered": True}
    assert session_cookies(response) == []
    assert runs == [1]
    assert notes(engine) == ["ordered"]
    assert rows(engine, OWN_TABLE) == []
    assert len(warnings(caplog, logging.ERROR)) == 1
    assert app.get("/show").json == {}


def test_our_own_commit_that_fails_alone_is_an_error(postgresql: Backend) -> None:
    own = plain_engine(postgresql.url)
    app = serve(error_page(alone(own), DBAPIError), put=put, show=show)
    assert app.get("/show").json == {}
    OWN_TABLE.create(own, checkfirst=True)
    fail_commits(own, "sqlsession", "23514")
    response = app.get("/put", status=500)
    assert response.json["error"] == "IntegrityError"
    assert session_cookies(response) == []
    assert rows(own, OWN_TABLE) == []


def test_our_own_commit_that_fails_alone_is_run_again_where_that_can_help(
    postgresql: Backend,
) -> None:
    own = plain_engine(postgresql.url)
    app = serve(alone(own, retry=True), put=put)
    OWN_TABLE.create(own)
    fail_commits(own, "sqlsession", "40001", times=2)
    assert len(session_cookies(app.get("/put"))) == 1
    assert stored(own, OWN_TABLE) == [{"cart": [1]}]


@pytest.mark.parametrize("end", ["abort", "commit"])
def test_our_own_engine_joins_the_transaction_that_the_view_has_begun(
    engine: Engine, own: Engine, end: str
) -> None:
    def begin_again(request: Any) -> Any:
        order(request)
        getattr(request.tm, end)()
        request.tm.begin()
        return put(request)

    app = serve(with_own_engine(engine, own), again=begin_again)
    assert len(session_cookies(app.get("/again"))) == 1
    assert stored(own, OWN_TABLE) == [{"cart": [1, 1]}]
    assert notes(engine) == (["ordered"] if end == "commit" else [])


# what begins a transaction on SQLite, and on MySQL
BEGINNINGS = ("BEGIN", "SET", "START")


def test_reading_on_our_own_engine_costs_one_select_in_autocommit(own: Engine) -> None:
    app = serve(alone(own), put=put, show=show)
    app.get("/put")
    any_engine: Any = Engine
    with statements(any_engine) as seen:
        app.get("/show")
    assert [statement.split()[0] for statement in seen] == ["SELECT"]
    with statements(any_engine) as seen:
        app.get("/put")
    writes = [statement.split()[0] for statement in seen]
    assert [word for word in writes if word not in BEGINNINGS] == ["SELECT", "UPDATE"]
    with statements(any_engine) as seen:
        app.reset()
        app.get("/show")
    assert seen == []


@contextmanager
def autocommits() -> Iterator[list[tuple[str, bool]]]:
    """Each statement's first word, and whether its connection is in AUTOCOMMIT."""
    seen: list[tuple[str, bool]] = []

    def record(connection: Connection, cursor: Any, statement: str, *rest: Any) -> None:
        driver: Any = connection.connection.dbapi_connection
        is_autocommit = connection.dialect.detect_autocommit_setting(driver)
        seen.append((statement.split()[0], is_autocommit))

    with listening(Engine, "before_cursor_execute", record):
        yield seen


def test_a_connection_that_wrote_comes_back_to_autocommit(own: Engine) -> None:
    """A read is one round trip: no BEGIN, and no ROLLBACK when the connection goes back."""
    settings = {"sqlsession.sqlalchemy.pool_size": "1", "sqlsession.sqlalchemy.max_overflow": "0"}
    app = serve(alone(own, settings), put=put, show=show)
    app.get("/put")
    with autocommits() as seen:
        app.get("/show")
        app.get("/put")
        app.get("/show")
    reads_and_writes = [pair for pair in seen if pair[0] not in BEGINNINGS]
    assert reads_and_writes == [
        ("SELECT", True),
        ("SELECT", True),
        # MySQL is told to begin, which ends by itself
        ("UPDATE", own.dialect.name == "mysql"),
        ("SELECT", True),
    ]
