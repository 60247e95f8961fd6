"""What is written about a session after its request, and may fail without anybody noticing."""

from __future__ import annotations

import logging
from typing import Any

from ..driver_errors import reason
from ..exceptions import SessionConflict
from ..session.state import Loaded
from ..store import Store

log = logging.getLogger("pyramid_sqlsession")


def touch(store: Store, request: Any, loaded: Loaded, now: int) -> bool:
    """Record activity, if that is due; False if it was not recorded."""
    record = loaded.record
    if not store.lifetime.is_touch_due(record, now):
        return False
    purge_after = store.lifetime.purge_after(
        record.created, now, record.max_age, stored=record.purge_after
    )
    try:
        with store.database.touching(request) as connection:
            return store.storage.touch(connection, loaded.handle, record, now, purge_after)
    except Exception as error:  # noqa: BLE001  # the request has succeeded without
        # on SQLite every writer is in the way of every other
        level = logging.DEBUG if isinstance(error, SessionConflict) else logging.WARNING
        name, why = loaded.handle.hex(), reason(error)
        log.log(level, "activity of session %s was not recorded: %s", name, why)
        return False


def encrypt_anew(store: Store, request: Any, loaded: Loaded, token: str) -> None:
    """Store the same data as the settings say now: they, or the newest key, have changed."""
    if loaded.as_configured:
        return
    try:
        data = store.codec.to_column(store.codec.loads(loaded.serialized), token)
        with store.database.touching(request) as connection:
            store.storage.rewrite(connection, loaded.handle, loaded.record.version, data)
    except Exception as error:  # noqa: BLE001  # the request has succeeded without
        name, why = loaded.handle.hex(), reason(error)
        log.warning("the data of session %s was not encrypted anew: %s", name, why)
