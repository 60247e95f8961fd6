"""Everybody who is measured, by database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyramid.interfaces import ISessionFactory
from redis import Redis as Client
from sqlalchemy import Connection, create_engine, text
from support.servers import Server

from . import cookiecutter, floor, frameworks, names, pyramids
from .contender import IN_COOKIES, WITHOUT, Contender, Site
from .floor import WORKLOADS, Floor


@dataclass
class Field:
    """Who meets on one database.

    :ivar peers: the session stores, this one and the others.
    :ivar baselines: the applications without sessions.
    """

    database: str
    peers: list[Contender]
    baselines: list[Contender]


@contextmanager
def on_postgresql(server: Server, redis: Server) -> Iterator[Field]:
    """This package, its peers and the driver; those on Redis too."""
    with (
        server.database() as url,
        _ours_on_server("PostgreSQL", server, floor.postgresql) as field,
        _observing(url) as rows,
        Client.from_url(redis.url("")) as client,
    ):
        plain = Site(names.PLAIN, pyramids.application(pyramids.plain()), workloads=WITHOUT)
        keys, address = partial(_stored_in_redis, client), redis.url("")
        as_it_comes = pyramids.redis(address)
        without_ttl = pyramids.redis(address, set_redis_ttl=False, timeout_trigger=600)
        beaker, cookie = pyramids.beaker(url), pyramids.signed_cookie()
        flask, flask_with_sessions = frameworks.flask_apps(url)
        django, django_with_sessions = frameworks.django_apps(url)
        flask_site = Site(names.FLASK_PLAIN, flask, workloads=WITHOUT)
        django_site = Site(names.DJANGO_PLAIN, django, workloads=WITHOUT)
        field.baselines += [plain, flask_site, django_site]
        field.peers += [
            Site(names.REDIS, pyramids.application(as_it_comes), plain, keys, touches=True),
            Site(names.REDIS_GET, pyramids.application(without_ttl), plain, keys),
            Site(names.BEAKER, pyramids.application(beaker), plain, rows("beaker_cache")),
            Site(names.FLASK, flask_with_sessions, flask_site, rows("sessions")),
            Site(names.DJANGO, django_with_sessions, django_site, rows("django_session")),
            Site(names.COOKIE, pyramids.application(cookie), plain, workloads=IN_COOKIES),
        ]
        yield field


@contextmanager
def on_mariadb(server: Server) -> Iterator[Field]:
    """This package and the driver."""
    with _ours_on_server("MariaDB", server, floor.mariadb) as field:
        yield field


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Field]:
    """This package and the driver."""
    own, shared = (f"sqlite:///{folder / name}" for name in ("own.sqlite", "shared.sqlite"))
    with _ours("SQLite", own, shared, floor.sqlite) as field:
        yield field


@contextmanager
def _ours_on_server(database: str, server: Server, make_floor: _MakeFloor) -> Iterator[Field]:
    with (
        server.database() as own,
        server.database() as shared,
        _ours(database, own, shared, make_floor) as field,
    ):
        yield field


_MakeFloor = Callable[[str, str, Callable[[], object]], Floor]


@contextmanager
def _ours(database: str, own: str, shared: str, make_floor: _MakeFloor) -> Iterator[Field]:
    with ExitStack() as stack:
        rows, shared_rows = (stack.enter_context(_observing(url)) for url in (own, shared))
        engine = create_engine(shared)
        stack.callback(engine.dispose)
        cookiecutter.prepare(engine)
        app = pyramids.application(pyramids.own_engine(own))
        stack.callback(app.registry.getUtility(ISessionFactory).close)
        lowest = make_floor(names.FLOOR, own, rows("floor"))
        stack.callback(lowest.close)
        plain = Site(
            names.TRANSACTIONAL,
            pyramids.application(pyramids.transactional()),
            workloads=WITHOUT,
        )
        asking = Site(
            names.ASKING,
            cookiecutter.without(engine),
            workloads=WITHOUT,
        )
        calling = pyramids.application(pyramids.transactional(), {"call": pyramids.call})
        with_sessions, with_core = (
            cookiecutter.with_sessions(engine),
            cookiecutter.with_core(engine),
        )
        yield Field(
            database,
            [
                lowest,
                floor.Called(names.CALLED, calling, lowest, plain),
                floor.Called(names.BEGUN, calling, lowest, plain, begins=True),
                Site(names.OWN, app, plain, rows("sqlsession")),
                Site(names.CORE, with_core, asking, shared_rows("core"), WORKLOADS),
                Site(names.SHARED, with_sessions, asking, shared_rows("sqlsession")),
            ],
            [plain, asking],
        )


@contextmanager
def _observing(url: str) -> Iterator[Callable[[str], Callable[[], object]]]:
    """For a table: a function that tells what is committed in it."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield lambda table: partial(_stored, connection, table)
    engine.dispose()


def _stored(connection: Connection, table: str) -> list[str]:
    return sorted(map(repr, connection.execute(text(f"SELECT * FROM {table}"))))


def _stored_in_redis(client: Any) -> dict[bytes, bytes]:
    return {key: client.get(key) for key in client.scan_iter()}
