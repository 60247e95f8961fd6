"""Observes a request's session while the request runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from pyramid.interfaces import ISessionFactory
from pyramid.threadlocal import manager

from ..events import SessionEvent
from ..factory import SQLSessionFactory
from ..request.visit import Phase, Visit
from ..session.found import Found
from ..session.intent import is_changed
from ..session.mapping import SQLSession
from ..session.state import State

_OBSERVED = "_pyramid_sqlsession_observed"


@dataclass(frozen=True)
class Statement:
    """A statement on the session table.

    ``kind``
      Its purpose: ``read``, ``insert``, ``update``, ``mark`` (a row that was replaced),
      ``touch``, ``rewrite`` or ``delete``.
    ``version``
      The version in its condition; None if it has none.
    ``rows``
      How many rows it changed; None for a read.
    ``is_of_save``
      Whether the session was being saved.
    ``transaction``
      The one that the save had joined.
    """

    kind: str
    sql: str
    parameters: str
    version: int | None
    milliseconds: float
    rows: int | None
    error: str | None
    is_of_save: bool
    transaction: Any

    @property
    def has_hit(self) -> bool:
        """Whether it has changed a row."""
        return self.error is None and bool(self.rows)


class Observed:
    """What was observed of one request's session. It lives as long as the request.

    :ivar transaction: the one that the view ran in; None if there was none.
    :ivar is_opened: whether the session was loaded, or tried to.
    :ivar is_recording: whether the application is running, not the toolbar.
    :ivar keys: the keys that the application has read.
    :ivar is_read_whole: whether it has read all of them, or their number.
    :ivar failure: the error that left the application's tweens.
    :ivar cookies: the Set-Cookie headers of the session, with their tokens.
    """

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.transaction: Any = None
        self.is_opened = False
        self.is_recording = False
        self.keys: dict[Any, None] = {}
        self.is_read_whole = False
        self.statements: list[Statement] = []
        self.events: list[SessionEvent] = []
        self.warnings: list[str] = []
        self.failure: BaseException | None = None
        self.cookies: list[str] = []
        self.began = 0.0

        self._load, visit.state.load = visit.state.load, self._note_load

    def _note_load(self) -> tuple[Found | None, SessionEvent | None]:
        self.is_opened = True
        return self._load()

    @property
    def is_saving(self) -> bool:
        """Whether the session's rows are being written."""
        return self.visit.phase is Phase.CLOSED and self.visit.saved is None

    @property
    def lost(self) -> State | None:
        """The changes of a failed view, if they were rolled back with its transaction."""
        failed, codec = self.visit.state.failed, self.visit.store.codec
        is_lost = failed is not None and self.visit.alone is None and is_changed(failed, codec)
        return failed if is_lost else None

    def note_cookies(self, request: Any, response: Any) -> None:
        """Response callback: remember the session's Set-Cookie headers."""
        start = f"{self.visit.store.settings.cookie_name}="
        headers = response.headers.getall("Set-Cookie")
        self.cookies = [header for header in headers if header.startswith(start)]


class ObservedSession(SQLSession):
    """A session that records what is read."""

    __slots__ = ("_observed",)

    def __init__(self, observed: Observed) -> None:
        super().__init__(observed.visit.state)
        self._observed = observed

    def __getitem__(self, key: Any) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[Any]:
        self._note_whole()
        return super().__iter__()

    def __reversed__(self) -> Iterator[Any]:
        self._note_whole()
        return super().__reversed__()

    def __len__(self) -> int:
        self._note_whole()
        return super().__len__()

    def copy(self) -> dict[Any, Any]:
        self._note_whole()
        return super().copy()

    __copy__ = copy

    def _note(self, key: Any) -> None:
        if self._is_read_by_the_application():
            self._observed.keys[key] = None

    def _note_whole(self) -> None:
        if self._is_read_by_the_application():
            self._observed.is_read_whole = True

    def _is_read_by_the_application(self) -> bool:
        # the toolbar's own panel reads every key as soon as the application asks for the session
        reader: FrameType | None = sys._getframe(1)
        while _module_of(reader) == __name__:
            reader = reader and reader.f_back
        is_toolbars = _module_of(reader).startswith("pyramid_debugtoolbar.")
        return self._observed.is_recording and not is_toolbars


def _module_of(frame: FrameType | None) -> str:
    # the code of a template has no name
    return str(frame.f_globals.get("__name__")) if frame is not None else ""


def observe(request: Any) -> Observed | None:
    """Start to observe a request; None if its sessions are not this package's."""
    factory = request.registry.queryUtility(ISessionFactory)
    if not isinstance(factory, SQLSessionFactory):
        return None
    visit = factory.visit(request)
    observed = request.__dict__[_OBSERVED] = Observed(visit)
    if not visit.handed_out:
        visit.session = ObservedSession(observed)
    return observed


def observed_of(request: Any) -> Observed | None:
    """The observation of a request; None if it is not observed."""
    found: Observed | None = getattr(request, "__dict__", {}).get(_OBSERVED)
    return found


def current() -> Observed | None:
    """The observation of this thread's request, or of an outer one."""
    requests = (frame["request"] for frame in reversed(manager.stack))
    return next(filter(None, map(observed_of, requests)), None)
