"""A real PgBouncer in transaction mode, in front of one of the tests' PostgreSQL servers."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url
from support.servers import USER, PostgreSQL, Server, execute_at, find_newer_program, find_program

CONFIGURATION = """
[databases]
* = host={server.host} port={server.port}

[pgbouncer]
listen_addr = {bouncer.host}
listen_port = {bouncer.port}
unix_socket_dir =
auth_type = md5
auth_file = {users}
admin_users = {user}
pool_mode = transaction
default_pool_size = {size}
# as soon as there is a server again, it is to be used
server_login_retry = 0.1
"""


class PgBouncer(Server):
    """A PgBouncer: many connections of clients, a few of the server's.

    :param server: the PostgreSQL server behind it.
    :param size: how many connections to that it opens for a database.
    """

    name = "pgbouncer"
    drivername = PostgreSQL.drivername
    account = PostgreSQL.account
    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path, server: Server, size: int) -> None:
        self.server = server
        self._size = size
        super().__init__(directory)
        self.password = server.password

    def program(self) -> str:
        """Its program."""
        return find_program("pgbouncer")

    def install(self) -> None:
        users = self.write("users", f'"{USER}" "{self.server.password}"\n')
        text = CONFIGURATION.format(
            bouncer=self, server=self.server, users=users, user=USER, size=self._size
        )
        self.write("pgbouncer.ini", text)

    def command(self) -> tuple[str, ...]:
        return self.program(), str(self.directory / "pgbouncer.ini")

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return execute_at(self, "pgbouncer", *statements)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        with self.server.database() as url:
            self.start()
            yield make_url(url).set(port=self.port).render_as_string(hide_password=False)

    def create_statements(self, name: str) -> tuple[str, ...]:
        raise NotImplementedError("a database is made on the server behind it")

    def drop(self, name: str) -> None:
        self.server.drop(name)

    def answers(self) -> bool:
        try:
            self.execute("SHOW VERSION")
        except psycopg.OperationalError:
            return False
        return True

    @property
    def version(self) -> tuple[int, ...]:
        """Its version."""
        ((text,),) = self.execute("SHOW VERSION")
        return tuple(int(part) for part in re.findall(r"\d+", text))


class FollowingPgBouncer(PgBouncer):
    """One that follows what its clients prepare."""

    def program(self) -> str:
        return find_newer_program("pgbouncer")

    def install(self) -> None:
        super().install()
        with (self.directory / "pgbouncer.ini").open("a") as file:
            file.write("max_prepared_statements = 200\n")
