"""What is measured: something that keeps sessions, and its visitors."""

from __future__ import annotations

import abc
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import cycle
from typing import Any

from pyramid.request import Request

SESSIONS = 50
SMALL, LARGE = 1_000, 100_000
NOTHING = b"nothing"

Payload = dict[str, Any]
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Workload(Enum):
    """What a request does."""

    UNUSED = "unused"
    READ = "read"
    WRITE = "write"
    NEW = "new"
    LARGE = "100 KB read"


EVERY = tuple(Workload)
IN_COOKIES = (Workload.UNUSED, Workload.READ, Workload.WRITE, Workload.NEW)
WITHOUT = (Workload.UNUSED,)


@dataclass
class Visitor:
    """Somebody with a session, once it is made.

    :ivar key: what opens it: a cookie, or a primary key.
    :ivar mark: a text in it that was never there before.
    """

    key: Any
    mark: str


class Contender(abc.ABC):
    """Something that keeps sessions, or the same without.

    :param baseline: the same without; None for what is no web application.
    :param stored: everything that is committed, as somebody else sees it.
    :param touches: a read may write, for example that the visitor was there.
    """

    def __init__(
        self,
        name: str,
        baseline: Contender | None = None,
        stored: Callable[[], object] | None = None,
        workloads: tuple[Workload, ...] = EVERY,
        *,
        touches: bool = False,
    ) -> None:
        self.name = name
        self.baseline = baseline
        self.stored = stored
        self.workloads = workloads
        self.touches = touches

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def welcome(self) -> None:
        """Make the sessions that are read and written later."""
        keeps = Workload.NEW in self.workloads
        visitors = [self.arrive() for _ in range(SESSIONS)] if keeps else [Visitor("", "")]
        self._visitors = cycle(visitors)
        if Workload.LARGE in self.workloads:
            self._large = self.arrive(LARGE)

    def prepare(self, workload: Workload) -> tuple[Callable[[], bytes], bytes]:
        """A function that makes one request, and a text that its result is to contain."""
        if workload is Workload.NEW:
            visitor = Visitor("", new_mark())
        else:
            visitor = self._large if workload is Workload.LARGE else next(self._visitors)
        if workload is Workload.WRITE:
            visitor.mark = new_mark()
        request = self.request(workload, visitor, payload(SMALL, visitor.mark))
        return request, NOTHING if workload is Workload.UNUSED else visitor.mark.encode()

    def arrive(self, size: int = SMALL) -> Visitor:
        """Make a session of so many bytes."""
        visitor = Visitor("", new_mark())
        self.request(Workload.NEW, visitor, payload(size, visitor.mark))()
        assert visitor.key, f"{self} gives a visitor no key"
        return visitor

    @abc.abstractmethod
    def request(self, workload: Workload, visitor: Visitor, data: Payload) -> Callable[[], bytes]:
        """A function that makes a request of this visitor.

        :param data: what the session holds afterwards, if the request changes it.
        """


class Site(Contender):
    """A web application, called as a web server calls it, without a network."""

    def __init__(self, name: str, app: Wsgi, *arguments: Any, **options: Any) -> None:
        super().__init__(name, *arguments, **options)
        self._app = app
        self._environ = Request.blank("/").environ

    def request(self, workload: Workload, visitor: Visitor, data: Payload) -> Callable[[], bytes]:
        environ = {**self._environ, **self.environ(workload, visitor, data)}
        return partial(_answer, self._app, environ, partial(_receive, visitor))

    def environ(self, workload: Workload, visitor: Visitor, data: Payload) -> dict[str, Any]:
        """What is particular to a request."""
        path = Workload.READ if workload is Workload.LARGE else workload
        environ = {
            "PATH_INFO": f"/{path.value}",
            "bench.mark": visitor.mark,
            "bench.payload": data,
            "bench.data": json.dumps(data).encode(),
        }
        if visitor.key:
            environ["HTTP_COOKIE"] = visitor.key
        return environ


def _answer(app: Wsgi, environ: dict[str, Any], start_response: Any) -> bytes:
    chunks: Any = app(environ, start_response)
    try:
        return b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()


def _receive(visitor: Visitor, status: str, headers: Any, error: Any = None) -> Callable[..., None]:
    assert status == "200 OK", status
    for name, value in headers:
        if name.lower() == "set-cookie":
            visitor.key = value.partition(";")[0]
    return lambda body: None


def new_mark() -> str:
    """A text that was never there before."""
    return secrets.token_hex(16)


def payload(size: int, mark: str) -> Payload:
    """What a session holds: a cart of so many bytes of JSON."""
    data = {"mark": mark, "user": 4711, "language": "en"}
    return {**data, "cart": _ITEMS[: (size - len(json.dumps(data))) // _ITEM_SIZE]}


_ITEMS = [
    {"article": f"A-{number:05d}", "count": 1 + number % 9, "price": "12.90", "gift": False}
    for number in range(LARGE // 50)
]
_ITEM_SIZE = len(json.dumps(_ITEMS[0])) + len(", ")
