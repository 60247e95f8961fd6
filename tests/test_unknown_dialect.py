"""A database of which the package knows nothing by name: what SQLAlchemy says of it has to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from support.apps import (
    EPOCH,
    Broken,
    Clock,
    SessionRow,
    configurator,
    rows,
    serve,
    show,
)
from support.servers import Backend

from pyramid_sqlsession.database.aside import maintaining
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

HOUR = 3600


class Stranger(SQLiteDialect_pysqlite):
    """SQLite by another name."""

    name = "stranger"
    supports_statement_cache = True


registry.register("stranger", __name__, "Stranger")


@pytest.fixture
def engine(sqlite: Backend) -> Iterator[Engine]:
    engine = create_engine(sqlite.url.replace("sqlite:", "stranger:", 1))
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(request: Any) -> None:
    request.session["n"] = 1


def test_sessions_are_stored_and_their_activity_is_recorded(engine: Engine, clock: Clock) -> None:
    app = serve(configurator(engine, clock=clock), put=put, show=show)
    app.get("/put")
    clock.advance(HOUR)
    assert app.get("/show").json == {"n": 1}
    assert [row["last_seen"] for row in rows(engine)] == [EPOCH + HOUR]


def test_expired_sessions_are_deleted(engine: Engine, clock: Clock) -> None:
    app = serve(configurator(engine, clock=clock, ttl=HOUR), put=put)
    app.get("/put")
    clock.advance(24 * HOUR)
    lifetime = Lifetime(Settings.from_options({"ttl": HOUR}))
    assert sum(Purge(Rows(SessionRow), lifetime, clock).batches(engine, 10)) == 1
    assert rows(engine) == []


def test_what_fails_outside_of_requests_is_rolled_back(engine: Engine, clock: Clock) -> None:
    app = serve(configurator(engine, clock=clock), put=put)
    app.get("/put")
    with suppress(Broken), maintaining(engine) as connection:
        connection.exec_driver_sql("DELETE FROM sqlsession")
        raise Broken
    assert len(rows(engine)) == 1
