"""The servers that are measured, which keep what they commit."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, ClassVar

import redis
from support.servers import MariaDB, Server, find_program


class DurableMariaDB(MariaDB):
    """A MariaDB server that keeps what it commits."""

    def command(self) -> tuple[str, ...]:
        # the last of two settings counts
        return (*super().command(), "--innodb-flush-log-at-trx-commit=1")


class Redis(Server):
    """A Redis server that writes its log to the disk every second, as its manual recommends."""

    name = "redis"
    drivername = "redis"
    account = "redis"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def install(self) -> None:
        self._configuration = self.write("redis.conf", f"requirepass {self.password}\n")

    def command(self) -> tuple[str, ...]:
        return (
            # one file with several names, and what it does depends on the name
            str(Path(find_program("redis-server")).with_name("redis-server")),
            str(self._configuration),
            *("--bind", self.host, "--port", str(self.port), "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
        )

    def client(self) -> redis.Redis:
        """A connection."""
        return redis.Redis(host=self.host, port=self.port, password=self.password)

    def url(self, database: str) -> str:
        """The one database that there is."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    def answers(self) -> bool:
        try:
            return self.execute("PING") == [True]
        except redis.ConnectionError:
            return False

    def execute(self, *statements: str) -> list[Any]:
        with self.client() as client:
            return [client.execute_command(*statement.split()) for statement in statements]

    def create_statements(self, name: str) -> tuple[str, ...]:
        return ("FLUSHALL",)

    def drop(self, name: str) -> None:
        self.execute("FLUSHALL")
