"""A TCP proxy on loopback that loses connections as networks do, when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from sqlalchemy.engine import make_url
from support.servers import HOST, TIMEOUT

_NO_LINGERING = struct.pack("ii", 1, 0)


class End(Enum):
    """How a connection ends."""

    CLOSE = auto()
    """In good order: FIN."""
    RESET = auto()
    """As a crashed machine that is back answers: RST."""
    SILENCE = auto()
    """As in a network that loses every packet: nothing is read any more, nothing is sent."""


class Lost(Enum):
    """What gets lost when a connection ends."""

    REQUEST = auto()
    """The packet does not reach the server."""
    ANSWER = auto()
    """It does, and the client does not hear of it."""
    NOTHING = auto()
    """The connection ends when the client has been answered."""


@dataclass
class Trap:
    """What happens to a packet of a client.

    :ivar words: what is still to be seen, the last of it in that packet.
    :ivar sprung: whether it has happened, and the connection has ended.
    """

    words: list[re.Pattern[bytes]]
    end: End
    lost: Lost
    sprung: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Come back when it has happened."""
        assert self.sprung.wait(TIMEOUT), f"nobody sent {self.words}"


class Link:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, client: Any, server: Any) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._ended = asyncio.Event()
        self._silent = False
        self._trap: Trap | None = None

    async def run(self) -> None:
        """Pass on what comes from either side, until one of them closes."""
        pumps = [asyncio.ensure_future(it) for it in (self._requests(), self._answers())]
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait([*pumps, ended], return_when=asyncio.FIRST_COMPLETED)
        if self._silent:
            await ended
        for task in (*pumps, ended):
            task.cancel()
        self.end(End.CLOSE)
        for writer in (self._to_client, self._to_server):
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if self._trap is not None:
            self._trap.sprung.set()

    def end(self, end: End) -> None:
        """Pass on nothing more."""
        for writer in (self._to_client, self._to_server):
            if end is End.SILENCE:
                writer.transport.pause_reading()
            elif end is End.RESET:
                _reset(writer)
            else:
                writer.transport.abort()
        if end is End.SILENCE:
            self._silent = True
        else:
            self._ended.set()

    async def _requests(self) -> None:
        while packet := await self._read(self._from_client):
            trap = self._proxy.sprung_by(packet)
            # what is too large for one packet comes in several, and the answer after all of them
            self._trap = trap or self._trap
            if trap is not None and trap.lost is Lost.REQUEST:
                self._spring(trap)
            else:
                self._to_server.write(packet)

    async def _answers(self) -> None:
        while packet := await self._read(self._from_server):
            trap = self._trap
            if trap is None or trap.lost is Lost.NOTHING:
                self._to_client.write(packet)
            if trap is not None:
                self._spring(trap)

    async def _read(self, reader: Any) -> bytes:
        try:
            packet: bytes = await reader.read(65536)
        except OSError:
            return b""
        await asyncio.sleep(self._proxy.delay)
        if self._silent:
            await self._ended.wait()
        return b"" if self._ended.is_set() else packet

    def _spring(self, trap: Trap) -> None:
        self.end(trap.end)
        if trap.end is End.SILENCE:
            trap.sprung.set()


def _reset(writer: Any) -> None:
    with contextlib.suppress(OSError):
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
    writer.transport.abort()


class Proxy:
    """Stands between clients and a server.

    :param window: the bytes that are taken from a client which the server is not given yet.
    :ivar target: the address of the server that new connections are passed on to.
    :ivar delay: the seconds that each packet takes.
    :ivar silent: new connections get no answer.
    """

    def __init__(self, host: str, port: int, *, window: int | None = None) -> None:
        self.delay = 0.0
        self.silent = False
        self.target = (host, port)
        self._trap: Trap | None = None
        self._links: dict[Link, asyncio.Task[Any] | None] = {}
        self._listener = socket.create_server((HOST, 0))
        if window is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, sock=self._listener))

    @property
    def port(self) -> int:
        """The port for clients."""
        port: int = self._listener.getsockname()[1]
        return port

    def url(self, url: str, **query: str) -> str:
        """The SQLAlchemy URL of the same database through the proxy, with these options added."""
        through = make_url(url).set(host=HOST, port=self.port).update_query_dict(query)
        return through.render_as_string(hide_password=False)

    def trap(self, *words: str, lost: Lost, end: End) -> Trap:
        """End the connection at a client's next packet that holds the last of these words.

        :param words: packets with the others have to come first, in this order.
        """
        # COMMIT is also in AUTOCOMMIT, and in READ COMMITTED
        patterns = [re.compile(rf"\b{it}\b".encode(), re.IGNORECASE) for it in words]
        self._trap = Trap(patterns, end, lost)
        return self._trap

    def sprung_by(self, packet: bytes) -> Trap | None:
        """The trap that this packet springs; it is set once."""
        trap = self._trap
        if trap is None or trap.words[0].search(packet) is None:
            return None
        del trap.words[0]
        if trap.words:
            return None
        self._trap = None
        return trap

    def cut(self, end: End) -> None:
        """End every connection that there is."""
        self._call(self._cut(end))

    def close(self) -> None:
        """End every connection, and listen no more."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT)

    async def _accept(self, reader: Any, writer: Any) -> None:
        try:
            server = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, (reader, writer), server)
        self._links[link] = asyncio.current_task()
        if self.silent:
            link.end(End.SILENCE)
        try:
            await link.run()
        finally:
            del self._links[link]

    async def _cut(self, end: End) -> None:
        tasks = [task for task in self._links.values() if task is not None]
        for link in list(self._links):
            link.end(end)
        if end is not End.SILENCE and tasks:
            await asyncio.wait(tasks)

    async def _close(self) -> None:
        self._server.close()
        await self._cut(End.RESET)


@contextlib.contextmanager
def proxied(host: str, port: int, *, window: int | None = None) -> Iterator[Proxy]:
    """A proxy for this address until the block ends."""
    proxy = Proxy(host, port, window=window)
    try:
        yield proxy
    finally:
        proxy.close()
