"""Checks that the security policy keeps the user under ``sqlsession.userid_key``."""

from __future__ import annotations

import logging
from typing import Any

from ..exceptions import see
from .visit import Visit

log = logging.getLogger("pyramid_sqlsession")


class PolicyCheck:
    """Checks the first request in which somebody is signed in and the session is used.

    It does not ask the policy itself: pyramid_tm does so before each request and stores the answer
    in the transaction, unless ``tm.annotate_user`` is off.

    :param userid_key: the key under which the session holds the user.
    """

    def __init__(self, userid_key: str) -> None:
        self._userid_key = userid_key
        self._is_settled = False

    def look(self, visit: Visit, transaction: Any) -> None:
        """Warn about a policy whose sign-ins do not change the session's user."""
        if self._is_settled or transaction is None or not (transaction.user and visit.is_used):
            return
        self._is_settled = True
        # as it was when the policy was asked
        if visit.state.user is None and not visit.state.is_ended:
            log.warning(
                "request.authenticated_userid is set, but session[%r] is not: the security policy "
                "keeps the user elsewhere, so sign-ins do not regenerate the session, and it "
                "cannot be listed or revoked by user. Set sqlsession.userid_key to the key that "
                "the policy uses, or set that key when you sign users in %s",
                self._userid_key,
                see("trouble-userid"),
            )
