"""From the session's dict to the value of the ``data`` column, and back.

``sqlsession.serializer`` turns the dict into bytes; the codec stores these bytes as the column's
type wants them (binary, text, JSON), encrypted if that was configured, and keeps them within
``sqlsession.max_size``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pyramid.exceptions import ConfigurationError
from sqlalchemy import JSON
from sqlalchemy.types import TypeEngine

from .exceptions import SessionDataError, SessionTooLarge
from .users import underlying

if TYPE_CHECKING:
    # its library is an extra
    from .encryption import Encryption

_DEEPEST = 100
_LEAVES = frozenset({str, int, float, bool, type(None)})
_SEQUENCES = frozenset({list, tuple})
# what JSONB, and MySQL's JSON, refuse: as text in a statement's parameter it is an error of the
# database, inside the application's transaction
_NOT_IN_JSON_COLUMNS = re.compile("[\0\ud800-\udfff]")


class Serializer(Protocol):
    """Turns a session into bytes and back.

    Equal dicts with the same order of keys must give equal bytes: that is how changes are noticed.
    """

    def dumps(self, data: dict[Any, Any], /) -> bytes:
        """The session as bytes.

        :raises ValueError: or any other error, if it holds something that cannot be stored.
        """

    def loads(self, stored: bytes, /) -> dict[Any, Any]:
        """The session from bytes.

        :raises ValueError: or any other error, if these are no session.
        """


class JSONSerializer:
    """Strict JSON: what is read back equals what was stored, or it is an error when storing.

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
            _check(data, "session", 0, False)
            raise SessionDataError(f"the session cannot be stored as JSON: {error}") from error

    def check(self, data: dict[Any, Any], /, *, for_json_column: bool = False) -> None:
        """Refuse what :meth:`dumps` would silently change, keys that are not strings.

        :param for_json_column: refuse what a database's JSON cannot hold, too.
        :raises SessionDataError: naming the path.
        """
        if for_json_column or not _has_its_shape(data):
            _check(data, "session", 0, for_json_column)

    def loads(self, stored: bytes, /) -> dict[Any, Any]:
        """The session from bytes.

        :raises ValueError: if these are no JSON, or what :meth:`dumps` would refuse.
        """
        data: dict[Any, Any] = _DECODER.decode(stored.decode())
        # the brackets, those in texts too, are at least as many as the levels
        if stored.count(b"[") + stored.count(b"{") > _DEEPEST and not _has_its_shape(data):
            raise SessionDataError(f"it is nested deeper than {_DEEPEST} levels")
        return data


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is out of range")
    return number


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
# without these, json reads what it does not write
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def _has_its_shape(data: dict[Any, Any]) -> bool:
    """Whether :func:`_check` would find nothing in what was encoded, or decoded, without an error.

    If not, it is to be asked: this one is quicker and cannot say what is wrong, and where.
    """
    level: list[Any] = [data]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for parent in level:
            if type(parent) is dict:
                try:
                    "".join(parent)
                except TypeError:
                    # a key is no string
                    return False
                inner += [item for item in parent.values() if type(item) not in _LEAVES]
            elif type(parent) in _SEQUENCES:
                inner += [item for item in parent if type(item) not in _LEAVES]
            else:
                # of subclasses nobody knows what they give to whom
                return False
        if not inner:
            return True
        level = inner
    # what is in these is too deep
    return not any(level)


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
                f"{path} holds a NUL or half a surrogate pair, which a JSON column cannot hold"
            )
    elif value is not None and not isinstance(value, int):
        raise SessionDataError(
            f"{path} is of type {type(value).__name__}, which JSON cannot hold: store plain "
            "strings, numbers, booleans, lists and dicts, or set sqlsession.serializer"
        )


@dataclass(frozen=True)
class Decoded:
    """What a data column holds.

    ``as_configured``
      Whether it is encrypted as the settings say, and so need not be stored anew.
    """

    serialized: bytes
    data: dict[Any, Any]
    as_configured: bool


class Codec:
    """Stores sessions in one kind of column.

    :param serializer: ``'json'`` or a :class:`Serializer`.
    :param type_: the type of the model's ``data`` column.
    :param max_size: the longest serialized session, in bytes.
    :param encryption: encrypts what is stored.
    :raises ConfigurationError: if the column cannot hold what the serializer makes.
    """

    def __init__(
        self,
        serializer: Any,
        type_: TypeEngine[Any],
        max_size: int,
        encryption: Encryption | None = None,
    ) -> None:
        self.serializer: Serializer = JSONSerializer() if serializer == "json" else serializer
        self.max_size = max_size
        self._encryption = encryption
        plain = underlying(type_)
        self._is_json = isinstance(plain, JSON)
        self._is_text = not self._is_json and plain.python_type is str
        if self._is_json and serializer != "json":
            raise ConfigurationError(
                "a data column of type JSON takes sqlsession.serializer = json only: declare it as "
                "LargeBinary or Text to use a serializer of your own"
            )
        if not (self._is_json or self._is_text or plain.python_type is bytes):
            raise ConfigurationError(
                f"the data column is a {type_!r}: it must be LargeBinary, Text or JSON"
            )
        if encryption is not None and plain.python_type is not bytes:
            raise ConfigurationError(
                "sqlsession.encryption_keys and sqlsession.seal need a data column of type "
                f"LargeBinary, this model's is a {type_!r}"
            )

    def dumps(self, data: dict[Any, Any]) -> bytes:
        """The serialized session.

        :raises SessionDataError: if it cannot be serialized.
        """
        try:
            return self.serializer.dumps(data)
        except SessionDataError:
            raise
        except Exception as error:
            raise SessionDataError(f"the session cannot be serialized: {error}") from error

    def loads(self, serialized: bytes) -> dict[Any, Any]:
        """The session from what :meth:`dumps` made.

        :raises ValueError: or what the serializer raises, if it is no session.
        """
        data = self.serializer.loads(serialized)
        if not isinstance(data, dict):
            raise ValueError(f"the stored session is a {type(data).__name__}, not a dict")
        return data

    def differ(self, key: Any, one: Any, other: Any) -> bool:
        """Whether two values of a key are stored differently."""
        return self.dumps({key: one}) != self.dumps({key: other})

    def to_column(self, data: dict[Any, Any], token: str, serialized: bytes | None = None) -> Any:
        """The value of the data column.

        :param token: the token of the row.
        :param serialized: the serialized session, where it is known already.
        :raises SessionTooLarge: if it is longer than ``max_size``.
        :raises SessionDataError: if it cannot be stored as it is.
        """
        if serialized is None:
            serialized = self.dumps(data)
        if isinstance(self.serializer, JSONSerializer):
            self.serializer.check(data, for_json_column=self._is_json)
        if len(serialized) > self.max_size:
            raise SessionTooLarge(
                f"the serialized session has {len(serialized)} bytes, sqlsession.max_size allows "
                f"{self.max_size}: keep large things in tables of their own"
            )
        if self._is_json:
            return self.loads(serialized)
        if self._encryption is not None:
            return self._encryption.encrypt(serialized, token)
        return serialized.decode() if self._is_text else serialized

    def from_column(self, value: Any, token: str) -> Decoded:
        """The session that :meth:`to_column` has stored.

        :param token: the token of the row.
        :raises SessionDataError: if the value is none of ours.
        """
        try:
            serialized, as_configured = self._serialized(value, token)
            return Decoded(serialized, self.loads(serialized), as_configured)
        except SessionDataError:
            raise
        except Exception as error:
            # a serializer may raise anything
            raise SessionDataError(str(error)) from error

    def _serialized(self, value: Any, token: str) -> tuple[bytes, bool]:
        if self._is_json:
            return self.dumps(value), True
        if self._is_text:
            return value.encode(), True
        # SQLite may hold a number there, of which bytes() would make as many zeros
        stored = bytes(memoryview(value))
        return (
            (stored, True) if self._encryption is None else self._encryption.decrypt(stored, token)
        )
