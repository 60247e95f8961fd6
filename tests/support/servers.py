"""Real database servers for one test run, and a fresh database on them for each test.

A server lives in a temporary directory, listens on loopback only, on a free port, with a random
password, and ends with the process that started it: by :meth:`Server.close`, else by the kernel
(a parent-death signal), so a test runner that is killed leaves no server behind. Its directory
is then removed by the next run.

A server that is not installed is a skipped test, and a failed one where ``CI`` is set.
"""

from __future__ import annotations

import abc
import contextlib
import fcntl
import functools
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import psycopg
import pymysql
import pytest
from sqlalchemy.engine import URL, make_url
from support.patience import wait_until

HOST = "127.0.0.1"
USER = "tests"
TIMEOUT = 60
PREFIX = "pyramid_sqlsession-tests-"

# What drivers do not know of the queries in our URLs.
UNKNOWN: dict[str, list[str]] = {"pymysql": [], "mariadbconnector": ["ssl_disabled", "charset"]}


def program_folders(root: Path) -> list[str]:
    """Where Debian keeps servers: PostgreSQL's out of PATH, others where only root's PATH looks."""
    versions = sorted(
        root.glob("usr/lib/postgresql/*/bin"),
        key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)],
        reverse=True,
    )
    return [*map(str, versions), str(root / "usr/sbin"), str(root / "usr/bin")]


def newer_root() -> Path:
    """Where ``unpack_servers.sh`` puts servers that are newer than the machine's."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path("/var/cache") if os.geteuid() == 0 else cache
    return Path(
        os.environ.get("PYRAMID_SQLSESSION_SERVERS") or folder / "pyramid_sqlsession/servers"
    )


NEWER = program_folders(newer_root())
PYTHONS = newer_root() / "pythons"
PLACES = [*os.get_exec_path(), "/usr/local/sbin", *program_folders(Path("/"))]


def use_newer_servers() -> None:
    """Start newer servers than the machine's where there are any."""
    PLACES[:0] = NEWER


def unavailable(what: str) -> NoReturn:
    """Skip the running test for want of ``what``, or fail it where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI is set", pytrace=False)
    pytest.skip(what)


def find_program(name: str) -> str:
    """The path of this program; if there is none, the test cannot run."""
    if found := shutil.which(name, path=os.pathsep.join(PLACES)):
        return str(Path(found).resolve())
    unavailable(f"{name} is not installed: tests/support/install_servers.sh installs it")


def find_newer_program(name: str) -> str:
    """The path of a program that the machine itself does not have, or another one by its name."""
    if found := shutil.which(name, path=os.pathsep.join(NEWER)):
        return found
    unavailable(f"there is no {name}: tests/support/unpack_servers.sh gets it")


class Server(abc.ABC):
    """One database server: a process, its port and its directory."""

    name: ClassVar[str]
    drivername: ClassVar[str]
    query: ClassVar[dict[str, str]] = {}
    account: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, directory: Path) -> None:
        """Create a server's files in ``directory``, which is to exist; nothing runs yet."""
        self.host = HOST
        self.port = free_port()
        self.password = secrets.token_hex()
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._identity = identity(self.account)
        self._give_away(directory)
        self.install()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "not running"
        return f"<{type(self).__name__} on {self.host}:{self.port}, {state}>"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None or not self.running:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and come back when it answers; nothing, if it is running."""
        if self.running:
            return
        if threading.current_thread() is not threading.main_thread():
            # The parent-death signal comes when the *thread* that started the process ends.
            raise RuntimeError("a server can only be started from the main thread")
        deadline = time.monotonic() + TIMEOUT
        # More than one try: children of a killed postmaster may hold its shared memory a while.
        while time.monotonic() < deadline:
            self._process = self._spawn(self.command())
            while self.running and time.monotonic() < deadline:
                if self.answers():
                    return
                time.sleep(0.02)
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"{self.name} does not start:\n{self.log()}")

    def stop(self) -> None:
        """Shut down in good order, ending every connection; nothing, if it is not running."""
        if self._process is not None and self.running:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def kill(self) -> None:
        """End the server as a crash would: at once, its children too."""
        if self._process is not None and self.running:
            family = [*children(self._process.pid), self._process.pid]
            self._process.kill()
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(TIMEOUT)

    def close(self) -> None:
        """End the server for good and remove its files."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of one database."""
        url = URL.create(
            self.drivername, USER, self.password, self.host, self.port, database, self.query
        )
        return url.render_as_string(hide_password=False)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A new, empty database: its URL. Dropped at the end, whoever is still connected."""
        name = f"test_{secrets.token_hex(8)}"
        self.start()
        self.execute(*self.create_statements(name))
        try:
            yield self.url(name)
        finally:
            self.start()
            self.drop(name)

    def answers(self) -> bool:
        """Whether the server accepts our connections; another one's password is not ours."""
        try:
            self.execute("SELECT 1")
        except (psycopg.OperationalError, pymysql.OperationalError):
            return False
        return True

    def log(self) -> str:
        """The end of what the server and its installer printed."""
        return "\n".join((self.directory / "log").read_text("utf-8", "replace").splitlines()[-20:])

    def run(self, *command: str) -> None:
        """Run a program of the server's to its end, as the server's user."""
        with self._spawn(command) as process:
            if process.wait(TIMEOUT):
                raise RuntimeError(f"{command[0]} failed:\n{self.log()}")

    def write(self, name: str, text: str) -> Path:
        """Write a file that only the server's user can read."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text, "utf-8")
        self._give_away(path)
        return path

    def _give_away(self, path: Path) -> None:
        """Make a file the server's own, where the server runs as somebody else."""
        if self._identity:
            os.chown(path, self._identity["user"], self._identity["group"])

    def _spawn(self, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        """Start a program that ends with us, in a session of its own: Ctrl-C is for us alone."""
        # setpriv takes this process's place, so that its pid is the server's.
        guard = shutil.which("setpriv")
        prefix = [guard, "--pdeathsig=KILL", "--"] if guard else []
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, "TMPDIR": str(self.directory)},
                start_new_session=True,
                **self._identity,
            )

    @abc.abstractmethod
    def install(self) -> None:
        """Make the data directory."""

    @abc.abstractmethod
    def command(self) -> tuple[str, ...]:
        """The server's command line."""

    @abc.abstractmethod
    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the administrator, each on its own; the rows of the last one."""

    @abc.abstractmethod
    def create_statements(self, name: str) -> tuple[str, ...]:
        """What makes an empty database."""

    @abc.abstractmethod
    def drop(self, name: str) -> None:
        """Drop a database, ending the connections that are left to it."""

    def terminate(self, name: str) -> int:
        """End every connection to a database, and come back when they are gone: how many."""
        raise NotImplementedError


AServer = TypeVar("AServer", bound=Server)


def execute_at(server: Server, database: str, *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements where PostgreSQL's protocol is spoken; the rows of the last one."""
    with psycopg.connect(
        host=server.host,
        port=server.port,
        user=USER,
        password=server.password,
        dbname=database,
        connect_timeout=TIMEOUT,
        autocommit=True,
    ) as connection:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


class PostgreSQL(Server):
    """A PostgreSQL server; durable across a crash of its own, not of the machine."""

    name = "postgresql"
    drivername = "postgresql+psycopg"
    account = "postgres"
    # "Fast": a plain SIGTERM would wait for the clients to go.
    stop_signal = signal.SIGINT

    def install(self) -> None:
        data = str(self.directory / "data")
        password = self.write("password", self.password)
        # Not scram-sha-256, which takes a connection twice as long.
        options = f"--username={USER} --auth=md5 --encoding=UTF8 --no-locale --no-sync"
        self.run(
            find_program("initdb"), f"--pgdata={data}", f"--pwfile={password}", *options.split()
        )

    def command(self) -> tuple[str, ...]:
        settings = (
            f"listen_addresses={self.host}",
            f"port={self.port}",
            # A socket's path may not be long, and a temporary directory's can be.
            "unix_socket_directories=",
            "fsync=off",
        )
        options = (part for setting in settings for part in ("-c", setting))
        return find_program("postgres"), "-D", str(self.directory / "data"), *options

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        return execute_at(self, "postgres", *statements)

    def create_statements(self, name: str) -> tuple[str, ...]:
        # template0: nobody can be connected to it, and nothing was ever added to it.
        return (f"CREATE DATABASE {name} TEMPLATE template0",)

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def terminate(self, name: str) -> int:
        query = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname"
        return len(self.execute(f"{query} = '{name}'"))


class Standby(PostgreSQL):
    """A hot standby of a running PostgreSQL server: it answers queries and refuses writes."""

    def __init__(self, directory: Path, primary: PostgreSQL) -> None:
        self.primary = primary
        super().__init__(directory)
        self.password = primary.password

    def install(self) -> None:
        primary = self.primary
        self.run(
            # the one in Debian's PATH is another program, which guesses the version
            str(Path(find_program("postgres")).with_name("pg_basebackup")),
            f"--dbname=postgresql://{USER}:{primary.password}@{primary.host}:{primary.port}/",
            f"--pgdata={self.directory / 'data'}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
        )

    def catch_up(self) -> None:
        """Come back when everything is here that is committed on the primary."""
        ((position,),) = self.primary.execute("SELECT pg_current_wal_lsn()")
        reached = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        wait_until(lambda: self.execute(reached) == [(True,)])

    def promote(self) -> None:
        """Make it a server that takes writes; come back when it does."""
        self.execute("SELECT pg_promote()")


class MariaDB(Server):
    """A MariaDB server; durable across a crash of its own, not of the machine."""

    name = "mariadb"
    drivername = "mysql+pymysql"
    # PyMySQL prepares for TLS at every connection, which takes it thirty times as long.
    query: ClassVar[dict[str, str]] = {"charset": "utf8mb4", "ssl_disabled": "true"}
    account = "mysql"
    stop_signal = signal.SIGTERM

    def install(self) -> None:
        self.write_init_file()
        self.run(
            find_program("mariadb-install-db"),
            # Only the first place is right for this one.
            "--no-defaults",
            f"--basedir={self._base(self.program())}",
            f"--datadir={self.directory / 'data'}",
            "--auth-root-authentication-method=socket",
            "--skip-name-resolve",
            "--skip-test-db",
        )

    def write_init_file(self) -> None:
        """Write what makes the administrator."""
        self.write(
            "init.sql",
            f"CREATE USER IF NOT EXISTS {USER}@'{self.host}' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {USER}@'{self.host}' WITH GRANT OPTION;\n",
        )

    @staticmethod
    def _base(program: str) -> Path:
        """Where a server's own files are: the messages of another version do not fit."""
        return Path(program).parents[1]

    def program(self) -> str:
        """The server's program."""
        return find_program("mariadbd")

    def command(self) -> tuple[str, ...]:
        return (
            self.program(),
            "--no-defaults",
            f"--basedir={self._base(self.program())}",
            f"--datadir={self.directory / 'data'}",
            f"--tmpdir={self.directory}",
            f"--init-file={self.directory / 'init.sql'}",
            f"--bind-address={self.host}",
            f"--port={self.port}",
            # Relative to the data directory: a socket's path may not be long.
            "--socket=socket",
            "--pid-file=pid",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            # Written at each commit, not synced: a killed server keeps what it committed.
            "--innodb-flush-log-at-trx-commit=2",
            # A database that cannot be dropped is to be an error, not a day's wait.
            "--lock-wait-timeout=20",
            *self.own_options(),
        )

    def own_options(self) -> tuple[str, ...]:
        """What only MariaDB knows."""
        # the default depends on its version; "mariadb-snapshot" is a place with it
        return ("--innodb-snapshot-isolation=OFF",)

    def connect(self) -> Any:
        """A connection of the administrator's, in autocommit, below SQLAlchemy."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=USER,
            password=self.password,
            connect_timeout=TIMEOUT,
            autocommit=True,
            ssl_disabled=True,
        )

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def create_statements(self, name: str) -> tuple[str, ...]:
        return (f"CREATE DATABASE {name}",)

    def drop(self, name: str) -> None:
        # An open transaction would hold the drop up by its metadata locks.
        self.terminate(name)
        self.execute(f"DROP DATABASE IF EXISTS {name}")

    def terminate(self, name: str) -> int:
        query = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
        found = self.execute(query)
        for (connection,) in found:
            with contextlib.suppress(pymysql.OperationalError):
                self.execute(f"KILL {connection}")
        # KILL does not wait for it
        wait_until(lambda: not {*found} & {*self.execute(query)})
        return len(found)


class MySQL(MariaDB):
    """A MySQL server; durable across a crash of its own, not of the machine."""

    name = "mysql"

    def program(self) -> str:
        # Debian's own mysqld is MariaDB
        return find_newer_program("mysqld")

    def install(self) -> None:
        self.write_init_file()
        data = f"--datadir={self.directory / 'data'}"
        self.run(self.program(), "--no-defaults", "--initialize-insecure", data)

    def own_options(self) -> tuple[str, ...]:
        return "--secure-file-priv=NULL", "--mysqlx=OFF", *self.leaner()

    def leaner(self) -> tuple[str, ...]:
        """What halves the memory that it takes."""
        return "--skip-log-bin", "--performance-schema=OFF", "--innodb-redo-log-capacity=8M"


TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB", "mysql": "MySQL"}
"""How their makers write them."""


@dataclass(frozen=True)
class Backend:
    """A fresh, empty database made for one test.

    :ivar name: ``sqlite``, ``postgresql``, ``mariadb`` or ``mysql``.
    :ivar url: its SQLAlchemy URL.
    :ivar server: the server it is on; None for SQLite.
    """

    name: str
    url: str
    server: Server | None = None

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of what is spoken there; MariaDB and MySQL speak the same."""
        return make_url(self.url).get_backend_name()

    def with_driver(self, drivername: str) -> str:
        """The URL of the same database by another driver, such as ``mysql+mysqldb``."""
        url = make_url(self.url).set(drivername=drivername)
        url = url.difference_update_query(UNKNOWN.get(url.get_driver_name(), ["ssl_disabled"]))
        try:
            url.get_dialect().import_dbapi()
        except ImportError as error:
            unavailable(f"the driver {drivername} is not installed ({error})")
        return url.render_as_string(hide_password=False)


on_servers = pytest.mark.parametrize("backend", ["postgresql", "mariadb", "mysql"], indirect=True)
"""For a test of a backend: not on SQLite."""


@contextlib.contextmanager
def serving(kind: type[AServer], *arguments: Any) -> Iterator[AServer]:
    """A running server of this kind, in a directory of its own, until the block ends."""
    remove_leftovers()
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=temporary_directory()))
    with locked(directory):
        try:
            # The server's user has to get through, to the directory inside that is its own.
            directory.chmod(0o755)
            home = directory / kind.name
            home.mkdir(0o700)
            server = kind(home, *arguments)
            try:
                server.start()
                yield server
            finally:
                server.close()
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@functools.cache
def temporary_directory() -> str:
    """Where servers' directories are made: ``TMPDIR``, else in memory if there is room."""
    # A database is some three hundred files: seen 0.02 s in memory, up to 0.25 s on a disk.
    memory = "/dev/shm"
    if "TMPDIR" not in os.environ and os.access(memory, os.W_OK | os.X_OK):
        status = os.statvfs(memory)
        if status.f_bavail * status.f_frsize > 2**30:
            return memory
    return tempfile.gettempdir()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock that tells other runs that this directory is in use."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers() -> None:
    """Remove the directories of earlier runs that were killed."""
    for directory in Path(temporary_directory()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = directory.lstat()
            # A new one may not be locked yet.
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > 60:
                with locked(directory):
                    shutil.rmtree(directory, ignore_errors=True)


@functools.cache
def identity(account: str) -> dict[str, Any]:
    """How to start a process as this user: both servers refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(account)
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port nobody listens on, below those the kernel hands to outgoing connections."""
    for port in random.sample(range(15000, 32000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise RuntimeError("no free port found")


def children(pid: int) -> list[int]:
    """The process ids of a process's children, where the system tells them."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []
