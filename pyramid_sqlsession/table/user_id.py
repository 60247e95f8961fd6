"""Converts users to values of the ``user_id`` column."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Connection, Integer, SmallInteger, String, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from ..driver_errors import MYSQL
from .model import underlying

_BITS = {SmallInteger: 15, BigInteger: 63, Integer: 31}
"""The size of each type, a type before the one that it is a kind of."""


def to_user_id(user: Any, type_: TypeEngine[Any]) -> Any:
    """The value for a user in a column of this type: text, an integer, a UUID, or another.

    :param user: what the session holds, or text.
    :raises TypeError: if it cannot be a user ID, such as a boolean, an object or a list.
    :raises ValueError: if it does not fit the column. Messages do not show the user.
    """
    plain = underlying(type_)
    check_kind(user, plain)
    if isinstance(plain, Uuid):
        uuid = _as_uuid(user)
        return uuid if plain.as_uuid else str(uuid)
    try:
        python_type = plain.python_type
        if python_type is not str:
            return _as_integer(user, plain) if python_type is int else _as(python_type, user)
    # decimals and numbers that are too large have errors of their own
    except (TypeError, ValueError, ArithmeticError, NotImplementedError):
        # their messages may show the user
        raise ValueError(f"cannot convert this {type(user).__name__} to {type_!r}") from None
    return _as_text(user, plain)


def check_charset(user_id: Any, connection: Connection) -> None:
    """Check that a text can be sent to and stored in this database.

    :raises ValueError: if not. The message does not show the user.
    """
    if isinstance(user_id, str):
        for encoding in _encodings(connection.connection.dbapi_connection):
            if not _can_encode(user_id, encoding):
                raise ValueError(f"it has characters that {encoding} cannot encode")


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    except LookupError:
        # a name that Python does not know
        return True
    return True


def _encodings(driver: Any) -> list[str]:
    """The charsets of a connection and its database, if the driver reports them."""
    info = getattr(driver, "info", None)
    status = getattr(info, "parameter_status", None)
    told = (
        getattr(driver, "encoding", None),
        getattr(info, "encoding", None),
        status and status("server_encoding"),
    )
    # PostgreSQL's SQL_ASCII accepts everything
    return [it for it in told if isinstance(it, str) and it not in ("SQL_ASCII", "ascii")]


class AsLong(FunctionElement[bool]):
    """Whether two texts that are equal for the database also have equal trailing spaces.

    In most collations of MySQL and MariaDB, ``'alice '`` equals ``'alice'``.
    """

    inherit_cache = True
    type = Boolean()


@compiles(AsLong)
def _as_ever(*_: Any, **__: Any) -> str:
    return "1 = 1"


@compiles(AsLong, *MYSQL)
def _on_mysql(element: AsLong, compiler: Any, **options: Any) -> str:
    # both may be NULL
    return " <=> ".join(f"char_length({compiler.process(it, **options)})" for it in element.clauses)


def check_kind(user: Any, type_: TypeEngine[Any]) -> None:
    """Check that a value can be a user ID: not the text of an object or a boolean.

    :raises TypeError: if not.
    """
    try:
        own = type_.python_type
    except NotImplementedError:
        own = object
    kinds = (str, int, UUID) if own is object else (str, int, UUID, own)
    if isinstance(user, bool) or not isinstance(user, kinds):
        raise TypeError(
            "a user ID must be a string, an integer, a UUID or a value of the column user_id, not "
            f"{type(user).__name__}: pass request.user.id, not request.user"
        )


def _as(python_type: type[Any], user: Any) -> Any:
    if python_type is object:
        # SQLAlchemy 2.1 returns object for an unknown type
        raise TypeError("no known type")
    if isinstance(user, python_type):
        return user
    if python_type is bytes:
        # bytes(5) is five NULs
        raise TypeError("not bytes")
    return python_type(user)


def _as_uuid(user: Any) -> UUID:
    try:
        # in JSON it is text
        return UUID(str(user))
    except ValueError:
        raise ValueError("it is not a valid UUID") from None


def _as_text(user: Any, type_: TypeEngine[Any]) -> str:
    text = str(user)
    # these would be errors of the driver or of the server
    text.encode()
    if "\0" in text:
        raise ValueError("it contains a NUL character")
    length = type_.length if isinstance(type_, String) else None
    if length is not None and len(text) > length:
        raise ValueError(f"it has more than {length} characters")
    return text


def _as_integer(user: Any, type_: TypeEngine[Any]) -> int:
    if not isinstance(user, (int, str)):
        raise TypeError("neither an integer nor text")
    number = int(user)
    bits = next((bits for kind, bits in _BITS.items() if isinstance(type_, kind)), 63)
    if number.bit_length() > bits:
        raise ValueError(f"it has more than {bits} bits")
    return number
