"""The cookie: its token, its header, and what it means for caches."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any

from webob.cookies import make_cookie

from .settings.cookie_rules import has_secure_prefix
from .settings.options import Settings

# fullmatch, not $, which would admit a newline
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def new_token() -> str:
    """A cookie value that nobody can guess: 256 random bits in 43 characters."""
    return secrets.token_urlsafe(32)


def id_of(token: str) -> bytes:
    """The primary key of a token's row: 32 bytes from which the token cannot be had.

    The text is hashed, not what it decodes to: several texts decode to the same bytes.
    """
    return hashlib.sha256(token.encode("ascii")).digest()


class Cookie:
    """Reads and writes the session cookie as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._always_secure = settings.cookie_secure or has_secure_prefix(settings.cookie_name)

    def token(self, request: Any) -> str | None:
        """The request's token, or None if there is none or it is not well-formed."""
        value = self._value(request)
        return value if value is not None and _TOKEN.fullmatch(value) else None

    def is_malformed(self, request: Any) -> bool:
        """Whether the request has a session cookie that holds no token."""
        return self._value(request) is not None and self.token(request) is None

    def _value(self, request: Any) -> str | None:
        try:
            value: str | None = request.cookies.get(self._settings.cookie_name)
        except UnicodeDecodeError:
            # WebOb decodes the whole header as UTF-8, which a browser need not send
            return ""
        return value

    def set(self, request: Any, response: Any, token: str | None, max_age: int | None) -> None:
        """Set the cookie.

        :param token: None expires it, with the attributes it was set with: browsers insist on them.
        :param max_age: seconds for which the browser keeps it even when it is closed.
        """
        settings = self._settings
        header = make_cookie(
            settings.cookie_name,
            token,
            max_age=max_age,
            path=settings.cookie_path,
            domain=settings.cookie_domain,
            secure=self._is_secure(request),
            httponly=settings.cookie_httponly,
            samesite=settings.cookie_samesite,
        )
        if settings.cookie_partitioned:
            header += "; Partitioned"
        response.headerlist.append(("Set-Cookie", header))
        _keep_out_of_shared_caches(response)

    def _is_secure(self, request: Any) -> bool:
        if self._always_secure:
            return True
        return self._settings.cookie_secure is None and request.scheme == "https"


def vary_on_cookie(response: Any) -> None:
    """Tell caches that the response depends on the request's cookie."""
    vary = response.vary or ()
    if not {"*", "cookie"} & {name.lower() for name in vary}:
        response.vary = (*vary, "Cookie")


def _keep_out_of_shared_caches(response: Any) -> None:
    control = response.cache_control
    if "Cache-Control" not in response.headers:
        control.no_store = True
    elif not control.no_store:
        control.public = None
        control.s_max_age = None
        control.private = True
