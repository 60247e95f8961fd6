"""What is read of a session's row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..exceptions import SessionDataError
from ..settings import TEN_YEARS

_LAST_VERSION = 2**31 - 1
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""


@dataclass(frozen=True)
class Record:
    """A row as it was read. Times are epoch seconds; ``data`` is what the column holds.

    A row with a ``successor`` is a marker: its session has a new token, and a row of that id.
    """

    version: int
    created: int
    last_seen: int
    max_age: int | None
    purge_after: int
    data: Any
    user_id: Any
    successor: bytes | None

    def check(self) -> None:
        """Tell a row of ours from nonsense that somebody else has written.

        :raises SessionDataError: if a number is none, or cannot be right.
        """
        times = (self.created, self.last_seen, self.max_age)
        # a marker may have no time to live
        max_age = 1 if self.max_age in (None, 0) else self.max_age
        is_right = (
            _is_within(self.version, _LAST_VERSION - 1)
            and _is_within(self.created, _LAST_SECOND)
            and _is_within(self.last_seen, _LAST_SECOND)
            and _is_within(max_age, TEN_YEARS)
            and isinstance(self.purge_after, int)
        )
        if not is_right:
            numbers = (self.version, *times, self.purge_after)
            raise SessionDataError(f"the numbers of its row make no sense: {numbers}")


def _is_within(number: object, last: int) -> bool:
    return isinstance(number, int) and 0 < number <= last
