"""A Galera cluster for one test run, of MariaDB servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pymysql
from support.cluster.cluster import Cluster
from support.patience import wait_until
from support.servers import MariaDB, find_program, free_port, serving, unavailable

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


class Galera(Cluster):
    """Galera nodes."""

    title = "Galera, three nodes"
    page = "galera.rst"
    waits = "SET SESSION wsrep_sync_wait = 1"
    waiting = "wsrep_sync_wait=1"
    shares_creations = True
    conflicts = frozenset({1213})
    stalled: ClassVar = frozenset[int]()
    cut_off = frozenset({1047, 1180})
    woken = frozenset({1047, 1205})
    nodes: list[Node]

    def restore_quorum(self) -> None:
        running = [node for node in self.nodes if node.running]
        if running and not any(node.answers() for node in running):
            running[0].execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap = true'")
            wait_until(running[0].answers)


@contextlib.contextmanager
def galera(size: int) -> Iterator[Galera]:
    """A running cluster until the block ends."""
    nodes: list[Node] = []
    with contextlib.ExitStack() as stack:
        for _ in range(size):
            stack.enter_context(serving(Node, nodes))
        yield Galera(nodes)
