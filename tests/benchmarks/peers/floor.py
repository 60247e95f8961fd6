"""The floor: the least that a session in a database can cost, without any framework."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import partial
from secrets import token_bytes
from typing import Any

import psycopg
import pymysql
from sqlalchemy.engine import make_url

from .contender import Contender, Payload, Site, Visitor, Workload, Wsgi

WORKLOADS = (Workload.READ, Workload.WRITE, Workload.NEW, Workload.LARGE)

_CREATE = "CREATE TABLE floor (id {} PRIMARY KEY, data {} NOT NULL, version INTEGER NOT NULL)"
_SELECT = "SELECT data, version FROM floor WHERE id = ?"
_UPDATE = "UPDATE floor SET data = ?, version = version + 1 WHERE id = ? AND version = ?"
_INSERT = "INSERT INTO floor (id, data, version) VALUES (?, ?, 1)"


class Floor(Contender):
    """Bare functions with a driver's own connection, which commits each statement by itself.

    :param binary: the database's types of the id and of the data.
    :param mark: how the driver writes a parameter.
    """

    def __init__(
        self,
        name: str,
        connection: Any,
        stored: Callable[[], object],
        binary: tuple[str, str],
        mark: str,
    ) -> None:
        super().__init__(name, None, stored, WORKLOADS)
        self._connection = connection
        connection.cursor().execute(_CREATE.format(*binary))
        self._select, self._update, self._insert = (
            statement.replace("?", mark) for statement in (_SELECT, _UPDATE, _INSERT)
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def request(self, workload: Workload, visitor: Visitor, data: Payload) -> Callable[[], bytes]:
        if workload in (Workload.READ, Workload.LARGE):
            return partial(self._read, visitor.key)
        encoded = json.dumps(data).encode()
        if workload is Workload.WRITE:
            return partial(self._write, visitor.key, encoded)
        visitor.key = token_bytes(32)
        return partial(self._new, visitor.key, encoded)

    def in_transaction(self, request: Callable[[], bytes]) -> bytes:
        """Make a request whose statements are committed together."""
        cursor = self._connection.cursor()
        cursor.execute("BEGIN")
        result = request()
        cursor.execute("COMMIT")
        return result

    def _read(self, key: bytes) -> bytes:
        cursor = self._connection.cursor()
        cursor.execute(self._select, (key,))
        return bytes(cursor.fetchone()[0])

    def _write(self, key: bytes, data: bytes) -> bytes:
        cursor = self._connection.cursor()
        cursor.execute(self._select, (key,))
        _, version = cursor.fetchone()
        cursor.execute(self._update, (data, key, version))
        assert cursor.rowcount == 1
        return data

    def _new(self, key: bytes, data: bytes) -> bytes:
        self._connection.cursor().execute(self._insert, (key, data))
        return data


class Called(Site):
    """The same functions, called by a view: whatever uses the driver in a framework takes that.

    :param begins: the statements of a request are committed together.
    """

    def __init__(
        self, name: str, app: Wsgi, floor: Floor, baseline: Contender, *, begins: bool = False
    ) -> None:
        super().__init__(name, app, baseline, floor.stored, WORKLOADS)
        self._floor = floor
        self._begins = begins

    def environ(self, workload: Workload, visitor: Visitor, data: Payload) -> dict[str, Any]:
        called = self._floor.request(workload, visitor, data)
        if self._begins:
            called = partial(self._floor.in_transaction, called)
        return {"PATH_INFO": "/call", "bench.call": called}


def postgresql(name: str, url: str, stored: Callable[[], object]) -> Floor:
    """psycopg, which prepares each statement."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg.connect(address, autocommit=True, prepare_threshold=0)
    return Floor(name, connection, stored, ("BYTEA", "BYTEA"), "%s")


def mariadb(name: str, url: str, stored: Callable[[], object]) -> Floor:
    """PyMySQL, which has no prepared statements."""
    place = make_url(url)
    connection = pymysql.connect(
        host=place.host,
        port=place.port,
        user=place.username,
        password=place.password,
        database=place.database,
        autocommit=True,
        ssl_disabled=True,
    )
    return Floor(name, connection, stored, ("BINARY(32)", "MEDIUMBLOB"), "%s")


def sqlite(name: str, url: str, stored: Callable[[], object]) -> Floor:
    """The standard library's driver, which keeps the statements that it has prepared."""
    connection = sqlite3.connect(str(make_url(url).database), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return Floor(name, connection, stored, ("BLOB", "BLOB"), "?")
