"""The keywords of the session factory, for type checkers and editors.

A checker cannot read them from the settings' declarations, which say the same of each: a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Literal, TypedDict

from sqlalchemy import Connection

from .data.serializer import Serializer
from .session.mapping import SQLSession
from .table.model import SessionMixin
from .upkeep.deletion import ExpiredSession


class SQLSessionOptions(TypedDict, total=False):
    """The options of :class:`SQLSessionFactory`: the settings, without their prefix.

    For a function that passes them on, as ``**options: Unpack[SQLSessionOptions]``.
    """

    dbsession: str | None
    model: type[SessionMixin] | str | None
    table: str | None
    sqlalchemy: Mapping[str, Any]
    fallback_memory: bool
    create_table: bool | None
    ttl: int | str
    anonymous_ttl: int | str | None
    absolute_ttl: int | str | None
    touch_interval: int | str | None
    cleanup_interval: int | str | None
    cleanup_batch: int
    on_expired: Callable[[Connection, Sequence[ExpiredSession]], object] | str | None
    conflict: Literal["retry", "merge", "strict"]
    serializer: Serializer | str
    max_size: int | str
    extra_columns: Callable[[Any, SQLSession], Mapping[str, Any]] | str | None
    encryption_keys: str | bytes | Sequence[str | bytes]
    encryption_migrate: bool | date | str
    seal: bool
    userid_key: str
    regenerate_grace: int | str
    max_sessions_per_user: int | None
    cookie_name: str
    cookie_path: str
    cookie_domain: str | Callable[[Any], str | None] | None
    cookie_max_age: int | str | None
    cookie_secure: bool | Literal["auto"]
    cookie_httponly: bool
    cookie_samesite: Literal["Lax", "Strict", "None", ""] | None
    cookie_partitioned: bool
