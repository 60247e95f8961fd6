"""A page that fails, to show what is left then: nothing."""

from __future__ import annotations

from typing import Any

from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config
from sqlalchemy import func, select

from ..models import Order, Product
from .cart import CartLine, put_into_cart, write_order


class CardMachineError(Exception):
    """Raised long after the request began to write."""

    def __init__(self, pieces: int, orders: int) -> None:
        """Remember what the request saw before it failed."""
        super().__init__("the card machine does not answer")
        self.pieces = pieces
        self.orders = orders


@view_config(route_name="failing", request_method="GET", renderer="shop:templates/failing.jinja2")
def look(request: Request) -> dict[str, Any]:
    """Show what there is before it fails, and again afterwards."""
    return {"pieces": count_pieces(request), "orders": count_orders(request)}


@view_config(route_name="failing", request_method="POST")
def fail(request: Request) -> Response:
    """Fill the cart, write an order, then fail."""
    bread = request.dbsession.scalars(select(Product).order_by(Product.id)).first()
    put_into_cart(request, bread)
    write_order(request, CartLine(bread, 1))
    request.session.flash("Nobody ever sees this message.")
    raise CardMachineError(count_pieces(request), count_orders(request))


@exception_view_config(CardMachineError, renderer="shop:templates/failed.jinja2")
def failed(error: CardMachineError, request: Request) -> dict[str, Any]:
    """Show what the request had written. Its transaction is undone once this page is made."""
    request.response.status_int = 500
    return {"error": error}


def count_pieces(request: Request) -> int:
    """Return the number of pieces in the cart."""
    return sum(request.session.get("cart", {}).values())


def count_orders(request: Request) -> int:
    """Return the number of rows in the table of orders."""
    return int(request.dbsession.scalar(select(func.count()).select_from(Order)))
