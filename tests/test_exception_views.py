"""What exception views read, change and store, with the transaction that the error has ended."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from support.apps import (
    Broken,
    Note,
    Resource,
    both_managers,
    configurator,
    every_manager,
    notes,
    plain_engine,
    put,
    refuse,
    serve,
    session_cookies,
    show,
)
from support.failing import error_page, fail, fail_at_vote, on_error, stored, warnings
from support.servers import Backend

SAYS_COMMIT = {"tm.commit_veto": lambda request, response: False}


def flash(request: Any) -> Any:
    request.session.flash("hello")
    return {}


@every_manager
def test_an_exception_view_works_with_the_session_as_it_was_loaded(
    engine: Engine, manager: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = on_error(configurator(engine, **manager), error_page, Broken)
    app = serve(config, flash=flash, fail=fail, show=show)
    response = app.get("/fail")
    assert response.json == {"cart": None, "flash": ["sorry"], "token": True}
    assert len(session_cookies(response)) == 1
    app.get("/flash")
    response = app.get("/fail")
    assert response.json == {"cart": None, "flash": ["hello", "sorry"], "token": True}
    assert session_cookies(response) == []
    assert notes(engine) == []
    assert list(app.get("/show").json) == ["_csrft_"]


def bad_statement(request: Any) -> Any:
    """A statement that fails, and on PostgreSQL the transaction with it."""
    request.dbsession.add(Note(text="lost"))
    request.dbsession.flush()
    request.dbsession.execute(text("SELECT * FROM nothing"))


def bad_flush(request: Any) -> Any:
    """A flush that fails: the SQLAlchemy session wants a rollback before it does anything else."""
    request.dbsession.add(Note(text="lost"))
    request.dbsession.flush()
    request.dbsession.add(Note(text=None))
    request.dbsession.flush()


def bad_commit(request: Any) -> Any:
    """A COMMIT of the view's own that fails."""
    request.dbsession.add(Note(text="lost"))
    request.tm.get().join(Resource(refuse))
    request.tm.commit()


every_bad_transaction = pytest.mark.parametrize(
    "bad", [bad_flush, bad_commit], ids=lambda bad: bad.__name__
)
every_veto = pytest.mark.parametrize("settings", [{}, SAYS_COMMIT], ids=["no veto", "says commit"])


def visit_bad(engine: Engine, bad: Any, page: Any, settings: Any, explicit: bool = True) -> Any:
    """What the exception view *page* says of a stored session after *bad*."""
    config = on_error(configurator(engine, settings, explicit=explicit), page)
    app = serve(config, put=put, bad=bad)
    app.get("/put")
    response = app.get("/bad")
    assert session_cookies(response) == []
    assert notes(engine) == []
    (data,) = stored(engine)
    # what the page did is kept
    assert ("_csrft_" in data) is (page is error_page)
    assert data.pop("_csrft_", None) is None or data == {"cart": [1]}
    return response.json


@every_bad_transaction
@every_veto
@both_managers
def test_an_exception_view_reads_the_session_first_after_the_transaction_failed(
    engine: Engine, bad: Any, settings: Any, explicit: bool
) -> None:
    assert visit_bad(engine, bad, show, settings, explicit) == {"cart": [1]}


@every_bad_transaction
@every_veto
@both_managers
def test_what_an_exception_view_changes_is_kept_after_the_transaction_failed(
    engine: Engine, bad: Any, settings: Any, explicit: bool
) -> None:
    answer = {"cart": [1], "flash": ["sorry"], "token": True}
    assert visit_bad(engine, bad, error_page, settings, explicit) == answer


def test_an_exception_view_that_reads_in_a_lost_transaction_dooms_it(engine: Engine) -> None:
    """Else a veto that likes the page has pyramid_tm commit, which fails."""
    config = on_error(configurator(engine, SAYS_COMMIT), show, IntegrityError)
    app = serve(config, put=put, bad=bad_flush)
    app.get("/put")
    assert app.get("/bad").json == {"cart": [1]}
    assert notes(engine) == []


@every_veto
def test_an_exception_view_reads_the_session_first_after_a_statement_failed(
    postgresql: Backend, settings: Any
) -> None:
    engine = plain_engine(postgresql.url)
    assert visit_bad(engine, bad_statement, show, settings) == {"cart": [1]}


@every_veto
def test_what_an_exception_view_changes_is_kept_after_a_statement_failed(
    postgresql: Backend, settings: Any
) -> None:
    engine = plain_engine(postgresql.url)
    answer = {"cart": [1], "flash": ["sorry"], "token": True}
    assert visit_bad(engine, bad_statement, error_page, settings) == answer


def test_an_exception_view_reads_the_session_first_after_a_savepoint_failed(
    sqlite: Backend,
) -> None:
    """zope.sqlalchemy has none on SQLite, and the transaction is lost for having asked."""

    def bad_savepoint(request: Any) -> Any:
        request.dbsession.add(Note(text="lost"))
        request.dbsession.flush()
        request.tm.savepoint()

    engine = plain_engine(sqlite.url)
    assert visit_bad(engine, bad_savepoint, show, {}) == {"cart": [1]}


def test_a_session_that_the_lost_transaction_cannot_store_leaves_the_error_page_alone(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The veto says commit, and what the view changed before it failed is to be stored."""

    def change_and_fail(request: Any) -> Any:
        put(request)
        bad_flush(request)

    page = visit_bad(engine, change_and_fail, lambda request: "sorry", SAYS_COMMIT)
    assert page == "sorry"
    assert len(warnings(caplog, logging.ERROR)) == 1


@every_manager
def test_an_exception_view_for_a_failed_commit_works_with_the_session_as_it_was_loaded(
    engine: Engine, manager: Any
) -> None:
    """pyramid_tm calls it, above the save tween."""
    config = on_error(configurator(engine, **manager), error_page, Broken)
    app = serve(config, put=put, vote=fail_at_vote, show=show)
    response = app.get("/vote")
    assert response.json == {"cart": None, "flash": ["sorry"], "token": True}
    assert len(session_cookies(response)) == 1
    app.get("/put")
    response = app.get("/vote")
    assert response.json == {"cart": [1], "flash": ["sorry"], "token": True}
    assert session_cookies(response) == []
    assert sorted(app.get("/show").json) == ["_csrft_", "cart"]
    assert app.get("/show").json["cart"] == [1]


def test_an_exception_view_for_a_failed_commit_may_be_the_first_to_read(engine: Engine) -> None:
    def vote(request: Any) -> Any:
        request.tm.get().join(Resource(refuse))
        return {}

    config = on_error(configurator(engine), error_page, Broken)
    app = serve(config, put=put, vote=vote, show=show)
    app.get("/put")
    assert app.get("/vote").json == {"cart": [1], "flash": ["sorry"], "token": True}
    assert sorted(app.get("/show").json) == ["_csrft_", "cart"]


@both_managers
def test_what_an_exception_view_changes_is_stored_where_the_veto_says_commit(
    engine: Engine, explicit: bool
) -> None:
    config = on_error(configurator(engine, SAYS_COMMIT, explicit=explicit), flash, Broken)
    app = serve(config, fail=fail)
    assert len(session_cookies(app.get("/fail"))) == 1
    assert stored(engine) == [{"cart": [1], "_f_": ["hello"]}]
    assert notes(engine) == ["ordered"]
