"""What all requests of an application share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .cookie import Cookie
from .data.codec import Codec
from .database.application import Database
from .lifetime import Lifetime
from .settings import Settings
from .table.rows import Storage
from .table.sessions import Accounts
from .upkeep.cleanup import Cleaner
from .upkeep.purge import Purge


@dataclass(frozen=True)
class Store:
    """The parts that the settings gave; none of them knows a request."""

    settings: Settings
    database: Database
    storage: Storage
    codec: Codec
    cookie: Cookie
    lifetime: Lifetime
    purge: Purge
    accounts: Accounts
    cleaner: Cleaner
    clock: Callable[[], int]
