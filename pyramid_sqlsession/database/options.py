"""Converts the options of an engine of its own from the text of an ini file.

Other options are converted by SQLAlchemy, or passed on as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pyramid.exceptions import ConfigurationError
from pyramid.settings import aslist
from sqlalchemy import URL, make_url, pool

from ..settings.converters import boolean, dotted, function

_PREFIX = "sqlsession.sqlalchemy."

_DRIVERS = {
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
    "pymysql": "PyMySQL",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
}
"""The packages of drivers whose name differs from the module's."""


def _json_object(value: Any) -> Any:
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Mapping):
        raise TypeError("no object")
    return dict(value)


def _pool_class(value: Any) -> Any:
    name = value if isinstance(value, str) else ""
    pool_class = getattr(pool, name, None) or dotted(value)
    if not issubclass(pool_class, pool.Pool):
        raise TypeError("no pool")
    if issubclass(pool_class, (pool.StaticPool, pool.SingletonThreadPool)):
        raise ValueError("reading and writing need connections of their own")
    return pool_class


_BOOLEAN = (boolean, "true or false")
_NUMBER = (int, "a whole number")
_FUNCTION = (function, "a function, or its dotted name")
_OBJECT = (_json_object, 'a JSON object, for instance {"connect_timeout": 5}')

_OPTIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    **dict.fromkeys(
        (
            "enable_from_linting",
            "hide_parameters",
            "pool_pre_ping",
            "pool_use_lifo",
            "skip_autocommit_rollback",
            "use_insertmanyvalues",
        ),
        _BOOLEAN,
    ),
    **dict.fromkeys(
        (
            "insertmanyvalues_page_size",
            "label_length",
            "max_identifier_length",
            "max_overflow",
            "pool_recycle",
            "pool_size",
            "query_cache_size",
        ),
        _NUMBER,
    ),
    **dict.fromkeys(("creator", "json_deserializer", "json_serializer"), _FUNCTION),
    **dict.fromkeys(("connect_args", "execution_options"), _OBJECT),
    "plugins": (aslist, "names of plugins"),
    "poolclass": (
        _pool_class,
        "a class of pools with several connections: NullPool, QueuePool, or a dotted name",
    ),
}


def converted(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, converted from text.

    :raises ConfigurationError: for a value that is not allowed; the message says what is.
    """
    return {name: _converted(name, value) for name, value in options.items()}


def _converted(name: str, value: Any) -> Any:
    if name not in _OPTIONS:
        return value
    convert, allowed = _OPTIONS[name]
    try:
        return convert(value)
    except (TypeError, ValueError):
        # the driver's arguments may include a password
        shown = "" if convert is _json_object else f" = {value!r}"
        raise ConfigurationError(
            f"{_PREFIX}{name}{shown} is not valid: expected {allowed}"
        ) from None


def parsed(url: Any) -> URL:
    """The parsed URL of a database with a synchronous driver.

    :raises ConfigurationError: if it is not one; messages do not show a password.
    :raises NoSuchModuleError: if SQLAlchemy does not know its dialect.
    """
    try:
        parsed = make_url(url)
    except ValueError:
        # its own message quotes the invalid port, which may be a password
        raise ConfigurationError(
            f"{_PREFIX}url is not a URL: expected DIALECT+DRIVER://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    if parsed.get_backend_name() == "postgres":
        right = parsed.drivername.replace("postgres", "postgresql", 1)
        raise ConfigurationError(f"{_PREFIX}url: use {right}:// instead of {parsed.drivername}://")
    if parsed.get_dialect().is_async:
        raise ConfigurationError(
            f"{_PREFIX}url begins with {parsed.drivername}://, an asynchronous driver: use a "
            "synchronous one, for example postgresql+psycopg, mysql+pymysql or sqlite"
        )
    return parsed


def missing_driver(error: ModuleNotFoundError) -> str:
    """What to do about a driver that is not installed."""
    module = (error.name or "").partition(".")[0]
    package = _DRIVERS.get(module, module)
    return f"the driver {module} is not installed: pip install {package}"
