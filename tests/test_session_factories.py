"""Including the package: whose session factory it is, and what is said where something is wrong."""

from __future__ import annotations

import inspect
import logging
import re
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationConflictError, ConfigurationError
from pyramid.interfaces import ISessionFactory
from pyramid.request import Request
from pyramid.session import SignedCookieSessionFactory
from support.apps import EXPLICIT, add_views, own_configurator, put, serve, show
from webtest import TestApp

from pyramid_sqlsession import SQLSessionFactory

MEMORY = {"sqlsession.fallback_memory": "true", "sqlsession.cleanup_interval": "false"}


def including(**settings: Any) -> Configurator:
    config = Configurator(settings={**EXPLICIT, **MEMORY, **settings})
    config.include("pyramid_sqlsession")
    return config


def keyword_factory() -> SQLSessionFactory:
    return SQLSessionFactory(fallback_memory=True, cleanup_interval=None)


# ---- errors name the line that includes the package


def test_a_wrong_setting_names_the_line_that_includes_the_package() -> None:
    config = including(**{"sqlsession.ttl": "soon"})
    with pytest.raises(ConfigurationError) as caught:
        config.commit()
    assert "sqlsession.ttl = 'soon' is not valid" in str(caught.value)
    assert "Line 0 of file None" not in str(caught.value)
    assert f"of file {__file__}" in str(caught.value)
    assert 'config.include("pyramid_sqlsession")' in str(caught.value)


def test_a_wrong_setting_beside_pyramid_includes_names_where_the_configuration_is_made() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Configurator(
            settings={"pyramid.includes": "pyramid_sqlsession", "sqlsession.ttl": "soon"}
        ).make_wsgi_app()
    assert "Line 0 of file None" not in str(caught.value)
    assert f"of file {__file__}" in str(caught.value)
    assert "(it includes pyramid_sqlsession)" in str(caught.value)


def test_wrong_tweens_name_it_too() -> None:
    config = including(**{"pyramid.tweens": "pyramid_tm.tm_tween_factory"})
    with pytest.raises(ConfigurationError) as caught:
        config.commit()
    assert "the pyramid.tweens setting must list" in str(caught.value)
    assert "Line 0 of file None" not in str(caught.value)


def add_on(config: Any) -> None:
    """An add-on that sets a session factory of its own."""
    config.set_session_factory(SignedCookieSessionFactory("secret"))


def test_a_conflict_with_an_add_on_names_both() -> None:
    config = Configurator(settings=MEMORY)
    config.include(add_on)
    config.include("pyramid_sqlsession")
    with pytest.raises(ConfigurationConflictError) as caught:
        config.commit()
    assert 'config.include("pyramid_sqlsession")' in str(caught.value)
    assert "config.set_session_factory(SignedCookieSessionFactory" in str(caught.value)
    assert "Line 0 of file None" not in str(caught.value)


# ---- the one that counts


def start_up_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    about = re.compile("sessions are stored in|session factory is overridden")
    return [(it.levelno, it.message) for it in caplog.records if about.search(it.message)]


@pytest.fixture
def informed(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_a_factory_of_another_kind_in_its_place_is_named_with_its_line(
    informed: pytest.LogCaptureFixture,
) -> None:
    config = including()
    config.set_session_factory(SignedCookieSessionFactory("secret"))
    line = inspect.stack()[0].lineno - 1
    serve(config)
    ((level, message),) = start_up_lines(informed)
    assert level == logging.WARNING
    assert "the session factory is overridden by pyramid.session." in message
    told = f"set in line {line} of {__file__}: pyramid_sqlsession stores no sessions"
    assert message.endswith(told)


def test_a_factory_with_keywords_in_its_place_says_that_the_settings_do_not_count(
    informed: pytest.LogCaptureFixture,
) -> None:
    config = including()
    config.set_session_factory(keyword_factory())
    serve(config)
    (level, message), _ = start_up_lines(informed)
    assert level == logging.INFO
    assert "overridden by pyramid_sqlsession.factory.SQLSessionFactory, set in line" in message
    assert "the sqlsession.* settings are ignored" in message


def test_one_that_was_set_behind_the_back_of_the_configuration_is_named_without_a_line(
    informed: pytest.LogCaptureFixture,
) -> None:
    config = including()
    config.commit()
    config.registry.registerUtility(add_on, ISessionFactory)
    serve(config)
    ((_, message),) = start_up_lines(informed)
    assert f"overridden by {__name__}.add_on: " in message


def test_where_nothing_is_in_its_place_nothing_is_said(
    informed: pytest.LogCaptureFixture,
) -> None:
    serve(including())
    ((_, message),) = start_up_lines(informed)
    assert "sessions are stored in table" in message


# ---- wrong uses


def test_a_second_factory_in_one_application_is_an_error() -> None:
    second = keyword_factory()
    app = serve(including(), second=lambda request: dict(second(request)), show=show)
    with pytest.raises(ConfigurationError, match="this SQLSessionFactory is not the application's"):
        app.get("/second")
    assert app.get("/show").json == {}


def test_a_second_factory_that_serves_another_application_is_an_error_too() -> None:
    other = including()
    other.set_session_factory(second := keyword_factory())
    serve(other)

    def both(request: Any) -> Any:
        return [dict(request.session), dict(second(request))]

    with pytest.raises(ConfigurationError, match="this SQLSessionFactory is not the application's"):
        serve(including(), both=both).get("/both")


def test_a_factory_inside_somebody_elses_is_an_error_that_names_that() -> None:
    inner = keyword_factory()

    def outer_factory(request: Any) -> Any:
        return inner(request)

    config = including()
    config.set_session_factory(outer_factory)
    with pytest.raises(ConfigurationError) as caught:
        serve(config, show=show).get("/show")
    assert f"session factory is {__name__}." in str(caught.value)
    assert "outer_factory, set in line" in str(caught.value)
    assert "Pass the SQLSessionFactory itself" in str(caught.value)


def test_a_session_before_there_is_an_application_is_an_error_that_says_so() -> None:
    config = including()
    config.commit()
    request = Request.blank("/")
    request.registry = config.registry
    factory = config.registry.getUtility(ISessionFactory)
    with pytest.raises(ConfigurationError, match=r"call config\.make_wsgi_app\(\) first"):
        factory(request)
    add_views(config, put=put).make_wsgi_app()
    assert dict(factory(request)) == {}


# ---- the database that is chosen


def test_a_url_beside_a_database_session_is_a_warning_at_start_up(
    sqlite: Any, informed: pytest.LogCaptureFixture
) -> None:
    config = own_configurator(sqlite.url)
    config.add_request_method(lambda request: None, "dbsession", reify=True)
    serve(config)
    (message,) = [it.message for it in informed.records if it.levelno == logging.WARNING]
    assert "sqlsession.sqlalchemy.url bypasses request.dbsession" in message


def test_an_asynchronous_database_session_is_an_error_that_says_so() -> None:
    from sqlalchemy.ext.asyncio import AsyncSession

    config = Configurator(settings=EXPLICIT)
    config.add_request_method(lambda request: AsyncSession(), "dbsession", reify=True)
    config.include("pyramid_sqlsession")
    with pytest.raises(
        ConfigurationError, match=r"not a synchronous SQLAlchemy Session \(<.*AsyncSession"
    ):
        TestApp(add_views(config, put=put).make_wsgi_app()).get("/put")
