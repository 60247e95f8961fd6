"""Two tabs of one browser that write into one session at once, and lose nothing."""

from __future__ import annotations

import time
from typing import Any

from pyramid.request import Request
from pyramid.view import view_config

from .inspect import find_row

TABS = ("a", "b")
MESSAGES = "tabs"


@view_config(route_name="tabs", renderer="shop:templates/tabs.jinja2")
def show_tabs(request: Request) -> dict[str, Any]:
    """Show the page; a script on it sends what the two tabs send."""
    return {"tabs": TABS, "messages": len(request.session.pop_flash(MESSAGES))}


@view_config(route_name="tab", request_method="POST", renderer="json")
def write(request: Request) -> dict[str, int]:
    """Write what one tab sends: a key of its own, a message, and a key that both tabs write."""
    session, own = request.session, f"tab {request.matchdict['tab']}"
    found, attempt = session.get("both tabs", 0), request.environ["retry.attempt"] + 1
    if attempt == 1:
        # as if there were work to do: meanwhile the other tab's request reads the session, too
        time.sleep(0.1)
    session[own] = session.get(own, 0) + 1
    session["both tabs"] = found + 1
    session.flash(f"{own} was here", MESSAGES)
    return {"found": found, "attempt": attempt}


@view_config(route_name="tabs_row", renderer="json")
def show_row(request: Request) -> dict[str, int]:
    """Tell what became of it: what is in the session, and the version of its row."""
    session, row = request.session, find_row(request)
    return {
        **{f"tab {tab}": session.get(f"tab {tab}", 0) for tab in TABS},
        "both tabs": session.get("both tabs", 0),
        "messages": len(session.peek_flash(MESSAGES)),
        "version": 0 if row is None else row.version,
    }
