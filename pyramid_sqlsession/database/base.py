"""Whose connection a session is read and written through: what the rest of the package needs."""

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
        """What the log says is used; no password."""
        ...

    def notice(self, request: Any) -> None:
        """Know the engine that a request has used, whether its session was used or not."""
        ...

    def load(self, request: Any, transaction: Any, id: bytes) -> Record | None:
        """The row, as the transaction sees it, or None."""
        ...

    def reading(self, request: Any, transaction: Any) -> AbstractContextManager[Connection]:
        """A connection to read on, which sees what the transaction wrote."""
        ...

    def writing(self, request: Any, transaction: Any) -> AbstractContextManager[Writing]:
        """A connection to write on, after everything that the application has written.

        Without a transaction it is in a short one of its own, committed at the end. With it comes a
        function that tells, later, whether what was written is durable.
        """
        ...

    def touching(self, request: Any) -> AbstractContextManager[Connection]:
        """A connection in a short transaction of its own, which waits for nobody."""
        ...

    def is_shared(self, request: Any) -> bool:
        """Whether that connection is the one on which the application works."""
        ...

    def engine(self, request: Any) -> Engine | None:
        """The engine for work outside of this request; None if it is of no use for that."""
        ...

    def engines(self) -> list[Engine] | None:
        """Those that requests have shown, for work outside of any; None if none has used one."""
        ...

    def close(self) -> None:
        """Close all connections that are not the application's."""
        ...
