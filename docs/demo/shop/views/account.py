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


@view_config(route_name="sign_in", request_method="GET", renderer="shop:templates/sign_in.jinja2")
def ask(request: Request) -> dict[str, Any]:
    """Show the form."""
    return {"user": request.authenticated_userid or "", "error": None}


@view_config(route_name="sign_in", request_method="POST", renderer="shop:templates/sign_in.jinja2")
def sign_in(request: Request) -> dict[str, Any] | Response:
    """Sign a user in. The cart of an anonymous visitor is kept, the token of the cookie is not."""
    user = request.POST.get("user", "").strip().lower()
    if not password_fits(user, request.POST.get("password", "")):
        return {"user": user, "error": "That is not one of our customers, or not the password."}
    headers = remember(request, user)
    request.session.max_age = MONTH if "keep" in request.POST else None
    request.session.flash(f"Good to see you, {USERS[user].name}.")
    next_page = "cart" if request.session.get("cart") else "home"
    return HTTPSeeOther(request.route_path(next_page), headers=headers)


@view_config(route_name="sign_out", request_method="POST")
def sign_out(request: Request) -> Response:
    """Sign the user out. What the session held is gone with the user; the message is new."""
    headers = forget(request)
    request.session.flash("You are signed out.")
    return HTTPSeeOther(request.route_path("home"), headers=headers)
