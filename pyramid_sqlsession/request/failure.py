"""A view that has raised: what of the session is stored, in which transaction.

What the view did to the session goes with its transaction. What the exception view did is kept, as
Pyramid's own session factories keep it: the CSRF token of a login form on a 403 page, for instance.
"""

from __future__ import annotations

import logging
from typing import Any

from pyramid.threadlocal import manager
from pyramid_tm import is_tm_active, maybe_tag_retryable
from sqlalchemy import event
from sqlalchemy.orm import Session

from ..driver_errors import reason
from ..session.failed import keep_apart, replay, restore
from ..session.intent import Intent, intent_of
from ..session.who import ends, signs_in
from ..transactions import current_transaction, will_be_retried
from .save import save
from .visit import Phase, Visit

log = logging.getLogger("pyramid_sqlsession")

_FLUSHED = "_pyramid_sqlsession_flushed"


def leave_failed(visit: Visit, transaction: Any, response: Any, *, has_veto: bool) -> None:
    """Save what may be committed with the failed view, as the response leaves the save tween."""
    request, state = visit.request, visit.state
    if transaction is not None:
        maybe_tag_retryable(request, request.exc_info)
    # an exception view that has not asked for the session has not changed it
    state.note_failure()
    may_commit = has_veto if is_tm_active(request) else response.status_int < 400
    if may_commit and not will_be_retried(request, request.exception):
        _save_both(visit, transaction)
    else:
        _warn_of_loss(visit, response)
        keep_apart(state)
    visit.end(Phase.CLOSED, transaction)


def _save_both(visit: Visit, transaction: Any) -> None:
    visit.alone = replay(visit.state)
    try:
        save(visit, transaction)
    except Exception:
        log.exception("the session was not stored, the error page stands")
        visit.saved = None
        if transaction is not None:
            # without it a commit veto that likes the response would commit half
            transaction.doom()


def _warn_of_loss(visit: Visit, response: Any) -> None:
    failed = visit.state.failed
    if failed is None or response.status_int >= 400:
        return
    if intent_of(failed, failed.codec) is not Intent.NOTHING:
        returned = "" if response is not visit.request.exception else "return it, or "
        log.warning(
            "changes of the session are not stored: the view has raised %s, which aborts the "
            "transaction; %sset tm.commit_veto = pyramid_tm.default_commit_veto",
            type(visit.request.exception).__name__,
            returned,
        )


def keep(visit: Visit) -> None:
    """Store what the exception view did, now that the transaction of the view was aborted.

    A failure is a line in the log, and the response has no cookie.

    :raises Exception: if the exception view signs somebody out, which must not be acknowledged.
    """
    request, state = visit.request, visit.state
    visit.cookie, visit.saved = None, None
    if visit.alone is not None:
        restore(state, visit.alone)
    keep_apart(state)
    if signs_in(state) and has_flushed(request):
        log.warning(
            "a sign-in in an exception view is not stored: the application's database session has "
            "flushed something in this request, which was rolled back, perhaps the user"
        )
        return
    visit.conflict = "merge"
    try:
        save(visit, current_transaction(request))
    except Exception as error:
        if ends(state):
            raise
        log.warning("what an exception view did to the session is not stored: %s", reason(error))


def has_flushed(request: Any) -> bool:
    """Whether a SQLAlchemy session has flushed something during this request."""
    return _FLUSHED in request.__dict__


def watch_flushes() -> None:
    """Note from now on which requests flush; a second time changes nothing."""
    if not event.contains(Session, "after_flush", _note_flush):
        event.listen(Session, "after_flush", _note_flush)


def _note_flush(_session: Session, _context: Any) -> None:
    for info in manager.stack:
        if info["request"] is not None:
            info["request"].__dict__[_FLUSHED] = True
