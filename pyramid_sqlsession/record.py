"""What is read of a session's row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .exceptions import SessionDataError


@dataclass(frozen=True)
class Record:
    """A row as it was read. Times are epoch seconds; ``data`` is what the column holds."""

    version: int
    created: int
    last_seen: int
    max_age: int | None
    purge_after: int
    data: Any

    def check(self) -> None:
        """Tell a row of ours from nonsense that somebody else has written.

        :raises SessionDataError: if a number is none, or cannot be right.
        """
        numbers = (self.version, self.created, self.last_seen, self.purge_after, self.max_age or 1)
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise SessionDataError(f"the numbers of its row make no sense: {numbers}")
