"""A group for one test run, of MySQL servers (Group Replication)."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pymysql
from support.cluster.cluster import Cluster
from support.patience import wait_until
from support.servers import MySQL, free_port, serving

# a killed member stalls the others until it is expelled: 22 s with what MySQL ships; and without a
# majority a COMMIT waits for ever
TIMEOUTS = (
    "member-expel-timeout=0",
    "unreachable-majority-timeout=5",
)


class Member(MySQL):
    """A member.

    :param nodes: those of the group, this one to be added; the first one founds it.
    :param name: the group's, a UUID.
    """

    name = "group"

    def __init__(self, directory: Path, nodes: list[Member], name: str) -> None:
        self.nodes, self.group = nodes, name
        nodes.append(self)
        self.group_port = free_port()
        # it begins to replicate by itself only when it belongs to the group
        self.has_joined = False
        super().__init__(directory)

    def write_init_file(self) -> None:
        founder = self.nodes[0]
        self.password = founder.password
        # a replication password has 32 characters at most
        self.replication = founder.password[:32]
        super().write_init_file()
        path = self.directory / "init.sql"
        path.write_text(
            "SET sql_log_bin = 0;\n"
            + path.read_text("utf-8")
            + f"CREATE USER IF NOT EXISTS copy@'%' IDENTIFIED BY '{self.replication}';\n"
            "GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM "
            "ON *.* TO copy@'%';\n",
            "utf-8",
        )

    def leaner(self) -> tuple[str, ...]:
        """It needs the log and the performance schema."""
        return ("--innodb-redo-log-capacity=8M",)

    def command(self) -> tuple[str, ...]:
        seeds = ",".join(f"{node.host}:{node.group_port}" for node in self.nodes)
        options = (
            f"group-name={self.group}",
            f"local-address={self.host}:{self.group_port}",
            f"group-seeds={seeds}",
            f"ip-allowlist={self.host}",
            "recovery-get-public-key=ON",
            "single-primary-mode=OFF",
            "enforce-update-everywhere-checks=ON",
            "message-cache-size=134217728",
            # one that is started again takes writes of its own until it is told to join
            f"start-on-boot={'ON' if self.has_joined else 'OFF'}",
            *TIMEOUTS,
        )
        return (
            *super().command(),
            f"--server-id={self.nodes.index(self) + 1}",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--plugin-load-add=group_replication.so",
            f"--report-host={self.host}",
            *(f"--loose-group-replication-{option}" for option in options),
        )

    def start(self) -> None:
        super().start()
        if not self.has_joined:
            self.join()
        wait_until(lambda: self.state == "ONLINE")

    @property
    def state(self) -> str:
        """What the member says of itself: ``ONLINE``, ``RECOVERING``, ``OFFLINE``, ``ERROR``."""
        try:
            found = self.execute(
                "SELECT member_state FROM performance_schema.replication_group_members "
                "WHERE member_id IN (@@server_uuid, '')"
            )
        except pymysql.MySQLError:
            return ""
        return str(found[0][0]) if found else ""

    def join(self) -> None:
        """Begin to replicate, to others or as the first one."""
        founds = not any(node.running and node.state == "ONLINE" for node in self.nodes)
        bootstrap = "SET GLOBAL group_replication_bootstrap_group = "
        self.execute(
            "CHANGE REPLICATION SOURCE TO SOURCE_USER = 'copy', "
            f"SOURCE_PASSWORD = '{self.replication}' FOR CHANNEL 'group_replication_recovery'",
            f"{bootstrap}{int(founds)}",
            "START GROUP_REPLICATION",
            f"{bootstrap}0",
        )
        self.has_joined = True


class Group(Cluster):
    """Members of a group."""

    title = "Group Replication, three members"
    page = "group_replication.rst"
    waits = "SET SESSION group_replication_consistency = 'BEFORE'"
    waiting = "group_replication_consistency=BEFORE"
    shares_creations = False
    conflicts = frozenset({1213, 3101, 1180})
    stalled = frozenset({3101})
    cut_off = frozenset({3100, 1290})
    woken = frozenset({3797})
    nodes: list[Member]

    def restore_quorum(self) -> None:
        running = [node for node in self.nodes if node.running]
        if running and not any(node.state == "ONLINE" for node in running):
            running[0].execute("STOP GROUP_REPLICATION")
            running[0].join()


@contextlib.contextmanager
def group(size: int) -> Iterator[Group]:
    """A running group until the block ends."""
    nodes: list[Member] = []
    with contextlib.ExitStack() as stack:
        name = str(uuid.uuid4())
        for _ in range(size):
            stack.enter_context(serving(Member, nodes, name))
        yield Group(nodes)
