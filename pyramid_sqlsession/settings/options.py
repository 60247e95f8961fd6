"""Settings: from an ini file or keywords to one frozen object.

Every field of :class:`Settings` is an option: in an ini file with the prefix ``sqlsession.``, as a
keyword of :class:`pyramid_sqlsession.SQLSessionFactory` without it. The fields' metadata is the
only place that says what is allowed; the reference page of the docs is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from functools import partial
from typing import Any, Literal

from pyramid.exceptions import ConfigurationError

from . import converters as to
from .cookie_rules import why_browsers_refuse
from .declaration import converted, option, options_in
from .rules import why_they_clash

PREFIX = "sqlsession."
TEN_YEARS = 10 * 365 * 86400

_DURATION = to.between(to.duration, 1, TEN_YEARS)
_DURATIONS = "a duration from 1 s to 10 years: seconds, or ``30m``, ``12h``, ``14d``"

_database = partial(option, "Database")
_lifetime = partial(option, "Lifetime")
_cleanup = partial(option, "Cleanup")
_concurrency = partial(option, "Concurrency")
_data = partial(option, "Data")
_encryption = partial(option, "Encryption")
_signing_in = partial(option, "Signing in")
_cookie = partial(option, "Cookie")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was configured. Durations are seconds, sizes are bytes."""

    dbsession: str | None = _database(
        "none", to.optional(to.matching(r"[A-Za-z_]\w*")), "the name of the request's attribute",
        "The request attribute that holds the application's SQLAlchemy session. "
        "``request.dbsession`` is found without it.",
        type="str | None", example="dbsession = db",
    )  # fmt: skip
    model: Any = _database(
        "none", to.optional(to.dotted), "a mapped class on ``SessionMixin``, or its dotted name",
        "The model whose table stores the sessions. A mapped class that inherits from "
        "``SessionMixin`` is found without it, if there is only one.",
        type="type[SessionMixin] | str | None", example="model = myapp.models.Session",
    )  # fmt: skip
    table: str | None = _database(
        "none", to.optional(to.matching(r"[A-Za-z_][A-Za-z0-9_]{0,47}")),
        "the name of a table: at most 48 letters, digits and ``_``",
        "The table of the built-in model; ``sqlsession`` if unset. Two applications in one "
        "database need one each. A model of your own names its table with ``__tablename__``.",
        type="str | None", example="table = shop_session",
    )  # fmt: skip
    sqlalchemy: Mapping[str, Any] = _database(
        "none", to.mapping,
        "``sqlsession.sqlalchemy.url`` and any other argument of ``sqlalchemy.create_engine``",
        "An engine used for sessions only, for applications without a database session. As a "
        "keyword: a dict without the prefix.",
        type="Mapping[str, Any]",
        example="sqlalchemy.url = postgresql+psycopg://app@localhost/app\nsqlalchemy.pool_size = 5",
        is_secret=True,
    )  # fmt: skip
    fallback_memory: bool = _database(
        "false", to.boolean, "a boolean",
        "Development only: without a database, keep sessions in the memory of this process.",
        type="bool", example="fallback_memory = true",
    )  # fmt: skip
    create_table: bool | None = _database(
        "none", to.optional(to.boolean), "a boolean",
        "Create the table on first use if it is missing. If unset: yes with an engine of its own "
        "and in memory, no with the application's database session.",
        type="bool | None", example="create_table = true",
    )  # fmt: skip
    ttl: int = _lifetime(
        "14d", _DURATION, _DURATIONS,
        "Idle timeout: a session that is not used for this long expires.",
        type="int | str", example="ttl = 12h",
    )  # fmt: skip
    anonymous_ttl: int | None = _lifetime(
        "none", to.optional(_DURATION), _DURATIONS + ", or none",
        "Idle timeout while nobody is signed in (the row has no ``user_id``). None: ``ttl``.",
        type="int | str | None", example="anonymous_ttl = 1d",
    )  # fmt: skip
    absolute_ttl: int | None = _lifetime(
        "none", to.optional(_DURATION), _DURATIONS + ", or none",
        "Absolute timeout: counted from the start of the session and never extended.",
        type="int | str | None", example="absolute_ttl = 90d",
    )  # fmt: skip
    touch_interval: int | None = _lifetime(
        "none", to.optional(_DURATION), "a duration from 1 s, less than every lifetime "
        "configured, or none",
        "Activity is recorded at most once per interval. If unset: a tenth of the lifetime, at "
        "most 5 minutes.",
        type="int | str | None", example="touch_interval = 1m",
    )  # fmt: skip
    cleanup_interval: int | None = _cleanup(
        "15m", to.unless_off(_DURATION), "a duration from 1 s to 10 years, or ``0``, ``false`` or "
        "``none`` to delete nothing",
        "How often each process deletes the rows of expired sessions, plus or minus half.",
        type="int | str | None", example="cleanup_interval = 1h",
    )  # fmt: skip
    cleanup_batch: int = _cleanup(
        "500", to.between(to.number, 1, 10_000), "a number from 1 to 10,000",
        "How many rows one cleanup transaction deletes at most.",
        type="int", example="cleanup_batch = 100",
    )  # fmt: skip
    on_expired: Any = _cleanup(
        "none", to.optional(to.function), "a function, or its dotted name",
        "Called as ``(connection, sessions)`` in the transaction that deletes expired sessions, "
        "before they are deleted.",
        type="Callable[[Connection, Sequence[ExpiredSession]], object] | str | None",
        example="on_expired = myapp.sessions.on_expired",
    )  # fmt: skip
    conflict: str = _concurrency(
        "retry", to.one_of("retry", "merge", "strict"), "``retry``, ``merge`` or ``strict``",
        "What happens when two requests change the same key at once: run the later one again, let "
        "its value win, or always raise ``SessionConflict``.",
        type='Literal["retry", "merge", "strict"]', example="conflict = merge",
    )  # fmt: skip
    serializer: Any = _data(
        "json", to.serializer, "``json``, or the dotted name of an object with ``dumps`` and "
        "``loads``",
        "Turns the session's dict into bytes and back. ``dumps`` must be deterministic.",
        type="Serializer | str", example="serializer = myapp.sessions.serializer",
    )  # fmt: skip
    max_size: int = _data(
        "1 MiB", to.between(to.size, 1024, 15 * 1024**2),
        "bytes from 1 KiB to 15 MiB: a number, or ``64 KiB``, ``1 MiB``",
        "The size limit of a serialized session, when it is stored and when it is read.",
        type="int | str", example="max_size = 64 KiB",
    )  # fmt: skip
    extra_columns: Any = _data(
        "none", to.optional(to.function), "a function, or its dotted name",
        "Called as ``(request, session) -> dict`` when a row is written. The dict holds the values "
        "of columns that your model has added.",
        type="Callable[[Any, SQLSession], Mapping[str, Any]] | str | None",
        example="extra_columns = myapp.sessions.columns",
    )  # fmt: skip
    encryption_keys: tuple[bytes, ...] = _encryption(
        "none", to.encryption_keys, "base64 of 32 random bytes, one key per line, the newest first",
        "Encrypt the data of sessions with the first key; every key decrypts.",
        type="str | bytes | Sequence[str | bytes]",
        example="encryption_keys =\n    %(NEW_KEY)s\n    %(OLD_KEY)s", is_secret=True,
    )  # fmt: skip
    encryption_migrate: bool | date = _encryption(
        "false", to.boolean_or_date, "a boolean, or the last day in UTC, as in ``2030-12-31``",
        "Also read sessions that are not stored as ``encryption_keys`` and ``seal`` require, and "
        "store them again. For the time in which you turn encryption on or change its kind.",
        type="bool | date | str",
        example="encryption_keys = %(NEW_KEY)s\nencryption_migrate = 2030-12-31",
    )  # fmt: skip
    seal: bool = _encryption(
        "false", to.boolean, "a boolean",
        "Encrypt the data of each session with a key derived from its cookie, which the server "
        "does not store.",
        type="bool", example="seal = true",
    )  # fmt: skip
    userid_key: str = _signing_in(
        "auth.userid", to.matching(r".*\S.*"), "a top-level key of the session",
        "The session key under which the security policy keeps the user's id. Setting or deleting "
        "it regenerates the session's token.",
        type="str", example="userid_key = user_id",
    )  # fmt: skip
    regenerate_grace: int = _signing_in(
        "30", to.between(to.duration, 0, 300), "a duration from 0 to 300 seconds",
        "How long requests with the old token are recognized after the token was regenerated.",
        type="int | str", example="regenerate_grace = 1m",
    )  # fmt: skip
    max_sessions_per_user: int | None = _signing_in(
        "none", to.optional(to.between(to.number, 1, 1_000_000)), "a number from 1, or none",
        "How many live sessions a user may have. A sign-in beyond that ends the sessions whose own "
        "sign-in was the longest ago.",
        type="int | None", example="max_sessions_per_user = 5",
    )  # fmt: skip
    cookie_name: str = _cookie(
        "session", to.matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"),
        "a cookie name: letters, digits, ``-`` and ``_``", "The name of the cookie.",
        type="str", example="cookie_name = __Host-session",
    )  # fmt: skip
    cookie_path: str = _cookie(
        "/", to.matching(r"/[\x21-\x3a\x3c-\x7e]*"),
        "a path that starts with ``/`` and has no space or semicolon", "The path of the cookie.",
        type="str", example="cookie_path = /shop",
    )  # fmt: skip
    cookie_domain: Any = _cookie(
        "none", to.optional(to.domain), "a domain name, or none, or a function, or its dotted name",
        "The domain of the cookie. None: the host itself. A function is called as ``(request) -> "
        "str | None``, so one application can serve many domains.",
        type="str | Callable[[Any], str | None] | None", example="cookie_domain = example.com",
    )  # fmt: skip
    cookie_max_age: int | None = _cookie(
        "none", to.optional(_DURATION), _DURATIONS + ", or none",
        "How long browsers keep the cookie, counted from the last visit. If set, it replaces "
        "``ttl``. None: until the browser is closed.",
        type="int | str | None", example="cookie_max_age = 30d",
    )  # fmt: skip
    cookie_secure: bool | None = _cookie(
        "auto", to.auto_or_boolean, "``auto`` or a boolean",
        "Send the cookie over https only. ``auto``: if the request came over https.",
        type='bool | Literal["auto"]', example="cookie_secure = true",
    )  # fmt: skip
    cookie_httponly: bool = _cookie(
        "true", to.boolean, "a boolean", "Hide the cookie from the page's scripts.",
        type="bool", example="cookie_httponly = false",
    )  # fmt: skip
    cookie_samesite: Literal["Lax", "Strict", "None"] | None = _cookie(
        "Lax", lambda value: to.one_of("Lax", "Strict", "None", "")(value or "") or None,
        "``Lax``, ``Strict``, ``None``, or empty for no attribute",
        "Whether requests from other sites carry the cookie.",
        type='Literal["Lax", "Strict", "None", ""] | None', example="cookie_samesite = Strict",
    )  # fmt: skip
    cookie_partitioned: bool = _cookie(
        "false", to.boolean, "a boolean", "One cookie jar per embedding site (CHIPS).",
        type="bool", example="cookie_partitioned = true\ncookie_secure = true",
    )  # fmt: skip

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
        return cls(**converted(fields(cls), options, prefix))

    @classmethod
    def from_ini(cls, settings: Mapping[str, Any]) -> Settings:
        """Settings from the ``sqlsession.*`` keys of a registry's settings.

        :raises ConfigurationError: as :meth:`from_options` does.
        """
        return cls.from_options(options_in(settings, PREFIX), PREFIX)
