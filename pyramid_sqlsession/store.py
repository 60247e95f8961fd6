"""The parts that all requests share, and how the settings determine them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timezone
from functools import partial
from typing import Any

from pyramid.exceptions import ConfigurationError

from .cookie import Cookie
from .data.codec import Codec
from .database.application import AppDatabase
from .database.base import Database
from .database.choice import choose_database
from .lifetime import Lifetime
from .session.found import csrf_keys_of
from .settings.options import Settings
from .table.model import is_built_in, resolve_model
from .table.rows import Rows
from .table.sessions import Sessions
from .upkeep.cleanup import Cleaner
from .upkeep.purge import Purge

_RUNS_CODE = re.compile(r"(_?pickle|marshal|dill\b.*|pyramid\.session\.PickleSerializer)\.loads")

_NO_MODEL = "no model of yours uses SessionMixin, or its module is not imported"

_NOT_MIGRATED = (
    "%s: sessions use the built-in model, whose table %s your migrations do not create; if that is "
    "what you want, set sqlsession.table"
)

log = logging.getLogger("pyramid_sqlsession")


@dataclass(frozen=True)
class Store:
    """The parts that the settings determine; none of them knows a request."""

    settings: Settings
    database: Database
    rows: Rows
    codec: Codec
    cookie: Cookie
    lifetime: Lifetime
    purge: Purge
    sessions: Sessions
    cleaner: Cleaner
    clock: Callable[[], int]
    csrf_keys: frozenset[str]
    _warned: set[str] = field(default_factory=set)

    def warn_once(self, message: str, *arguments: object) -> None:
        """Log a warning that every request would repeat."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message, *arguments)


def make_store(settings: Settings, registry: Any, clock: Callable[[], int]) -> Store:
    """Build the parts from the settings, the model and the application.

    :param clock: epoch seconds.
    :raises ConfigurationError: if these do not go together.
    """
    model = resolve_model(settings.model, settings.table)
    was_missed = settings.model is None and settings.table is None and is_built_in(model)
    rows = Rows(model, _NO_MODEL if was_missed else "")
    database = choose_database(settings, registry, model, rows)
    encryption = _make_encryption(settings, clock)
    codec = Codec(settings.serializer, rows.data_type, settings.max_size, encryption)
    _warn_of_code(codec.serializer)
    lifetime = Lifetime(settings)
    purge = Purge(rows, lifetime, clock, settings.on_expired)
    interval, batch = settings.cleanup_interval, settings.cleanup_batch
    # an application without metadata of its own needs no model of its own
    is_missed = was_missed and isinstance(database, AppDatabase)
    is_created = bool(settings.create_table)
    remark = f" (the built-in model: {_NO_MODEL})" if is_missed and is_created else ""
    log.info("sessions are stored in table %s%s, through %s", rows.table.fullname, remark, database)
    if is_missed and not is_created:
        log.warning(_NOT_MIGRATED, _NO_MODEL, rows.table.fullname)
    return Store(
        settings=settings,
        database=database,
        rows=rows,
        codec=codec,
        cookie=Cookie(settings),
        lifetime=lifetime,
        purge=purge,
        sessions=Sessions(rows, lifetime, clock),
        cleaner=Cleaner(database, purge, interval=interval, batch=batch),
        clock=clock,
        csrf_keys=csrf_keys_of(registry),
    )


def _make_encryption(settings: Settings, clock: Callable[[], int]) -> Any:
    if not (settings.encryption_keys or settings.seal):
        return None
    try:
        from .data.encryption import Encryption
    except ImportError as error:
        raise ConfigurationError(
            "sqlsession.encryption_keys and sqlsession.seal need the package cryptography: "
            "pip install 'pyramid_sqlsession[encryption]'"
        ) from error
    until = settings.encryption_migrate
    migrates = partial(_migrates, until, clock)
    if migrates():
        log.warning(
            "sqlsession.encryption_migrate = %s: sessions that are not encrypted as configured are "
            "accepted, so anyone who can write to the database can forge one",
            str(until).lower(),
        )
    elif until:
        log.info("sqlsession.encryption_migrate = %s has passed: remove the setting", until)
    return Encryption(settings.encryption_keys, seal=settings.seal, migrates=migrates)


def _migrates(until: bool | date, clock: Callable[[], int]) -> bool:
    """Whether data that was stored before encryption is still accepted."""
    if isinstance(until, bool):
        return until
    return clock() <= datetime.combine(until, time.max, timezone.utc).timestamp()


def _warn_of_code(serializer: Any) -> None:
    # the function's name tells, also for a module, a class or an object that only passes it on
    loads = serializer.loads
    name = f"{getattr(loads, '__module__', '')}.{getattr(loads, '__qualname__', '')}"
    if _RUNS_CODE.fullmatch(name):
        log.warning(
            "sqlsession.serializer loads sessions with %s, which can execute code: anyone who can "
            "write to the database can run code in the application",
            name,
        )
