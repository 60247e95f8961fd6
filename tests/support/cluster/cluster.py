"""What clusters have in common: servers that replicate to each other as they commit.

Every node takes writes. All of them run on loopback, each on ports of its own, and end with the
process that started them, as every server of :mod:`support.servers` does.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from support.places import Place
from support.races import Site
from support.servers import MariaDB

from pyramid_sqlsession import SessionConflict

WAYS = ("dbsession", "own engine")
"""How applications use the database."""

Places = Callable[..., list[Place]]


class Cluster(abc.ABC):
    """Nodes that hold the same databases.

    :cvar title: for the record of what was tried.
    :cvar page: the page about it.
    :cvar waits: has a connection wait, before it reads, for what was committed on any node.
    :cvar waiting: the name of what :attr:`waits` sets, for the record too.
    :cvar shares_creations: whether it is safe to make one table on several nodes.
    :cvar conflicts: the errors of a transaction that another node's was faster than.
    :cvar stalled: those of them that use up ten attempts while the others give up a killed node.
    :cvar cut_off: the errors of a node that is not one of more than half of them.
    :cvar woken: the errors of a node that has yet to hear what it missed.
    """

    title: ClassVar[str]
    page: ClassVar[str]
    waits: ClassVar[str]
    waiting: ClassVar[str]
    shares_creations: ClassVar[bool]
    conflicts: ClassVar[frozenset[int]]
    stalled: ClassVar[frozenset[int]]
    cut_off: ClassVar[frozenset[int]]
    woken: ClassVar[frozenset[int]]

    def __init__(self, nodes: Sequence[MariaDB]) -> None:
        self.nodes = nodes

    def __repr__(self) -> str:
        return self.title

    @contextlib.contextmanager
    def database(self) -> Iterator[list[str]]:
        """A new, empty database: its URL on each node. Dropped at the end."""
        self.heal()
        with self.nodes[0].database() as url:
            name = make_url(url).database
            assert name is not None
            try:
                yield [node.url(name) for node in self.nodes]
            finally:
                self.heal()

    def heal(self) -> None:
        """Come back when every node runs and all are one cluster, whatever a test has left."""
        self.restore_quorum()
        for node in self.nodes:
            node.start()

    @abc.abstractmethod
    def restore_quorum(self) -> None:
        """Let those nodes that run be the cluster, as an administrator does."""

    def agree(self) -> None:
        """Come back when every running node has applied what was committed on any of them."""
        for node in self.nodes:
            if node.running:
                node.execute(self.waits, "SELECT 1")


def started(cluster: Cluster, site: Site, **data: Any) -> str:
    """The token of a new session with this data, which every node knows."""
    token = site.start(**data)
    cluster.agree()
    return token


def number_of(error: BaseException | None) -> Any:
    """The server's number of an error; None if it is none of the database's."""
    cause = error.__cause__ if isinstance(error, SessionConflict) else error
    return cause.orig.args[0] if isinstance(cause, DBAPIError) and cause.orig else None
