"""How long work that was ready waited for a core, as Linux tells it."""

from __future__ import annotations

import threading
from io import FileIO
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event


class Waits:
    """Waiting of the thread that made this, and of the server's processes that work for it.

    All is zero where the system does not tell.
    """

    def __init__(self, engine: Engine) -> None:
        self._thread = threading.get_native_id()
        self._files: dict[int, FileIO] = {}
        self._working = {self._thread}
        self._open(self._thread)
        event.listen(engine, "checkout", self._note)

    def read(self) -> dict[int, int]:
        """Nanoseconds since each of them began."""
        return {process: self._read(process) for process in list(self._files)}

    def seconds_since(self, before: dict[int, int]) -> float:
        """How long the thread, and the process that it used last, have waited."""
        now = self.read()
        waits = (now[one] - before.get(one, now[one]) for one in self._working if one in now)
        return sum(waits) / 1e9

    def _note(self, dbapi_connection: Any, record: Any, proxy: Any) -> None:
        # a purge in another thread has the same engine
        if threading.get_native_id() == self._thread:
            process = dbapi_connection.info.backend_pid
            self._working = {self._thread, process}
            if process not in self._files:
                self._open(process)

    def _open(self, process: int) -> None:
        path = Path(f"/proc/{process}/schedstat")
        if path.exists():
            self._files[process] = path.open("rb", buffering=0)

    def _read(self, process: int) -> int:
        file = self._files[process]
        try:
            file.seek(0)
            return int(file.read().split()[1])
        except ProcessLookupError:
            file.close()
            del self._files[process]
            return 0
