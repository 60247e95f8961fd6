"""Views that raise: what the exception view does to the session is kept.

Visitors' stories are told of each session factory, Pyramid's own among them: it is the control.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.csrf import check_csrf_token, get_csrf_token
from pyramid.exceptions import BadCSRFToken
from pyramid.httpexceptions import HTTPBadRequest, HTTPForbidden, HTTPFound
from pyramid.interfaces import ISessionFactory
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import forget, remember
from pyramid.wsgi import wsgiapp2
from pyramid_retry import RetryableException
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from support.apps import (
    EXPLICIT,
    VETO,
    Broken,
    Note,
    Resource,
    listening,
    no_transaction,
    notes,
    plain_engine,
    put,
    refuse,
    rows,
    serve,
    session_cookies,
    show,
)
from support.failing import stored, warnings
from support.pages import Ground, add_private, failing
from support.servers import Backend
from transaction import TransactionManager
from transaction.interfaces import NoTransaction
from webtest import TestApp

from pyramid_sqlsession import SessionConflicted

SERVERS = ("sqlite", "postgresql", "mariadb", "mysql")
OURS = [*itertools.product(SERVERS, ("dbsession", "own"))]
MANNERS = [({}, False), (VETO, True), ({}, True), (VETO, False)]


def grounds(places: list[tuple[str, str]]) -> pytest.MarkDecorator:
    params = [
        pytest.param((*place, *manner), id=_name(*place, *manner))
        for place in places
        # each of the two on the servers, both together on SQLite
        for manner in MANNERS[: 4 if place[0] == "sqlite" else 2]
    ]
    return pytest.mark.parametrize("ground", params, indirect=True)


def _name(backend: str, way: str, settings: Any, retry: bool) -> str:
    return f"{backend}-{way}{'-veto' * bool(settings)}{'-retry' * retry}"


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Any:
    name, way, settings, retry = request.param
    backend: Backend = request.getfixturevalue(name)
    engine = create_engine(backend.url)
    yield Ground(engine, way, settings, retry)
    engine.dispose()


with_every_factory = grounds([("sqlite", "signed"), *OURS])
everywhere = grounds(OURS)
on_sqlite = grounds([("sqlite", "dbsession"), ("sqlite", "own")])


# ---- stories that Pyramid's own factory tells too


def login_form(request: Any) -> Any:
    return {"token": get_csrf_token(request)}


def with_login_forms(config: Configurator) -> TestApp:
    """Each error page has a form to sign in."""

    def login(request: Any) -> Any:
        return HTTPFound("/private", headers=remember(request, "mia"))

    def on(status: int) -> Callable[[Any], Any]:
        def view(request: Any) -> Any:
            request.response.status_int = status
            return login_form(request)

        return view

    config.add_forbidden_view(on(403), renderer="json")
    config.add_notfound_view(on(404), renderer="json")
    config.add_exception_view(on(400), context=BadCSRFToken, renderer="json")
    config.add_route("login", "/login")
    config.add_view(login, route_name="login", require_csrf=True, request_method="POST")
    add_private(config)
    return serve(config)


def get_forbidden(app: TestApp) -> Any:
    return app.get("/private", status=403)


def get_not_found(app: TestApp) -> Any:
    return app.get("/nowhere", status=404)


def post_a_bad_token(app: TestApp) -> Any:
    return app.post("/login", {"csrf_token": "guessed"}, status=400)


every_page = pytest.mark.parametrize(
    "page", [get_forbidden, get_not_found, post_a_bad_token], ids=lambda it: it.__name__
)


@with_every_factory
@every_page
def test_a_first_visitor_signs_in_with_the_form_of_an_error_page(ground: Ground, page: Any) -> None:
    app = with_login_forms(ground.configure())
    token = page(app).json["token"]
    app.post("/login", {"csrf_token": token}, status=302)
    assert app.get("/private").json == {"user": "mia"}


@with_every_factory
@every_page
def test_the_form_is_shown_again_with_the_token_that_it_had(ground: Ground, page: Any) -> None:
    app = with_login_forms(ground.configure())
    token = page(app).json["token"]
    assert [page(app).json["token"] for _ in range(2)] == [token, token]


@with_every_factory
def test_whoever_left_a_form_open_until_the_session_expired_signs_in_at_the_second_try(
    ground: Ground,
) -> None:
    app = with_login_forms(ground.configure())
    old = get_forbidden(app).json["token"]
    ground.expire(app)
    token = app.post("/login", {"csrf_token": old}, status=400).json["token"]
    assert token != old
    app.post("/login", {"csrf_token": token}, status=302)
    assert app.get("/private").json == {"user": "mia"}


def quick_tutorial(request: Any) -> Any:
    """The login view of Pyramid's quick tutorial, which is its forbidden view too."""
    login_url = request.route_url("login")
    referrer = request.url
    if referrer == login_url:
        referrer = "/"
    came_from = request.params.get("came_from", referrer)
    message = ""
    if "form.submitted" in request.params:
        login = request.params["login"]
        if request.params["password"] == "secret":
            return HTTPFound(location=came_from, headers=remember(request, login))
        message = "Failed login"
    return {"message": message, "came_from": came_from}


@with_every_factory
@pytest.mark.parametrize("url", ["/login", "/private"])
def test_the_login_view_of_the_quick_tutorial_signs_in(ground: Ground, url: str) -> None:
    """At ``/private`` it does so as an exception view."""
    config = ground.configure()
    config.add_route("login", "/login")
    config.add_view(quick_tutorial, route_name="login", renderer="json")
    config.add_forbidden_view(quick_tutorial, renderer="json")
    add_private(config)
    app = serve(config)
    came_from = app.get("/private").json["came_from"]
    form = {"form.submitted": "1", "login": "mia", "password": "wrong", "came_from": came_from}
    assert app.post(url, form).json["message"] == "Failed login"
    response = app.post(url, {**form, "password": "secret"}, status=302)
    assert response.location == "http://localhost/private"
    assert response.follow().json == {"user": "mia"}


@with_every_factory
def test_a_forbidden_view_flashes_remembers_where_one_came_from_and_redirects(
    ground: Ground,
) -> None:
    def forbidden(request: Any) -> Any:
        request.session.flash("Please sign in.")
        request.session["came_from"] = request.path
        return HTTPFound("/show")

    config = ground.configure()
    config.add_forbidden_view(forbidden)
    add_private(config)
    app = serve(config, show=show)
    response = app.get("/private", status=302).follow()
    assert response.json == {"_f_": ["Please sign in."], "came_from": "/private"}


def flash(request: Any) -> Any:
    request.session.flash("hello")
    return {}


def pop(request: Any) -> Any:
    return request.session.pop_flash()


@with_every_factory
def test_an_error_page_that_shows_messages_takes_them(ground: Ground) -> None:
    config = ground.configure()

    def not_found(request: Any) -> Any:
        request.response.status_int = 404
        return pop(request)

    config.add_notfound_view(not_found, renderer="json")
    app = serve(config, flash=flash, pop=pop)
    app.get("/flash")
    assert app.get("/nowhere", status=404).json == ["hello"]
    assert app.get("/pop").json == []


@with_every_factory
def test_the_message_of_a_view_that_raises_is_shown_once(ground: Ground) -> None:
    app = failing(ground.configure(), flash, pop, HTTPBadRequest, 400, pop=pop)
    assert app.get("/fail", status=400).json == ["hello"]
    assert app.get("/pop").json == []


@with_every_factory
def test_the_message_of_a_view_that_raises_is_shown_between_earlier_and_later_ones(
    ground: Ground,
) -> None:
    def page(request: Any) -> Any:
        request.session.flash("sorry")
        return request.session.pop_flash()

    app = failing(ground.configure(), flash, page, HTTPBadRequest, 400, flash=flash, pop=pop)
    app.get("/flash")
    assert app.get("/fail", status=400).json == ["hello", "hello", "sorry"]
    assert app.get("/pop").json == []


def sign_in(request: Any) -> Any:
    remember(request, "mia")
    return {}


def sign_out(request: Any) -> Any:
    forget(request)
    return {}


def invalidate(request: Any) -> Any:
    request.session.invalidate()
    return {}


@with_every_factory
@pytest.mark.parametrize("end", [sign_out, invalidate], ids=lambda it: it.__name__)
def test_an_exception_view_signs_out(ground: Ground, end: Any) -> None:
    app = failing(ground.configure(), None, end, sign_in=sign_in, show=show)
    app.get("/sign_in")
    assert app.get("/show").json["auth.userid"] == "mia"
    app.get("/fail", status=500)
    assert "auth.userid" not in app.get("/show").json


@with_every_factory
def test_an_exception_view_that_raises_leaves_everything_as_it_was(ground: Ground) -> None:
    def page(request: Any) -> Any:
        request.session["page"] = 1
        remember(request, "mia")
        raise Broken

    app = failing(ground.configure(), put, page, put=put, show=show)
    app.get("/put")
    with pytest.raises(Broken):
        app.get("/fail")
    assert app.get("/show").json == {"cart": [1]}


@with_every_factory
def test_a_login_view_that_is_the_forbidden_view_asks_for_a_csrf_token(ground: Ground) -> None:
    """Pyramid does not in an exception view, and add_forbidden_view() cannot be told to."""

    def login(request: Any) -> Any:
        if check_csrf_token(request, raises=False):
            return HTTPFound("/private", headers=remember(request, "mia"))
        return login_form(request)

    config = ground.configure()
    config.set_default_csrf_options(require_csrf=True)
    config.add_forbidden_view(login, renderer="json")
    add_private(config)
    app = serve(config)
    token = app.post("/private").json["token"]
    assert app.post("/private", {"csrf_token": "guessed"}).json == {"token": token}
    assert app.post("/private", {"csrf_token": token}, status=302).follow().json == {"user": "mia"}


# ---- what is kept, and what goes with the transaction


def change_in_view(request: Any) -> Any:
    session = request.session
    session["view"] = 1
    session["cart"].append("view")
    session.flash("view")
    del session["kept"]


def change_in_page(request: Any) -> Any:
    session = request.session
    found = {key: session[key] for key in BEFORE if key in session}
    found["cart"] = list(found["cart"])
    session["page"] = 1
    session["cart"].append("page")
    session.flash("page")
    del session["left"]
    return found


def start(request: Any) -> Any:
    request.session.update(kept=1, cart=[1], left=1)
    return {}


BEFORE = {"kept": 1, "cart": [1], "left": 1}
ALONE = {"kept": 1, "cart": [1, "page"], "page": 1, "_f_": ["page"]}
BOTH = {"cart": [1, "page"], "page": 1, "view": 1, "_f_": ["view", "page"]}


@everywhere
@pytest.mark.parametrize("status", [302, 500])
def test_what_the_exception_view_does_is_kept_and_the_view_s_part_follows_the_transaction(
    ground: Ground, status: int
) -> None:
    app = failing(ground.configure(), change_in_view, change_in_page, status=status, start=start)
    app.get("/start")
    response = app.get("/fail", status=status)
    assert response.json == BEFORE
    commits = ground.has_veto and status == 302
    assert stored(ground.engine) == [BOTH if commits else ALONE]
    # the token is the same
    assert session_cookies(response) == []


@on_sqlite
def test_the_veto_may_abort_although_the_status_is_good(ground: Ground) -> None:
    def page(request: Any) -> Any:
        request.response.headers["X-Tm"] = "abort"
        return change_in_page(request)

    app = failing(ground.configure(), change_in_view, page, status=200, start=start)
    app.get("/start")
    app.get("/fail")
    assert stored(ground.engine) == [ALONE]


@on_sqlite
def test_in_a_transaction_that_the_view_has_doomed_the_exception_view_s_part_is_kept(
    ground: Ground,
) -> None:
    def doom(request: Any) -> Any:
        change_in_view(request)
        request.tm.doom()

    app = failing(ground.configure(), doom, change_in_page, status=200, start=start)
    app.get("/start")
    app.get("/fail")
    assert stored(ground.engine) == [ALONE]


@everywhere
def test_what_an_exception_view_does_after_a_failed_commit_is_kept(ground: Ground) -> None:
    def page(request: Any) -> Any:
        return [*request.session.pop_flash(), len(login_form(request)["token"])]

    def vote(request: Any) -> Any:
        flash(request)
        request.session["lost"] = 1
        request.tm.get().join(Resource(refuse))
        return {}

    config = ground.configure()
    config.add_exception_view(page, context=Broken, renderer="json")
    app = serve(config, vote=vote, show=show)
    assert app.get("/vote").json == ["hello", 40]
    assert list(app.get("/show").json) == ["_csrft_"]


@on_sqlite
def test_of_two_errors_the_page_that_was_shown_counts(ground: Ground) -> None:
    """The veto commits what the first exception view did, and that COMMIT fails."""

    def first(request: Any) -> Any:
        change_in_page(request)
        request.tm.get().join(Resource(refuse))
        return {}

    def second(request: Any) -> Any:
        request.session["second"] = request.session["cart"]
        return "second"

    config = ground.configure()
    config.add_exception_view(second, context=Broken, renderer="json")
    app = failing(config, change_in_view, first, KeyError, 302, start=start)
    app.get("/start")
    if ground.has_veto:
        assert app.get("/fail").json == "second"
        assert stored(ground.engine) == [{**BEFORE, "second": [1]}]
    else:
        app.get("/fail", status=302)
        assert stored(ground.engine) == [ALONE]


def above_tween_factory(handler: Any, registry: Any) -> Any:
    """A tween over pyramid_tm's that shows what leaves it on an error page."""

    def tween(request: Any) -> Any:
        try:
            return handler(request)
        except Exception:  # noqa: BLE001  # as error pages do
            return request.invoke_exception_view(reraise=True)

    return tween


@on_sqlite
@pytest.mark.parametrize("raised", ["another", "the same"])
def test_a_page_above_pyramid_tm_keeps_what_it_does_and_nothing_of_a_page_that_has_raised(
    ground: Ground, raised: str
) -> None:
    calls = []

    def page(request: Any) -> Any:
        calls.append(dict(request.session))
        if len(calls) == 2:
            request.session["last"] = 1
            return {}
        request.session["first"] = 1
        remember(request, "mia")
        raise request.exception if raised == "the same" else KeyError

    config = ground.configure()
    config.add_tween(f"{__name__}.above_tween_factory", over="pyramid_tm.tm_tween_factory")
    app = failing(config, change_in_view, page, status=200, start=start)
    app.get("/start")
    app.get("/fail")
    assert [{**call, "_f_": []} for call in calls] == [{**BEFORE, "_f_": []}] * 2
    assert stored(ground.engine) == [{**BEFORE, "last": 1}]


OPERATIONS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "the same value": (lambda it: it.update(left=1), BEFORE),
    "delete": (lambda it: it.__delitem__("left"), {"kept": 1, "cart": [1]}),
    "clear": (lambda it: it.clear(), {}),
    "in place": (lambda it: it["cart"].append(2), {**BEFORE, "cart": [1, 2]}),
    "pop the view's message": (lambda it: it.pop_flash(), BEFORE),
    "peek at it": (lambda it: it.peek_flash(), BEFORE),
    "delete it": (lambda it: it.__delitem__("_f_"), BEFORE),
    "assign the queue": (lambda it: it.update(_f_=["own"]), {**BEFORE, "_f_": ["own"]}),
    "flash it again": (
        lambda it: it.flash("view", allow_duplicate=False),
        {**BEFORE, "_f_": ["view"]},
    ),
    "flash after a pop": (
        lambda it: (it.pop_flash(), it.flash("page")),
        {**BEFORE, "_f_": ["page"]},
    ),
}


@on_sqlite
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_exception_view_changes_what_was_loaded(ground: Ground, operation: str) -> None:
    change, expected = OPERATIONS[operation]
    config = ground.configure()
    page = lambda request: change(request.session) and None  # noqa: E731
    app = failing(config, change_in_view, page, start=start)
    app.get("/start")
    app.get("/fail", status=500)
    assert stored(ground.engine) == [expected]


@grounds([("sqlite", "dbsession")])
@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("the same value", {"left": 1, "cart": [1, "view"], "view": 1, "_f_": ["view"]}),
        ("pop the view's message", {"cart": [1, "view"], "view": 1}),
        ("peek at it", {"cart": [1, "view"], "view": 1, "_f_": ["view"]}),
        ("flash after a pop", {"cart": [1, "view"], "view": 1, "_f_": ["page"]}),
        ("assign the queue", {"cart": [1, "view"], "view": 1, "_f_": ["own"]}),
    ],
)
def test_where_both_are_stored_the_exception_view_s_part_is_played_on_the_view_s(
    ground: Ground, operation: str, expected: Any
) -> None:
    change, alone = OPERATIONS[operation]

    def view(request: Any) -> Any:
        change_in_view(request)
        request.session.pop("left")

    page = lambda request: change(request.session) and None  # noqa: E731
    app = failing(ground.configure(), view, page, status=302, start=start)
    app.get("/start")
    app.get("/fail", status=302)
    assert stored(ground.engine) == [expected if ground.has_veto else alone]


@on_sqlite
def test_an_exception_view_regenerates_and_chooses_a_lifetime(ground: Ground) -> None:
    def page(request: Any) -> Any:
        request.session.max_age = 600
        request.session.regenerate()
        return request.session.max_age

    app = failing(ground.configure(), put, page, put=put, show=show)
    app.get("/put")
    old = app.cookies["session"]
    response = app.get("/fail", status=500)
    assert app.cookies["session"] != old
    assert "Max-Age=600" in session_cookies(response)[0]
    assert app.get("/show").json == {"cart": [1]}


@on_sqlite
def test_what_a_failed_view_did_to_the_session_as_a_whole_goes_with_its_transaction(
    ground: Ground,
) -> None:
    def view(request: Any) -> Any:
        request.session.max_age = 600
        request.session.invalidate()
        request.session.regenerate()
        remember(request, "mia")

    def page(request: Any) -> Any:
        session = request.session
        return [session.id, session.max_age, session.new, dict(session)]

    ask = lambda request: page(request)  # noqa: E731
    app = failing(ground.configure(), view, page, put=put, ask=ask)
    app.get("/put")
    asked = app.get("/ask").json
    response = app.get("/fail", status=500)
    assert response.json == asked
    assert session_cookies(response) == []
    assert app.get("/ask").json == asked


@on_sqlite
def test_a_failed_view_that_ended_the_session_has_ended_it_where_the_veto_commits(
    ground: Ground,
) -> None:
    def page(request: Any) -> Any:
        request.session["page"] = request.session["cart"]
        return {}

    app = failing(ground.configure(), invalidate, page, status=302, put=put, show=show)
    app.get("/put")
    old = app.cookies["session"]
    app.get("/fail", status=302)
    expected = {"page": [1]} if ground.has_veto else {"cart": [1], "page": [1]}
    assert app.get("/show").json == expected
    assert (app.cookies["session"] != old) is ground.has_veto


# ---- which session there was


@everywhere
@pytest.mark.parametrize("cookie", ["", "unknown", "malformed", "expired"])
def test_an_error_page_that_finds_no_session_begins_one(ground: Ground, cookie: str) -> None:
    app = failing(ground.configure(), None, login_form, put=put, show=show)
    if cookie == "expired":
        app.get("/put")
        ground.expire(app)
    elif cookie:
        app.set_cookie("session", "x" * (43 if cookie == "unknown" else 3))
    response = app.get("/fail", status=500)
    assert len(session_cookies(response)) == 1
    assert app.get("/show").json == {"_csrft_": response.json["token"]}


@on_sqlite
def test_with_an_old_token_what_an_exception_view_does_is_dropped_once(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    conflicts: list[Any] = []
    config = ground.configure()
    config.add_subscriber(conflicts.append, SessionConflicted)
    app = failing(config, put, lambda request: flash(request), status=302, put=put, sign_in=sign_in)
    app.get("/put")
    old = app.cookies["session"]
    app.get("/sign_in")
    app.reset()
    app.set_cookie("session", old)
    assert session_cookies(app.get("/fail", status=302)) == []
    assert [it.outcome for it in conflicts] == ["dropped"]


@everywhere
def test_a_sign_in_in_an_exception_view_keeps_what_the_visitor_had(ground: Ground) -> None:
    app = failing(ground.configure(), None, sign_in, put=put, show=show)
    app.get("/put")
    old = app.cookies["session"]
    response = app.get("/fail", status=500)
    assert app.cookies["session"] != old
    assert len(session_cookies(response)) == 1
    assert app.get("/show").json == {"cart": [1], "auth.userid": "mia"}


# ---- a user who may be rolled back


def add_user(request: Any) -> Any:
    request.dbsession.add(Note(text="mia"))
    request.dbsession.flush()


def ask_database(request: Any) -> Any:
    request.dbsession.add(Note(text="pending"))
    request.dbsession.query(Note).autoflush(False).all()


@grounds([(server, "dbsession") for server in SERVERS])
@pytest.mark.parametrize("view", [add_user, ask_database], ids=lambda it: it.__name__)
@pytest.mark.parametrize("status", [302, 500])
def test_a_sign_in_in_an_exception_view_is_not_kept_once_something_was_flushed_that_is_rolled_back(
    ground: Ground, view: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = failing(ground.configure(), view, sign_in, status=status, put=put, show=show)
    app.get("/put")
    response = app.get("/fail", status=status)
    commits = ground.has_veto and status == 302
    is_kept = commits or view is ask_database
    assert len(session_cookies(response)) == is_kept
    expected = {"cart": [1], "auth.userid": "mia"} if is_kept else {"cart": [1]}
    assert app.get("/show").json == expected
    assert len(notes(ground.engine)) == commits
    assert ("a sign-in in an exception view is not stored" in caplog.text) is not is_kept


@grounds([("sqlite", "dbsession")])
def test_a_flush_loses_nothing_but_a_sign_in(ground: Ground) -> None:
    app = failing(ground.configure(), add_user, login_form, show=show)
    token = app.get("/fail", status=500).json["token"]
    assert app.get("/show").json == {"_csrft_": token}


# ---- a store that fails


class Down(Exception):
    """What the tests' database says."""


def down(word: str) -> Any:
    """Have every statement on the session table that begins with this word fail."""

    def fail(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(word) and "sqlsession" in statement:
            raise Down

    return listening(Engine, "before_cursor_execute", fail)


@everywhere
@pytest.mark.parametrize("status", [302, 500])
def test_a_part_that_cannot_be_stored_leaves_the_page_without_a_cookie(
    ground: Ground, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = failing(ground.configure(), put, login_form, status=status, put=put, show=show)
    with down("INSERT"):
        response = app.get("/fail", status=status)
    assert len(response.json["token"]) == 40
    assert session_cookies(response) == []
    assert rows(ground.engine) == []
    assert len(warnings(caplog, logging.ERROR)) == ground.has_veto
    assert any("session changes of an exception view" in warning for warning in warnings(caplog))


@everywhere
@pytest.mark.parametrize("status", [302, 500])
def test_a_sign_out_that_cannot_be_stored_is_not_acknowledged(ground: Ground, status: int) -> None:
    config = ground.configure()
    app = failing(config, None, sign_out, status=status, sign_in=sign_in, show=show)
    app.get("/sign_in")
    with down("DELETE"), pytest.raises(Down):
        app.get("/fail")
    assert app.get("/show").json == {"auth.userid": "mia"}


@on_sqlite
def test_a_view_s_part_that_cannot_be_stored_takes_the_exception_view_s_not_with_it(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: Any) -> Any:
        request.session["odd"] = object()

    app = failing(ground.configure(), view, flash, status=302, show=show)
    app.get("/fail", status=302)
    assert app.get("/show").json == {"_f_": ["hello"]}
    assert len(warnings(caplog, logging.ERROR)) == ground.has_veto


@on_sqlite
@pytest.mark.parametrize("status", [302, 500])
@pytest.mark.parametrize("key", ["odd", "cart"])
def test_an_exception_view_s_part_that_cannot_be_stored_is_a_line_in_the_log(
    ground: Ground, status: int, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    def page(request: Any) -> Any:
        request.session[key] = object()
        return "sorry"

    app = failing(ground.configure(), put, page, status=status, put=put, show=show)
    app.get("/put")
    assert app.get("/fail", status=status).json == "sorry"
    assert app.get("/show").json == {"cart": [1]}
    assert f"session['{key}']" in caplog.text


@everywhere
def test_a_session_that_an_error_page_cannot_read_is_left_alone(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    """A token made for the page would take the place of a visitor's who is signed in."""
    config = ground.configure(**{"tm.annotate_user": "false"})
    app = failing(config, None, login_form, sign_in=sign_in, show=show)
    app.get("/sign_in")

    def page(*_: Any) -> Any:
        raise Down

    database = app.app.registry.getUtility(ISessionFactory)._store.database
    load, database.load = database.load, page
    try:
        response = app.get("/fail", status=500)
    finally:
        database.load = load
    assert len(response.json["token"]) == 40
    assert session_cookies(response) == []
    assert "for an exception view" in caplog.text
    assert app.get("/show").json == {"auth.userid": "mia"}


@grounds([("sqlite", "dbsession"), ("sqlite", "own")])
def test_a_row_that_cannot_be_read_is_an_empty_session_for_an_error_page_too(
    ground: Ground,
) -> None:
    app = failing(ground.configure(**{"tm.annotate_user": "false"}), None, show, put=put, show=show)
    app.get("/put")
    with ground.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sqlsession SET user_id = CAST(x'ff' AS TEXT)")
    failures = [OperationalError("SELECT", {}, Exception("the connection is lost"))]

    def fail_once(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("SELECT") and failures:
            raise failures.pop()

    with listening(Engine, "before_cursor_execute", fail_once):
        assert app.get("/fail", status=500).json == {}
    assert not failures
    assert app.get("/show").json == {}


# ---- sessions that were revoked


def revoke(request: Any) -> Any:
    return request.sqlsessions.revoke_user("mia")


@everywhere
@pytest.mark.parametrize("is_read", [False, True])
def test_an_exception_view_that_revokes_the_own_session_ends_it(
    ground: Ground, is_read: bool
) -> None:
    def page(request: Any) -> Any:
        return is_read and dict(request.session), revoke(request)

    # pyramid_tm would read the session to note the user
    config = ground.configure(**{"tm.annotate_user": "false"})
    app = failing(config, None, page, sign_in=sign_in, show=show)
    app.get("/sign_in")
    old = app.cookies["session"]
    response = app.get("/fail", status=500)
    assert "Max-Age=0" in session_cookies(response)[0]
    app.set_cookie("session", old)
    assert app.get("/show").json == {}


@everywhere
def test_an_exception_view_finds_the_session_that_the_failed_view_has_revoked_unread(
    ground: Ground,
) -> None:
    config = ground.configure(**{"tm.annotate_user": "false"})
    app = failing(config, revoke, login_form, sign_in=sign_in, show=show)
    app.get("/sign_in")
    old = app.cookies["session"]
    response = app.get("/fail", status=500)
    # the revocation was rolled back, and the session is the one it was
    assert session_cookies(response) == []
    assert app.cookies["session"] == old
    assert app.get("/show").json == {"auth.userid": "mia", "_csrft_": response.json["token"]}


@everywhere
def test_an_exception_view_that_revokes_with_an_old_token_ends_the_session_that_goes_on(
    ground: Ground,
) -> None:
    config = ground.configure(**{"tm.annotate_user": "false"})
    app = failing(config, None, revoke, sign_in=sign_in, show=show)
    app.get("/sign_in")
    old = app.cookies["session"]
    app.get("/sign_in")
    new = app.cookies["session"]
    app.set_cookie("session", old)
    assert "Max-Age=0" in session_cookies(app.get("/fail", status=500))[0]
    app.set_cookie("session", new)
    assert app.get("/show").json == {}


@everywhere
def test_a_view_that_revokes_the_own_session_and_raises_has_revoked_nothing(
    ground: Ground,
) -> None:
    def view(request: Any) -> Any:
        assert request.authenticated_userid == "mia"
        revoke(request)

    app = failing(ground.configure(), view, put, sign_in=sign_in, show=show)
    app.get("/sign_in")
    assert session_cookies(app.get("/fail", status=500)) == []
    assert app.get("/show").json == {"auth.userid": "mia", "cart": [1]}


# ---- whose transaction it is


def outside(ground: Ground) -> tuple[dict[str, Any], Session, Any]:
    """The environ of the cookiecutter's fixtures, whose transaction is never committed."""
    manager = TransactionManager(explicit=True)
    manager.begin()
    manager.doom()
    dbsession = Session(ground.engine)
    zope.sqlalchemy.register(dbsession, transaction_manager=manager)
    environ = {"tm.active": True, "tm.manager": manager, "app.dbsession": dbsession}
    return environ, dbsession, manager


@everywhere
def test_in_somebody_else_s_transaction_it_is_saved_as_usual(ground: Ground) -> None:
    app = failing(ground.configure(), None, login_form, show=show, put=put)
    environ, _, manager = outside(ground)
    app.extra_environ.update(environ)
    token = app.get("/fail", status=500).json["token"]
    assert app.get("/show").json == {"_csrft_": token}
    assert app.get("/fail", status=500).json == {"token": token}
    manager.abort()
    assert rows(ground.engine) == []


@grounds([(server, "dbsession") for server in SERVERS])
def test_in_somebody_else_s_transaction_a_sign_in_is_stored_with_its_user(ground: Ground) -> None:
    app = failing(ground.configure(), add_user, sign_in, show=show)
    environ, _, manager = outside(ground)
    app.extra_environ.update(environ)
    app.get("/fail", status=500)
    assert app.get("/show").json == {"auth.userid": "mia"}
    manager.abort()


@everywhere
def test_an_error_page_of_a_mounted_application_keeps_its_token(ground: Ground) -> None:
    inner = failing(ground.configure(), None, login_form, show=show).app
    config = Configurator(settings={**EXPLICIT, **ground.settings})
    config.include("pyramid_tm")
    config.add_route("mounted", "/mounted/*subpath")
    mounted = wsgiapp2(inner)
    config.add_view(lambda context, request: mounted(context, request), route_name="mounted")
    outer = TestApp(config.make_wsgi_app())
    token = outer.get("/mounted/fail", status=500).json["token"]
    # the status is an error page's, and its veto aborts
    expected = {} if ground.has_veto else {"_csrft_": token}
    assert outer.get("/mounted/show").json == expected


@on_sqlite
@pytest.mark.parametrize("status", [302, 500])
def test_without_a_transaction_the_exception_view_s_part_is_kept(
    ground: Ground, status: int
) -> None:
    config = ground.configure(**{"tm.activate_hook": no_transaction})
    app = failing(config, change_in_view, change_in_page, status=status, start=start)
    app.get("/start")
    app.get("/fail", status=status)
    assert stored(ground.engine) == [BOTH if status == 302 else ALONE]


@on_sqlite
def test_without_a_transaction_a_view_s_part_that_cannot_be_stored_leaves_the_exception_view_s(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: Any) -> Any:
        request.session["odd"] = object()

    config = ground.configure(**{"tm.activate_hook": no_transaction})
    app = failing(config, view, flash, status=302, show=show)
    app.get("/fail", status=302)
    assert app.get("/show").json == {"_f_": ["hello"]}
    assert "the error page is still sent" in caplog.text


@on_sqlite
@pytest.mark.parametrize("end", ["abort", "commit"])
def test_after_the_view_has_ended_the_transaction_the_exception_view_s_part_is_kept(
    ground: Ground, end: str
) -> None:
    def view(request: Any) -> Any:
        change_in_view(request)
        getattr(request.tm, end)()

    config = ground.configure()
    config.add_settings({"tm.manager_hook": None})
    app = failing(config, view, change_in_page, start=start)
    app.get("/start")
    app.get("/fail", status=500)
    assert stored(ground.engine) == [ALONE]


@grounds([("sqlite", "dbsession")])
def test_after_the_view_has_ended_the_transaction_for_good_its_part_is_not_stored_by_itself(
    ground: Ground,
) -> None:
    def view(request: Any) -> Any:
        change_in_view(request)
        request.tm.abort()

    app = failing(ground.configure(), view, change_in_page, status=302, start=start)
    app.get("/start")
    with pytest.raises(NoTransaction):
        app.get("/fail")
    assert stored(ground.engine) == [BEFORE]


@everywhere
def test_whoever_owns_the_transaction_cannot_commit_it_once_a_save_has_failed_in_it(
    ground: Ground,
) -> None:
    """PostgreSQL would answer the COMMIT with success, and roll everything back."""
    app = failing(ground.configure(), None, login_form)
    manager = TransactionManager(explicit=True)
    manager.begin()
    with down("INSERT"):
        response = app.get(
            "/fail", extra_environ={"tm.active": True, "tm.manager": manager}, status=500
        )
    assert session_cookies(response) == []
    assert manager.isDoomed()
    manager.abort()


@everywhere
def test_what_another_request_has_changed_meanwhile_is_merged(ground: Ground) -> None:
    """Also where each conflict is to be raised: the request cannot be run again any more."""

    def page(request: Any) -> Any:
        request.session["cart"] = [*request.session["cart"], "page"]
        other.get("/other")
        return {}

    def change(request: Any) -> Any:
        request.session["cart"] = ["other"]
        request.session["others"] = 1

    config = ground.configure(**{"sqlsession.conflict": "strict"})
    app = failing(config, None, page, other=change, put=put)
    app.get("/put")
    other = TestApp(app.app, cookiejar=app.cookiejar)
    app.get("/fail", status=500)
    assert stored(ground.engine) == [{"cart": [1, "page"], "others": 1}]


# ---- retries


@everywhere
@pytest.mark.parametrize("status", [302, 500])
def test_an_attempt_that_is_run_again_keeps_nothing_and_the_last_one_what_its_page_did(
    ground: Ground, status: int
) -> None:
    calls = []

    def page(request: Any) -> Any:
        calls.append(1)
        request.session["calls"] = request.session.get("calls", 0) + 1
        return login_form(request)

    app = failing(ground.configure(), put, page, RetryableException, status, put=put, show=show)
    app.get("/put")
    token = app.get("/fail", status=status).json["token"]
    assert len(calls) == (3 if ground.retry else 1)
    cart = [1, 1] if ground.has_veto and status == 302 else [1]
    assert app.get("/show").json == {"cart": cart, "calls": 1, "_csrft_": token}


# ---- requests inside another one


def invoke(request: Any, *, shared: bool) -> Any:
    subrequest = Request.blank("/fail")
    if shared:
        subrequest.session = request.session
    subrequest.environ.update({"tm.active": True, "tm.manager": request.tm})
    return request.invoke_subrequest(subrequest, use_tweens=True).json


@on_sqlite
@pytest.mark.parametrize("shared", [False, True], ids=["its own", "shared"])
def test_an_error_page_inside_another_request_stores_what_it_did_in_a_session_that_is_shared(
    ground: Ground, shared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def outer(request: Any) -> Any:
        return invoke(request, shared=shared)

    app = failing(ground.configure(), None, flash, outer=outer, show=show)
    app.get("/outer")
    assert app.get("/show").json == ({"_f_": ["hello"]} if shared else {})
    assert len(rows(ground.engine)) == shared
    assert ("subrequest.session = request.session" in caplog.text) is not shared


# ---- the warning


def redirect(request: Any) -> Any:
    request.session.flash("saved")
    raise HTTPFound("/show")


@everywhere
def test_a_raised_redirect_loses_the_message_without_a_veto_and_a_warning_names_it(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    app = serve(ground.configure(), redirect=redirect, show=show)
    shown = app.get("/redirect", status=302).follow().json
    if ground.has_veto:
        assert shown == {"_f_": ["saved"]}
        assert warnings(caplog) == []
    else:
        assert shown == {}
        (warning,) = warnings(caplog)
        assert "raised HTTPFound" in warning
        assert "return it, or set tm.commit_veto = pyramid_tm.default_commit_veto" in warning


def test_nobody_who_has_returned_a_redirect_is_told_to_return_it(
    sqlite: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: Any) -> Any:
        request.session.flash("lost")
        raise HTTPForbidden

    ground = Ground(plain_engine(sqlite.url), "dbsession", {})
    config = ground.configure()
    config.add_forbidden_view(lambda request: HTTPFound("/show"))
    app = serve(config, view=view, show=show)
    assert app.get("/view", status=302).follow().json == {}
    (warning,) = warnings(caplog)
    assert "raised HTTPForbidden" in warning
    assert "set tm.commit_veto = pyramid_tm.default_commit_veto" in warning
    assert "return it" not in warning


def test_an_exception_view_that_loses_nothing_warns_of_nothing(
    sqlite: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    ground = Ground(plain_engine(sqlite.url), "dbsession", {})
    config = ground.configure()

    def forbidden(request: Any) -> Any:
        request.session.flash("Please sign in.")
        return Response("sign in")

    config.add_forbidden_view(forbidden)
    add_private(config)
    app = serve(config)
    app.get("/private")
    app.get("/private")
    assert warnings(caplog) == []
