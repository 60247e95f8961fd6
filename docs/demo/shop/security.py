"""Who is signed in, and what they may do."""

from __future__ import annotations

from hmac import compare_digest
from typing import Any, NamedTuple

from pyramid.authentication import SessionAuthenticationHelper
from pyramid.request import Request
from pyramid.security import Allowed, Denied


class User(NamedTuple):
    """A customer of the demo."""

    name: str
    password: str


# a real application has a table of them, and stores only a slow, salted hash of each password
USERS = {"alice": User("Alice", "demo"), "bob": User("Bob", "demo")}


def password_fits(userid: str, password: str) -> bool:
    """Tell whether this is a user and the user's password."""
    user = USERS.get(userid)
    return user is not None and compare_digest(password.encode(), user.password.encode())


class ShopSecurityPolicy:
    """Keeps the user in the session, as Pyramid's helper does: ``session['auth.userid']``.

    Nothing here knows where the sessions live. The store sees this key change, and gives the
    session a new token.
    """

    def __init__(self) -> None:
        """Make the helper; it has no state."""
        self.helper = SessionAuthenticationHelper()

    def identity(self, request: Request) -> User | None:
        """Return the user who is signed in."""
        return USERS.get(self.helper.authenticated_userid(request))

    def authenticated_userid(self, request: Request) -> str | None:
        """Return the id of the user who is signed in."""
        userid = self.helper.authenticated_userid(request)
        return userid if userid in USERS else None

    def permits(self, request: Request, _context: Any, _permission: str) -> Allowed | Denied:
        """Allow everything to those who are signed in."""
        if self.authenticated_userid(request) is None:
            return Denied("nobody is signed in")
        return Allowed("somebody is signed in")

    def remember(self, request: Request, userid: str, **kw: Any) -> list[tuple[str, str]]:
        """Sign a user in."""
        return list(self.helper.remember(request, userid, **kw))

    def forget(self, request: Request, **kw: Any) -> list[tuple[str, str]]:
        """Sign the user out."""
        return list(self.helper.forget(request, **kw))
