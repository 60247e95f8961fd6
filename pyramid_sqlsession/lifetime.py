"""How long a session lives. Times are epoch seconds, durations seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, func, not_, or_

from .settings import TEN_YEARS, Settings


class Times(NamedTuple):
    """What a session's lifetime is counted from.

    ``max_age`` is the session's own lifetime; None for the configured one.
    """

    created: int
    last_seen: int
    max_age: int | None

    def seen(self, now: int, max_age: int | None) -> Times:
        """The same session, used *now*, with this lifetime; ``last_seen`` never moves backwards."""
        return Times(self.created, max(self.last_seen, now), max_age)


class Lifetime:
    """The idle and absolute timeouts of the settings, applied to rows."""

    def __init__(self, settings: Settings) -> None:
        self.default = settings.cookie_max_age or settings.ttl
        self.absolute = settings.absolute_ttl
        self._cookie_max_age = settings.cookie_max_age
        self._touch_interval = settings.touch_interval

    def idle(self, max_age: int | None) -> int:
        """The idle timeout: the session's own ``max_age``, else the cookie's, else ``ttl``."""
        return self.default if max_age is None else max_age

    def expires_at(self, times: Times) -> int:
        """When the session expires if nobody uses it."""
        idle = times.last_seen + self.idle(times.max_age)
        return idle if self.absolute is None else min(idle, times.created + self.absolute)

    def expired(self, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        """The SQL that is true of expired rows, with the parameter ``b_now``."""
        now: ColumnElement[int] = bindparam("b_now", type_=BigInteger)
        # nothing is added to what a row holds: it may be any number, and overflow
        idle = func.coalesce(columns["max_age"], self.default)
        expired: ColumnElement[bool] = columns["last_seen"] <= now - idle
        if self.absolute is not None:
            expired = or_(expired, columns["created"] <= now - self.absolute)
        return expired

    def live(self, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        """Likewise, of rows that are sessions: neither expired nor markers."""
        return and_(not_(self.expired(columns)), columns["replaced"].is_(None))

    def purge_after(self, times: Times, stored: int = 0) -> int:
        """What to store as ``purge_after``: a time not before the expiry.

        The column is indexed, so what is *stored* stays as long as it is neither too early nor much
        too late: PostgreSQL's updates are HOT only if no indexed column changes. It is made late
        enough to stay for a tenth of the lifetime, and for thirty touches.
        """
        expiry, max_age = self.expires_at(times), times.max_age
        latest = expiry + max(self.idle(max_age) // 10, 30 * self._interval(max_age))
        return stored if expiry <= stored <= latest else latest

    def is_touch_due(self, times: Times, now: int) -> bool:
        """Whether activity at *now* is to be recorded."""
        return now - times.last_seen >= self._interval(times.max_age)

    def cookie_max_age(self, times: Times) -> int | None:
        """The cookie's Max-Age, or None for a cookie that ends with the browser."""
        if times.max_age is None and self._cookie_max_age is None:
            return None
        return max(self.expires_at(times) - times.last_seen, 0)

    def _interval(self, max_age: int | None) -> int:
        idle, interval = self.idle(max_age), self._touch_interval
        if interval is None or interval >= idle:
            interval = min(idle // 10, 300)
        return max(interval, 1)


def checked_max_age(value: object) -> int | None:
    """A ``session.max_age`` that was assigned.

    :raises ValueError: if it is neither None nor whole seconds from 1 to ten years.
    """
    if value is None or (type(value) is int and 1 <= value <= TEN_YEARS):
        return value
    raise ValueError(
        f"session.max_age = {value!r} must be whole seconds from 1 to {TEN_YEARS}, or None for the "
        "configured lifetime"
    )
