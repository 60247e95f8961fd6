"""How long a session lives. Times are epoch seconds, durations seconds."""

from __future__ import annotations

from .settings import TEN_YEARS, Settings
from .table.record import Record


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

    def expires_at(self, created: int, last_seen: int, max_age: int | None) -> int:
        """When the session expires if nobody uses it."""
        idle = last_seen + self.idle(max_age)
        return idle if self.absolute is None else min(idle, created + self.absolute)

    def purge_after(
        self, created: int, last_seen: int, max_age: int | None, stored: int = 0
    ) -> int:
        """What to store as ``purge_after``: a time not before the expiry.

        The column is indexed, so what is *stored* stays as long as it is neither too early nor much
        too late: PostgreSQL's updates are HOT only if no indexed column changes. It is made late
        enough to stay for a tenth of the lifetime, and for thirty touches.
        """
        expiry = self.expires_at(created, last_seen, max_age)
        latest = expiry + max(self.idle(max_age) // 10, 30 * self._interval(max_age))
        return stored if expiry <= stored <= latest else latest

    def is_touch_due(self, record: Record, now: int) -> bool:
        """Whether activity at *now* is to be recorded."""
        return now - record.last_seen >= self._interval(record.max_age)

    def cookie_max_age(self, created: int, last_seen: int, max_age: int | None) -> int | None:
        """The cookie's Max-Age, or None for a cookie that ends with the browser."""
        if max_age is None and self._cookie_max_age is None:
            return None
        return max(self.expires_at(created, last_seen, max_age) - last_seen, 0)

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
