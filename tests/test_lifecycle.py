"""When a session can be read and changed, from the first tween to the last byte of the response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import transaction
import webtest
import zope.sqlalchemy
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.config import Configurator
from pyramid.events import NewResponse
from pyramid.httpexceptions import HTTPFound
from pyramid.request import Request
from pyramid.response import Response
from pyramid.scripting import prepare
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import SingletonThreadPool, StaticPool
from support.apps import (
    VETO,
    Broken,
    Clock,
    Note,
    add_views,
    both_managers,
    configurator,
    every_manager,
    notes,
    order,
    plain_engine,
    put,
    rows,
    serve,
    session_cookies,
    show,
    statements,
)
from support.failing import error_page, fail, fail_at_vote, on_error, stored, warnings
from support.servers import Backend

from pyramid_sqlsession import SessionClosed
from pyramid_sqlsession.table.model import SQLSessionRow

TM = "pyramid_tm.tm_tween_factory"
SAVE = "pyramid_sqlsession.save_tween_factory"
EXCVIEW = "pyramid.tweens.excview_tween_factory"
OUTSIDE = {"tm.activate_hook": lambda request: "inside" in request.GET}


def around_tween_factory(handler: Any, registry: Any) -> Any:
    def tween(request: Any) -> Any:
        return registry.around(handler, request)

    return tween


def around(config: Configurator, tween: Callable[[Any, Any], Any], **place: Any) -> Configurator:
    """Add a tween, ``(handler, request) -> response``."""
    config.registry.around = tween
    config.add_tween(f"{__name__}.around_tween_factory", **place)
    return config


# ---- too late


CHANGES: dict[str, Callable[[Any], Any]] = {
    "setitem": lambda session: session.__setitem__("late", 1),
    "delitem": lambda session: session.__delitem__("cart"),
    "pop": lambda session: session.pop("cart"),
    "popitem": lambda session: session.popitem(),
    "clear": lambda session: session.clear(),
    "update": lambda session: session.update(late=1),
    "setdefault": lambda session: session.setdefault("late", 1),
    "ior": lambda session: session.__ior__({"late": 1}),
    "changed": lambda session: session.changed(),
    "invalidate": lambda session: session.invalidate(),
    "flash": lambda session: session.flash("late"),
    "pop_flash": lambda session: session.pop_flash("kept"),
    "new_csrf_token": lambda session: session.new_csrf_token(),
    "get_csrf_token": lambda session: session.get_csrf_token(),
    "max_age": lambda session: setattr(session, "max_age", 60),
}


def try_everything(session: Any) -> dict[str, Any]:
    """What a session says to every change, and what it holds then."""
    answers = {name: answer(change, session) for name, change in CHANGES.items()}
    return {"answers": answers, "data": dict(session)}


def answer(change: Callable[[Any], Any], session: Any) -> str:
    try:
        change(session)
    except SessionClosed as error:
        return "closed" if "make it in the view" in str(error) else str(error)
    return "changed"


ALL_CLOSED = dict.fromkeys(CHANGES, "closed")
KEPT = {"cart": [1], "_f_kept": ["kept"]}


def keep(request: Any) -> Any:
    request.session.flash("kept", "kept")
    request.session["cart"] = [1]
    return {}


def in_response_callback(config: Configurator, late: Callable[[Any], Any]) -> None:
    def view(request: Any) -> Any:
        request.add_response_callback(lambda request, response: late(request))
        return {}

    add_views(config, late=view)


def in_subscriber(config: Configurator, late: Callable[[Any], Any]) -> None:
    config.add_subscriber(lambda event: late(event.request), NewResponse)
    add_views(config, late=lambda request: {})


def in_finished_callback(config: Configurator, late: Callable[[Any], Any]) -> None:
    def view(request: Any) -> Any:
        request.add_finished_callback(late)
        return {}

    add_views(config, late=view)


def in_streaming_body(config: Configurator, late: Callable[[Any], Any]) -> None:
    def view(request: Any) -> Any:
        def body() -> Iterator[bytes]:
            late(request)
            yield b"done"

        return Response(app_iter=body())

    add_views(config, late=view)


def in_tween_below_tm(config: Configurator, late: Callable[[Any], Any]) -> None:
    in_tween(config, late, under=TM, over=SAVE)


def in_tween_above_tm(config: Configurator, late: Callable[[Any], Any]) -> None:
    in_tween(config, late, over=TM)


def in_tween(config: Configurator, late: Callable[[Any], Any], **place: Any) -> None:
    def tween(handler: Any, request: Any) -> Any:
        response = handler(request)
        late(request)
        return response

    around(config, tween, **place)
    add_views(config, late=lambda request: {})


every_late_place = pytest.mark.parametrize(
    "place",
    [
        in_tween_below_tm,
        in_tween_above_tm,
        in_response_callback,
        in_subscriber,
        in_finished_callback,
        in_streaming_body,
    ],
    ids=lambda place: place.__name__,
)


@contextmanager
def late_visit(engine: Engine, place: Any, **options: Any) -> Iterator[Any]:
    """An application that tries everything late; what it was told."""
    told: list[Any] = []

    def late(request: Any) -> None:
        if request.path == "/late":
            told.append(try_everything(request.session))

    config = configurator(engine, **options)
    place(config, late)
    app = serve(config, keep=keep, show=show)
    app.get("/keep")
    yield app, told
    assert app.get("/show").json == KEPT


@every_late_place
@every_manager
def test_after_the_save_every_change_raises_and_reads_work(
    sqlite: Backend, place: Any, manager: Any
) -> None:
    engine = plain_engine(sqlite.url)
    with late_visit(engine, place, **manager) as (app, told):
        before = rows(engine)
        app.get("/late")
        assert told == [{"answers": ALL_CLOSED, "data": KEPT}]
        assert rows(engine) == before


@every_late_place
def test_after_the_save_every_change_raises_and_reads_work_on_every_database(
    engine: Engine, place: Any
) -> None:
    with late_visit(engine, place) as (app, told):
        app.get("/late")
        assert told == [{"answers": ALL_CLOSED, "data": KEPT}]


@every_late_place
def test_after_the_save_every_change_raises_where_pyramid_tm_is_not_active(
    engine: Engine, place: Any
) -> None:
    with late_visit(engine, place, settings=OUTSIDE) as (app, told):
        app.get("/late")
        assert told == [{"answers": ALL_CLOSED, "data": KEPT}]


def test_what_was_loaded_is_read_from_memory_afterwards(engine: Engine) -> None:
    seen: list[Any] = []

    def view(request: Any) -> Any:
        assert request.session["cart"] == [1]
        request.add_response_callback(lambda request, response: seen.append(dict(request.session)))
        request.add_finished_callback(lambda request: seen.append(request.session["cart"]))
        return {}

    app = serve(configurator(engine), put=put, view=view)
    app.get("/put")
    with statements(engine) as executed:
        app.get("/view")
    assert len(executed) == 1
    assert seen == [{"cart": [1]}, [1]]


def test_after_an_aborted_transaction_a_response_callback_changes_the_session_in_memory(
    engine: Engine,
) -> None:
    told: list[Any] = []

    def view(request: Any) -> Any:
        put(request)
        request.add_response_callback(lambda request, response: told.append(error_page(request)))
        request.tm.doom()
        return {}

    app = serve(configurator(engine), view=view)
    assert session_cookies(app.get("/view")) == []
    assert told == [{"cart": [1], "flash": ["sorry"], "token": True}]
    assert rows(engine) == []


# ---- tweens around pyramid_tm


@every_manager
def test_a_tween_above_pyramid_tm_may_read_the_session(engine: Engine, manager: Any) -> None:
    seen: list[Any] = []

    def tween(handler: Any, request: Any) -> Any:
        seen.append(request.session.get("cart"))
        response = handler(request)
        seen.append(request.session.get("cart"))
        return response

    app = serve(around(configurator(engine, **manager), tween, over=TM), order=order, show=show)
    app.get("/order")
    app.get("/order")
    with statements(engine) as executed:
        assert app.get("/show").json == {"cart": [1, 1]}
    assert [statement.split()[0] for statement in executed] == ["SELECT"]
    assert seen == [None, [1], [1], [1, 1], [1, 1], [1, 1]]
    assert notes(engine) == ["ordered", "ordered"]


@every_manager
def test_what_a_tween_above_pyramid_tm_changes_is_stored_with_the_request(
    engine: Engine, manager: Any
) -> None:
    def tween(handler: Any, request: Any) -> Any:
        if request.path != "/show":
            request.session["visits"] = request.session.get("visits", 0) + 1
        return handler(request)

    config = around(configurator(engine, VETO, **manager), tween, over=TM)
    config = on_error(config, lambda request: {}, Broken)
    app = serve(config, order=order, fail=fail_at_vote, idle=lambda request: {}, show=show)
    assert len(session_cookies(app.get("/order"))) == 1
    app.get("/idle")
    app.get("/fail")
    assert app.get("/show").json == {"visits": 2, "cart": [1]}


@every_manager
def test_a_tween_between_pyramid_tm_and_the_save_tween_may_change_the_session_on_the_way_in(
    engine: Engine, manager: Any
) -> None:
    def tween(handler: Any, request: Any) -> Any:
        put(request)
        return handler(request)

    app = serve(around(configurator(engine, **manager), tween, under=TM, over=SAVE), show=show)
    assert app.get("/show").json == {"cart": [1]}
    assert app.get("/show").json == {"cart": [1, 1]}


@every_manager
def test_what_a_tween_under_the_save_tween_changes_on_the_way_out_is_stored(
    engine: Engine, manager: Any
) -> None:
    def tween(handler: Any, request: Any) -> Any:
        response = handler(request)
        put(request)
        return response

    app = serve(around(configurator(engine, **manager), tween, under=SAVE, over=EXCVIEW), show=show)
    assert len(session_cookies(app.get("/show"))) == 1
    assert app.get("/show").json == {"cart": [1]}


def test_pyramid_tm_that_notes_the_user_of_a_session_costs_no_second_statement(
    engine: Engine,
) -> None:
    """tm.annotate_user asks the security policy: in the transaction, but above the save tween."""

    class Policy:
        helper = SessionAuthenticationHelper()

        def identity(self, request: Any) -> Any:
            return self.authenticated_userid(request)

        def authenticated_userid(self, request: Any) -> Any:
            return self.helper.authenticated_userid(request)

    def enter(request: Any) -> Any:
        Policy.helper.remember(request, "editor")
        return {}

    def look(request: Any) -> Any:
        return [request.authenticated_userid, request.tm.get().user]

    config = configurator(engine)
    config.set_security_policy(Policy())
    app = serve(config, enter=enter, look=look)
    with statements(engine) as seen:
        assert app.get("/look").json == [None, ""]
    assert seen == []
    app.get("/enter")
    with statements(engine) as seen:
        assert app.get("/look").json == ["editor", "editor"]
    assert [statement.split()[0] for statement in seen] == ["SELECT"]


def test_a_tween_above_pyramid_tm_that_renders_errors_may_read_the_session(
    engine: Engine,
) -> None:
    def tween(handler: Any, request: Any) -> Any:
        try:
            return handler(request)
        except Broken:
            return Response(json=error_page(request))

    app = serve(around(configurator(engine), tween, over=TM), put=put, fail=fail, show=show)
    app.get("/put")
    response = app.get("/fail")
    assert response.json == {"cart": [1, 1], "flash": ["sorry"], "token": True}
    assert session_cookies(response) == []
    assert app.get("/show").json == {"cart": [1]}


@pytest.mark.parametrize("last", ["flash", "max_age"])
def test_a_request_whose_view_runs_again_after_a_failed_commit_stores_what_it_has_at_last(
    engine: Engine, last: str
) -> None:
    seen: list[int] = []

    def twice(request: Any) -> Any:
        seen.append(1)
        request.session["runs"] = len(seen)
        if len(seen) == 1:
            return fail_at_vote(request)
        if last == "flash":
            request.session.flash("at last")
        else:
            request.session.max_age = 600
        return {}

    def tween(handler: Any, request: Any) -> Any:
        try:
            return handler(request)
        except Broken:
            return handler(request)

    app = serve(around(configurator(engine), tween, over=TM), put=put, twice=twice, show=show)
    app.get("/put")
    app.get("/twice")
    assert app.get("/show").json["runs"] == 2


# ---- no transaction


@every_manager
def test_where_pyramid_tm_is_not_active_the_session_is_stored_by_itself(
    engine: Engine, manager: Any
) -> None:
    def invalidate(request: Any) -> Any:
        request.session.invalidate()
        return {}

    config = configurator(engine, OUTSIDE, **manager)
    app = serve(config, put=put, show=show, invalidate=invalidate)
    assert len(session_cookies(app.get("/put"))) == 1
    assert session_cookies(app.get("/put")) == []
    with statements(engine) as executed:
        assert app.get("/show").json == {"cart": [1, 1]}
    assert [statement.split()[0] for statement in executed] == ["SELECT"]
    app.get("/put?inside")
    assert app.get("/show").json == {"cart": [1, 1, 1]}
    assert "Max-Age=0" in session_cookies(app.get("/invalidate"))[0]
    assert rows(engine) == []


def test_where_pyramid_tm_is_not_active_a_raised_redirect_stores_the_session(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def redirect(request: Any) -> Any:
        request.session.flash("saved")
        raise HTTPFound("/show")

    app = serve(configurator(engine, OUTSIDE), redirect=redirect, show=show)
    assert app.get("/redirect", status=302).follow().json == {"_f_": ["saved"]}
    assert warnings(caplog) == []


def test_where_pyramid_tm_is_not_active_an_error_stores_nothing(engine: Engine) -> None:
    def view(request: Any) -> Any:
        put(request)
        raise Broken("not stored")

    app = serve(configurator(engine, OUTSIDE), put=put, view=view, show=show)
    app.get("/put")
    with pytest.raises(Broken):
        app.get("/view")
    assert app.get("/show").json == {"cart": [1]}


def test_where_pyramid_tm_is_not_active_a_value_that_cannot_be_stored_is_an_error_page(
    engine: Engine,
) -> None:
    def view(request: Any) -> Any:
        request.session["cart"] = object()
        return {}

    config = on_error(configurator(engine, OUTSIDE), lambda request: str(request.exception))
    app = serve(config, put=put, view=view, show=show)
    app.get("/put")
    response = app.get("/view")
    assert "session['cart']" in response.json
    assert session_cookies(response) == []
    assert app.get("/show").json == {"cart": [1]}


def script_request(app: Any, path: str = "/") -> Any:
    return Request.blank(path, headers={"Cookie": f"session={app.cookies['session']}"})


@both_managers
def test_a_script_reads_the_session(engine: Engine, explicit: bool) -> None:
    config = configurator(engine, explicit=explicit)
    app = serve(config, put=put)
    app.get("/put")
    with prepare(request=script_request(app), registry=config.registry) as env:
        assert dict(env["request"].session) == {"cart": [1]}
        with env["request"].tm:
            env["request"].dbsession.add(Note(text="from a script"))
    assert notes(engine) == ["from a script"]


@both_managers
def test_a_change_in_a_script_lives_in_memory_and_warns(
    engine: Engine, explicit: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = configurator(engine, explicit=explicit)
    app = serve(config, put=put, show=show)
    app.get("/put")
    with prepare(request=script_request(app), registry=config.registry) as env:
        session = env["request"].session
        session["cart"].append(2)
        session.flash("hello")
        assert dict(session) == {"cart": [1, 2], "_f_": ["hello"]}
        assert warnings(caplog) == []
    (warning,) = warnings(caplog)
    assert "pshell" in warning
    assert app.get("/show").json == {"cart": [1]}


def test_a_script_that_only_reads_warns_of_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    config = configurator(engine)
    app = serve(config, put=put)
    app.get("/put")
    with prepare(request=script_request(app), registry=config.registry) as env:
        assert env["request"].session["cart"] == [1]
    assert warnings(caplog) == []


# ---- one connection only


def with_begin(engine: Engine) -> Engine:
    """SQLAlchemy's recipe for transactions on SQLite that are real."""

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, record: Any) -> None:
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def static_pool() -> Engine:
    options = {"check_same_thread": False}
    return plain_engine("sqlite://", poolclass=StaticPool, connect_args=options)


def thread_pool() -> Engine:
    return plain_engine("sqlite://", poolclass=SingletonThreadPool)


every_single_connection = pytest.mark.parametrize(
    "make",
    [
        static_pool,
        thread_pool,
        pytest.param(lambda: with_begin(static_pool()), id="static_pool_with_begin"),
        pytest.param(lambda: with_begin(thread_pool()), id="thread_pool_with_begin"),
    ],
)


@every_single_connection
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_reading_outside_the_transaction_leaves_the_work_on_the_only_connection_as_it_is(
    make: Any, end: str
) -> None:
    engine = make()
    app = serve(configurator(engine, OUTSIDE), put=put, show=show)
    app.get("/put?inside")
    with Session(engine) as work:
        work.add(Note(text="open"))
        work.flush()
        for _ in range(2):
            assert app.get("/show").json == {"cart": [1]}
        getattr(work, end)()
    with Session(engine) as after:
        assert after.query(Note).count() == (end == "commit")


@every_single_connection
def test_recording_a_visit_does_not_commit_the_work_on_the_only_connection(make: Any) -> None:
    engine, clock = make(), Clock()
    app = serve(configurator(engine, OUTSIDE, clock=clock), put=put, show=show)
    app.get("/put?inside")
    clock.advance(3600)
    with Session(engine) as work:
        work.add(Note(text="open"))
        work.flush()
        assert app.get("/show").json == {"cart": [1]}
        work.rollback()
    with Session(engine) as after:
        assert after.query(Note).count() == 0


@every_single_connection
def test_a_save_that_fails_outside_the_transaction_leaves_no_half_on_the_only_connection(
    make: Any,
) -> None:
    def start_again(request: Any) -> Any:
        request.session.invalidate()
        return put(request)

    engine = make()
    config = on_error(configurator(engine, OUTSIDE), lambda request: "sorry", IntegrityError)
    app = serve(config, put=put, again=start_again)
    app.get("/put?inside")
    with engine.begin() as connection:
        refuse = "BEFORE INSERT ON sqlsession BEGIN SELECT RAISE(ABORT, 'no'); END"
        connection.execute(text(f"CREATE TRIGGER refuse {refuse}"))
    assert app.get("/again").json == "sorry"
    with Session(engine) as later:
        later.add(Note(text="later"))
        later.commit()
    assert stored(engine) == [{"cart": [1]}]


@every_single_connection
@every_manager
def test_sessions_work_where_there_is_one_connection_only(make: Any, manager: Any) -> None:
    def tween(handler: Any, request: Any) -> Any:
        seen.append(request.session.get("cart"))
        return handler(request)

    seen: list[Any] = []
    engine = make()
    config = around(configurator(engine, OUTSIDE, **manager), tween, over=TM)
    config = on_error(config, lambda request: {}, Broken)
    app = serve(config, order=order, put=put, fail=fail, show=show)
    app.get("/order?inside")
    app.get("/fail?inside")
    app.get("/put")
    app.get("/order?inside")
    assert app.get("/show").json == {"cart": [1, 1, 1]}
    assert seen == [None, [1], [1], [1, 1], [1, 1, 1]]
    with Session(engine) as after:
        assert after.query(Note).count() == 2


def bound_to(connection: Connection) -> Session:
    """A session inside a transaction of the tests' own, which is never committed."""
    session = Session(connection, join_transaction_mode="create_savepoint")
    zope.sqlalchemy.register(session)
    return session


def test_a_session_bound_to_a_connection_stays_in_its_transaction(postgresql: Backend) -> None:
    engine = plain_engine(postgresql.url)
    config = configurator(engine, OUTSIDE, explicit=False)
    app = serve(config, order=order, put=put, show=show)
    with engine.connect() as connection:
        outer = connection.begin()
        app.extra_environ["app.dbsession"] = bound_to(connection)
        app.get("/order?inside")
        app.get("/order?inside")
        app.get("/put")
        assert app.get("/show").json == {"cart": [1, 1, 1]}
        assert connection.scalar(text("SELECT count(*) FROM note")) == 2
        assert outer.is_active
        assert rows(engine) == []
        outer.rollback()
        assert app.get("/show").json == {}
    assert notes(engine) == []


@both_managers
def test_a_session_bound_to_an_idle_connection_commits(engine: Engine, explicit: bool) -> None:
    config = configurator(engine, OUTSIDE, explicit=explicit)
    with engine.connect() as connection:

        def dbsession(request: Any) -> Session:
            session = Session(connection)
            zope.sqlalchemy.register(session, transaction_manager=request.tm)
            return session

        config.add_request_method(dbsession, "bound", reify=True)
        config.add_settings({"sqlsession.dbsession": "bound"})
        app = serve(config, put=put, show=show)
        app.get("/put")
        app.get("/put?inside")
        assert app.get("/show").json == {"cart": [1, 1]}
        assert app.get("/show?inside").json == {"cart": [1, 1]}
        assert not connection.in_transaction()
        assert stored(engine) == [{"cart": [1, 1]}]


def test_a_scoped_session_is_unwrapped(engine: Engine) -> None:
    registry = scoped_session(sessionmaker(engine))
    zope.sqlalchemy.register(registry)
    config = configurator(engine, OUTSIDE, explicit=False)
    config = on_error(config, lambda request: {}, Broken)
    app = serve(config, order=order, fail=fail, put=put, show=show)
    app.extra_environ["app.dbsession"] = registry
    app.get("/order?inside")
    app.get("/fail?inside")
    app.get("/put")
    assert app.get("/show?inside").json == {"cart": [1, 1]}
    assert notes(engine) == ["ordered"]
    registry.remove()


# ---- the cookiecutter's test fixtures


@pytest.fixture
def tm() -> Iterator[Any]:
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    manager.doom()
    yield manager
    manager.abort()


def login(request: Any) -> Any:
    SessionAuthenticationHelper().remember(request, "editor")
    request.session.flash("welcome")
    request.dbsession.add(Note(text="logged in"))
    return HTTPFound("/page")


def logout(request: Any) -> Any:
    request.session.invalidate()
    return {}


def page(request: Any) -> Any:
    return {
        "userid": SessionAuthenticationHelper().authenticated_userid(request),
        "flash": request.session.pop_flash(),
        "notes": request.dbsession.query(Note).count(),
    }


def fixture_app(config: Configurator, engine: Engine, tm: Any) -> Any:
    dbsession = sessionmaker(engine)()
    zope.sqlalchemy.register(dbsession, transaction_manager=tm)
    app = add_views(config, login=login, logout=logout, page=page).make_wsgi_app()
    environ = {
        "HTTP_HOST": "example.com",
        "tm.active": True,
        "tm.manager": tm,
        "app.dbsession": dbsession,
    }
    return webtest.TestApp(app, extra_environ=environ)


own_or_shared = pytest.mark.parametrize("own", [False, True], ids=["dbsession", "own engine"])


@own_or_shared
@pytest.mark.parametrize("retry", [False, True], ids=["", "retry"])
def test_the_cookiecutters_fixtures_see_one_session_over_many_requests(
    backend: Backend, engine: Engine, tm: Any, own: bool, retry: bool, tmp_path: Any
) -> None:
    settings: dict[str, Any] = {}
    sessions = engine
    if own:
        if backend.name == "sqlite":
            sessions = plain_engine(f"sqlite:///{tmp_path / 'sessions.sqlite'}")
        url = sessions.url.render_as_string(hide_password=False)
        settings = {"sqlsession.sqlalchemy.url": url, "sqlsession.model": SQLSessionRow}
    app = fixture_app(configurator(engine, settings, retry=retry), engine, tm)
    assert app.get("/page").json == {"userid": None, "flash": [], "notes": 0}
    first = app.get("/login", status=302).follow()
    assert first.json == {"userid": "editor", "flash": ["welcome"], "notes": 1}
    assert app.get("/page").json == {"userid": "editor", "flash": [], "notes": 1}
    assert "Max-Age=0" in session_cookies(app.get("/logout"))[0]
    assert app.get("/page").json == {"userid": None, "flash": [], "notes": 1}
    assert app.get("/login", status=302).follow().json["userid"] == "editor"
    tm.abort()
    tm.begin()
    tm.doom()
    assert notes(engine) == []
    assert app.get("/page").json == {"userid": None, "flash": [], "notes": 0}


def test_the_cookiecutters_fixtures_commit_nothing(engine: Engine, tm: Any) -> None:
    app = fixture_app(configurator(engine), engine, tm)
    app.get("/login", status=302)
    if engine.dialect.name != "sqlite":
        # an open write transaction of SQLite's would keep us waiting
        assert rows(engine) == []
    tm.abort()
    assert rows(engine) == []
    tm.begin()


def test_the_cookiecutters_real_request_reads_and_changes_a_session(
    engine: Engine, tm: Any
) -> None:
    config = configurator(engine)
    config.make_wsgi_app()
    dbsession = sessionmaker(engine)()
    zope.sqlalchemy.register(dbsession, transaction_manager=tm)
    with prepare(registry=config.registry) as env:
        request = env["request"]
        request.host = "example.com"
        request.dbsession = dbsession
        request.tm = tm
        login(request)
        assert page(request) == {"userid": "editor", "flash": ["welcome"], "notes": 1}
    assert rows(engine) == []
