"""Settings: from an ini file or keywords to one frozen object.

Every field of :class:`Settings` is an option: in an ini file with the prefix ``sqlsession.``, as a
keyword of :class:`pyramid_sqlsession.SQLSessionFactory` without it. The fields' metadata is the
only place that says what is allowed; the reference page of the docs is made from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import date
from typing import Any

from pyramid.exceptions import ConfigurationError

from . import converters as to
from .cookie_rules import why_browsers_refuse
from .rules import why_they_clash

PREFIX = "sqlsession."
TEN_YEARS = 10 * 365 * 86400

_LIFETIME = to.between(to.duration, 1, TEN_YEARS)
_LIFETIMES = "a duration from 1 s to 10 years: seconds, or ``30m``, ``12h``, ``14d``"


def _option(
    default: str,
    convert: Callable[[Any], Any],
    allowed: str,
    meaning: str,
    *,
    is_secret: bool = False,
) -> Any:
    metadata = {"convert": convert, "default": default, "allowed": allowed, "meaning": meaning}
    value = convert(default)
    # dataclasses refuse a dict as a default, for which each instance gets its own
    made = {"default_factory": dict} if value == {} else {"default": value}
    return field(**made, repr=not is_secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was configured. Durations are seconds, sizes are bytes."""

    dbsession: str | None = _option(
        "none", to.optional(to.matching(r"[A-Za-z_]\w*")), "the name of the request's attribute",
        "The SQLAlchemy session of the application. An attribute called ``dbsession`` is found by "
        "itself.",
    )  # fmt: skip
    model: Any = _option(
        "none", to.optional(to.dotted), "a mapped class on ``SessionMixin``, or its dotted name",
        "The model whose table holds the sessions. The only mapped class of the process that uses "
        "``SessionMixin`` is found by itself.",
    )  # fmt: skip
    table: str | None = _option(
        "none", to.optional(to.matching(r"[A-Za-z_][A-Za-z0-9_]{0,47}")),
        "the name of a table: at most 48 letters, digits and ``_``",
        "The table of the built-in model, ``sqlsession`` unless it is set: two applications in one "
        "database have one each. A model of your own says its table itself.",
    )  # fmt: skip
    sqlalchemy: Mapping[str, Any] = _option(
        "none", to.mapping,
        "``sqlsession.sqlalchemy.url`` and any other argument of ``sqlalchemy.create_engine``",
        "An engine of its own, for applications without a database session. As a keyword: a dict "
        "without the prefix.",
        is_secret=True,
    )  # fmt: skip
    fallback_memory: bool = _option(
        "false", to.boolean, "a boolean",
        "Development only: without any database, keep the sessions in the memory of this process.",
    )  # fmt: skip
    create_table: bool | None = _option(
        "none", to.optional(to.boolean), "a boolean",
        "Create the table if it is missing, where a session is first used. Unset: yes with an "
        "engine of its own and in memory, no with the application's database session.",
    )  # fmt: skip
    ttl: int = _option(
        "14d", _LIFETIME, _LIFETIMES,
        "Idle timeout: a session that nobody used for so long has expired.",
    )  # fmt: skip
    anonymous_ttl: int | None = _option(
        "none", to.optional(_LIFETIME), _LIFETIMES + ", or none",
        "Idle timeout of sessions in which nobody is signed in, whose rows have no ``user_id``. "
        "None: ``ttl``.",
    )  # fmt: skip
    absolute_ttl: int | None = _option(
        "none", to.optional(_LIFETIME), _LIFETIMES + ", or none",
        "Absolute timeout: counted from the start of the session and never extended.",
    )  # fmt: skip
    touch_interval: int | None = _option(
        "none", to.optional(_LIFETIME), "a duration from 1 s, less than every lifetime "
        "configured, or none",
        "Activity is recorded at most once per interval. Unset: a tenth of the lifetime, at most "
        "5 minutes.",
    )  # fmt: skip
    cleanup_interval: int | None = _option(
        "15m", to.unless_off(_LIFETIME), "a duration from 1 s to 10 years, or ``0``, ``false`` or "
        "``none`` to delete nothing",
        "How often each process deletes the rows of expired sessions, give or take a half.",
    )  # fmt: skip
    cleanup_batch: int = _option(
        "500", to.between(to.number, 1, 10_000), "a number from 1 to 10,000",
        "How many rows one transaction of the cleaning deletes at most.",
    )  # fmt: skip
    on_expired: Any = _option(
        "none", to.optional(to.function), "a function, or its dotted name",
        "Called as ``(connection, sessions)`` in the transaction that deletes expired sessions, "
        "before they are deleted.",
    )  # fmt: skip
    conflict: str = _option(
        "retry", to.one_of("retry", "merge", "strict"), "``retry``, ``merge`` or ``strict``",
        "When two requests change the same key at once: run the later one again, let it win, or "
        "always raise ``SessionConflict``.",
    )  # fmt: skip
    serializer: Any = _option(
        "json", to.serializer, "``json``, or the dotted name of an object with ``dumps`` and "
        "``loads``",
        "Turns the session's dict into bytes and back. ``dumps`` must be deterministic.",
    )  # fmt: skip
    max_size: int = _option(
        "1 MiB", to.between(to.size, 1024, 15 * 1024**2),
        "bytes from 1 KiB to 15 MiB: a number, or ``64 KiB``, ``1 MiB``",
        "The longest serialized session that is stored, or read.",
    )  # fmt: skip
    encryption_keys: tuple[bytes, ...] = _option(
        "none", to.encryption_keys, "base64 of 32 random bytes, one key a line, the newest first",
        "Encrypt the data of sessions with the first key; every key decrypts.", is_secret=True,
    )  # fmt: skip
    encryption_migrate: bool | date = _option(
        "false", to.boolean_or_date, "a boolean, or the last day in UTC, as in ``2030-12-31``",
        "While encryption is being turned on, or its kind changed: also read sessions that are not "
        "stored as ``encryption_keys`` and ``seal`` say, and store them anew.",
    )  # fmt: skip
    seal: bool = _option(
        "false", to.boolean, "a boolean",
        "Encrypt the data of each session with a key made from its cookie, which the server does "
        "not store.",
    )  # fmt: skip
    userid_key: str = _option(
        "auth.userid", to.matching(r".*\S.*"), "a top-level key of the session",
        "Where the security policy keeps who is signed in. Setting or deleting it regenerates the "
        "session's token.",
    )  # fmt: skip
    regenerate_grace: int = _option(
        "30", to.between(to.duration, 0, 300), "a duration from 0 to 300 seconds",
        "How long requests with the old token are recognized after the token was regenerated.",
    )  # fmt: skip
    max_sessions_per_user: int | None = _option(
        "none", to.optional(to.between(to.number, 1, 1_000_000)), "a number from 1, or none",
        "How many live sessions a user may have. A sign-in ends those whose own sign-in was the "
        "longest ago.",
    )  # fmt: skip
    extra_columns: Any = _option(
        "none", to.optional(to.function), "a function, or its dotted name",
        "Called as ``(request, session) -> dict`` when a row is written: what it gives is stored "
        "in the columns that the application's model has added.",
    )  # fmt: skip
    cookie_name: str = _option(
        "session", to.matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"),
        "a cookie name: letters, digits, ``-`` and ``_``", "The name of the cookie.",
    )  # fmt: skip
    cookie_path: str = _option(
        "/", to.matching(r"/[\x21-\x3a\x3c-\x7e]*"),
        "a path that starts with ``/`` and has no space or semicolon", "Its path.",
    )  # fmt: skip
    cookie_domain: Any = _option(
        "none", to.optional(to.domain), "a domain name, or none, or a function, or its dotted name",
        "Its domain; none is the host itself. A function is called as ``(request) -> str | None``: "
        "one application may serve many domains.",
    )  # fmt: skip
    cookie_max_age: int | None = _option(
        "none", to.optional(_LIFETIME), _LIFETIMES + ", or none",
        "How long browsers keep the cookie, from the last visit. Where it is set it wins over "
        "``ttl``. None: until the browser is closed.",
    )  # fmt: skip
    cookie_secure: bool | None = _option(
        "auto", to.auto_or_boolean, "``auto`` or a boolean",
        "Send the cookie over https only. ``auto``: if the request came over https.",
    )  # fmt: skip
    cookie_httponly: bool = _option(
        "true", to.boolean, "a boolean", "Hide the cookie from scripts of the page."
    )
    cookie_samesite: str | None = _option(
        "Lax", lambda value: to.one_of("Lax", "Strict", "None", "")(value or "") or None,
        "``Lax``, ``Strict``, ``None``, or empty for no attribute",
        "Whether other sites' requests carry the cookie.",
    )  # fmt: skip
    cookie_partitioned: bool = _option(
        "false", to.boolean, "a boolean", "One cookie jar per embedding site (CHIPS)."
    )

    def __post_init__(self) -> None:
        refusal = why_they_clash(self) or why_browsers_refuse(self)
        if refusal is not None:
            raise ConfigurationError(refusal)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], prefix: str = "") -> Settings:
        """Settings from keywords.

        :param prefix: what messages put before an option's name.
        :raises ConfigurationError: for an unknown name, or a value that is not allowed; the
            message says what is.
        """
        known = {option.name: option for option in fields(cls)}
        values = {}
        for name, value in options.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f": did you mean {prefix}{close[0]}?" if close else ""
                names = ", ".join(sorted(known))
                raise ConfigurationError(
                    f"{prefix}{name} is no setting of pyramid_sqlsession{hint} (there are {names})"
                )
            values[name] = _converted(known[name], value, prefix)
        return cls(**values)

    @classmethod
    def from_ini(cls, settings: Mapping[str, Any]) -> Settings:
        """Settings from the ``sqlsession.*`` keys of a registry's settings.

        :raises ConfigurationError: as :meth:`from_options` does.
        """
        options: dict[str, Any] = {}
        engine: dict[str, Any] = {}
        for key, value in settings.items():
            if key.startswith(PREFIX + "sqlalchemy."):
                engine[key.removeprefix(PREFIX + "sqlalchemy.")] = value
            elif key.startswith(PREFIX):
                options[key.removeprefix(PREFIX)] = value
        if engine:
            options.setdefault("sqlalchemy", engine)
        return cls.from_options(options, PREFIX)


def _converted(option: Field[Any], value: Any, prefix: str) -> Any:
    try:
        return option.metadata["convert"](value)
    except (ValueError, TypeError) as error:
        allowed = option.metadata["allowed"].replace("``", "")
        # the URL of a database holds a password
        shown = f"{prefix}{option.name} = {value!r}" if option.repr else f"{prefix}{option.name}"
        reason = "" if str(error) == str(value) else f" ({error})"
        raise ConfigurationError(f"{shown} is not allowed: it takes {allowed}{reason}") from error
