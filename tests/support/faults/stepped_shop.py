"""A shop whose customers order step by step, and what it owes to them when its database fails.

The steps are those of :mod:`support.races`: the test says in which of them the database fails. The
customers in :mod:`support.faults.shop` are simpler: they order, and whatever happens, happens.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pyramid.response import Response
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from support.apps import (
    Base,
    Note,
    SessionRow,
    configurator,
    notes,
    own_configurator,
    prefixed,
    rows,
    serve,
)
from support.races import Flight, Site, view
from support.servers import TITLES, Backend, Server

log = logging.getLogger(__name__)

DRIVERS = {"postgresql": None, "mariadb": None, "mysql": None, "mysqlclient": "mysql+mysqldb"}
KINDS = {"mysqlclient": "mariadb"}


class Order(Flight):
    """A request that counts in its session, and stores a note of it in the application's table."""

    def view(self, request: Any) -> Any:
        count = super().view(request)
        dbsession = getattr(request, "dbsession", None)
        if dbsession is not None:
            dbsession.add(Note(text=f"{request.session['name']} {count}"))
        return count


def sorry(error: Exception, request: Any) -> Response:
    """An error page, which uses the session."""
    request.environ["tests.flight"].error = error
    return Response(f"sorry {request.session.get_csrf_token()}", status=500)


def one_more(name: str, ballast: int = 0) -> Callable[[Any], int]:
    """The action of an :class:`Order`, with as many characters beside it."""

    def action(session: Any) -> int:
        session["name"] = name
        session["ballast"] = "x" * ballast
        session["count"] = count = session.get("count", 0) + 1
        return int(count)

    return action


@dataclass(eq=False)
class SteppedCustomer:
    """Somebody who orders, step by step.

    :ivar ballast: how many characters there are in the session, beside the orders.
    :ivar acknowledged: how many orders were said to be stored.
    :ivar failed: how many were answered with an error.
    """

    name: str
    token: str | None = None
    ballast: int = 0
    acknowledged: int = 0
    failed: int = 0
    errors: list[BaseException] = field(default_factory=list)

    def order(self, site: Site) -> Flight:
        """An order that is about to start; tell :meth:`learn` what has become of it."""
        return site.request(one_more(self.name, self.ballast), self.token, kind=Order)

    def buy(self, site: Site) -> bool:
        """Order, and say whether it was acknowledged."""
        return self.learn(self.order(site).start().finish())

    def learn(self, flight: Flight) -> bool:
        """Note what the browser was told."""
        if flight.ok:
            self.acknowledged = flight.result
        else:
            assert flight.error is not None
            self.failed += 1
            self.errors.append(flight.error)
            if self.token is None:
                # the row of a session whose cookie was never sent stays behind
                self.name += "+"
        # an error page has a session too, if the database is back by then
        self.token = flight.token if flight.cookies else self.token
        return flight.ok


def order_at_once(site: Site, customers: list[SteppedCustomer]) -> None:
    """All order at the same time, which leaves a connection for each in the pool."""
    flights = [customer.order(site).load().save() for customer in customers]
    for customer, flight in zip(customers, flights, strict=True):
        assert customer.learn(flight.finish())


def is_clear(error: BaseException, *tokens: str | None) -> bool:
    """Whether an error is SQLAlchemy's, names a lost connection, and gives no token away."""
    text = str(error)
    # the last one is psycopg's, of the application's ROLLBACK after a statement that was half sent
    lost = "connect|gone away|shutting down|shutdown|another command is already in progress"
    return (
        isinstance(error, DBAPIError)
        and re.search(lost, text, re.IGNORECASE) is not None
        and not any(token in text for token in tokens if token)
    )


@dataclass
class SteppedShop:
    """A database on one of the servers, and the way in which applications use it.

    :ivar own: sessions have an engine of their own; there is no application's database session.
    :ivar retry: with pyramid_retry.
    :ivar engine: for looking, it keeps no connection.
    """

    title: str
    server: Server
    url: str
    own: bool
    retry: bool
    engine: Engine

    def serve(
        self, url: str | None = None, *, settings: dict[str, Any] | None = None, **pool: Any
    ) -> Site:
        """An application with a pool of its own.

        :param url: how to reach the database, if not directly.
        :param settings: those of ``sqlsession.``.
        :param pool: arguments of the engine.
        """
        url, values = url or self.url, settings or {}
        if self.own:
            values = {f"sqlalchemy.{name}": value for name, value in pool.items()} | values
            config = own_configurator(url, retry=self.retry, model=SessionRow, **values)
        else:
            engine = create_engine(url, **pool)
            config = configurator(engine, prefixed(values), retry=self.retry, create=False)
        config.add_route("view", "/")
        config.add_view(view, route_name="view", renderer="json")
        config.add_exception_view(sorry, context=Exception)
        return Site(serve(config).app, self.engine)

    def terminate(self) -> int:
        """Have the server end every connection to the database; how many there were."""
        return self.server.terminate(str(self.engine.url.database))

    def broken_promises(self, *customers: SteppedCustomer) -> int:
        """How often something is wrong in the database; each is a line in the log."""
        sessions = self._sessions()
        stored = {data["name"]: data for data in sessions}
        wrong = [line for customer in customers for line in _owed(customer, stored)]
        if len(stored) < len(sessions):
            wrong.append("somebody has two sessions")
        if not self.own:
            wrong += _halves(stored, notes(self.engine))
        for line in wrong:
            log.error(line)
        return len(wrong)

    def count(self) -> int:
        """How many orders the sessions know of."""
        return sum(data["count"] for data in self._sessions())

    def clear(self) -> None:
        """Forget what was stored."""
        with self.engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())

    def _sessions(self) -> list[dict[str, Any]]:
        """Of those who have ordered something: an error page begins a session too."""
        all_ = [json.loads(row["data"]) for row in rows(self.engine)]
        return [data for data in all_ if "count" in data]


def _owed(customer: SteppedCustomer, stored: dict[str, Any]) -> Iterator[str]:
    """What a customer misses, or has got without having been told."""
    count = stored.get(customer.name, {"count": 0})["count"]
    if count < customer.acknowledged:
        yield f"{customer} was promised more than {count}"
    if count > customer.acknowledged + customer.failed:
        yield f"{customer} has {count}, which is more than was ordered"
    if customer.acknowledged and customer.name not in stored:
        yield f"{customer} has a cookie, and there is no row"


def _halves(stored: dict[str, Any], noted: list[str]) -> Iterator[str]:
    """Where a session and the application's table do not agree."""
    in_sessions = Counter(
        f"{name} {number}" for name in stored for number in range(1, stored[name]["count"] + 1)
    )
    for text in (in_sessions - Counter(noted)).elements():
        yield f"the session knows of order {text}, the application does not"
    for text in (Counter(noted) - in_sessions).elements():
        yield f"the application knows of order {text}, the session does not"


WAYS = ("dbsession", "dbsession+retry", "own", "own+retry")
SHOPS = [f"{way}-{driver}" for way in WAYS for driver in ("postgresql", "mariadb", "mysql")]
SHOPS += ["dbsession-mysqlclient", "own-mysqlclient"]
WITHOUT_RETRIES = [name for name in SHOPS if "retry" not in name]


@contextmanager
def open_shop(request: pytest.FixtureRequest, name: str) -> Iterator[SteppedShop]:
    """The shop of this name."""
    way, driver = name.split("-")
    kind = KINDS.get(driver, driver)
    server: Server = request.getfixturevalue(f"{kind}_server")
    with server.database() as url:
        drivername = DRIVERS[driver]
        if drivername is not None:
            url = Backend(kind, url, server).with_driver(drivername)
        engine = create_engine(url, poolclass=NullPool)
        Base.metadata.create_all(engine)
        yield SteppedShop(TITLES[kind], server, url, "own" in way, "retry" in way, engine)


def in_shops(names: list[str]) -> pytest.MarkDecorator:
    """Run a test that takes ``opened_shop`` in each of these."""
    return pytest.mark.parametrize("opened_shop", names, indirect=True, scope="module")
