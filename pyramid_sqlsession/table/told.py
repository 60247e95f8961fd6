"""What is told of the sessions of users: those that live, and those that were ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .record import LAST_SECOND


@dataclass(frozen=True)
class UserSession:
    """A live session in a list. Times are in UTC; the handle is hexadecimal.

    ``columns``
      What the columns hold that the application's model has added.
    ``current``
      Whether it is the session of the request that asks.
    """

    handle: str
    created: datetime
    last_seen: datetime
    expires_at: datetime
    columns: Mapping[str, Any]
    current: bool = False


@dataclass(frozen=True)
class Ended:
    """A session that was ended.

    ``ids``
      Those of its rows that were found.
    """

    lineage: bytes
    user_id: Any
    ids: frozenset[bytes]


def live_ones(rows: Sequence[Any]) -> list[Ended]:
    """The live sessions whose rows these are; markers, and rows that have expired, are none."""
    ids: dict[bytes, set[bytes]] = {}
    for row in rows:
        ids.setdefault(row.r_lineage, set()).add(row.r_id)
    users = {row.r_lineage: row.r_user_id for row in rows if row.r_live}
    return [Ended(lineage, user, frozenset(ids[lineage])) for lineage, user in users.items()]


def moment(seconds: int) -> datetime:
    """A time in UTC that a row holds."""
    # somebody else's nonsense in one row must not hide the others
    return datetime.fromtimestamp(min(max(seconds, 0), LAST_SECOND), timezone.utc)
