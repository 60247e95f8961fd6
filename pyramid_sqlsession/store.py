"""The parts that all requests of an application share, and how the settings choose them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyramid.exceptions import ConfigurationError

from .cookie import Cookie
from .data.codec import Codec
from .database.base import Database
from .database.choice import choose_database
from .lifetime import Lifetime
from .settings.options import Settings
from .table.model import is_built_in, resolve_model
from .table.rows import Rows
from .table.sessions import Sessions
from .upkeep.cleanup import Cleaner
from .upkeep.purge import Purge

_NO_MODEL = "no model of yours uses SessionMixin, or its module is not imported"

log = logging.getLogger("pyramid_sqlsession")


@dataclass(frozen=True)
class Store:
    """The parts that the settings gave; none of them knows a request."""

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
    _warned: set[str] = field(default_factory=set)

    def warn_once(self, message: str, *arguments: object) -> None:
        """Log a warning that every request would repeat."""
        if message not in self._warned:
            self._warned.add(message)
            log.warning(message, *arguments)


def make_store(settings: Settings, registry: Any, clock: Callable[[], int]) -> Store:
    """Put together what the settings, the model and the application say.

    :param clock: epoch seconds.
    :raises ConfigurationError: if these do not fit.
    """
    model = resolve_model(settings.model, settings.table)
    was_missed = settings.model is None and settings.table is None and is_built_in(model)
    rows = Rows(model, _NO_MODEL if was_missed else "")
    database = choose_database(settings, registry, model, rows)
    codec = Codec(
        settings.serializer, rows.data_type, settings.max_size, _make_encryption(settings)
    )
    lifetime = Lifetime(settings)
    purge = Purge(rows, lifetime, clock, settings.on_expired)
    interval, batch = settings.cleanup_interval, settings.cleanup_batch
    # an application without metadata of its own is to have none
    remark = f" (the built-in model: {_NO_MODEL})" if was_missed and not settings.sqlalchemy else ""
    log.info("sessions are rows of %s%s, through %s", rows.table.fullname, remark, database)
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
    )


def _make_encryption(settings: Settings) -> Any:
    if not (settings.encryption_keys or settings.seal):
        return None
    try:
        from .data.encryption import Encryption
    except ImportError as error:
        raise ConfigurationError(
            "sqlsession.encryption_keys and sqlsession.seal need the package cryptography: "
            "pip install 'pyramid_sqlsession[encryption]'"
        ) from error
    return Encryption(
        settings.encryption_keys, seal=settings.seal, migrate=settings.encryption_migrate
    )
