"""What all requests of an application share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyramid_tm import is_tm_active
from transaction.interfaces import NoTransaction

from .accounts import Accounts
from .cleanup import Cleaner
from .codec import Codec
from .cookie import Cookie
from .database import COMMIT_FAILED, Database
from .lifetime import Lifetime
from .purge import Purge
from .settings import Settings
from .storage import Storage


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


def current_transaction(request: Any) -> Any:
    """The transaction that pyramid_tm, or whoever called us, will end; None if there is none."""
    if not is_tm_active(request):
        return None
    try:
        transaction = request.tm.get()
    except NoTransaction:
        return None
    # nothing can join a transaction whose commit, by the view, has failed
    return None if transaction.status == COMMIT_FAILED else transaction
