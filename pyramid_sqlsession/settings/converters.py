"""Converters: from the text of an ini file, or a Python value, to the value of an option.

Each raises ValueError or TypeError for what is not allowed.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

from pyramid.path import DottedNameResolver
from pyramid.settings import asbool, truthy

_FALSY = frozenset(("f", "false", "n", "no", "off", "0"))


def quantity(units: Mapping[str, int]) -> Callable[[Any], int]:
    """A converter of whole numbers with one of these units."""

    def converter(value: Any) -> int:
        match = re.fullmatch(r"([0-9]{1,12})\s*([a-zA-Z]*)", str(value).strip(), re.ASCII)
        if match is None or match[2] not in units:
            raise ValueError(value)
        return int(match[1]) * units[match[2]]

    return converter


number = quantity({"": 1})
duration = quantity({"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400})
size = quantity({"": 1, "KiB": 1024, "MiB": 1024**2})


def between(convert: Callable[[Any], int], low: int, high: int) -> Callable[[Any], int]:
    """A converter whose numbers lie from *low* to *high*."""

    def converter(value: Any) -> int:
        number = convert(value)
        if not low <= number <= high:
            raise ValueError(value)
        return number

    return converter


def optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A converter that also takes nothing, or ``none``, for None."""

    def converter(value: Any) -> Any:
        unset = value is None or str(value).strip().lower() in ("", "none")
        return None if unset else convert(value)

    return converter


def unless_off(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A converter that also takes 0, ``false``, ``none`` or nothing, for None."""

    def converter(value: Any) -> Any:
        return None if str(value).strip().lower() in _FALSY else optional(convert)(value)

    return converter


def boolean(value: Any) -> bool:
    """True or false, in the words that :func:`pyramid.settings.asbool` knows."""
    if str(value).strip().lower() not in truthy | _FALSY:
        raise ValueError(value)
    return bool(asbool(value))


def boolean_or_date(value: Any) -> bool | date:
    """A boolean, or a day: a date, or a text like ``2030-12-31``."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    text = str(value).strip()
    # Python 3.11 knows more ways to write a date, and older ones do not
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        return date.fromisoformat(text)
    return boolean(value)


def auto_or_boolean(value: Any) -> bool | None:
    """None for ``auto``, or a boolean."""
    return None if str(value).strip().lower() == "auto" else boolean(value)


def one_of(*allowed: str) -> Callable[[Any], str]:
    """A converter that takes these words, in capitals or not."""

    def converter(value: Any) -> str:
        for choice in allowed:
            if str(value).strip().lower() == choice.lower():
                return choice
        raise ValueError(value)

    return converter


def matching(pattern: str) -> Callable[[Any], str]:
    """A converter of texts that match a regular expression as a whole."""

    def converter(value: Any) -> str:
        text = str(value).strip()
        if re.fullmatch(pattern, text, re.ASCII) is None:
            raise ValueError(value)
        return text

    return converter


def dotted(value: Any) -> Any:
    """An object, from its dotted name or itself."""
    try:
        return DottedNameResolver().maybe_resolve(value)
    except ImportError as error:
        raise ValueError(str(error)) from error


def function(value: Any) -> Any:
    """Something to call, from its dotted name or itself."""
    resolved = dotted(value)
    if not callable(resolved):
        raise TypeError(f"{resolved!r} cannot be called")
    return resolved


domain_name = matching(r"[A-Za-z0-9.-]+")


def domain(value: Any) -> Any:
    """A domain name, or a function that gives it, from its dotted name or itself.

    A text that may be either is the name of a function if there is one.
    """
    try:
        return function(value)
    except (ValueError, TypeError) as error:
        try:
            return domain_name(value)
        except ValueError:
            # an import that has failed says more
            raise error from None


def encryption_keys(value: Any) -> tuple[bytes, ...]:
    """Keys of 32 bytes: base64 texts, one per line or in a list, or the bytes themselves.

    No message shows what was given.
    """
    if isinstance(value, bytes):
        value = [value]
    given = value.split() if isinstance(value, str) else list(value or ())
    keys = tuple(_key(number, key) for number, key in enumerate(given, 1) if key != "none")
    if len(set(keys)) != len(keys):
        raise ValueError("duplicate key")
    return keys


def _key(number: int, key: Any) -> bytes:
    try:
        decoded = b64decode(key, validate=True) if isinstance(key, str) else key
    except ValueError:
        raise ValueError(f"key {number} is not valid base64") from None
    if not isinstance(decoded, bytes) or len(decoded) != 32:
        raise ValueError(f"key {number} is not 32 bytes long")
    return decoded


def mapping(value: Any) -> Mapping[str, Any]:
    """A dict, from a mapping; an empty one from ``none``."""
    if value == "none":
        return {}
    if not isinstance(value, Mapping):
        raise TypeError("set each option separately: sqlsession.sqlalchemy.url = URL")
    return dict(value)


def serializer(value: Any) -> Any:
    """``json``, or an object with ``dumps`` and ``loads``."""
    if value == "json":
        return value
    serializer = dotted(value)
    if not all(callable(getattr(serializer, name, None)) for name in ("dumps", "loads")):
        raise ValueError(f"{serializer!r} lacks dumps or loads")
    return serializer
