"""What is reported about sessions: live ones and ended ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .record import LAST_SECOND


@dataclass(frozen=True)
class UserSession:
    """A live session of a user. Times are aware datetimes in UTC.

    ``columns``
      The values of the columns that the application's model adds.
    ``current``
      Whether it is the session of this request.
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
      The ids of its rows that were found.
    """

    lineage: bytes
    user_id: Any
    ids: frozenset[bytes]


def live_ones(rows: Sequence[Any]) -> list[Ended]:
    """The live sessions among these rows, without markers and expired rows."""
    ids: dict[bytes, set[bytes]] = {}
    for row in rows:
        ids.setdefault(row.r_lineage, set()).add(row.r_id)
    users = {row.r_lineage: row.r_user_id for row in rows if row.r_live}
    return [Ended(lineage, user, frozenset(ids[lineage])) for lineage, user in users.items()]


def moment(seconds: int) -> datetime:
    """A row's time as a datetime in UTC."""
    # an invalid value in one row must not hide the others
    return datetime.fromtimestamp(min(max(seconds, 0), LAST_SECOND), timezone.utc)
