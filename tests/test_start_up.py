"""What the log says at start-up where something will not work, and that it is silent elsewhere."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from support.apps import NO_CLEANING, SessionRow, configurator, own_configurator, serve
from support.servers import Backend

from pyramid_sqlsession import SQLSessionFactory
from pyramid_sqlsession.table import model as models

URL = "sqlite:///sessions.sqlite"
WARNED = {
    "built-in model": "no model of yours uses SessionMixin, or its module is not imported: "
    "sessions use the built-in model, whose table sqlsession your migrations do not create; if "
    "that is what you want, set sqlsession.table",
    "own engine": "sqlsession.sqlalchemy.url bypasses request.dbsession: sessions are stored "
    "through another engine, not in the application's transactions. Remove the setting to store "
    "both in one transaction",
    "pickle": "sqlsession.serializer loads sessions with _pickle.loads, which can execute code: "
    "anyone who can write to the database can run code in the application",
    "memory": "sqlsession.fallback_memory = true: all sessions are lost when this process ends",
}


@pytest.fixture
def without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process in which no model uses SessionMixin: those of other tests do."""
    monkeypatch.setattr(models, "_mapped", lambda _: iter(()))


def with_dbsession(settings: dict[str, Any]) -> Configurator:
    """An application as the cookiecutter makes it."""
    config = Configurator(settings={**NO_CLEANING, **settings})
    config.add_request_method(lambda request: None, "dbsession", reify=True)
    config.include("pyramid_sqlsession")
    return config


def started(caplog: pytest.LogCaptureFixture, config: Configurator) -> list[tuple[int, str]]:
    """What the log says when the application is made."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "pyramid_sqlsession"):
        config.make_wsgi_app()
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def warnings(lines: list[tuple[int, str]]) -> list[str]:
    return [line for level, line in lines if level >= logging.WARNING]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("built-in model", {}),
        ("own engine", {"sqlsession.sqlalchemy.url": URL}),
        ("pickle", {"sqlsession.table": "sqlsession", "sqlsession.serializer": pickle}),
    ],
)
@pytest.mark.usefixtures("without_models")
def test_what_will_not_work_is_one_warning(
    name: str, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings(started(caplog, with_dbsession(settings))) == [WARNED[name]]


def test_sessions_in_memory_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    config = Configurator(settings={**NO_CLEANING, "sqlsession.fallback_memory": "true"})
    config.registry.settings["sqlsession.model"] = SessionRow
    config.include("pyramid_sqlsession")
    assert warnings(started(caplog, config)) == [WARNED["memory"]]


@pytest.mark.parametrize(
    "settings",
    [
        {"sqlsession.model": SessionRow},
        {"sqlsession.table": "sqlsession"},
        {"sqlsession.create_table": "true"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("without_models")
def test_nothing_wrong_is_one_line_that_names_the_table_and_no_warning(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ((level, line),) = started(caplog, with_dbsession(settings))
    assert level == logging.INFO
    assert line.startswith("sessions are stored in table sqlsession")
    assert line.endswith("through the application's database session, request.dbsession")


@pytest.mark.usefixtures("without_models")
def test_an_engine_of_its_own_needs_no_model_and_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = own_configurator(URL, model="none")
    ((level, line),) = started(caplog, config)
    assert (level, line) == (
        logging.INFO,
        f"sessions are stored in table sqlsession, through an engine of its own, {URL}",
    )


# ---- another session factory


def test_another_session_factory_is_one_warning_that_says_whose(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = own_configurator(URL)
    config.set_session_factory(SignedCookieSessionFactory("secret"))
    (line,) = warnings(started(caplog, config))
    assert line.startswith("the session factory is overridden by pyramid.session.")
    assert line.endswith(": pyramid_sqlsession stores no sessions")
    assert __file__ in line


def test_a_factory_made_in_python_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    config = own_configurator(URL)
    options: dict[str, Any] = {"sqlalchemy": {"url": URL}, "cleanup_interval": None}
    config.set_session_factory(SQLSessionFactory(**options))
    lines = started(caplog, config)
    assert not warnings(lines)
    assert lines[0][1].startswith("the session factory is overridden by pyramid_sqlsession.")
    assert lines[0][1].endswith(": the sqlsession.* settings are ignored")


# ---- an asynchronous driver


def test_an_asynchronous_driver_of_its_own_engine_stops_the_application() -> None:
    config = own_configurator("postgresql+asyncpg://localhost/shop")
    with pytest.raises(ConfigurationError, match=r"begins with postgresql.asyncpg://, an asynch"):
        config.make_wsgi_app()


def test_an_asynchronous_database_session_is_an_error_at_its_first_use() -> None:
    config = Configurator(settings={**NO_CLEANING, "sqlsession.model": SessionRow})
    config.add_request_method(lambda request: AsyncSession(), "dbsession", reify=True)
    config.include("pyramid_sqlsession")
    app = serve(config, set=lambda request: request.session.update(a=1))
    with pytest.raises(
        ConfigurationError, match=r"not a synchronous SQLAlchemy Session \(<.*AsyncSession"
    ):
        app.get("/set")


# ---- a cookie that browsers discard: known once a request has come


@pytest.fixture
def secure(sqlite: Backend) -> Callable[[dict[str, str]], Any]:
    """An application whose cookie is always Secure."""

    def make(environ: dict[str, str]) -> Any:
        engine = create_engine(sqlite.url)
        config = configurator(engine, {"sqlsession.cookie_name": "__Host-id"})
        app = serve(config, set=lambda request: request.session.update(a=1))
        app.extra_environ.update(environ)
        return app

    return make


def test_a_secure_cookie_over_http_is_one_warning(
    secure: Callable[[dict[str, str]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = secure({})
    for _ in range(3):
        app.get("/set")
    (line,) = (it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING)
    assert line == (
        "the cookie __Host-id is Secure but was set over http: browsers discard it. Serve the "
        "application over https; behind a proxy that does, make request.scheme https too "
        "(see troubleshooting.html#trouble-empty)"
    )


def test_a_secure_cookie_over_https_is_no_warning(
    secure: Callable[[dict[str, str]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    secure({"wsgi.url_scheme": "https"}).get("/set")
    assert not [it for it in caplog.records if it.levelno >= logging.WARNING]
