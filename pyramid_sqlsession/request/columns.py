"""The values of a row's columns."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from pyramid.exceptions import ConfigurationError
from sqlalchemy import Connection

from ..lifetime import Times
from .visit import Visit

_NO_USER_ID = (
    "a session is stored without its user_id and cannot be listed or revoked by user: session[%r] "
    "does not fit the column (%s)"
)

log = logging.getLogger("pyramid_sqlsession")


class Columns:
    """The values of one request's row."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._store = visit.store

    def of(self, data: Any, times: Times, purge_after: int = 0) -> dict[str, Any]:
        """The columns that every write stores.

        :param data: the value of the data column.
        :param purge_after: the row's value, which is kept as long as it fits.
        """
        return {
            "data": data,
            "last_seen": times.last_seen,
            "max_age": times.max_age,
            "purge_after": self._store.lifetime.purge_after(times, purge_after),
        }

    def user_id(self, connection: Connection) -> Any:
        """Who is signed in, as a value of the column; None for nobody.

        Also None, with a warning, if the user does not fit the column.
        """
        state = self._visit.state
        user = state.user_now
        if user is None:
            return None
        try:
            return self._store.sessions.converted(connection, user)
        except TypeError as error:
            self._store.warn_once(_NO_USER_ID, state.userid_key, error)
        except ValueError as error:
            log.warning(_NO_USER_ID, state.userid_key, error)
        return None

    @cached_property
    def own(self) -> dict[str, Any]:
        """The values that ``sqlsession.extra_columns`` returns.

        :raises ConfigurationError: if it names other columns than the application's own.
        """
        function = self._store.settings.extra_columns
        if function is None:
            return {}
        values = dict(function(self._visit.request, self._visit.session))
        columns = self._store.rows.own_columns
        unknown = sorted(values.keys() - set(columns))
        if unknown:
            raise ConfigurationError(
                f"sqlsession.extra_columns returned {unknown}: it may return only columns that "
                f"your model adds to SessionMixin, here {', '.join(columns) or 'none'}"
            )
        return values
