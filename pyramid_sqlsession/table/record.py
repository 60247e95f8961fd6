"""A session's row as it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import SessionDataError
from ..lifetime import Times
from ..settings.options import TEN_YEARS

COLUMNS = (
    "version", "created", "last_seen", "max_age", "purge_after", "data", "user_id", "lineage",
    "replaced",
)  # fmt: skip
"""The columns that are read."""

LINEAGE_BYTES = 16
_LAST_VERSION = 2**31 - 1
LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""


@dataclass(frozen=True)
class Record:
    """A row as it was read. ``purge_after`` is epoch seconds; ``data`` is what the column holds.

    A row with ``replaced`` is a marker: its session has a new token.
    """

    version: int
    times: Times
    purge_after: int
    data: Any = field(repr=False)
    user_id: Any
    lineage: bytes
    replaced: int | None

    @property
    def handle(self) -> str:
        """The session's public handle."""
        return self.lineage.hex()

    @property
    def is_told(self) -> bool:
        """Whether the expiry was reported to the application."""
        return bool(self.purge_after == 0)

    @classmethod
    def of(cls, row: Sequence[Any]) -> Record:
        """A record from a row of :data:`COLUMNS`."""
        version, created, last_seen, max_age, purge_after, data, user_id, *more = row
        times = Times(created, last_seen, max_age, user_id is not None)
        return cls(version, times, purge_after, data, user_id, *more)

    def check(self) -> None:
        """Check that the row could have been written by this package.

        :raises SessionDataError: if a value is invalid. The message does not show it, since it may
            be a text of any length.
        """
        created, last_seen, max_age, _ = self.times
        is_right = {
            "version": _is_within(self.version, _LAST_VERSION - 1),
            "created": _is_within(created, LAST_SECOND),
            "last_seen": _is_within(last_seen, LAST_SECOND),
            "max_age": max_age is None or _is_within(max_age, TEN_YEARS),
            "replaced": self.replaced is None or _is_within(self.replaced, LAST_SECOND),
            "purge_after": isinstance(self.purge_after, int),
            "lineage": isinstance(self.lineage, bytes) and len(self.lineage) == LINEAGE_BYTES,
        }
        if not all(is_right.values()):
            wrong = ", ".join(name for name, right in is_right.items() if not right)
            raise SessionDataError(f"these columns hold invalid values: {wrong}")


def _is_within(number: object, last: int) -> bool:
    return isinstance(number, int) and 0 < number <= last
