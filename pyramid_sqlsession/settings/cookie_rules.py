"""Cookies that browsers refuse, noticed when the application starts."""

from __future__ import annotations

from typing import Any

_SECURE_PREFIXES = ("__host-", "__secure-", "__http-")
_HTTP_PREFIXES = ("__host-http-", "__http-")


def has_secure_prefix(cookie_name: str) -> bool:
    """Whether browsers take a cookie of this name only with the attribute Secure.

    In capitals or not: so say drafts of RFC 6265bis since 2023, and servers need not care.
    """
    return cookie_name.lower().startswith(_SECURE_PREFIXES)


def why_browsers_refuse(settings: Any) -> str | None:
    """What is wrong with the ``cookie_*`` settings; None if nothing is.

    :param settings: :class:`pyramid_sqlsession.settings.options.Settings`.
    """
    name, secure = settings.cookie_name, settings.cookie_secure
    prefixed = has_secure_prefix(name)
    is_host_wide = settings.cookie_path == "/" and not settings.cookie_domain
    wants_secure = "is refused by browsers without Secure: set sqlsession.cookie_secure = true"
    named = f"sqlsession.cookie_name = {name}"
    rules = (
        (
            name.lower().startswith("__host-") and not is_host_wide,
            f"{named} needs sqlsession.cookie_path = / and no sqlsession.cookie_domain",
        ),
        (
            name.lower().startswith(_HTTP_PREFIXES) and not settings.cookie_httponly,
            f"{named} needs sqlsession.cookie_httponly = true",
        ),
        (prefixed and secure is False, f"{named} {wants_secure}"),
        (
            settings.cookie_samesite == "None" and not (secure or prefixed),
            f"sqlsession.cookie_samesite = None {wants_secure}",
        ),
        (
            settings.cookie_partitioned and not (secure or prefixed),
            f"sqlsession.cookie_partitioned = true {wants_secure}",
        ),
    )
    return next((message for is_broken, message in rules if is_broken), None)
