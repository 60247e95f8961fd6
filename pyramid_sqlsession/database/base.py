"""The protocol of the database, as the rest of the package uses it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection, Engine

from ..table.record import Record

Writing = tuple[Connection, Callable[[], bool]]


class Database(Protocol):
    """Connections for one request. *transaction* is its current one, or None if it has none."""

    def __str__(self) -> str:
        """A description for the log, without a password."""
        ...

    def notice(self, request: Any) -> None:
        """Take note of the engine that a request used, even if its session was not used."""
        ...

    def flush(self, request: Any, transaction: Any, is_asked_for: bool) -> None:
        """Flush what the request has changed in its database session, if that is known.

        :param is_asked_for: the request's session was read from there, or will be written.
        """
        ...

    def load(self, request: Any, transaction: Any, id: bytes) -> Record | None:
        """The row, as the transaction sees it, or None."""
        ...

    def reading(self, request: Any, transaction: Any) -> AbstractContextManager[Connection]:
        """A connection for reading, which sees what the transaction wrote."""
        ...

    def writing(self, request: Any, transaction: Any) -> AbstractContextManager[Writing]:
        """A connection for writing, after everything that the application has written.

        Without a transaction, it has a short one of its own, committed at the end. The function
        that comes with it tells later whether what was written is durable.
        """
        ...

    def touching(self, request: Any) -> AbstractContextManager[Connection]:
        """A connection in a short transaction of its own, which waits for no lock."""
        ...

    def is_shared(self, request: Any) -> bool:
        """Whether that connection is the one that the application uses."""
        ...

    def engine(self, request: Any) -> Engine | None:
        """The engine for work outside of this request; None if there is none."""
        ...

    def engines(self) -> list[Engine] | None:
        """The engines seen in requests, for work outside of requests; None before the first."""
        ...

    def close(self) -> None:
        """Close all connections that do not belong to the application."""
        ...
