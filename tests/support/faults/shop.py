"""A shop and its customers, who remember what they were told, whatever happens to the database.

An order is one whole request, which leaves a row of the application and an entry in the customer's
session; each customer orders one thing after the other. So it can be seen at any time whether
something acknowledged was lost, something refused is there, or one of the two is without the other.
Where the test is to say between which steps of a request the database fails, there is
:mod:`support.faults.stepped_shop`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import secrets
import threading
from collections.abc import Iterator
from typing import Any

from pyramid.interfaces import ISessionFactory
from pyramid.response import Response
from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool
from support.apps import Clock, Note, SessionRow, configurator, own_configurator, rows, serve
from support.patience import wait_until, working
from webtest import TestApp


def order(request: Any) -> Any:
    """A view that stores an order, and remembers it in the session."""
    item = request.params["item"]
    if hasattr(request, "dbsession"):
        copies = int(request.params["copies"])
        request.dbsession.add_all([Note(text=item), *(Note(text="-" * 255) for _ in range(copies))])
    request.session["orders"] = [*request.session.get("orders", []), item]
    # a text that no database can compress
    request.session["parcel"] = secrets.token_hex(int(request.params["weight"]) // 2)
    return item


def look(request: Any) -> Any:
    """A view that reads the session."""
    return request.session.get("orders", [])


def sorry(error: Exception, request: Any) -> Response:
    """An error page, for whatever goes wrong before the commit; it uses the session too."""
    request.environ.setdefault("tests.errors", []).append(error)
    request.session.flash("sorry")
    return Response(f"sorry: {error!r}", status=500)


def enter(request: Any) -> Any:
    """A view that signs the customer in."""
    request.session["auth.userid"] = USER


def leave(request: Any) -> Any:
    """A view that ends all sessions of the user."""
    return request.sqlsessions.revoke_user(USER)


USER = "alice"

# no two orders of a run are the same
_numbers = itertools.count()


class Customer:
    """Somebody who orders.

    :ivar told: the orders that were acknowledged.
    :ivar refused: those that ended with an error.
    :ivar errors: what was raised then.
    """

    def __init__(self, app: Any, name: str) -> None:
        self.name = name
        self.browser = TestApp(app)
        self.told: list[str] = []
        self.refused: list[str] = []
        self.errors: list[BaseException] = []

    @property
    def token(self) -> str:
        """The token of the browser's cookie; empty if it has none."""
        # WebTest quotes what it is given
        return str(self.browser.cookies.get("session", "")).strip('"')

    def order(self, *, copies: int = 0, weight: int = 0) -> bool:
        """Order the next thing; whether that was acknowledged.

        :param copies: how many rows more the application stores.
        :param weight: how many bytes more the session is to hold.
        """
        item = f"{self.name}-{next(_numbers)}"
        errors: list[BaseException] = []
        parameters = {"item": item, "copies": copies, "weight": weight}
        environ = {"tests.errors": errors}
        try:
            response = self.browser.get("/order", parameters, extra_environ=environ, status="*")
        except Exception as error:  # noqa: BLE001  # the tests look at it
            errors.append(error)
            response = None
        if response is None or response.status_int != 200:
            self.refused.append(item)
            self.errors.extend(errors)
            return False
        self.told.append(item)
        return True

    def look(self) -> Any:
        """The orders that the session holds, as a request sees them."""
        return self.browser.get("/look").json

    def enter(self) -> None:
        """Sign in, as all the others do."""
        self.browser.get("/enter")

    def leave(self) -> int:
        """End the sessions of everybody who has signed in: how many there were."""
        return int(self.browser.get("/leave").json)


class Shop:
    """An application, and what its database holds. The tables are there already.

    :param own: the application has no database session, and the store an engine of its own.
    :param retry: with pyramid_retry.
    :param options: arguments of :func:`sqlalchemy.create_engine` for whichever engine that is.

    :ivar clock: the store's clock, which the tests set.
    """

    def __init__(self, url: str, *, own: bool, retry: bool = False, **options: Any) -> None:
        self.clock = Clock()
        self.own = own
        self.customers: list[Customer] = []
        # a connection of its own for each look: those of a pool may be dead
        self._books = create_engine(url, poolclass=NullPool)
        options = {"hide_parameters": True, **options}
        if own:
            settings = {f"sqlalchemy.{name}": value for name, value in options.items()}
            config = own_configurator(url, retry=retry, model=SessionRow, **settings)
        else:
            engine = create_engine(url, **options)
            config = configurator(engine, retry=retry, create=False)
        config.add_exception_view(sorry, context=Exception)
        self.app = serve(config, order=order, look=look, enter=enter, leave=leave).app
        self.app.registry.getUtility(ISessionFactory).clock = self.clock

    def customer(self) -> Customer:
        """A new customer."""
        self.customers.append(Customer(self.app, f"customer-{len(self.customers)}"))
        return self.customers[-1]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The committed rows of all sessions."""
        return rows(self._books)

    @property
    def errors(self) -> list[BaseException]:
        """What was raised for anybody."""
        return [error for customer in self.customers for error in customer.errors]

    @property
    def told(self) -> int:
        """How many orders were acknowledged."""
        return sum(len(customer.told) for customer in self.customers)

    def orders(self, customer: Customer) -> list[str]:
        """The orders in a customer's committed session."""
        wanted = hashlib.sha256(customer.token.encode()).digest()
        found = [row["data"] for row in self.rows if row["id"] == wanted]
        return list(json.loads(found[0]).get("orders", [])) if found else []

    def notes(self, customer: Customer) -> list[str]:
        """The orders that the application has committed."""
        mine = select(Note.text).where(Note.text.startswith(f"{customer.name}-"))
        with self._books.connect() as connection:
            return list(connection.scalars(mine.order_by(Note.id)))

    def lost(self, *, unsure: bool = False) -> int:
        """How many orders are not where they should be, those of all customers.

        :param unsure: an order whose COMMIT got no answer may be there, or not.
        """
        return sum(self._lost(customer, unsure=unsure) for customer in self.customers)

    def _lost(self, customer: Customer, *, unsure: bool) -> int:
        stored, refused = set(self.orders(customer)), set(customer.refused)
        lost = set(customer.told) - stored
        appeared = set() if unsure else stored & refused
        halves = set() if self.own else stored ^ set(self.notes(customer))
        if unsure and not customer.token:
            # nobody has the cookie of a session whose first COMMIT got no answer
            halves -= refused
        return len(lost | appeared | halves)

    def leaks(self, log: str) -> list[str]:
        """The tokens that an error or the log has given away."""
        texts = "\n".join([log, *map(str, self.errors)])
        return [it.token for it in self.customers if it.token and it.token in texts]


@contextlib.contextmanager
def ordering(customers: list[Customer]) -> Iterator[None]:
    """Have them all order, one thing after the other, until the block ends."""
    over = threading.Event()

    def work(customer: Customer) -> None:
        while not over.is_set():
            customer.order()

    threads = [threading.Thread(target=work, args=(customer,)) for customer in customers]
    with working(threads, over):
        yield


def more_from_each(customers: list[Customer], count: int) -> None:
    """Come back when each of them has so many more orders acknowledged."""
    wanted = {customer.name: len(customer.told) + count for customer in customers}
    wait_until(lambda: all(len(customer.told) >= wanted[customer.name] for customer in customers))
