"""The addresses of the pages."""

from __future__ import annotations

from pyramid.config import Configurator


def includeme(config: Configurator) -> None:
    """Add the routes and the static files."""
    config.add_static_view("static", "shop:static", cache_max_age=3600)
    config.add_route("home", "/")
    config.add_route("add", "/add")
    config.add_route("cart", "/cart")
    config.add_route("check_out", "/check-out")
    config.add_route("sign_in", "/sign-in")
    config.add_route("sign_out", "/sign-out")
    config.add_route("devices", "/devices")
    config.add_route("session", "/session")
    config.add_route("tabs", "/tabs")
    config.add_route("tab", "/tabs/{tab:a|b}")
    config.add_route("tabs_row", "/tabs/row")
    config.add_route("failing", "/failing")
