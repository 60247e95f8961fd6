"""The how-to page about running sessions safely: its grants are enough, its URLs are accepted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, make_url, update
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.orm import Session
from support.apps import own_configurator, put, serve, show
from support.docs.pages import DOCS, named_blocks
from support.servers import Backend

from pyramid_sqlsession import SessionTableError
from pyramid_sqlsession.database.engine import make_engine
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import SQLSessionRow
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

BLOCKS = named_blocks(DOCS / "howto" / "running_safely.rst")
GRANTS = {
    "postgresql": BLOCKS["grants-postgresql"],
    "mariadb": BLOCKS["grants-mariadb"],
    "mysql": BLOCKS["grants-mariadb"],
}
TLS = {name: BLOCKS[name] for name in ("tls-postgresql", "tls-mariadb")}
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
USER = "auth.userid"


@pytest.fixture
def owner(backend: Backend) -> Iterator[Engine]:
    """The owner of a table for which the page's role has its grants."""
    engine = create_engine(backend.url, isolation_level="AUTOCOMMIT")
    SQLSessionRow.metadata.create_all(engine)
    statements = GRANTS[backend.name].replace("shop.", f"{engine.url.database}.")
    execute(engine, *statements.replace("10.0.0.%", "%").split(";\n"))
    yield engine
    forget = "DROP OWNED BY shop_web" if backend.name == "postgresql" else ""
    drop = "DROP ROLE shop_web" if backend.name == "postgresql" else "DROP USER 'shop_web'@'%'"
    execute(engine, forget, drop)
    engine.dispose()


def execute(engine: Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in filter(None, statements):
            connection.exec_driver_sql(statement.replace("%", "%%"))


def live_through_everything(owner: Engine) -> None:
    """What sessions do, as the page's role, from their beginning to the purge."""
    with Session(owner) as session:
        session.execute(delete(SQLSessionRow))
        session.commit()
    url = owner.url.set(username="shop_web", password="secret")  # the page's
    text = url.render_as_string(hide_password=False)

    def sign_in(request: Any) -> Any:
        request.session[USER] = "alice"
        return {}

    def leave(request: Any) -> Any:
        request.session.invalidate()
        return {}

    def devices(request: Any) -> Any:
        request.session.require_live()
        return len(request.sqlsessions.of_user("alice"))

    app = serve(
        own_configurator(text, create_table="false", max_sessions_per_user="2"),
        put=put, sign_in=sign_in, leave=leave, devices=devices, show=show,
    )  # fmt: skip
    for path in ("put", "put", "sign_in", "sign_in"):
        app.get(f"/{path}")
    assert app.get("/devices").json == 1
    app.get("/leave")
    app.get("/put")
    with Session(owner) as session:
        session.execute(update(SQLSessionRow).values(created=0, last_seen=0, purge_after=0))
        session.commit()
    engine = create_engine(url)
    purge = Purge(Rows(SQLSessionRow), Lifetime(Settings()), lambda: int(time.time()))
    assert sum(purge.batches(engine, 10)) >= 1
    engine.dispose()


@pytest.mark.parametrize("backend", GRANTS, indirect=True)
def test_the_grants_on_the_page_are_enough_and_no_more(backend: Backend, owner: Engine) -> None:
    live_through_everything(owner)
    table, role = "sqlsession", "shop_web"
    if backend.dialect == "mysql":
        table, role = f"{owner.url.database}.sqlsession", "'shop_web'@'%'"
    for privilege in PRIVILEGES:
        execute(owner, f"REVOKE {privilege} ON {table} FROM {role}")
        with pytest.raises((DBAPIError, SessionTableError)):
            live_through_everything(owner)
        execute(owner, f"GRANT {privilege} ON {table} TO {role}")
    live_through_everything(owner)


@pytest.mark.parametrize("backend", GRANTS, indirect=True)
def test_the_role_cannot_change_the_table_itself(backend: Backend, owner: Engine) -> None:
    url = owner.url.set(username="shop_web", password="secret")  # the page's
    engine = create_engine(url)
    with engine.connect() as connection:
        for statement in ("DROP TABLE sqlsession", "ALTER TABLE sqlsession ADD more INTEGER"):
            with pytest.raises((ProgrammingError, DBAPIError)):
                connection.exec_driver_sql(statement)
            connection.rollback()
    engine.dispose()


@pytest.mark.parametrize("name", TLS)
def test_the_urls_with_tls_ask_for_a_verified_server(name: str) -> None:
    url = TLS[name].partition(" = ")[2].strip()
    engine, _ = make_engine({"url": url})
    _, options = engine.dialect.create_connect_args(make_url(url))
    if "postgresql" in name:
        assert (options["sslmode"], options["sslrootcert"]) == ("verify-full", "/etc/shop/ca.pem")
    else:
        assert (options["ssl_verify_identity"], options["ssl"]["ca"]) == (
            "true",
            "/etc/shop/ca.pem",
        )
    engine.dispose()
