"""Tables of MariaDB's in storage engines without transactions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import cast

import pytest
from sqlalchemy import Engine, create_engine, make_url
from support.apps import Base, SessionRow, configurator, own_configurator, put, serve, statements
from support.servers import Backend

from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import SQLSessionRow, built_in_model
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.table.storage import create_table
from pyramid_sqlsession.upkeep.purge import Purge

LINE = "the session table sqlsession uses the storage engine {}, which has no transactions"


@pytest.fixture(params=["MyISAM", "Aria"])
def storage(request: pytest.FixtureRequest) -> str:
    """A storage engine without transactions."""
    return str(request.param)


@pytest.fixture
def url(mariadb: Backend, storage: str) -> str:
    """The URL of a database in which that is the default."""
    chosen = {"init_command": f"SET default_storage_engine = {storage}"}
    return make_url(mariadb.url).update_query_dict(chosen).render_as_string(hide_password=False)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An engine on it."""
    engine = create_engine(url)
    yield engine
    engine.dispose()


def stored_by(engine: Engine, table: str) -> str:
    with engine.connect() as connection:
        return str(connection.exec_driver_sql(f"SHOW TABLE STATUS LIKE '{table}'").one()[1])


def purge(engine: Engine, model: type = SessionRow) -> None:
    lifetime = Lifetime(Settings.from_options({}))
    list(Purge(Rows(model), lifetime, lambda: 1).batches(engine, 500))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING]


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
@pytest.mark.parametrize("model", [SQLSessionRow, built_in_model("visits")],
                         ids=["default", "named"])  # fmt: skip
def test_the_built_in_model_asks_for_one_with_transactions(
    engine: Engine, model: type, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = Rows(model).table
    other = create_engine(engine.url.set(drivername=f"{dialect}+pymysql"))
    create_table(table, other)
    assert stored_by(engine, table.name) == "InnoDB"
    purge(other, model)
    assert warnings(caplog) == []


def test_the_first_purge_of_a_process_warns_of_another_one(
    engine: Engine, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    Base.metadata.create_all(engine)
    assert stored_by(engine, "sqlsession") == storage
    purge(engine)
    purge(engine)
    (line,) = warnings(caplog)
    assert line.startswith(LINE.format(storage))
    assert line.endswith("ALTER TABLE sqlsession ENGINE = InnoDB")


def test_so_does_a_table_that_is_made_at_a_request(
    engine: Engine, storage: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"sqlsession.create_table": "true"}
    config = configurator(engine, settings, create=False)
    app = serve(config, put=put)
    with engine.begin() as connection:
        Base.metadata.tables["note"].create(connection)
    app.get("/put")
    app.get("/put")
    (line,) = warnings(caplog)
    assert line.startswith(LINE.format(storage))


@pytest.mark.parametrize("way", ["dbsession", "own"])
def test_no_request_asks_for_it(engine: Engine, url: str, way: str) -> None:
    Base.metadata.create_all(engine)
    if way == "own":
        config = own_configurator(url, model=SessionRow, create_table="false")
    else:
        config = configurator(engine, create=False)
    app = serve(config, put=put)
    with statements(cast("Engine", Engine)) as seen:
        app.get("/put")
    assert not [it for it in seen if "information_schema" in it.lower()]
