"""Applications for the tests, built as the official cookiecutter builds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import zope.sqlalchemy
from pyramid.config import Configurator
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Engine, ForeignKey, String, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from transaction.interfaces import IDataManager
from webtest import TestApp
from zope.interface import implementer

from pyramid_sqlsession import SessionMixin, SQLSessionFactory
from pyramid_sqlsession.table.model import SQLSessionRow

EPOCH = 1_800_000_000

NO_CLEANING = {"sqlsession.cleanup_interval": "false"}
EXPLICIT = {"tm.manager_hook": "pyramid_tm.explicit_manager"}
VETO = {"tm.commit_veto": "pyramid_tm.default_commit_veto"}

both_managers = pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "thread-local"])
every_manager = pytest.mark.parametrize(
    "manager",
    [
        pytest.param({"explicit": explicit, "retry": retry}, id=f"{name}{'+retry' * retry}")
        for explicit, name in ((True, "explicit"), (False, "thread-local"))
        for retry in (False, True)
    ],
)


class Base(DeclarativeBase):
    """The metadata of the tests' application."""


class Note(Base):
    """Something that an application stores beside its sessions."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(255))


class SessionRow(SessionMixin, Base):
    """The application's session model, with a column of its own that may refer to a note."""

    note_id: Mapped[int | None] = mapped_column(ForeignKey("note.id"))


TABLE: Any = SessionRow.__table__


class Clock:
    """A clock that the tests set."""

    def __init__(self, now: int = EPOCH) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> None:
        self.now += seconds


def configurator(
    engine: Engine,
    settings: Mapping[str, Any] | None = None,
    *,
    explicit: bool = True,
    retry: bool = False,
    clock: Callable[[], float] | None = None,
    create: bool = True,
    include: bool = True,
    **options: Any,
) -> Configurator:
    """A configuration with ``request.dbsession``, as the cookiecutter makes it.

    :param settings: ini settings.
    :param explicit: the explicit transaction manager, else the thread-local one.
    :param retry: with pyramid_retry.
    :param clock: use a factory with this clock, made with the keywords *options*.
    :param create: create all tables.
    :param include: include pyramid_sqlsession.
    """
    values: dict[str, Any] = {"sqlsession.model": SessionRow, **NO_CLEANING, **(settings or {})}
    if explicit:
        values |= EXPLICIT
    config = Configurator(settings=values)
    config.include("pyramid_tm")
    if retry:
        config.include("pyramid_retry")
    if create:
        Base.metadata.create_all(engine)
    make_session = sessionmaker(engine)

    def dbsession(request: Any) -> Session:
        given: Session | None = request.environ.get("app.dbsession")
        if given is not None:
            return given
        session = make_session()
        zope.sqlalchemy.register(session, transaction_manager=request.tm)
        return session

    config.add_request_method(dbsession, reify=True)
    if include:
        config.include("pyramid_sqlsession")
    if clock is not None or options:
        options = {"model": SessionRow, "cleanup_interval": None, **options}
        if clock is not None:
            options["clock"] = clock
        config.set_session_factory(SQLSessionFactory(**options))
    return config


def own_configurator(
    url: str, ini: Mapping[str, Any] | None = None, *, retry: bool = False, **settings: Any
) -> Configurator:
    """A configuration without a database session: an engine of its own.

    :param ini: ini settings.
    :param retry: with pyramid_retry.
    :param settings: those of ``sqlsession.``.
    """
    defaults = {"sqlalchemy.url": url, "model": SQLSessionRow, "cleanup_interval": 0}
    values = {**EXPLICIT, **prefixed(defaults), **(ini or {}), **prefixed(settings)}
    config = Configurator(settings=values)
    if retry:
        config.include("pyramid_retry")
    config.include("pyramid_sqlsession")
    return config


def prefixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ``sqlsession.`` as an ini file has them."""
    return {f"sqlsession.{name}": value for name, value in settings.items()}


def add_views(config: Configurator, **views: Callable[[Any], Any]) -> Configurator:
    """Serve each function as JSON at ``/`` and its name."""
    for name, view in views.items():
        config.add_route(name, f"/{name}")
        config.add_view(view, route_name=name, renderer="json")
    return config


def serve(config: Configurator, **views: Callable[[Any], Any]) -> TestApp:
    """A browser for an application with these views, which is closed after the test."""
    app = add_views(config, **views).make_wsgi_app()
    _served.append(app)
    return TestApp(app)


_served: list[Any] = []


def close_served() -> None:
    """Close the connections of the applications that were served."""
    while _served:
        factory = _served.pop().registry.queryUtility(ISessionFactory)
        if isinstance(factory, SQLSessionFactory):
            factory.close()


class Broken(Exception):
    """What the tests' views and resources raise."""


@implementer(IDataManager)
class Resource:
    """Another resource of the transaction, which does something when it is asked for its vote."""

    transaction_manager = None

    def __init__(self, vote: Callable[[], Any], order: str = "0") -> None:
        self.vote = vote
        self.order = order

    def abort(self, transaction: Any) -> None:
        """Nothing to do."""

    tpc_begin = commit = tpc_finish = tpc_abort = abort

    def tpc_vote(self, transaction: Any) -> None:
        self.vote()

    def sortKey(self) -> str:  # noqa: N802  # the name is transaction's
        return self.order


def refuse() -> None:
    """A vote against the transaction."""
    raise Broken("no")


def put(request: Any) -> Any:
    """A view that changes the session."""
    request.session["cart"] = [*request.session.get("cart", []), 1]
    return {}


def show(request: Any) -> Any:
    """A view that reads the session."""
    return dict(request.session)


def order(request: Any) -> Any:
    """A view that stores something, and remembers it in the session."""
    request.dbsession.add(Note(text="ordered"))
    return put(request)


def rows(engine: Engine, table: Any = TABLE) -> list[dict[str, Any]]:
    """The session table's committed rows, as another connection sees them."""
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def notes(engine: Engine) -> list[str]:
    """The committed notes."""
    with engine.connect() as connection:
        return list(connection.scalars(select(Note.text).order_by(Note.id)))


def session_cookies(response: Any) -> list[str]:
    """The response's Set-Cookie headers of the session."""
    return [value for value in response.headers.getall("Set-Cookie") if "session=" in value]


@contextmanager
def listening(target: Any, name: str, listener: Callable[..., object]) -> Iterator[None]:
    """Have an engine, or all, call this for one of SQLAlchemy's events meanwhile."""
    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """A list of the statements that the engine executes meanwhile."""
    seen: list[str] = []

    def record(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    with listening(engine, "before_cursor_execute", record):
        yield seen


def plain_engine(url: str, **options: Any) -> Engine:
    """An engine as an application makes it."""
    return create_engine(url, **options)


def no_transaction(request: Any) -> bool:
    """A ``tm.activate_hook`` that leaves every request without a transaction."""
    return False


def users_and_sessions(base: Any) -> tuple[Any, Any]:
    """A model of users, and one of sessions that are deleted with their user."""

    class User(base):  # type: ignore[misc]
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)

    class WebSession(SessionMixin, base):  # type: ignore[misc]
        user_id: Mapped[Any] = mapped_column(
            ForeignKey("users.id", ondelete="CASCADE"), nullable=True
        )

    return User, WebSession
