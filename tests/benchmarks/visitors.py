"""A Pyramid application and its visitors: whole WSGI requests, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from time import perf_counter
from typing import Any, NamedTuple

from pyramid.interfaces import ISessionFactory
from pyramid.request import Request
from sqlalchemy import event
from support.apps import add_views, own_configurator

from pyramid_sqlsession.store import Store

from .population import TTL, is_live, random_text, token
from .waits import Waits


class Taken(NamedTuple):
    """What a request took, in seconds: all in all, and of that the waits for a core."""

    seconds: float
    waited: float


@dataclass(frozen=True)
class Latency:
    """How long requests took, in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        """The percentiles of many."""
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return cls(len(ordered), *(1000 * ordered[round(last * p)] for p in (0.50, 0.95, 0.99)))


class Site:
    """An application whose sessions are read, and written, by visitors who have been there before.

    :param size: the bytes of data in each session.
    :param touch_interval: None for one that no visitor of the population has reached.
    """

    def __init__(
        self, url: str, sessions: int, size: int, touch_interval: int | None = None
    ) -> None:
        self.sessions = sessions
        self.size = size
        self._random = Random(sessions)
        # those who were last seen longest ago are within it too: a read is to be only a read
        interval = touch_interval or TTL - 1
        config = own_configurator(url, ttl=TTL, touch_interval=interval)
        self._app = add_views(config, read=_read, write=_write).make_wsgi_app()
        self._factory = self._app.registry.getUtility(ISessionFactory)
        self._environ = Request.blank("/").environ
        self._length = b"%d" % len(random_text(size))
        self.store: Store = self._factory.visit(Request.blank("/")).store
        engine = self.store.database.engine(None)
        assert engine is not None
        self.engine = engine
        self._waits = Waits(engine)

    def close(self) -> None:
        """Close the connections, so that the server counts what was done on them."""
        self._factory.close()

    def advance(self, seconds: int) -> None:
        """Let time pass."""
        clock = self._factory.clock
        self._factory.clock = lambda: clock() + seconds

    def someone(self) -> int:
        """A live session."""
        while True:
            number = self._random.randint(1, self.sessions)
            if is_live(number):
                return number

    def everyone(self) -> list[int]:
        """All live sessions, in random order."""
        numbers = [number for number in range(1, self.sessions + 1) if is_live(number)]
        self._random.shuffle(numbers)
        return numbers

    def read(self, number: int) -> Taken:
        """Make a request that reads a session."""
        return self._request("/read", number)

    def write(self, number: int) -> Taken:
        """Make a request that stores other data of the same size."""
        return self._request("/write", number, {"scale.data": random_text(self.size)})

    def reads(self, count: int) -> list[Taken]:
        """Make so many reads."""
        return [self.read(self.someone()) for _ in range(count)]

    def writes(self, count: int) -> list[Taken]:
        """Make so many writes."""
        return [self.write(self.someone()) for _ in range(count)]

    def reads_while(self, busy: Callable[[], bool]) -> list[Taken]:
        """Make reads as long as something else is going on."""
        times = []
        while busy():
            times.append(self.read(self.someone()))
        return times

    def lookup(self) -> str:
        """The statement that loads a session, as the driver gets it."""
        seen: list[str] = []

        def remember(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
            seen.append(statement)

        event.listen(self.engine, "before_cursor_execute", remember)
        self.read(self.someone())
        event.remove(self.engine, "before_cursor_execute", remember)
        (statement,) = seen
        return statement

    def _request(self, path: str, number: int, extra: dict[str, str] | None = None) -> Taken:
        cookie = f"session={token(number)}"
        environ = {**self._environ, "PATH_INFO": path, "HTTP_COOKIE": cookie, **(extra or {})}
        waits, began = self._waits.read(), perf_counter()
        body = b"".join(self._app(environ, _start_response))
        seconds = perf_counter() - began
        waited = self._waits.seconds_since(waits)
        assert body == self._length, f"session {number} of {self.sessions} gave {body!r}"
        return Taken(seconds, waited)


def _read(request: Any) -> int:
    return len(request.session["data"])


def _write(request: Any) -> int:
    request.session["data"] = request.environ["scale.data"]
    return _read(request)


def _start_response(status: str, headers: Any, error: Any = None) -> Callable[[bytes], object]:
    assert status == "200 OK"
    return lambda body: None
