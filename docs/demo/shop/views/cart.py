"""The shelves, the cart and the check-out."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config
from sqlalchemy import select

from ..models import Order, Product
from .account import ask_to_sign_in

MOST_PIECES = 99


class CartLine(NamedTuple):
    """One product of a cart."""

    product: Product
    quantity: int

    @property
    def price(self) -> int:
        """The price of all pieces, in cents."""
        return self.product.price * self.quantity


@view_config(route_name="home", renderer="shop:templates/home.jinja2")
def home(request: Request) -> dict[str, Any]:
    """Show the shelves."""
    return {"products": request.dbsession.scalars(select(Product).order_by(Product.id)).all()}


@view_config(route_name="add", request_method="POST")
def add(request: Request) -> Response:
    """Put one piece into the cart. This needs no sign-in."""
    product = find_product(request, request.POST.get("product", ""))
    put_into_cart(request, product)
    request.session.flash(f"{product.name} was added to your cart.")
    return HTTPSeeOther(request.route_path("home"))


@view_config(route_name="cart", request_method="GET", renderer="shop:templates/cart.jinja2")
def show_cart(request: Request) -> dict[str, Any]:
    """Show the cart, and what was ordered earlier."""
    lines = cart_lines(request)
    orders = []
    if request.authenticated_userid is not None:
        mine = select(Order).where(Order.user_id == request.authenticated_userid)
        orders = request.dbsession.scalars(mine.order_by(Order.id.desc()).limit(10)).all()
    return {"lines": lines, "total": sum(line.price for line in lines), "orders": orders}


@view_config(route_name="cart", request_method="POST")
def change_cart(request: Request) -> Response:
    """Change the quantities, or remove a product."""
    take_quantities(request)
    request.session.get("cart", {}).pop(request.POST.get("remove"), None)
    request.session.flash("Your cart was updated.")
    return HTTPSeeOther(request.route_path("cart"))


@view_config(route_name="check_out", request_method="POST")
def check_out(request: Request) -> Response:
    """Write the orders and empty the cart: one transaction, so both happen or neither does."""
    take_quantities(request)
    if not request.has_permission("check out"):
        return ask_to_sign_in(request, "cart")
    lines = cart_lines(request)
    for line in lines:
        write_order(request, line)
    request.session["cart"] = {}
    request.session.flash(
        "Thank you. Your order is on its way." if lines else "Your cart is empty."
    )
    return HTTPSeeOther(request.route_path("cart"))


def find_product(request: Request, product_id: str) -> Product:
    """Return a product, or answer that there is none."""
    product: Product | None = None
    if product_id.isdecimal() and len(product_id) < 10:
        product = request.dbsession.get(Product, int(product_id))
    if product is None:
        raise HTTPNotFound
    return product


def put_into_cart(request: Request, product: Product) -> None:
    """Add one piece. The keys are strings, because the session is stored as JSON."""
    cart = request.session.setdefault("cart", {})
    key = str(product.id)
    # a change inside the dict is noticed: there is no need to call session.changed()
    cart[key] = min(cart.get(key, 0) + 1, MOST_PIECES)


def take_quantities(request: Request) -> None:
    """Change the cart to what its form says; zero pieces leave it."""
    cart = request.session.get("cart", {})
    for product_id in list(cart):
        quantity = request.POST.get(f"quantity-{product_id}", "")
        if quantity.isdecimal() and int(quantity[:3]) <= MOST_PIECES:
            cart[product_id] = int(quantity[:3])
        if cart[product_id] == 0:
            del cart[product_id]


def cart_lines(request: Request) -> list[CartLine]:
    """Return what the cart holds, with the products from the database."""
    lines = []
    for product_id, quantity in request.session.get("cart", {}).items():
        product = request.dbsession.get(Product, int(product_id))
        if product is not None:
            lines.append(CartLine(product, quantity))
    return lines


def write_order(request: Request, line: CartLine) -> None:
    """Add one row to the table of orders."""
    request.dbsession.add(
        Order(
            user_id=request.authenticated_userid,
            product=line.product,
            quantity=line.quantity,
            price=line.price,
        )
    )
