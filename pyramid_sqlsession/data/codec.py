"""Converts between the session's dict and the value of the ``data`` column.

``sqlsession.serializer`` turns the dict into bytes; the codec stores these bytes as the column's
type wants them (binary, text, JSON), encrypted if that was configured, and keeps them within
``sqlsession.max_size``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from traceback import clear_frames
from typing import TYPE_CHECKING, Any

from pyramid.exceptions import ConfigurationError
from sqlalchemy import JSON
from sqlalchemy.types import TypeEngine

from ..exceptions import SessionDataError, SessionTooLarge, see
from ..table.json_text import is_sent_as_text
from ..table.model import underlying
from .serializer import JSONSerializer, Serializer, in_order, spelled_out

if TYPE_CHECKING:
    # its library is an extra
    from .encryption import Encryption


@dataclass(frozen=True)
class Decoded:
    """What a data column holds.

    ``as_configured``
      Whether it is encrypted as configured. If not, it is stored again.
    """

    serialized: bytes = field(repr=False)
    data: dict[Any, Any] = field(repr=False)
    as_configured: bool


class Codec:
    """Stores sessions in one kind of column.

    :param serializer: ``'json'`` or a :class:`Serializer`.
    :param type_: the type of the model's ``data`` column.
    :param max_size: the largest serialized session that is stored or read, in bytes.
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
        bounded_by = getattr(serializer, "bounded_by", None)
        if bounded_by is not None:
            self.serializer = bounded_by(max_size)
        self.max_size = max_size
        self._encryption = encryption
        plain = underlying(type_)
        self._is_json = isinstance(plain, JSON)
        self._is_sent_as_text = is_sent_as_text(type_)
        self._is_text = not self._is_json and plain.python_type is str
        if self._is_json and serializer != "json":
            raise ConfigurationError(
                "a data column of type JSON requires sqlsession.serializer = json: declare the "
                "column as LargeBinary or Text to use another serializer"
            )
        if not (self._is_json or self._is_text or plain.python_type is bytes):
            raise ConfigurationError(
                f"the data column has the type {type_!r}: expected LargeBinary, Text or JSON"
            )
        if encryption is not None and plain.python_type is not bytes:
            raise ConfigurationError(
                "sqlsession.encryption_keys and sqlsession.seal require a data column of type "
                f"LargeBinary: this model's has the type {type_!r}"
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
            # its local variables hold the session's data
            clear_frames(error.__traceback__)
            raise SessionDataError(f"cannot serialize the session: {error}") from error

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
        return not self.are_same(self.dumps({key: one}), self.dumps({key: other}))

    def are_same(self, one: bytes, other: bytes) -> bool:
        """Whether two serialized sessions are stored alike: in a JSON column keys have no order."""
        return one == other or (self._is_json and in_order(one) == in_order(other))

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
        self._check_size(serialized)
        if self._is_sent_as_text:
            serialized = spelled_out(serialized)
            self._check_size(serialized)
        if self._is_json and not self._is_sent_as_text:
            return self.loads(serialized)
        if self._encryption is not None:
            return self._encryption.encrypt(serialized, token)
        is_text = self._is_text or self._is_sent_as_text
        return serialized.decode() if is_text else serialized

    def _check_size(self, serialized: bytes) -> None:
        if len(serialized) > self.max_size:
            raise SessionTooLarge(
                f"the serialized session has {len(serialized)} bytes, sqlsession.max_size allows "
                f"{self.max_size}: store large data in a table of its own "
                f"{see('trouble-data')}"
            )

    def from_column(self, value: Any, token: str) -> Decoded:
        """The session that :meth:`to_column` has stored.

        :param token: the token of the row.
        :raises SessionDataError: if it is not a session; the message does not quote it.
        """
        try:
            serialized, as_configured = self._serialized(value, token)
            if len(serialized) > self.max_size:
                raise self._too_long(len(serialized))
            return Decoded(serialized, self.loads(serialized), as_configured)
        except SessionDataError:
            raise
        except Exception as error:
            # a serializer may raise anything, with session data in its variables and message
            clear_frames(error.__traceback__)
            name = type(error).__name__
            raise SessionDataError(f"its data is not a session ({name})") from error

    def _serialized(self, value: Any, token: str) -> tuple[bytes, bool]:
        """The serialized session in a value; checks its length first."""
        if self._is_json:
            try:
                if isinstance(value, (str, bytes)):
                    # the database may have added spaces, and some drivers return bytes
                    value = self.loads(value.encode() if isinstance(value, str) else value)
                return self.dumps(value), True
            except SessionDataError:
                # it names the path
                raise SessionDataError("its data holds values that a session cannot hold") from None
        # SQLite may hold a number there, and bytes(5) is five zeros
        given: Any = value if self._is_text else memoryview(value)
        longest = self.max_size + (0 if self._encryption is None else self._encryption.added)
        if len(given) > longest:
            raise self._too_long(len(given))
        stored = given.encode() if self._is_text else bytes(given)
        return (
            (stored, True) if self._encryption is None else self._encryption.decrypt(stored, token)
        )

    def _too_long(self, length: int) -> SessionDataError:
        return SessionDataError(
            f"its data has {length} bytes, sqlsession.max_size allows {self.max_size}"
        )
