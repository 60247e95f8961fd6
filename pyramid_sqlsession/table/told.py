"""What is reported about sessions: live ones and ended ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .record import LAST_SECOND


@dataclass(frozen=True)
class UserSession:
    """A live session of a user, as :meth:`SQLSessions.of_user` lists it.

    Its times are aware datetimes in UTC.
    """

    handle: str
    """The public handle, 32 hex digits; see :attr:`SQLSession.id`."""

    created: datetime
    """When the session started."""

    last_seen: datetime
    """The last recorded activity, at most ``sqlsession.touch_interval`` old while it is used."""

    expires_at: datetime
    """When it expires if it is not used any more."""

    columns: Mapping[str, Any]
    """The values of the columns that your model has added, by their names."""

    current: bool = False
    """Whether it is the session of this request."""


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
