"""The cookie: its token, its header, and what it means for caches."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from itertools import islice
from typing import Any

from webob.cachecontrol import CacheControl
from webob.cookies import make_cookie

from .exceptions import see
from .settings.converters import domain_name, optional
from .settings.cookie_rules import has_secure_prefix
from .settings.options import Settings

log = logging.getLogger("pyramid_sqlsession")

# fullmatch, not $, which would admit a newline
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)

_MOST = 4
"""Tokens of one request that are looked up: more than a browser ever has by itself."""

_TO_SHARED_CACHES = ("cdn-cache-control", "surrogate-control")
"""Endings of the names of headers that caches obey instead of Cache-Control."""
_OF_SHARED_CACHES = ("public", "s-maxage", "private")


def new_token() -> str:
    """A cookie value that nobody can guess: 256 random bits in 43 characters."""
    return secrets.token_urlsafe(32)


def id_of(token: str) -> bytes:
    """The primary key of a token's row: 32 bytes that do not reveal the token.

    The text itself is hashed: several texts decode to the same bytes.
    """
    return hashlib.sha256(token.encode("ascii")).digest()


def cookie_values(request: Any, name: str) -> list[str]:
    """The values of a request's cookies of this name, in the order in which the browser sent them.

    ``request.cookies`` also finds the name inside another cookie's value, fails completely if one
    cookie is not UTF-8, and takes seconds for a crafted header. This function parses the header as
    browsers write it, in linear time.
    """
    header = request.environ.get("HTTP_COOKIE")
    if not isinstance(header, str):
        return []
    start = f"{name}="
    # space and tab only, as in browsers: str.strip() would also strip other characters
    pairs = (part.strip(" \t") for part in header.split(";"))
    return [_unquoted(pair[len(start) :]) for pair in pairs if pair.startswith(start)]


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return value[1:-1] if is_quoted else value


class Cookie:
    """Reads and writes the session cookie as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._always_secure = settings.cookie_secure or has_secure_prefix(settings.cookie_name)
        self._has_warned = False

    def tokens(self, request: Any) -> tuple[str, ...]:
        """The well-formed tokens of the request's cookies, each once, in their order.

        There are several if cookies were set for different paths or domains.
        """
        well_formed = filter(_TOKEN.fullmatch, self._values(request))
        return tuple(islice(dict.fromkeys(well_formed), _MOST))

    def is_malformed(self, request: Any) -> bool:
        """Whether the request has a session cookie, and none that holds a token."""
        return bool(self._values(request)) and not self.tokens(request)

    def _values(self, request: Any) -> list[str]:
        return cookie_values(request, self._settings.cookie_name)

    def set(self, request: Any, response: Any, token: str | None, max_age: int | None) -> None:
        """Set the cookie.

        :param token: None removes the cookie, with the attributes it was set with, as browsers
            require.
        :param max_age: seconds for which the browser keeps it; None until it is closed.
        """
        settings = self._settings
        header = make_cookie(
            settings.cookie_name,
            token,
            max_age=max_age,
            path=settings.cookie_path,
            domain=self._domain(request),
            secure=self._is_secure(request),
            httponly=settings.cookie_httponly,
            samesite=settings.cookie_samesite,
        )
        if settings.cookie_partitioned:
            header += "; Partitioned"
        response.headerlist.append(("Set-Cookie", header))
        _keep_out_of_shared_caches(response)
        if token is not None:
            self._warn_of_http(request)

    def _domain(self, request: Any) -> str | None:
        domain = self._settings.cookie_domain
        if not callable(domain):
            return domain  # type: ignore[no-any-return]  # it is a name then
        given = domain(request)
        try:
            return optional(domain_name)(given)  # type: ignore[no-any-return]
        except ValueError:
            log.warning(
                "sqlsession.cookie_domain returned %r; expected a domain name or None: the cookie "
                "is set for this host only",
                given,
            )
            return None

    def _warn_of_http(self, request: Any) -> None:
        """Warn once that browsers discard the cookie."""
        if self._has_warned or not self._always_secure or request.scheme != "http":
            return
        self._has_warned = True
        log.warning(
            "the cookie %s is Secure but was set over http: browsers discard it. Serve the "
            "application over https; behind a proxy that does, make request.scheme https too %s",
            self._settings.cookie_name,
            see("trouble-empty"),
        )

    def _is_secure(self, request: Any) -> bool:
        if self._always_secure:
            return True
        return self._settings.cookie_secure is None and request.scheme == "https"


def vary_on_cookie(response: Any) -> None:
    """Tell caches that the response depends on the request's cookie."""
    if not any(name.lower() == "vary" for name, _ in response.headerlist):
        response.headerlist.append(("Vary", "Cookie"))
        return
    vary = response.vary or ()
    if not {"*", "cookie"} & {name.lower() for name in vary}:
        response.vary = (*vary, "Cookie")


def _keep_out_of_shared_caches(response: Any) -> None:
    headers = response.headers
    names = {name.lower() for name, _ in response.headerlist}
    for name in names:
        if name.endswith(_TO_SHARED_CACHES):
            del headers[name]
    if "cache-control" not in names:
        response.headerlist.append(("Cache-Control", "no-store"))
        return
    given = CacheControl.parse(", ".join(headers.getall("Cache-Control"))).properties
    kept = {name: given[name] for name in given if name.lower() not in _OF_SHARED_CACHES}
    if not given:
        kept["no-store"] = None
    elif "no-store" not in {name.lower() for name in given}:
        kept["private"] = None
    response.cache_control = kept
