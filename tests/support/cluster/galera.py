"""A Galera cluster for one test run: MariaDB servers that replicate to each other as they commit.

Every node takes writes. All of them run on loopback, each on ports of its own, and end with the
process that started them, as every server of :mod:`support.servers` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError
from support.patience import wait_until
from support.places import Place
from support.races import Site
from support.servers import MariaDB, find_program, free_port, serving, unavailable

from pyramid_sqlsession import SessionConflict

GALERA = "Galera, three nodes"
"""For the record of what was tried."""

WAYS = ("dbsession", "own engine")
"""How applications use the database."""

Places = Callable[..., list[Place]]

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")

# A killed node stalls the others until they have given it up: 6.2 s with what Galera ships.
TIMEOUTS = (
    "evs.keepalive_period=PT0.3S",
    "evs.inactive_check_period=PT0.2S",
    "evs.suspect_timeout=PT2S",
    "evs.inactive_timeout=PT4S",
    "gmcast.peer_timeout=PT2S",
)


class Node(MariaDB):
    """A node.

    :param nodes: those of the cluster, this one to be added; the first one founds it.
    """

    name = "galera"

    def __init__(self, directory: Path, nodes: list[Node]) -> None:
        self.nodes = nodes
        nodes.append(self)
        self.group_port, self.catch_up_port, self.copy_port = (free_port() for _ in range(3))
        super().__init__(directory)

    def install(self) -> None:
        find_program("rsync")
        if not PROVIDER.exists():
            unavailable("Galera is not installed: tests/support/install_servers.sh installs it")
        founder = self.nodes[0]
        if self is founder:
            super().install()
            return
        # everything comes with the copy that a node gets when it joins, the users too
        self.password = founder.password
        self.write("init.sql", "")
        data = self.directory / "data"
        data.mkdir(0o700)
        self._give_away(data)

    def command(self) -> tuple[str, ...]:
        provider = (
            f"gmcast.listen_addr=tcp://{self.host}:{self.group_port}",
            f"ist.recv_addr={self.host}:{self.catch_up_port}",
            f"ist.recv_bind={self.host}:{self.catch_up_port}",
            "gcache.size=16M",
            *TIMEOUTS,
        )
        others = [node for node in self.nodes if node is not self]
        addresses = ",".join(f"{node.host}:{node.group_port}" for node in others)
        founds = () if any(node.running for node in others) else ("--wsrep-new-cluster",)
        return (
            *super().command(),
            "--wsrep-on=ON",
            f"--wsrep-provider={PROVIDER}",
            f"--wsrep-provider-options={';'.join(provider)}",
            f"--wsrep-cluster-address=gcomm://{addresses}",
            f"--wsrep-node-address={self.host}:{self.group_port}",
            f"--wsrep-sst-receive-address={self.host}:{self.copy_port}",
            "--wsrep-sst-method=rsync",
            "--wsrep-slave-threads=2",
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            *founds,
        )

    def answers(self) -> bool:
        """Whether it has caught up with the others, and is one of more than half of them."""
        try:
            return self.status("ready") == "ON"
        except pymysql.MySQLError:
            return False

    def status(self, name: str) -> str:
        """What the node says of itself: the status variable ``wsrep_`` with this name."""
        ((_, value),) = self.execute(f"SHOW STATUS LIKE 'wsrep_{name}'")
        return str(value)


class Cluster:
    """Nodes that hold the same databases."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

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

    def restore_quorum(self) -> None:
        """Let those nodes that run be the cluster, as an administrator does."""
        running = [node for node in self.nodes if node.running]
        if running and not any(node.answers() for node in running):
            running[0].execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap = true'")
            wait_until(running[0].answers)

    def agree(self) -> None:
        """Come back when every running node has applied what was committed on any of them."""
        for node in self.nodes:
            if node.running:
                node.execute("SET SESSION wsrep_sync_wait = 1", "SELECT 1")


@contextlib.contextmanager
def clustering(size: int) -> Iterator[Cluster]:
    """A running cluster until the block ends."""
    nodes: list[Node] = []
    with contextlib.ExitStack() as stack:
        for _ in range(size):
            stack.enter_context(serving(Node, nodes))
        yield Cluster(nodes)


def started(cluster: Cluster, site: Site, **data: Any) -> str:
    """The token of a new session with this data, which every node knows."""
    token = site.start(**data)
    cluster.agree()
    return token


def number_of(error: BaseException | None) -> Any:
    """MariaDB's number of an error; None if it is none of the database's."""
    cause = error.__cause__ if isinstance(error, SessionConflict) else error
    return cause.orig.args[0] if isinstance(cause, OperationalError) and cause.orig else None
