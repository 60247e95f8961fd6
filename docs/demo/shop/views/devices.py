"""Your devices: the sessions of a user, and signing them out from elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from pyramid_sqlsession import UserSession

from .account import ask_to_sign_in

# how browsers identify themselves; the first match counts, because Edge also says Chrome
BROWSERS = {"Edg/": "Edge", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
SYSTEMS = {"Android": "Android", "Windows": "Windows", "Linux": "Linux", "iPhone": "iPhone"}


class Device(NamedTuple):
    """A browser in which the user is signed in."""

    name: str
    handle: str
    signed_in: datetime
    last_seen: datetime
    expires: datetime
    is_current: bool


@view_config(route_name="devices", request_method="GET", renderer="shop:templates/devices.jinja2")
def show_devices(request: Request) -> dict[str, Any] | Response:
    """Show where the user is signed in, the device that was used last first."""
    if request.authenticated_userid is None:
        return ask_to_sign_in(request, "devices")
    return {"devices": [describe(it) for it in sessions_of_user(request)]}


@view_config(route_name="devices", request_method="POST", request_param="handle")
def sign_out_device(request: Request) -> Response:
    """Sign one device out, if it is one of the user's: a form may send any handle."""
    userid, handle = request.authenticated_userid, request.POST["handle"]
    if userid is not None and request.sqlsessions.revoke(handle, user_id=userid):
        request.session.flash("The device is signed out.")
    else:
        request.session.flash("That device was signed out already.")
    return HTTPSeeOther(request.route_path("devices"))


@view_config(route_name="devices", request_method="POST", request_param="others")
def sign_out_others(request: Request) -> Response:
    """Sign the user out everywhere but here."""
    count = 0
    if request.authenticated_userid is not None:
        count = request.sqlsessions.revoke_user(
            request.authenticated_userid, keep=request.session.id
        )
    request.session.flash(
        "You are signed out everywhere else." if count else "You are not signed in anywhere else."
    )
    return HTTPSeeOther(request.route_path("devices"))


@view_config(route_name="devices", request_method="POST", request_param="everywhere")
def sign_out_everywhere(request: Request) -> Response:
    """Sign the user out on every device, this one included."""
    if request.authenticated_userid is not None:
        request.sqlsessions.revoke_user(request.authenticated_userid)
    request.session.flash("You are signed out everywhere.")
    return HTTPSeeOther(request.route_path("home"))


def sessions_of_user(request: Request) -> list[UserSession]:
    """Return the live sessions of the user; nobody has none."""
    userid = request.authenticated_userid
    return [] if userid is None else request.sqlsessions.of_user(userid)


def describe(session: UserSession) -> Device:
    """Return a session as the page shows it."""
    return Device(
        name=name_of(session.columns["agent"] or ""),
        handle=session.handle,
        signed_in=session.created,
        last_seen=session.last_seen,
        expires=session.expires_at,
        is_current=session.current,
    )


def name_of(agent: str) -> str:
    """Name a browser by what it calls itself."""
    browser = next((name for sign, name in BROWSERS.items() if sign in agent), "A browser")
    system = next((f" on {name}" for sign, name in SYSTEMS.items() if sign in agent), "")
    return browser + system
