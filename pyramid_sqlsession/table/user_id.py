"""Who is signed in, as a value of the ``user_id`` column."""

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
    """What a column of this type holds for a user: text, an integer, a UUID, or what else it takes.

    :param user: what the session holds, or text.
    :raises TypeError: if it is nothing that names a user: a flag, an object, a list.
    :raises ValueError: if there is no such value. The messages do not show the user.
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
        # which may show the user
        raise ValueError(f"cannot convert this {type(user).__name__} to {type_!r}") from None
    return _as_text(user, plain)


def check_charset(user_id: Any, connection: Connection) -> None:
    """Make sure that a text can be sent, and stored in this database.

    :raises ValueError: if not; the message does not show the user.
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
    """The charsets of a connection and its database, as far as the driver tells."""
    info = getattr(driver, "info", None)
    status = getattr(info, "parameter_status", None)
    told = (
        getattr(driver, "encoding", None),
        getattr(info, "encoding", None),
        status and status("server_encoding"),
    )
    # PostgreSQL's SQL_ASCII takes everything
    return [it for it in told if isinstance(it, str) and it not in ("SQL_ASCII", "ascii")]


class AsLong(FunctionElement[bool]):
    """Whether two texts that are equal for the database are so to the last space.

    MySQL and MariaDB take ``'alice '`` for ``'alice'`` in most collations.
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
    """Let nobody take the text of an object, or of a flag, for a user's name.

    :raises TypeError: if it is nothing that names a user.
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
        # SQLAlchemy 2.1 says that of a type that does not tell
        raise TypeError("no known type")
    if isinstance(user, python_type):
        return user
    if python_type is bytes:
        # of a number it would make as many NULs
        raise TypeError("not bytes")
    return python_type(user)


def _as_uuid(user: Any) -> UUID:
    try:
        # one that JSON holds is text
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
