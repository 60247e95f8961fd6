"""Signing in and out."""

from __future__ import annotations

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import forget, remember
from pyramid.view import view_config

from ..security import USERS, password_fits

MONTH = 30 * 24 * 60 * 60


# the pages that ask for a sign-in, by their route: no address from outside is followed
REASONS = {
    "cart": "Sign in to check out. Your cart comes with you.",
    "devices": "Sign in to see your devices.",
}


@view_config(route_name="sign_in", request_method="GET", renderer="shop:templates/sign_in.jinja2")
def ask(request: Request) -> dict[str, Any]:
    """Show the form, and why it is asked for."""
    return form(request, request.authenticated_userid or "")


@view_config(route_name="sign_in", request_method="POST", renderer="shop:templates/sign_in.jinja2")
def sign_in(request: Request) -> dict[str, Any] | Response:
    """Sign a user in. The cart of an anonymous visitor is kept, the token of the cookie is not."""
    user = request.POST.get("user", "").strip().lower()
    if not password_fits(user, request.POST.get("password", "")):
        return form(request, user, "Unknown name or wrong password.")
    headers = remember(request, user)
    request.session.max_age = MONTH if "keep" in request.POST else None
    request.session.flash(f"Welcome, {USERS[user].name}.")
    next_page = asking_page(request) or ("cart" if request.session.get("cart") else "home")
    return HTTPSeeOther(request.route_path(next_page), headers=headers)


@view_config(route_name="sign_out", request_method="POST")
def sign_out(request: Request) -> Response:
    """Sign the user out. What the session held is gone with the user; the message is new."""
    headers = forget(request)
    request.session.flash("You are signed out.")
    return HTTPSeeOther(request.route_path("home"), headers=headers)


def form(request: Request, user: str, error: str | None = None) -> dict[str, Any]:
    """Return what the form shows."""
    page = asking_page(request)
    return {"user": user, "error": error, "page": page, "reason": REASONS.get(page)}


def asking_page(request: Request) -> str | None:
    """Return the route of the page that has asked for the sign-in."""
    page = request.params.get("page")
    return page if page in REASONS else None


def ask_to_sign_in(request: Request, page: str) -> Response:
    """Send the visitor to the form, and from there back to this page."""
    return HTTPSeeOther(request.route_path("sign_in", _query={"page": page}))
