"""What docs/comparison.rst says of other session stores, as far as a test can tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.peers.servers import Redis
from pyramid.config import Configurator
from pyramid.session import SignedCookieSessionFactory
from support.apps import add_views, own_configurator
from support.docs.old_stores import pyramid_nacl_session
from support.docs.pages import DOCS
from support.docs.programs import query
from support.servers import serving
from webtest import TestApp

# the other packages' own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SECRET = "a secret that signs cookies"
PAGE = (DOCS / "comparison.rst").read_text()
TARGETS = dict(re.findall(r"^\.\. _([\w-]+): (https://.+)$", PAGE, re.MULTILINE))
LINK = re.compile(r"`([^`]+) <([\w-]+)_>`__")


# ---- the page


def rows(table: str) -> list[list[str]]:
    """The cells of a list-table, its header left out."""
    found = re.split(r"^   \* - ", table, flags=re.MULTILINE)[1:]
    return [re.split(r"^     - ", row, flags=re.MULTILINE) for row in found]


def test_every_statement_about_another_package_links_to_where_it_was_read() -> None:
    _, ours, theirs = PAGE.split(".. list-table::")
    others = [*(row[2:] for row in rows(ours)), *(row[1:] for row in rows(theirs)[1:])]
    assert len(others) == 11 + 7
    for cells in others:
        assert len(cells) == 4
        for cell in cells:
            rest = LINK.sub("", cell.strip().split("\n\n")[0])
            assert re.fullmatch(r"(—|nothing stored|[;, ]|or)*", rest), cell


def test_the_links_lead_to_addresses_that_do_not_change() -> None:
    assert {name for _, name in LINK.findall(PAGE)} == set(TARGETS)
    for address in TARGETS.values():
        if "/blob/" in address:
            assert re.search(r"/blob/[0-9a-f]{40}/", address), address


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A real Redis server."""
    with serving(Redis) as server:
        yield server.url("")


def put(request: Any) -> Any:
    """A view that signs somebody in."""
    request.session["user"] = "alice"
    return {}


def show(request: Any) -> Any:
    """A view that only reads."""
    return request.session.get("user")


def end(request: Any) -> Any:
    """A view that ends the session."""
    request.session.invalidate()
    return {}


def late(request: Any) -> Any:
    """A view that writes after another request has ended the session."""
    request.session.get("user")
    visitor(request.environ["tests.app"], request.environ["HTTP_COOKIE"]).get("/end")
    request.session["late"] = True
    return {}


def site(config: Configurator) -> TestApp:
    """A browser of a site with these views, and with what is configured."""
    app = add_views(config, put=put, show=show, end=end, late=late).make_wsgi_app()
    return visitor(app)


def visitor(app: Any, cookies: str = "") -> TestApp:
    """A browser, with the cookies of another one."""
    extra = {"tests.app": app, **({"HTTP_COOKIE": cookies} if cookies else {})}
    return TestApp(app, extra_environ=extra)


def cookies_of(browser: TestApp) -> str:
    """The browser's cookies, as it sends them."""
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookiejar)


def comes_back(browser: TestApp) -> bool:
    """Whether a session that was ended while another request wrote is there afterwards."""
    browser.get("/put")
    cookies = cookies_of(browser)
    browser.get("/late")
    return visitor(browser.app, cookies).get("/show").json is not None


def old_cookie_works(browser: TestApp) -> bool:
    """Whether somebody who kept the cookie of an ended session still has the session."""
    browser.get("/put")
    cookies = cookies_of(browser)
    browser.get("/end")
    return visitor(browser.app, cookies).get("/show").json is not None


# ---- this package


def test_here_a_session_that_was_ended_stays_ended(tmp_path: Path) -> None:
    browser = site(own_configurator(f"sqlite:///{tmp_path / 'own.sqlite'}"))
    assert not old_cookie_works(browser)
    assert not comes_back(browser)


# ---- Pyramid's signed cookie


def test_a_signed_cookie_that_was_kept_opens_the_session_after_its_end() -> None:
    factory = SignedCookieSessionFactory(SECRET)
    assert old_cookie_works(site(Configurator(session_factory=factory)))


def test_an_encrypted_cookie_that_was_kept_does_so_too(tmp_path: Path) -> None:
    package = pyramid_nacl_session(tmp_path)
    factory = package.EncryptedCookieSessionFactory(SECRET.encode().ljust(32))
    assert old_cookie_works(site(Configurator(session_factory=factory)))


# ---- Beaker


def test_beaker_leaves_the_row_of_a_session_that_was_invalidated(tmp_path: Path) -> None:
    beaker = pytest.importorskip("pyramid_beaker")
    factory = beaker.BeakerSessionFactoryConfig(
        type="ext:database",
        url=f"sqlite:///{tmp_path / 'beaker.sqlite'}",
        data_dir=str(tmp_path / "locks"),
        secret=SECRET,
    )
    assert old_cookie_works(site(Configurator(session_factory=factory)))


# ---- Redis


def test_a_session_in_redis_comes_back_if_a_request_writes_after_its_end(redis_url: str) -> None:
    pytest.importorskip("pyramid_session_redis")
    prefix = "redis.sessions."
    settings = {f"{prefix}secret": SECRET, f"{prefix}redis_url": redis_url}
    config = Configurator(settings=settings)
    config.include("pyramid_session_redis")
    browser = site(config)
    assert not old_cookie_works(browser)
    assert comes_back(browser)


# ---- Flask-Session


@pytest.fixture
def flask_site(tmp_path: Path) -> Iterator[TestApp]:
    """Flask with Flask-Session, and a table of notes in the same database."""
    flask, sqlalchemy = pytest.importorskip("flask"), pytest.importorskip("flask_sqlalchemy")
    app = flask.Flask("comparison")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'flask.sqlite'}"
    database = sqlalchemy.SQLAlchemy(app)
    app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=database)
    pytest.importorskip("flask_session").Session(app)

    class Note(database.Model):  # type: ignore[name-defined,misc]
        id = database.Column(database.Integer, primary_key=True)

    with app.app_context():
        database.create_all()

    def put() -> Any:
        flask.session["user"] = "alice"
        return {}

    def show() -> Any:
        return flask.jsonify(flask.session.get("user"))

    def end() -> Any:
        flask.session.clear()
        return {}

    def late() -> Any:
        visitor(app, flask.request.environ["HTTP_COOKIE"]).get("/end")
        flask.session["late"] = True
        return {}

    def fail() -> Any:
        database.session.add(Note())
        flask.session["failed"] = True
        flask.abort(409)

    def notes() -> Any:
        return flask.jsonify(database.session.query(Note).count())

    for view in (put, show, end, late, fail, notes):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    yield visitor(app)
    with app.app_context():
        database.engine.dispose()


def test_a_session_of_flask_session_comes_back_if_a_request_writes_after_its_end(
    flask_site: TestApp,
) -> None:
    assert comes_back(flask_site)


def test_flask_session_commits_what_a_failed_request_had_pending(flask_site: TestApp) -> None:
    flask_site.get("/fail", status=409)
    assert flask_site.get("/notes").json == 1


def test_flask_session_stores_the_very_value_of_the_cookie(
    flask_site: TestApp, tmp_path: Path
) -> None:
    flask_site.get("/put")
    ((stored,),) = query(tmp_path / "flask.sqlite", "SELECT session_id FROM sessions")
    assert stored.endswith(flask_site.cookies["session"])
