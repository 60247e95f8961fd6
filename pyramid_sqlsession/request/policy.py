"""Whether the security policy keeps the user where the session looks for who is signed in."""

from __future__ import annotations

import logging
from typing import Any

from .visit import Visit

log = logging.getLogger("pyramid_sqlsession")


class PolicyCheck:
    """Looks until somebody is signed in, in requests that use their session; that settles it.

    :param userid_key: the key under which the session is told of the user.
    """

    def __init__(self, userid_key: str) -> None:
        self._userid_key = userid_key
        self._is_settled = False

    def look(self, visit: Visit) -> None:
        """Warn of a policy whose sign-ins the session does not see."""
        if self._is_settled or not visit.is_used or visit.request.exception is not None:
            return
        user = self._signed_in(visit.request)
        if user is None:
            return
        self._is_settled = True
        if visit.state.user_now is None:
            log.warning(
                "request.authenticated_userid is set, and session[%r] is not: the security policy "
                "keeps the user elsewhere, so a sign-in gives the session no new token, and it can "
                "be neither listed nor revoked by its user; set sqlsession.userid_key to the key "
                "that the policy uses, or set that key where you sign users in",
                self._userid_key,
            )

    def _signed_in(self, request: Any) -> Any:
        try:
            return request.authenticated_userid
        except Exception:  # noqa: BLE001  # whoever needs the user is told what is wrong
            self._is_settled = True
            return None
