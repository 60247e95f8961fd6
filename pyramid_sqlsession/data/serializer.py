"""The protocol of serializers, and the default one: strict JSON."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from traceback import clear_frames
from typing import Any, Protocol

from ..exceptions import SessionDataError

_DEEPEST = 100
_LEAVES = frozenset({str, int, float, bool, type(None)})
_SEQUENCES = frozenset({list, tuple})
_CONTAINERS = frozenset({list, dict})
# what JSONB, and MySQL's JSON, refuse: as text in a statement's parameter it is an error of the
# database, inside the application's transaction
_NOT_IN_JSON_COLUMNS = re.compile("[\0\ud800-\udfff]")
# MySQL makes floats of all others, silently
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1

_TEXT_OR_LARGE_FLOAT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?[\d.]+e\+\d+')


class Serializer(Protocol):
    """Turns a session into bytes and back.

    Equal dicts with the same order of keys must give equal bytes: changes are detected by that.

    A serializer that compresses may have a third method, ``bounded_by(max_size)``. It is called
    once and returns the serializer to use, whose ``dumps`` and ``loads`` raise an error if the
    uncompressed session has more than *max_size* bytes.
    """

    def dumps(self, data: dict[Any, Any], /) -> bytes:
        """The session as bytes.

        :raises ValueError: or any other error, if it holds something that cannot be stored.
        """
        ...

    def loads(self, stored: bytes, /) -> dict[Any, Any]:
        """The session from bytes.

        :raises ValueError: or any other error, if these are not a session.
        """
        ...


class JSONSerializer:
    """Strict JSON: a value that would not be read back as it was stored is an error.

    Only tuples become lists, and subclasses of ``str``, ``int``, ``float``, ``dict`` and ``list``
    become the plain type.
    """

    def dumps(self, data: dict[Any, Any], /) -> bytes:
        """The session as ASCII bytes.

        :raises SessionDataError: naming the path of a value that JSON cannot hold.
        """
        try:
            return _ENCODER.encode(data).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            # its variables are the session's data
            clear_frames(error.__traceback__)
            _check(data, "session", 0, False)
            raise SessionDataError(f"cannot store the session as JSON: {error}") from error

    def check(self, data: dict[Any, Any], /, *, for_json_column: bool = False) -> None:
        """Refuse what :meth:`dumps` would change silently: keys that are not strings.

        :param for_json_column: also refuse what a database's JSON type cannot hold.
        :raises SessionDataError: naming the path.
        """
        if for_json_column or not _has_its_shape(data):
            _check(data, "session", 0, for_json_column)

    def loads(self, stored: bytes, /) -> dict[Any, Any]:
        """The session from bytes.

        :raises SessionDataError: if these are not JSON, or hold what :meth:`dumps` would refuse;
            the message does not quote them.
        """
        decoder = _CAREFUL_DECODER if _may_overflow(stored) else _DECODER
        try:
            data: dict[Any, Any] = decoder.decode(stored.decode())
        except (ValueError, RecursionError) as error:
            # its variables are the stored session
            clear_frames(error.__traceback__)
            raise SessionDataError(f"its data is not JSON: {error}") from error
        # at least as many as there are lists and dicts: those in texts count too
        brackets = len(stored.translate(None, _NO_BRACKETS))
        if brackets > _DEEPEST and _is_too_deep(data, brackets):
            raise SessionDataError(f"its data is nested deeper than {_DEEPEST} levels")
        return data


def spelled_out(serialized: bytes) -> bytes:
    """JSON without exponents such as 1e16, which a JSONB column would turn into integers."""
    if b"e+" not in serialized:
        return serialized
    return _TEXT_OR_LARGE_FLOAT.sub(_without_exponent, serialized)


def _without_exponent(found: re.Match[bytes]) -> bytes:
    if found[0].startswith(b'"'):
        return found[0]
    return f"{Decimal(found[0].decode()):f}.0".encode()


def in_order(serialized: bytes) -> str:
    """JSON with the keys of all objects sorted."""
    return json.dumps(json.loads(serialized), sort_keys=True)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
# without these, json reads what it does not write
_DECODER = json.JSONDecoder(parse_constant=_refuse)
_CAREFUL_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)

# every digit becomes a 0
_NUMERALS = bytes.maketrans(b"0123456789E", b"0000000000e")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{"))


def _may_overflow(stored: bytes) -> bool:
    """Whether a number may be too large for a float; if not, none is.

    It takes an exponent of three digits, or more digits than can be without one.
    """
    numerals = stored.translate(_NUMERALS, b"+")
    return b"e000" in numerals or b"0" * 200 in numerals


def _is_too_deep(data: Any, most: int) -> bool:
    """Whether it is nested deeper than allowed.

    :param most: there are at most so many lists and dicts in it.
    """
    level = [data]
    for _ in range(_DEEPEST):
        if not level or len(level) == most:
            # there are no others in these
            return False
        most -= len(level)
        level = [
            item
            for parent in level
            for item in (parent.values() if type(parent) is dict else parent)
            if type(item) in _CONTAINERS
        ]
    # what is in these is too deep
    return any(level)


def _has_its_shape(data: dict[Any, Any]) -> bool:
    """Whether :func:`_check` would find nothing in what was encoded, or decoded, without an error.

    If not, call that: this one is faster, and cannot tell what is wrong and where.
    """
    level: list[Any] = [data]
    for _ in range(_DEEPEST):
        keys: list[Any] = []
        items: list[Any] = []
        for parent in level:
            if type(parent) is dict:
                keys += parent
                items += parent.values()
            elif type(parent) in _SEQUENCES:
                items += parent
            else:
                # a subclass may behave differently
                return False
        if not _are_strings(keys):
            return False
        if _LEAVES.issuperset(map(type, items)):
            return True
        level = [item for item in items if type(item) not in _LEAVES]
    # what is in these is too deep
    return not any(level)


def _are_strings(keys: list[Any]) -> bool:
    try:
        "".join(keys)
    except TypeError:
        return False
    return True


def _check(value: Any, path: str, depth: int, for_json_column: bool) -> None:
    if depth > _DEEPEST:
        raise SessionDataError(f"{path} is nested deeper than {_DEEPEST} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise SessionDataError(
                    f"{path} has the key {key!r}: keys of a JSON object must be strings"
                )
            if for_json_column:
                _check(key, f"the key {key!r} of {path}", depth, for_json_column)
            _check(item, f"{path}[{key!r}]", depth + 1, for_json_column)
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            _check(item, f"{path}[{position}]", depth + 1, for_json_column)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise SessionDataError(f"{path} is {value!r}, which JSON cannot hold")
    elif isinstance(value, str):
        if for_json_column and _NOT_IN_JSON_COLUMNS.search(value):
            raise SessionDataError(
                f"{path} contains a NUL or an unpaired surrogate, which a JSON column cannot hold"
            )
    elif isinstance(value, int):
        if for_json_column and not _SMALLEST <= value <= _LARGEST:
            raise SessionDataError(
                f"{path} is an integer of more than 64 bits, which a JSON column cannot hold: "
                "store it as a string"
            )
    elif value is not None:
        raise SessionDataError(
            f"{path} is of type {type(value).__name__}, which JSON cannot hold: store plain "
            "strings, numbers, booleans, lists and dicts, or set sqlsession.serializer"
        )
