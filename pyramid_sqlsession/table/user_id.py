"""Who is signed in, as a value of the ``user_id`` column."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Integer, SmallInteger, String, Uuid
from sqlalchemy.types import TypeEngine

from .model import underlying

_BITS = {SmallInteger: 15, BigInteger: 63, Integer: 31}
"""The size of each type, a type before the one that it is a kind of."""


def to_user_id(user: Any, type_: TypeEngine[Any]) -> Any:
    """What a column of this type holds for a user: text, an integer, a UUID, or what else it takes.

    :param user: what the session holds, or text.
    :raises ValueError: if there is no such value; the message does not show the user.
    """
    plain = underlying(type_)
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
        raise ValueError(f"no {type_!r} can be made of a {type(user).__name__}") from None
    return _as_text(user, plain)


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
        raise ValueError("it is a badly formed UUID") from None


def _as_text(user: Any, type_: TypeEngine[Any]) -> str:
    text = str(user)
    # these would be errors of the driver or of the server
    text.encode()
    if "\0" in text:
        raise ValueError("it holds a NUL")
    length = type_.length if isinstance(type_, String) else None
    if length is not None and len(text) > length:
        raise ValueError(f"it has more than {length} characters")
    return text


def _as_integer(user: Any, type_: TypeEngine[Any]) -> int:
    if isinstance(user, bool) or not isinstance(user, (int, str)):
        raise TypeError("neither an integer nor text")
    number = int(user)
    bits = next((bits for kind, bits in _BITS.items() if isinstance(type_, kind)), 63)
    if number.bit_length() > bits:
        raise ValueError(f"it has more than {bits} bits")
    return number
