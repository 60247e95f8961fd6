"""How long a session lives. Times are epoch seconds, durations seconds."""

from __future__ import annotations

from .record import Record
from .settings import TEN_YEARS, Settings


class Lifetime:
    """The idle and absolute timeouts of the settings, applied to rows."""

    def __init__(self, settings: Settings) -> None:
        self._default = settings.cookie_max_age or settings.ttl
        self._cookie_max_age = settings.cookie_max_age
        self._absolute = settings.absolute_ttl
        self._touch_interval = settings.touch_interval

    def idle(self, max_age: int | None) -> int:
        """The idle timeout: the session's own ``max_age``, else the cookie's, else ``ttl``."""
        return self._default if max_age is None else max_age

    def expires_at(self, created: int, last_seen: int, max_age: int | None) -> int:
        """When the session expires if nobody uses it."""
        idle = last_seen + self.idle(max_age)
        return idle if self._absolute is None else min(idle, created + self._absolute)

    def purge_after(self, created: int, last_seen: int, max_age: int | None) -> int:
        """What to store as ``purge_after``.

        A tenth of the lifetime later than the expiry, so that most touches can leave the indexed
        column alone.
        """
        return self.expires_at(created, last_seen, max_age) + self.idle(max_age) // 10

    def is_touch_due(self, record: Record, now: int) -> bool:
        """Whether activity at *now* is to be recorded."""
        idle = self.idle(record.max_age)
        interval = self._touch_interval
        if interval is None or interval >= idle:
            interval = min(idle // 10, 300)
        return now - record.last_seen >= max(interval, 1)

    def cookie_max_age(self, created: int, last_seen: int, max_age: int | None) -> int | None:
        """The cookie's Max-Age, or None for a cookie that ends with the browser."""
        if max_age is None and self._cookie_max_age is None:
            return None
        return max(self.expires_at(created, last_seen, max_age) - last_seen, 0)


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
