"""What a request knows of its session, and did to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .lifetime import Lifetime
from .merge import FlashQueue
from .record import Record


@dataclass(frozen=True)
class Loaded:
    """A live session as it was read.

    ``data`` is what the request then works on; ``serialized`` stays what was loaded.
    """

    handle: bytes
    record: Record
    serialized: bytes
    data: dict[Any, Any]


@dataclass
class State:
    """What a request knows of its session and did to it.

    ``data`` is None until the session is used; ``loaded`` is None for a session without a live row.
    """

    load: Callable[[], Loaded | None]
    check_open: Callable[[], None]
    clock: Callable[[], int]
    lifetime: Lifetime
    loaded: Loaded | None = None
    data: dict[Any, Any] | None = None
    flashes: dict[str, FlashQueue] = field(default_factory=dict)
    max_age: int | None = None
    created: int = 0
    ended: bool = False

    def read(self) -> dict[Any, Any]:
        """The data, loaded when it is first needed."""
        if self.data is None:
            self.loaded = loaded = self.load()
            if loaded is None:
                return self.start()
            self.data = loaded.data
            self.created, self.max_age = loaded.record.created, loaded.record.max_age
        return self.data

    def write(self) -> dict[Any, Any]:
        """The data, to be changed.

        :raises SessionClosed: if it is too late for that.
        """
        self.check_open()
        return self.read()

    def expires_at(self) -> int:
        """When the session expires if nobody uses it after this request."""
        self.read()
        return self.lifetime.expires_at(self.created, self._last_seen(), self.max_age)

    def _last_seen(self) -> int:
        """What this request leaves in the row, if it does not change the data."""
        if self.loaded is None:
            return self.created
        record, now = self.loaded.record, self.clock()
        is_written = self.max_age != record.max_age or self.lifetime.is_touch_due(record, now)
        return max(record.last_seen, now) if is_written else record.last_seen

    def start(self) -> dict[Any, Any]:
        """Be a new, empty session."""
        self.loaded, self.data, self.flashes, self.max_age = None, {}, {}, None
        self.created = self.clock()
        return self.data
