"""The built-in model and its table, and models on bases of every kind."""

from __future__ import annotations

import logging

import pytest
from pyramid.exceptions import ConfigurationError
from sqlalchemy import Engine, String, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from support.apps import configurator, own_configurator, put, rows, serve, show
from support.servers import Backend

from pyramid_sqlsession import SessionMixin, SessionTableError, SQLSessionFactory
from pyramid_sqlsession.table import model
from pyramid_sqlsession.table.model import SQLSessionRow, built_in_model, resolve_model

NO_MODEL = "no model of yours uses SessionMixin, or its module is not imported"


def test_two_applications_in_one_database_have_a_table_each(
    backend: Backend, engine: Engine
) -> None:
    names = ("shop_session", "forum_session")
    for name in names:
        app = serve(own_configurator(backend.url, model="none", table=name), put=put, show=show)
        app.get("/put")
        assert app.get("/show").json == {"cart": [1]}
    assert sorted(inspect(engine).get_table_names()) == sorted(names)
    for name in names:
        assert len(rows(engine, built_in_model(name).__table__)) == 1  # type: ignore[attr-defined]


def test_the_table_is_named_for_an_applications_database_session_too(engine: Engine) -> None:
    settings = {
        "sqlsession.model": "none",
        "sqlsession.table": "shop_session",
        "sqlsession.create_table": "true",
    }
    app = serve(configurator(engine, settings, create=False), put=put, show=show)
    app.get("/put")
    assert app.get("/show").json == {"cart": [1]}
    assert inspect(engine).get_table_names() == ["shop_session"]


def test_the_name_of_a_table_wins_over_a_model_that_would_be_found() -> None:
    assert resolve_model(None, "shop_session") is built_in_model("shop_session")


def test_the_model_of_a_named_table_is_none_of_the_applications() -> None:
    built_in_model("shop_session")
    assert not any(model.is_built_in(it) for it in model._mapped(SessionMixin))


def test_a_model_of_the_applications_says_its_table_itself() -> None:
    with pytest.raises(ConfigurationError, match=r"sqlsession\.model and sqlsession\.table are"):
        SQLSessionFactory(model=SQLSessionRow, table="shop_session")


@pytest.mark.parametrize("name", ["shop session", "1st", "shop.session", "x" * 49, 'a"b'])
def test_a_name_that_needs_care_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"table = .* is not valid"):
        SQLSessionFactory(table=name)


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the application had declared none."""
    monkeypatch.setattr(model, "_mapped", lambda cls: iter(()))


def test_no_model_is_said_at_start_up_and_where_the_table_is_missing(
    engine: Engine, no_models: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = serve(configurator(engine, {"sqlsession.model": "none"}, create=False), put=put)
    assert f"{NO_MODEL}: sessions use the built-in model" in caplog.text
    with pytest.raises(SessionTableError, match=NO_MODEL):
        app.get("/put")


def test_who_names_a_model_is_not_told_that_there_is_none(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = serve(configurator(engine, create=False), put=put)
    assert "sessions are stored in table sqlsession, through" in caplog.text
    with pytest.raises(SessionTableError) as caught:
        app.get("/put")
    assert NO_MODEL not in str(caught.value)


def test_without_a_database_session_nobody_misses_a_model(
    sqlite: Backend, no_models: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    serve(own_configurator(sqlite.url, model="none"))
    assert "sessions are stored in table sqlsession, through an engine of its own" in caplog.text


@pytest.mark.parametrize("keywords_only", [False, True])
def test_a_model_on_a_base_of_dataclasses(engine: Engine, keywords_only: bool) -> None:
    class DataBase(MappedAsDataclass, DeclarativeBase, kw_only=keywords_only):  # type: ignore[literal-required]  # both are tried
        pass

    class Owner(DataBase):
        __tablename__ = "owner"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str | None] = mapped_column(String(40), default=None)

    class WebSession(SessionMixin, DataBase):
        __tablename__ = "web_session"
        user_id: Mapped[int | None] = mapped_column(index=True, default=None)
        note: Mapped[str | None] = mapped_column(String(40), default=None)

    DataBase.metadata.create_all(engine)
    app = serve(configurator(engine, {"sqlsession.model": WebSession}), put=put, show=show)
    app.get("/put")
    assert app.get("/show").json == {"cart": [1]}
    columns = inspect(WebSession).columns
    assert (columns["version"].nullable, columns["max_age"].nullable) == (False, True)
    assert WebSession(note="mine").note == "mine"
    DataBase.registry.dispose()
