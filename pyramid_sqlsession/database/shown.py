"""The engines seen in requests: there may be one per tenant or host."""

from __future__ import annotations

import threading
from weakref import WeakSet

from sqlalchemy import Connection, Engine

from ..driver_errors import mark_conflicts_retryable
from .beside import has_connections
from .guard import note_errors


class ShownEngines:
    """The engines seen in requests, each as long as the application keeps it."""

    def __init__(self) -> None:
        self._marked: WeakSet[Engine] = WeakSet()
        self._lasting: WeakSet[Engine] = WeakSet()
        self._changing = threading.Lock()
        self._has_seen_any = False

    def show(self, bind: Engine | Connection) -> None:
        """Prepare an engine, and remember it for work outside of requests if it is suitable."""
        engine = bind.engine
        with self._changing:
            if engine not in self._marked:
                note_errors(engine)
                mark_conflicts_retryable(engine)
                self._marked.add(engine)
            if engine not in self._lasting and has_connections(bind):
                self._lasting.add(engine)
        self._has_seen_any = True

    def lasting(self) -> list[Engine] | None:
        """Engines for work outside of requests; None before the first use."""
        with self._changing:
            return list(self._lasting) if self._has_seen_any else None
