"""An application as Pyramid's cookiecutter makes it: each request asks its ``dbsession`` something.

Once without sessions, once with ours, and once with what a session needs at the least: the same
statements with SQLAlchemy's Core, on the same connection.
"""

from __future__ import annotations

from secrets import token_bytes
from typing import Any

import zope.sqlalchemy
from pyramid.response import Response
from sqlalchemy import Column, Engine, Integer, Table, bindparam, event, insert, select
from support.apps import Base, Note, configurator

from pyramid_sqlsession.table.model import DATA, ID

from .pyramids import VIEWS, View, application, nothing

_QUERY = select(Note.text).where(Note.id == 1)

CORE = Table(
    "core",
    Base.metadata,
    Column("id", ID, primary_key=True),
    Column("data", DATA, nullable=False),
    Column("version", Integer, nullable=False),
)
_SELECT = select(CORE.c.data, CORE.c.version).where(CORE.c.id == bindparam("b_id"))
_UPDATE = (
    CORE.update()
    .where(CORE.c.id == bindparam("b_id"), CORE.c.version == bindparam("b_version"))
    .values(data=bindparam("b_data"), version=CORE.c.version + 1)
)
_INSERT = CORE.insert().values(id=bindparam("b_id"), data=bindparam("b_data"), version=1)


def prepare(engine: Engine) -> None:
    """Make the application's tables, and something to ask for."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _as_advised)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Note).values(id=1, text="a note"))


def _as_advised(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def without(engine: Engine) -> Any:
    """Without sessions."""
    config = configurator(engine, create=False, include=False)
    return application(config, {"unused": _asking(nothing)})


def with_sessions(engine: Engine) -> Any:
    """With this package."""
    config = configurator(engine, create=False)
    return application(config, {name: _asking(view) for name, view in VIEWS.items()})


def with_core(engine: Engine) -> Any:
    """With bare statements in the place of sessions."""
    config = configurator(engine, create=False, include=False)
    views = {"unused": nothing, "read": _read, "write": _write, "new": _new}
    return application(config, {name: _asking(view) for name, view in views.items()})


def _asking(view: View) -> View:
    def ask_and_answer(request: Any) -> Any:
        assert request.dbsession.scalar(_QUERY) == "a note"
        return view(request)

    return ask_and_answer


def _key(request: Any) -> bytes:
    return bytes.fromhex(request.environ["HTTP_COOKIE"].removeprefix("key="))


def _read(request: Any) -> Response:
    connection = request.dbsession.connection()
    return Response(connection.execute(_SELECT, {"b_id": _key(request)}).one().data)


def _write(request: Any) -> Response:
    connection, key = request.dbsession.connection(), _key(request)
    row = connection.execute(_SELECT, {"b_id": key}).one()
    data = request.environ["bench.data"]
    values = {"b_id": key, "b_version": row.version, "b_data": data}
    assert connection.execute(_UPDATE, values).rowcount == 1
    zope.sqlalchemy.mark_changed(request.dbsession, transaction_manager=request.tm)
    return Response(data)


def _new(request: Any) -> Response:
    key, data = token_bytes(32), request.environ["bench.data"]
    request.dbsession.connection().execute(_INSERT, {"b_id": key, "b_data": data})
    zope.sqlalchemy.mark_changed(request.dbsession, transaction_manager=request.tm)
    response = Response(data)
    response.set_cookie("key", key.hex())
    return response
