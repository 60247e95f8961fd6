"""Session lifetimes. Times are epoch seconds, durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, case, func, not_, or_

from .settings.options import TEN_YEARS, Settings


class Times(NamedTuple):
    """The values that a session's lifetime depends on.

    ``max_age`` is the session's own lifetime; None for the configured one. ``signed_in`` tells
    whether the column ``user_id`` holds a user.
    """

    created: int
    last_seen: int
    max_age: int | None
    signed_in: bool

    def seen(self, now: int, max_age: int | None) -> Times:
        """The same session, used *now*, with this lifetime; ``last_seen`` never moves backwards."""
        return self._replace(last_seen=max(self.last_seen, now), max_age=max_age)


class Lifetime:
    """The idle and absolute timeouts of the settings, applied to rows."""

    def __init__(self, settings: Settings) -> None:
        self.default = settings.cookie_max_age or settings.ttl
        self.anonymous = settings.cookie_max_age or settings.anonymous_ttl or settings.ttl
        self.absolute = settings.absolute_ttl
        self._cookie_max_age = settings.cookie_max_age
        self._touch_interval = settings.touch_interval

    def idle(self, times: Times) -> int:
        """The idle timeout: the session's own ``max_age``, else what is configured."""
        if times.max_age is not None:
            return times.max_age
        return self.default if times.signed_in else self.anonymous

    def expires_at(self, times: Times) -> int:
        """When the session expires if it is not used."""
        idle = times.last_seen + self.idle(times)
        return idle if self.absolute is None else min(idle, times.created + self.absolute)

    def expired(self, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        """SQL that is true for expired rows; its parameter is ``b_now``."""
        now: ColumnElement[int] = bindparam("b_now", type_=BigInteger)
        # add nothing to a value of the row: it may be any number, and overflow
        configured: Any = self.default
        if self.anonymous != self.default:
            configured = case((columns["user_id"].is_(None), self.anonymous), else_=self.default)
        idle = func.coalesce(columns["max_age"], configured)
        expired: ColumnElement[bool] = columns["last_seen"] <= now - idle
        if self.absolute is not None:
            expired = or_(expired, columns["created"] <= now - self.absolute)
        return expired

    def live(self, columns: Mapping[str, Any]) -> ColumnElement[bool]:
        """SQL that is true for live sessions: rows that are neither expired nor markers."""
        return and_(not_(self.expired(columns)), columns["replaced"].is_(None))

    def purge_after(self, times: Times, stored: int = 0) -> int:
        """What to store as ``purge_after``: a time not before the expiry.

        The column is indexed, so the *stored* value is kept as long as it is neither too early nor
        much too late: PostgreSQL's updates are HOT only if no indexed column changes. A new value
        is late enough to last for a tenth of the lifetime, and for thirty touches.
        """
        expiry = self.expires_at(times)
        latest = expiry + max(self.idle(times) // 10, 30 * self._interval(times))
        return stored if expiry <= stored <= latest else latest

    def is_touch_due(self, times: Times, now: int) -> bool:
        """Whether activity at *now* is to be recorded."""
        return now - times.last_seen >= self._interval(times)

    def is_cookie_due(self, before: Times, now: Times) -> bool:
        """Whether to send the cookie again because its lifetime has moved.

        It is sent once per interval, counted from the start of the session: the last recorded
        activity does not tell when the cookie was sent if every request writes.
        """
        old, new, interval = *map(self.cookie_max_age, (before, now)), self._interval(now)
        if old is None or new is None:
            return old != new
        if before.max_age == now.max_age:
            seen = (before.last_seen, now.last_seen)
            first, last = ((time - now.created) // interval for time in seen)
            if first == last:
                return False
        return before.last_seen + old != now.last_seen + new

    def cookie_max_age(self, times: Times) -> int | None:
        """The cookie's Max-Age; None for a cookie that expires when the browser closes."""
        if times.max_age is None and self._cookie_max_age is None:
            return None
        return max(self.expires_at(times) - times.last_seen, 0)

    def _interval(self, times: Times) -> int:
        idle, interval = self.idle(times), self._touch_interval
        if interval is None or interval >= idle:
            interval = min(idle // 10, 300)
        return max(interval, 1)


def checked_max_age(value: object) -> int | None:
    """Check a value that is assigned to ``session.max_age``.

    :raises ValueError: if it is neither None nor whole seconds from 1 to ten years.
    """
    if value is None or (type(value) is int and 1 <= value <= TEN_YEARS):
        return value
    raise ValueError(
        f"session.max_age = {value!r} is not valid: expected whole seconds from 1 to "
        f"{TEN_YEARS}, or None for the configured lifetime"
    )
