"""A request that fails on purpose, to show that nothing of it is left."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config
from sqlalchemy import func, select

from ..models import Order, Product
from .cart import CartLine, put_into_cart, write_order


class Numbers(NamedTuple):
    """What a request sees: two numbers of its session, and one of a table."""

    pieces: int
    messages: int
    orders: int


class CardMachineError(Exception):
    """Raised long after the request began to write."""

    def __init__(self, before: Numbers, seen: Numbers) -> None:
        """Remember what the request saw before it failed."""
        super().__init__("the card machine does not answer")
        self.before = before
        self.seen = seen


@view_config(route_name="failing", request_method="GET", renderer="shop:templates/failing.jinja2")
def look(request: Request) -> dict[str, Any]:
    """Show what there is; after a failure also what the request saw that has failed."""
    return {"now": count(request), "seen": seen_before(request)}


@view_config(route_name="failing", request_method="POST")
def fail(request: Request) -> Response:
    """Fill the cart, leave a message, write an order, then fail."""
    before = count(request)
    bread = request.dbsession.scalars(select(Product).order_by(Product.id)).first()
    put_into_cart(request, bread)
    request.session.flash("Your order is on its way.")
    write_order(request, CartLine(bread, 1))
    raise CardMachineError(before, count(request))


@exception_view_config(CardMachineError, renderer="shop:templates/failed.jinja2")
def failed(error: CardMachineError, request: Request) -> dict[str, Any]:
    """Show what the request had written. Its transaction is undone once this page is made."""
    request.response.status_int = 500
    return {"error": error}


def count(request: Request) -> Numbers:
    """Count what this request sees, what it has written itself included."""
    return Numbers(
        pieces=sum(request.session.get("cart", {}).values()),
        messages=len(request.session.peek_flash()),
        orders=request.dbsession.scalar(select(func.count()).select_from(Order)),
    )


def seen_before(request: Request) -> Numbers | None:
    """Return the numbers in the address: the session cannot keep them, its change was undone."""
    values = [request.GET.get(name, "") for name in Numbers._fields]
    if not all(value.isdecimal() and len(value) < 10 for value in values):
        return None
    return Numbers(*map(int, values))
