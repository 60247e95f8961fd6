"""Including the package: whose session factory is used, and in which order the tweens are."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory, ITweens
from pyramid.session import SignedCookieSessionFactory
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.apps import Base, SessionRow, configurator, put, rows, serve, show

from pyramid_sqlsession import SQLSessionFactory

TM = "pyramid_tm.tm_tween_factory"
SAVE = "pyramid_sqlsession.save_tween_factory"
EXCVIEW = "pyramid.tweens.excview_tween_factory"
TOOLBAR = "pyramid_debugtoolbar.toolbar_tween_factory"


# ---- whose session factory


def test_a_factory_that_nothing_saves_is_an_error(engine: Engine) -> None:
    config = configurator(engine, include=False)
    config.set_session_factory(SQLSessionFactory(model=SessionRow))
    with pytest.raises(ConfigurationError, match=r"config\.include\('pyramid_sqlsession'\)"):
        serve(config, put=put).get("/put")


def test_a_factory_given_to_the_configurator_is_the_one_that_is_used(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    factory = SQLSessionFactory(model=SessionRow, cookie_name="mine")
    config = Configurator(session_factory=factory)
    config.include("pyramid_sqlsession")

    def dbsession(request: Any) -> Session:
        session = Session(engine)
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config.add_request_method(dbsession, reify=True)
    app = serve(config, put=put, show=show)
    app.get("/put")
    assert "mine" in app.cookies
    assert app.get("/show").json == {"cart": [1]}
    assert config.registry.getUtility(ISessionFactory) is factory


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_factory_of_the_applications_own_wins_over_the_ini_file(
    engine: Engine, first: bool
) -> None:
    config = configurator(engine, include=not first)
    config.set_session_factory(SQLSessionFactory(model=SessionRow, cookie_name="mine"))
    config.include("pyramid_sqlsession")
    app = serve(config, put=put)
    app.get("/put")
    assert "mine" in app.cookies


def test_another_session_factory_of_the_application_is_left_alone(engine: Engine) -> None:
    config = configurator(engine)
    config.set_session_factory(SignedCookieSessionFactory("secret"))
    app = serve(config, put=put, show=show)
    app.get("/put")
    assert app.get("/show").json == {"cart": [1]}
    assert rows(engine) == []


# ---- explicit lists of tweens


def test_an_explicit_list_of_tweens_in_the_right_order_is_accepted(engine: Engine) -> None:
    config = configurator(engine, {"pyramid.tweens": f"{TM}\n{SAVE}\n{EXCVIEW}"})
    app = serve(config, put=put, show=show)
    app.get("/put")
    assert app.get("/show").json == {"cart": [1]}


@pytest.mark.parametrize(
    "tweens",
    [
        [TM, EXCVIEW],
        [SAVE, TM, EXCVIEW],
        [TM, EXCVIEW, SAVE],
        [EXCVIEW, SAVE, TM],
        [EXCVIEW],
    ],
    ids=["missing", "over tm", "under the exception views", "upside down", "exception views only"],
)
def test_an_explicit_list_of_tweens_that_loses_sessions_is_an_error_with_the_line_to_add(
    engine: Engine, tweens: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as error:
        configurator(engine, {"pyramid.tweens": "\n".join(tweens)}).make_wsgi_app()
    assert f"  {TM}\n  {SAVE}\n  {EXCVIEW}" in str(error.value)


def test_an_explicit_list_of_tweens_is_free_where_another_factory_is_registered(
    engine: Engine,
) -> None:
    config = configurator(engine, {"pyramid.tweens": f"{TM}\n{EXCVIEW}"})
    config.set_session_factory(SignedCookieSessionFactory("secret"))
    serve(config, put=put).get("/put")
    assert rows(engine) == []


# ---- the order of tweens

# they include the debug toolbar
with_toolbar = pytest.mark.usefixtures("with_toolbar")


def other_tween_factory(handler: Any, registry: Any) -> Any:
    return handler


def include_tween(config: Configurator, **place: Any) -> None:
    config.add_tween(f"{__name__}.other_tween_factory", **place)


INCLUDES: dict[str, Callable[[Configurator], Any]] = {
    "pyramid_tm": lambda config: config.include("pyramid_tm"),
    "pyramid_retry": lambda config: config.include("pyramid_retry"),
    "pyramid_debugtoolbar": lambda config: config.include("pyramid_debugtoolbar"),
    "pyramid_sqlsession": lambda config: config.include("pyramid_sqlsession"),
    "a tween": include_tween,
}


def order_of(includes: tuple[str, ...]) -> list[str]:
    """The names of the tweens, from the outermost to the innermost."""
    config = Configurator(
        settings={"sqlsession.model": SessionRow, "sqlsession.fallback_memory": "true"}
    )
    for name in includes:
        INCLUDES[name](config)
    config.commit()
    return [name for name, _ in config.registry.getUtility(ITweens).implicit()]


@with_toolbar
def test_the_save_tween_is_between_pyramid_tm_and_the_exception_views_in_every_order() -> None:
    for includes in itertools.permutations(INCLUDES):
        names = order_of(includes)
        assert len(names) == 5, includes
        assert [name for name in names if name in (TM, SAVE, EXCVIEW)] == [TM, SAVE, EXCVIEW]
        assert names.index(TOOLBAR) < names.index(SAVE)


@with_toolbar
@pytest.mark.parametrize("includes", [("pyramid_sqlsession",), ("pyramid_sqlsession", "a tween")])
def test_including_the_package_includes_pyramid_tm(includes: tuple[str, ...]) -> None:
    names = [name for name in order_of(includes) if name in (TM, SAVE, EXCVIEW)]
    assert names == [TM, SAVE, EXCVIEW]
