"""The debug toolbar's panel: what it says of each kind of request, and what it never says."""

from __future__ import annotations

import importlib
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import transaction
from jinja2 import Template
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.httpexceptions import HTTPFound
from pyramid.interfaces import ISessionFactory
from pyramid.request import Request
from pyramid.response import Response
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import Engine, Text, create_engine, delete, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from support.apps import (
    TABLE,
    VETO,
    Clock,
    Note,
    Resource,
    SessionRow,
    no_transaction,
    notes,
    own_configurator,
    put,
    refuse,
    rows,
    serve,
    session_cookies,
    show,
)
from support.panels import (
    PANEL,
    TOOLBAR,
    Shown,
    browse,
    history_of,
    race,
    racing,
    shown,
    visit,
    with_panel,
)
from support.races import add, both
from support.races import put as put_key
from webtest import TestApp

from pyramid_sqlsession import SessionDataError, SessionMixin

pytestmark = pytest.mark.usefixtures("with_toolbar")

both_ways = pytest.mark.parametrize("way", ["dbsession", "own engine"])


def token_of(app: TestApp) -> str:
    return str(app.cookies["session"])


def sign_in(request: Any) -> Any:
    request.session["auth.userid"] = "alice"
    return {}


def sign_out(request: Any) -> Any:
    request.session.invalidate()
    return {}


def idle(request: Any) -> Any:
    return {}


# ---- what a request did


@both_ways
def test_the_panel_says_what_was_written_by_which_statements(engine: Engine, way: str) -> None:
    views = {"put": put, "show": show, "sign_in": sign_in, "sign_out": sign_out}
    app = browse(with_panel(engine, way=way), **views)
    first = visit(app, "/put")
    assert first.glance.startswith("INSERT v1, 1 statement, ")
    assert first.glance.endswith(" ms")
    assert "progress-bar-success" in first.style
    assert first.row == {}
    ((purpose, count, sql, parameters),) = first.statements
    assert (purpose, count) == ("insert", "1")
    assert sql.startswith("INSERT INTO sqlsession")
    (row,) = rows(engine)
    handle = row["lineage"].hex()
    assert f"id = {row['id'].hex()[:12]}…" in parameters
    assert f"lineage = {handle[:12]}…" in parameters
    assert f"data = {len(row['data'])} bytes" in parameters
    assert first.events == {"SessionCreated": f"session {handle} created, anonymous"}

    second = visit(app, "/put")
    assert second.glance.startswith("UPDATE v2, 2 statements, ")
    assert "from version 1 to 2" in second.verdict
    assert second.row["Handle"] == handle
    assert second.row["Version"] == "1"
    assert [statement[:2] for statement in second.statements] == [["read", ""], ["update", "1"]]

    third = visit(app, "/show")
    assert third.glance.startswith("read v2, 1 statement, ")
    assert third.purposes == ["read"]

    fourth = visit(app, "/sign_in")
    assert fourth.glance.startswith("REGENERATE v1, ")
    assert [it for it in fourth.purposes if it != "read"] == ["mark", "insert"]
    assert list(fourth.events) == ["SessionRegenerated"]

    fifth = visit(app, "/sign_out")
    assert fifth.row["User"] == "'alice'"
    assert fifth.glance.startswith("DELETE, ")
    assert [it for it in fifth.purposes if it != "read"] == ["delete"]
    assert fifth.summary["Cookie sent"].startswith("session=; Max-Age=0; Path=/")
    for page in (first, second, third, fourth, fifth):
        assert page.summary["Transaction"] == "committed"
        assert page.warnings == []


@both_ways
def test_the_panel_shows_a_visit_that_was_recorded(engine: Engine, way: str) -> None:
    app = browse(with_panel(engine, way=way), put=put, show=show)
    clock = Clock()
    app.app.registry.getUtility(ISessionFactory).clock = clock
    app.get("/put")
    clock.advance(400)
    page = visit(app, "/show")
    assert page.glance.startswith("TOUCH, ")
    assert page.row["Last seen"].endswith("UTC (6 min 40 s ago)")
    assert "touch" in page.purposes


def test_the_panel_shows_the_timeouts_of_the_row(sqlite_engine: Engine) -> None:
    def remember(request: Any) -> Any:
        request.session["n"] = 1
        request.session.max_age = 30 * 86400
        return {}

    clock = Clock()
    app = browse(
        with_panel(sqlite_engine, clock=clock, ttl=3600, absolute_ttl="2d"),
        put=put,
        remember=remember,
    )
    app.get("/put")
    clock.advance(90)
    row = visit(app, "/remember").row
    assert row["Created"] == "2027-01-15 08:00:00 UTC (1 min 30 s ago)"
    assert row["User"] == "nobody"
    assert row["Idle timeout"] == "1 h: 2027-01-15 09:00:00 UTC (in 58 min 30 s)"
    assert row["Absolute timeout"] == "2 d: 2027-01-17 08:00:00 UTC (in 1 d 23 h)"
    assert row["May be deleted"].startswith("after 2027-01-15 ")
    row = visit(app, "/put").row
    assert row["Idle timeout"].startswith("30 d (its own): 2027-02-14 08:01:30 UTC (in 30 d)")
    assert row["Last seen"].endswith("(now)")


def test_the_panel_says_that_a_session_was_not_used(sqlite_engine: Engine) -> None:
    app = browse(with_panel(sqlite_engine), put=put, idle=idle, show=show)
    page = visit(app, "/idle")
    assert (page.glance, page.summary["Cookie received"]) == ("not used", "none")
    assert (page.keys, page.statements, page.events) == ({}, [], {})
    assert visit(app, "/show").glance == "empty"
    app.get("/put")
    page = visit(app, "/idle")
    assert page.glance == "not used"
    assert page.summary["Cookie received"] == "a token, with which no session was opened"


# ---- what the cookie was taken for


def test_the_panel_says_what_the_cookie_was_taken_for(sqlite_engine: Engine) -> None:
    clock = Clock()
    config = with_panel(sqlite_engine, clock=clock, regenerate_grace=30)
    app = browse(config, put=put, show=show, sign_in=sign_in)

    def received(token: str | None) -> str:
        app.reset()
        if token is not None:
            app.set_cookie("session", token)
        return visit(app, "/show").summary["Cookie received"]

    assert received(None) == "none"
    assert received("short") == "not a valid token: not looked up"
    assert received("a" * 43) == "unknown: no session has this token"
    app.reset()
    app.get("/put")
    old = token_of(app)
    assert received(old) == "the token of a live session"
    app.get("/sign_in")
    new = token_of(app)
    assert received(old).startswith("the old token of a regenerated session")
    with sqlite_engine.begin() as connection:
        broken = {"data": b"{"}
        connection.execute(update(SessionRow).where(SessionRow.version == 1).values(broken))
    assert received(new) == "the token of a row that cannot be read; a warning below says why"
    assert "is treated as empty" in shown(app).warnings[0]
    app.reset()
    app.get("/put")
    clock.advance(15 * 86400)
    assert received(token_of(app)) == "the token of a session that has expired"
    assert list(shown(app).events) == ["SessionEnded"]


def opening_tween_factory(handler: Any, registry: Any) -> Any:
    def opening_tween(request: Any) -> Any:
        len(request.session)
        return handler(request)

    return opening_tween


def test_the_panel_works_where_the_session_was_opened_above_the_toolbar(
    sqlite_engine: Engine,
) -> None:
    config = with_panel(sqlite_engine)
    config.add_tween(f"{__name__}.opening_tween_factory", over=TOOLBAR)
    app = browse(config, put=put)
    page = visit(app, "/put")
    assert page.glance.startswith("INSERT v1, 1 statement, ")
    app.reset()
    app.set_cookie("session", "b" * 43)
    page = visit(app, "/put")
    assert page.summary["Cookie received"] == "a token that opens no session"
    assert page.keys == {"'cart'": ["set", "", "[1]"]}


# ---- the keys


def use(name: str, do: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def used(request: Any) -> Any:
        do(request.session)
        return {}

    used.__name__ = name
    return used


WHOLE: dict[str, Callable[[Any], Any]] = {
    "iter": list,
    "len": len,
    "reversed": lambda session: list(reversed(session)),
    "copy": lambda session: session.copy(),
    "or": lambda session: session | {},
}


def test_the_panel_shows_the_keys_that_were_read_and_changed(sqlite_engine: Engine) -> None:
    def start(session: Any) -> None:
        session.update(read=1, nested=[1], gone=2, same="s", other=3)
        session.flash("hello")

    def change(session: Any) -> None:
        session["read"], session.get("absent"), "same" in session
        session["nested"].append(2)
        del session["gone"]
        session["new"] = "n"
        session.pop_flash()

    app = browse(with_panel(sqlite_engine), start=use("start", start), change=use("change", change))
    app.get("/start")
    page = visit(app, "/change")
    assert page.keys == {
        "'_f_'": ["read deleted", "['hello']", ""],
        "'absent'": ["read", "", ""],
        "'gone'": ["deleted", "2", ""],
        "'nested'": ["read changed", "[1]", "[1, 2]"],
        "'new'": ["set", "", "'n'"],
        "'other'": ["", "3", "3"],
        "'read'": ["read", "1", "1"],
        "'same'": ["read", "'s'", "'s'"],
    }
    assert "The application has read or counted all keys" not in page.text
    (row,) = rows(sqlite_engine)
    assert f"Serialized: 69 → {len(row['data'])} of at most 1048576 bytes." in page.text


@pytest.mark.parametrize("name", WHOLE)
def test_the_panel_says_that_the_whole_session_was_read(sqlite_engine: Engine, name: str) -> None:
    app = browse(with_panel(sqlite_engine), put=put, read=use(name, WHOLE[name]))
    app.get("/put")
    page = visit(app, "/read")
    assert "The application has read or counted all keys." in page.text
    assert page.keys == {"'cart'": ["", "[1]", "[1]"]}


@pytest.mark.parametrize("active", [False, True], ids=["inactive", "active"])
def test_what_the_toolbars_own_panels_read_does_not_count(
    sqlite_engine: Engine, active: bool
) -> None:
    app = browse(
        with_panel(sqlite_engine, {"debugtoolbar.panels": ""}), put=put, peek=use("peek", bool)
    )
    app.get("/put")
    if active:
        app.set_cookie("pdtb_active", "session,performance")
    page = visit(app, "/put")
    assert page.glance.startswith("UPDATE v2")
    assert page.keys == {"'cart'": ["read changed", "[1]", "[1, 1]"]}
    assert "The application has read or counted all keys" not in page.text
    assert "The application has read or counted all keys" in visit(app, "/peek").text


# ---- nothing was stored, and why


class Refused(Exception):
    """What the views here raise."""


def fail(request: Any) -> Any:
    put(request)
    raise Refused("not today")


def redirect(request: Any) -> Any:
    put(request)
    raise HTTPFound("/put")


def render_error(error: Any, request: Any) -> Any:
    request.response.status_int = 500
    return {"error": str(error)}


def test_the_panel_says_why_a_request_that_failed_stored_nothing(sqlite_engine: Engine) -> None:
    config = with_panel(sqlite_engine)
    app = browse(config, put=put, fail=fail)
    page = visit(app, "/fail", status=500)
    assert page.glance == "NOT STORED"
    assert "progress-bar-danger" in page.style
    assert "The request failed with Refused: not today" in page.verdict
    assert page.summary["Transaction"] == "rolled back"
    assert page.summary["Cookie sent"] == "none"
    # the toolbar's own page is an exception view
    assert page.keys == {"'cart'": ["read lost", "", "", "[1]"]}


def test_the_panel_tells_what_an_exception_view_did_from_what_went_with_the_transaction(
    sqlite_engine: Engine,
) -> None:
    def render_form(error: Any, request: Any) -> Any:
        request.session["page"] = 1
        return render_error(error, request)

    config = with_panel(sqlite_engine)
    config.add_exception_view(render_form, context=Refused, renderer="json")
    app = browse(config, put=put, fail=fail)
    app.get("/put")
    page = visit(app, "/fail", status=500)
    assert page.glance.startswith("UPDATE v2, 2 statements")
    assert "progress-bar-warning" in page.style
    assert "The exception view's changes are kept." in page.verdict
    assert (
        "The view's changes to the session were rolled back with its transaction." in page.verdict
    )
    assert "The request failed with Refused: not today" in page.verdict
    assert page.summary["Transaction"] == "rolled back"
    assert page.keys == {
        "'cart'": ["read lost", "[1]", "[1]", "[1, 1]"],
        "'page'": ["set", "", "1", ""],
    }


@pytest.mark.parametrize("status", [200, 500])
def test_the_panel_says_of_the_last_save_what_it_has_written(
    sqlite_engine: Engine, status: int
) -> None:
    """The first one was a sign-in, of the view, in the transaction that the veto has aborted."""

    def sign_in_and_fail(request: Any) -> Any:
        request.session["auth.userid"] = "mia"
        raise Refused

    def render_form(error: Any, request: Any) -> Any:
        request.session["page"] = 1
        request.response.status_int = status
        return {}

    config = with_panel(sqlite_engine, VETO)
    config.add_exception_view(render_form, context=Refused, renderer="json")
    app = browse(config, put=put, fail=sign_in_and_fail)
    app.get("/put")
    page = visit(app, "/fail", status=status)
    if status == 200:
        assert page.glance.startswith("REGENERATE v1")
        assert "progress-bar-success" in page.style
        assert page.keys["'auth.userid'"] == ["set", "", "'mia'"]
    else:
        assert page.glance.startswith("UPDATE v2")
        assert "progress-bar-warning" in page.style
        assert page.keys["'auth.userid'"] == ["lost", "", "", "'mia'"]


def test_the_panel_says_why_nothing_was_stored_below_an_exception_view(
    sqlite_engine: Engine,
) -> None:
    config = with_panel(sqlite_engine, {"debugtoolbar.intercept_exc": "false"})
    config.add_exception_view(render_error, context=Refused, renderer="json")
    app = browse(config, fail=fail)
    page = visit(app, "/fail", status=500)
    assert page.glance == "NOT STORED"
    assert "The request failed with Refused: not today" in page.verdict


def test_the_panel_shows_a_request_whose_error_left_the_application(sqlite_engine: Engine) -> None:
    app = browse(with_panel(sqlite_engine, {"debugtoolbar.intercept_exc": "false"}), fail=fail)
    with pytest.raises(Refused):
        app.get("/fail")
    assert shown(app).glance == "NOT STORED"
    assert "The request failed with Refused: not today" in shown(app).verdict


def test_the_panel_names_the_veto_that_a_raised_redirect_needs(sqlite_engine: Engine) -> None:
    page = visit(browse(with_panel(sqlite_engine), go=redirect), "/go", status=302)
    assert page.glance == "NOT STORED"
    assert "tm.commit_veto = pyramid_tm.default_commit_veto" in page.warnings[0]
    page = visit(browse(with_panel(sqlite_engine, VETO), go=redirect), "/go", status=302)
    assert page.glance.startswith("INSERT v1")


def test_the_panel_says_that_what_was_written_was_rolled_back(sqlite_engine: Engine) -> None:
    def doom(request: Any) -> Any:
        request.tm.doom()
        return put(request)

    def veto(request: Any) -> Any:
        request.tm.get().join(Resource(refuse))
        return put(request)

    app = browse(with_panel(sqlite_engine), doom=doom, veto=veto)
    page = visit(app, "/doom")
    assert page.glance.startswith("INSERT v1 rolled back, 1 statement")
    assert page.summary["Transaction"] == "doomed, and rolled back"
    page = visit(app, "/veto", status=500)
    assert page.glance.startswith("INSERT v1 rolled back, 1 statement")
    assert page.summary["Transaction"] == "its commit failed"
    assert page.summary["Cookie sent"] == "none"


def test_the_panel_says_that_the_view_has_ended_the_transaction(sqlite_engine: Engine) -> None:
    def end(request: Any) -> Any:
        put(request)
        request.tm.abort()
        return {}

    page = visit(browse(with_panel(sqlite_engine), end=end), "/end", status=500)
    assert page.glance == "NOT STORED"
    assert "the view ended the request's transaction" in page.warnings[0]
    assert page.summary["Transaction"] == "rolled back"


def test_the_panel_knows_a_request_without_a_transaction(sqlite_engine: Engine) -> None:
    config = with_panel(sqlite_engine, {"tm.activate_hook": no_transaction})
    page = visit(browse(config, put=put), "/put")
    assert page.glance.startswith("INSERT v1")
    assert page.summary["Transaction"] == "none: each write is committed on its own"
    assert len(rows(sqlite_engine)) == 1


def test_the_panel_knows_a_transaction_that_the_caller_will_end(sqlite_engine: Engine) -> None:
    app = browse(with_panel(sqlite_engine), put=put)
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    page = visit(app, "/put", extra_environ={"tm.active": True, "tm.manager": manager})
    assert page.glance.startswith("INSERT v1, 1 statement")
    assert "progress-bar-info" in page.style
    assert page.summary["Transaction"].startswith("still open")
    manager.abort()


def test_the_panel_says_that_a_session_cannot_be_stored(sqlite_engine: Engine) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no words")

    app = browse(
        with_panel(sqlite_engine, {"debugtoolbar.intercept_exc": "false"}),
        put=put,
        odd=use("odd", lambda it: it.update(odd=Odd(), cart=Odd())),
    )
    app.get("/put")
    with pytest.raises(SessionDataError):
        app.get("/odd")
    page = shown(app)
    assert page.glance.startswith("NOT STORED, 1 statement")
    assert "SessionDataError: " in page.verdict
    assert "Odd, which JSON cannot hold" in page.verdict
    assert page.keys["'odd'"] == ["set", "", "<Odd: repr() raised ValueError>"]
    assert page.keys["'cart'"] == ["changed", "[1]", "<Odd: repr() raised ValueError>"]
    assert "Serialized: 12 → ? of at most" in page.text


class Silent(Exception):
    """An error with no words."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Array:
    """As those of scientific libraries: it is neither equal to another value nor unequal."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]  # what a class with __eq__ has


def raise_silent(*_: Any) -> Any:
    raise Silent


def half_a_pair(request: Any) -> Any:
    raise Refused("\ud800")


def store_array(request: Any) -> Any:
    request.session["cart"] = Array()
    return {}


def redirect_with_array(request: Any) -> Any:
    store_array(request)
    raise HTTPFound("/")


@pytest.mark.parametrize(
    ("view", "status", "said"),
    [
        (raise_silent, 500, "Silent, whose str() raised ValueError"),
        (half_a_pair, 500, "Refused: \\ud800"),
        (store_array, 500, "Array, which JSON cannot hold"),
        (
            redirect_with_array,
            302,
            "The view's changes to the session were rolled back with its transaction.",
        ),
    ],
    ids=["silent", "half a pair", "array", "array below an error page"],
)
def test_an_odd_value_or_error_breaks_neither_the_request_nor_the_page(
    sqlite_engine: Engine, view: Any, status: int, said: str
) -> None:
    config = with_panel(sqlite_engine, VETO)
    config.add_exception_view(lambda request: Response(status=500), context=Exception)
    app = browse(config, put=put, view=view)
    app.get("/put")
    assert said in visit(app, "/view", status=status).verdict


def test_a_warning_about_an_odd_error_breaks_nothing(sqlite_engine: Engine) -> None:
    config = with_panel(sqlite_engine, VETO, clock=Clock(), extra_columns=raise_silent)
    app = browse(config, redirect=redirect)
    page = visit(app, "/redirect", status=302)
    assert page.warnings[0].endswith(
        "the error page is still sent: Silent, whose str() raised ValueError"
    )


def test_a_template_may_use_the_session(sqlite_engine: Engine) -> None:
    template = Template(
        "{% if 'cart' in it %}{{ it|length }}{% for key in it %}{{ key }}{% endfor %}{% endif %}"
    )

    def render(request: Any) -> Any:
        return template.render(it=request.session)

    app = browse(with_panel(sqlite_engine), put=put, render=render)
    app.get("/put")
    assert app.get("/render").json == "1cart"
    page = shown(app)
    assert page.keys["'cart'"][0] == "read"
    assert "The application has read or counted all keys" in page.text


def test_the_panel_shows_the_error_of_a_save_below_an_error_page(sqlite_engine: Engine) -> None:
    def odd(request: Any) -> Any:
        request.session["odd"] = object()
        raise HTTPFound("/")

    page = visit(browse(with_panel(sqlite_engine, VETO), odd=odd), "/odd", status=302)
    assert page.glance == "NOT STORED"
    assert page.warnings[0].startswith("the session is not stored; the error page is still sent: ")
    assert "session['odd']" in page.warnings[0]


def test_the_panel_says_that_a_session_ended_before_it_was_stored(sqlite_engine: Engine) -> None:
    def late(request: Any) -> Any:
        len(request.session)
        with sqlite_engine.begin() as connection:
            connection.execute(delete(TABLE))
        return sign_out(request)

    app = browse(with_panel(sqlite_engine), put=put, out=sign_out, late=late)
    assert visit(app, "/out").glance == "empty"
    app.get("/put")
    assert visit(app, "/late").glance.startswith("nothing to write, ")


def test_the_panel_shows_a_session_that_could_not_be_read(sqlite_engine: Engine) -> None:
    app = browse(with_panel(sqlite_engine, create=False), show=show)
    app.set_cookie("session", "a" * 43)
    page = visit(app, "/show", status=500)
    assert page.glance.startswith("ERROR, 1 statement")
    assert "SessionTableError: the session table 'sqlsession' is missing" in page.verdict
    ((purpose, count, sql, _),) = page.statements
    assert (purpose, count) == ("read", "")
    assert sql.endswith("no such table: sqlsession")


def test_the_panel_shows_that_there_was_no_database(tmp_path: Any) -> None:
    config = own_configurator(f"sqlite:///{tmp_path / 'missing' / 'database.sqlite'}")
    config.add_settings(PANEL)
    config.include("pyramid_debugtoolbar")
    app = browse(config, show=show)
    app.set_cookie("session", "a" * 43)
    page = visit(app, "/show", status=500)
    assert page.glance == "ERROR"
    assert "unable to open database file" in page.verdict


# ---- whose statements


@both_ways
def test_the_panel_shows_no_statements_but_those_on_the_session_table(
    engine: Engine, way: str
) -> None:
    def work(request: Any) -> Any:
        with engine.begin() as connection:
            connection.execute(insert(Note), {"text": "x"})
            connection.execute(select(Note)).all()
            connection.execute(text("SELECT 1"))
        with pytest.raises(SQLAlchemyError), engine.connect() as connection:
            connection.execute(text("SELECT nonsense"))
        return put(request)

    app = browse(with_panel(engine, way=way), work=work)
    assert visit(app, "/work").purposes == ["insert"]
    assert notes(engine) == ["x"]


def test_two_applications_with_the_panel_do_not_see_things_twice(sqlite_engine: Engine) -> None:
    first, second = (browse(with_panel(sqlite_engine), put=put, odd=redirect) for _ in range(2))
    for app in (first, second):
        assert visit(app, "/put").purposes == ["insert"]
        assert len(visit(app, "/odd", status=302).warnings) == 1


def test_a_request_that_the_toolbar_does_not_watch_leaves_no_trace(sqlite_engine: Engine) -> None:
    app = serve(with_panel(sqlite_engine), put=put, odd=redirect)
    assert len(session_cookies(app.get("/put"))) == 1
    app.get("/odd", status=302)
    assert list(app.app.registry.pdtb_history) == []


def test_the_panel_counts_what_a_request_inside_did_with_the_session(sqlite_engine: Engine) -> None:
    def outer(request: Any) -> Any:
        inner = Request.blank("/put")
        inner.session = request.session
        request.invoke_subrequest(inner)
        return {}

    app = browse(with_panel(sqlite_engine), put=put, outer=outer)
    app.get("/put")
    page = visit(app, "/outer")
    assert page.glance.startswith("UPDATE v2")
    assert page.purposes == ["read", "update"]
    assert page.keys == {"'cart'": ["read changed", "[1]", "[1, 1]"]}


def test_the_panel_shows_that_a_request_inside_another_one_stores_nothing(
    sqlite_engine: Engine,
) -> None:
    def outer(request: Any) -> Any:
        inner = Request.blank("/put", environ={"REMOTE_ADDR": "127.0.0.1"})
        inner.environ.update({it: request.environ[it] for it in ("tm.active", "tm.manager")})
        request.invoke_subrequest(inner, use_tweens=True)
        return {}

    app = browse(with_panel(sqlite_engine), put=put, outer=outer)
    app.get("/outer")
    page = shown(app, before=0)
    assert page.glance == "NOT STORED"
    assert "the request is nested in another one" in page.warnings[0]
    assert shown(app, before=1).glance == "not used"


def test_the_panel_shows_what_the_application_did_to_other_sessions(sqlite_engine: Engine) -> None:
    def revoke(request: Any) -> Any:
        len(request.session)
        for it in request.sqlsessions.of_user("alice"):
            request.sqlsessions.revoke(it.handle)
        return {}

    def revoke_and_out(request: Any) -> Any:
        revoke(request)
        return sign_out(request)

    config = with_panel(sqlite_engine)
    views = {"revoke": revoke, "revoke_and_out": revoke_and_out}
    app = browse(config, put=put, sign_in=sign_in, **views)
    app.get("/sign_in")
    app.reset()
    app.get("/put")
    page = visit(app, "/revoke")
    assert page.glance.startswith("read v1, ")
    assert [it for it in page.purposes if it != "read"] == ["delete"]
    assert "ended: revoked" in page.events["SessionEnded"]
    app.get("/sign_in")
    app.reset()
    assert visit(app, "/revoke_and_out").glance.startswith("empty, ")


def test_the_panel_shows_data_that_was_encrypted_anew(sqlite_engine: Engine) -> None:
    old, new = (b64encode(bytes([number] * 32)).decode() for number in (1, 2))
    pytest.importorskip("cryptography")
    app = browse(with_panel(sqlite_engine, {"sqlsession.encryption_keys": old}), put=put)
    app.get("/put")
    later = browse(
        with_panel(sqlite_engine, {"sqlsession.encryption_keys": f"{new}\n{old}"}), show=show
    )
    later.set_cookie("session", token_of(app))
    page = visit(later, "/show")
    assert page.purposes == ["read", "rewrite"]
    assert page.keys["'cart'"] == ["read", "[1]", "[1]"]


# ---- two requests at once


@both_ways
def test_the_panel_shows_what_was_merged(engine: Engine, way: str) -> None:
    site = racing(with_panel(engine, way=way), engine)
    race(site, put_key("mine", 1), both(put_key("theirs", 2), put_key("n", 3)))
    page = history_of(site, "UPDATE v3")
    assert "from version 1 to 3. It was merged" in page.verdict
    assert page.keys == {
        "'mine'": ["set", "", "1", "1"],
        "'n'": ["merged", "0", "0", "3"],
        "'theirs'": ["merged", "", "", "2"],
    }
    updates = [statement[:2] for statement in page.statements]
    assert updates == [["read", ""], ["update", "0"], ["read", ""], ["update", "1"]]
    site.close()


@both_ways
def test_the_panel_shows_a_conflict_and_the_attempt_that_followed_it(
    engine: Engine, way: str
) -> None:
    config = with_panel(engine, {"retry.attempts": 3}, way)
    config.include("pyramid_retry")
    site = racing(config, engine)
    assert race(site, add("n"), add("n")).attempts == 2
    first, second = history_of(site, "CONFLICT"), history_of(site, "UPDATE v3")
    assert "Keys: ['n']" in first.verdict
    assert "pyramid_retry runs it again" in first.verdict
    assert "progress-bar-warning" in first.style
    assert "Attempt 1 of at most 3." in first.text
    assert first.keys == {"'n'": ["read changed", "0", "1"]}
    assert list(first.events) == ["SessionConflicted"]
    assert "Attempt 2 of at most 3. Before it: CONFLICT, " in second.text
    assert second.glance.startswith("UPDATE v3")
    link = second.html.partition("Before it:")[2].partition('href="')[2].partition('"')[0]
    app = TestApp(site.app, extra_environ={"REMOTE_ADDR": "127.0.0.1"})
    assert Shown(app.get(link)).glance == first.glance
    site.close()


def test_the_panel_shows_that_the_later_change_has_won(sqlite_engine: Engine) -> None:
    site = racing(with_panel(sqlite_engine, {"sqlsession.conflict": "merge"}), sqlite_engine)
    race(site, add("n"), add("n"))
    page = history_of(site, "UPDATE v3")
    assert "the later request wins" in page.events["SessionConflicted"]
    assert "the later request wins" in page.warnings[0]
    site.close()


def test_the_panel_shows_a_conflict_that_is_raised(sqlite_engine: Engine) -> None:
    site = racing(with_panel(sqlite_engine, {"sqlsession.conflict": "strict"}), sqlite_engine)
    race(site, add("n"), add("n"))
    page = history_of(site, "CONFLICT")
    assert "progress-bar-danger" in page.style
    assert "SessionConflict: concurrent change of ['n']" in page.verdict
    site.close()


def test_the_panel_shows_that_the_database_refused_a_late_write(postgresql: Any) -> None:
    engine = create_engine(postgresql.url, isolation_level="REPEATABLE READ")
    site = racing(with_panel(engine), engine)
    race(site, add("n"), add("n"))
    page = history_of(site, "CONFLICT")
    assert "Keys:" not in page.verdict
    assert page.purposes == ["read", "update"]
    assert "could not serialize access" in page.statements[1][2]
    site.close()
    engine.dispose()


def test_the_panel_shows_that_a_session_was_ended_meanwhile(sqlite_engine: Engine) -> None:
    site = racing(with_panel(sqlite_engine), sqlite_engine)
    race(site, add("n"), lambda session: session.invalidate())
    page = history_of(site, "DROPPED")
    assert "progress-bar-warning" in page.style
    site.close()


def test_the_panel_shows_that_a_request_came_late_with_an_old_token(sqlite_engine: Engine) -> None:
    app = browse(with_panel(sqlite_engine), put=put, sign_in=sign_in)
    app.get("/put")
    old = token_of(app)
    app.get("/sign_in")
    app.reset()
    app.set_cookie("session", old)
    assert visit(app, "/put").glance.startswith("DROPPED, 1 statement")


# ---- what it never shows


@pytest.fixture
def text_row(base: type[DeclarativeBase]) -> Any:
    """A model whose data is text, and so in the statements' parameters."""

    class TextRow(SessionMixin, base):  # type: ignore[valid-type, misc]  # a base that a fixture makes
        data: Mapped[str] = mapped_column(Text)

    return TextRow


@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_no_token_is_on_any_page_of_the_panel(
    sqlite_engine: Engine, kind: str, text_row: Any
) -> None:
    model = SessionRow if kind == "bytes" else text_row
    model.metadata.create_all(sqlite_engine)

    def spill(request: Any) -> Any:
        csrf, token = request.session.get_csrf_token(), request.cookies.get("session", "")
        request.session.update(csrf=csrf, token=[token], within=f"x{token}y")
        request.session[token] = 1
        return {"csrf": csrf}

    def shout(request: Any) -> Any:
        request.session["x"] = 1
        raise Refused(request.cookies["session"] + request.session.get_csrf_token())

    def enter(request: Any) -> Any:
        # copies that the panel cannot know: of an older token inside a word, of an older CSRF token
        del request.session["within"], request.session["csrf"]
        return sign_in(request)

    app = browse(
        with_panel(sqlite_engine, {"sqlsession.model": model}),
        put=put, spill=spill, shout=shout, show=show, sign_in=enter, sign_out=sign_out,
    )  # fmt: skip
    app.get("/put")
    secrets = {token_of(app)}
    for path in ("/spill", "/show", "/sign_in", "/spill", "/show"):
        secrets |= set(app.get(path).json.get("csrf", "").split())
        secrets.add(token_of(app))
    secrets.add(app.get("/spill").json["csrf"])
    app.get("/shout", status=500)
    app.get("/sign_out")
    assert len(secrets) == 4
    pages = [shown(app, number) for number in range(len(app.app.registry.pdtb_history))]
    assert len(pages) == 9
    assert any("session=***; Path=/" in page.summary["Cookie sent"] for page in pages)
    assert any("'_csrft_'" in page.keys for page in pages)
    for page in pages:
        assert "Cookie received" in page.text
        for secret in secrets:
            assert secret not in page.html


def test_of_several_cookies_no_token_is_shown(sqlite_engine: Engine) -> None:
    def spill(request: Any) -> Any:
        request.session["within"] = "".join(f"x{token}y" for token in tokens)
        return {}

    app = browse(with_panel(sqlite_engine), put=put, spill=spill)
    app.get("/put")
    tokens = ["b" * 43, token_of(app)]
    header = "; ".join(f"session={token}" for token in tokens)
    page = visit(app, "/spill", headers={"Cookie": header})
    assert page.summary["Cookie received"] == "the token of a live session"
    assert page.purposes == ["read", "update"]
    assert page.keys["'within'"] == ["set", "", "'x***yx***y'"]
    for token in tokens:
        assert token not in page.html


def test_of_data_that_is_text_no_statement_shows_anything(
    sqlite_engine: Engine, text_row: Any
) -> None:
    text_row.metadata.create_all(sqlite_engine)
    app = browse(with_panel(sqlite_engine, {"sqlsession.model": text_row}), put=put)
    ((*_, parameters),) = visit(app, "/put").statements
    assert "data = …, " in parameters
    assert "cart" not in parameters


def test_short_csrf_tokens_do_not_blacken_the_page(sqlite_engine: Engine) -> None:
    app = browse(
        with_panel(sqlite_engine), put=use("put", lambda it: it.update(_csrft_="1", n=1, m=[None]))
    )
    page = visit(app, "/put")
    assert page.keys["'_csrft_'"] == ["set", "", "***"]
    assert page.keys["'n'"] == ["set", "", "1"]


def test_the_panel_escapes_what_the_application_and_its_visitors_say(sqlite_engine: Engine) -> None:
    evil = "<script>alert('&1')</script>"

    def write(request: Any) -> Any:
        request.session[evil] = evil
        request.session["auth.userid"] = evil
        return {}

    def shout(request: Any) -> Any:
        request.session["x"] = evil
        raise Refused(evil)

    def odd(request: Any) -> Any:
        request.session[evil] = object()
        raise HTTPFound("/")

    app = browse(with_panel(sqlite_engine, VETO), write=write, shout=shout, odd=odd)
    for path, status, seen in (("/write", 200, 2), ("/write", 200, 3), ("/shout", 500, 3)):
        page = visit(app, path, status=status)
        assert "<script>alert" not in page.html
        assert page.html.count("&lt;script&gt;alert") >= seen
    page = visit(app, "/odd", status=302)
    assert "<script>alert" not in page.html
    assert "<script>alert" in page.warnings[0]


def test_long_values_are_cut(sqlite_engine: Engine) -> None:
    app = browse(
        with_panel(sqlite_engine), put=use("put", lambda it: it.update(long="x" * 100_000))
    )
    page = visit(app, "/put")
    assert page.keys["'long'"][2] == "'" + "x" * 999 + "…"


def test_the_panel_keeps_nothing_but_texts_in_the_history(sqlite_engine: Engine) -> None:
    app = browse(with_panel(sqlite_engine), put=put, fail=fail)
    app.get("/put")
    app.get("/put")
    app.get("/fail", status=500)
    for _, toolbar in app.app.registry.pdtb_history:
        (panel,) = toolbar.panels
        assert set(classes_in(vars(panel))) <= {"dict", "list", "str", "bool"}


def classes_in(value: Any) -> Iterator[str]:
    """The names of the classes of a value and of everything in it."""
    yield type(value).__name__
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from classes_in(item)


# ---- where it does not fit


def test_the_panel_says_that_sessions_are_stored_by_something_else(sqlite_engine: Engine) -> None:
    config = with_panel(sqlite_engine)
    config.set_session_factory(SignedCookieSessionFactory("secret"))
    app = browse(config, put=put)
    page = visit(app, "/put")
    assert page.glance == ""
    assert "does not use the session factory of pyramid_sqlsession" in page.verdict


def test_the_panel_says_that_a_request_is_not_over(sqlite_engine: Engine) -> None:
    pages: list[Shown] = []

    def look(request: Any) -> Any:
        pages.append(shown(app))
        return {}

    app = browse(with_panel(sqlite_engine), look=look)
    assert visit(app, "/look").glance == "not used"
    assert pages[0].glance == ""
    assert pages[0].verdict == "The request has not finished yet."


def test_including_the_panel_in_the_application_is_answered_with_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"debugtoolbar\.includes = pyramid_sqlsession\."):
        Configurator().include("pyramid_sqlsession.debugtoolbar")


def test_importing_the_panel_without_the_toolbar_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("pyramid_sqlsession.debugtoolb")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyramid_debugtoolbar", None)
    with pytest.raises(ImportError, match="pip install pyramid_debugtoolbar"):
        importlib.import_module("pyramid_sqlsession.debugtoolbar")


def test_nothing_of_the_panel_is_imported_without_it() -> None:
    program = (
        "import sys, pyramid_sqlsession\n"
        "print([name for name in sys.modules if 'debugtoolbar' in name])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr


def test_of_many_keys_those_are_shown_that_something_was_done_with(sqlite_engine: Engine) -> None:
    def fill(session: Any) -> None:
        session.update({f"key {number:03}": number for number in range(300)})

    def change(session: Any) -> None:
        session["key 299"] = session["key 298"]
        del session["key 000"]

    app = browse(with_panel(sqlite_engine), fill=use("fill", fill), change=use("change", change))
    app.get("/fill")
    page = visit(app, "/change")
    assert len(page.keys) == 200
    assert page.keys["'key 299'"] == ["changed", "299", "298"]
    assert page.keys["'key 298'"] == ["read", "298", "298"]
    assert page.keys["'key 000'"] == ["deleted", "0", ""]
    assert "'key 297'" not in page.keys
    assert "100 more keys were neither" in page.text


def test_what_the_panel_compares_shows_no_data_in_error_reports() -> None:
    from pyramid_sqlsession.debugtoolbar.report import Versions

    data = {"secret": "the-canary-of-alice"}
    assert "canary" not in repr(Versions(data, data, data, data))
