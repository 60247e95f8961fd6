"""What can go wrong."""

from __future__ import annotations

from typing import Any

from pyramid.csrf import BadCSRFToken
from pyramid.request import Request
from pyramid.view import exception_view_config, notfound_view_config


@notfound_view_config(renderer="shop:templates/message.jinja2")
def not_found(request: Request) -> dict[str, Any]:
    """Show that there is no such page."""
    request.response.status_int = 404
    return {"title": "Page not found", "text": "There is no page at this address."}


@exception_view_config(BadCSRFToken, renderer="shop:templates/message.jinja2")
def stale_form(request: Request) -> dict[str, Any]:
    """Show why a form was refused: the session that it was made for has ended."""
    request.response.status_int = 400
    return {
        "title": "This form has expired",
        "text": "It belongs to a session that has ended. Go back to the shop and try again.",
    }
