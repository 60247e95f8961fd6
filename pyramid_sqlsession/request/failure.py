"""After a view has raised: which changes are stored, and in which transaction.

The view's changes are rolled back with its transaction. The exception view's changes are kept, as
with Pyramid's own session factories: the CSRF token of a login form on a 403 page, for example.
"""

from __future__ import annotations

import logging
from typing import Any

from pyramid.threadlocal import manager
from pyramid_tm import is_tm_active, maybe_tag_retryable
from sqlalchemy import event
from sqlalchemy.orm import Session

from ..driver_errors import reason
from ..exceptions import see
from ..session.failed import end_again, keep_apart, replay, restore
from ..session.intent import is_changed
from ..session.who import ends, signs_in
from ..transactions import current_transaction, will_be_retried
from .save import flush, remember, save
from .visit import Phase, Visit

log = logging.getLogger("pyramid_sqlsession")

_FLUSHED = "_pyramid_sqlsession_flushed"


def leave_failed(visit: Visit, transaction: Any, response: Any, *, has_veto: bool) -> None:
    """Save what may be committed with the failed view when the response leaves the save tween."""
    request, state = visit.request, visit.state
    if transaction is not None:
        maybe_tag_retryable(request, request.exc_info)
    # the exception view may not have used the session
    state.note_failure()
    remember(visit)
    has_ended_it = is_tm_active(request) and transaction is None
    may_commit = has_veto if transaction is not None else response.status_int < 400
    is_last = not will_be_retried(request, request.exception)
    visit.has_flushed = _has_flushed(request)
    # if there is a transaction that may be committed, a veto decides
    if may_commit and is_last and not has_ended_it and flush(visit, transaction, has_veto=True):
        _save_both(visit, transaction)
    else:
        _warn_of_loss(visit, response)
        keep_apart(state)
    visit.end(Phase.DETACHED if has_ended_it else Phase.CLOSED, transaction)


def _save_both(visit: Visit, transaction: Any) -> None:
    try:
        visit.alone = replay(visit.state)
        save(visit, transaction)
    except Exception:
        log.exception("the session is not stored; the error page is still sent")
        if visit.alone is not None:
            restore(visit.state, visit.alone)
            visit.alone = None
        if transaction is not None:
            # else a commit veto that accepts the response would commit half
            transaction.doom()


def _warn_of_loss(visit: Visit, response: Any) -> None:
    failed = visit.state.failed
    if failed is None or response.status_int >= 400 or not is_changed(failed, failed.codec):
        return
    error = visit.request.exception
    log.warning(
        "session changes are not stored: the view raised %s, which aborts the transaction. To "
        "store them, %sset tm.commit_veto = pyramid_tm.default_commit_veto %s",
        type(error).__name__,
        "return it, or " if response is error else "",
        see("trouble-lost"),
    )


def keep(visit: Visit) -> None:
    """Store the exception view's changes after the view's transaction was aborted.

    If that fails, it is logged, and the response has no cookie.

    :raises Exception: if the exception view signed somebody out: that must not be acknowledged.
    """
    request, state, alone = visit.request, visit.state, visit.alone
    is_undone = visit.is_lost or visit.saved is not None
    has_flushed = _has_flushed(request)
    if alone is not None and alone.failure is state.failure:
        if not is_undone:
            return
        restore(state, alone)
        has_flushed = visit.has_flushed
    visit.alone = None
    visit.saved = visit.signed_in = visit.merged = None
    keep_apart(state)
    if is_undone:
        end_again(state)
    transaction = current_transaction(request)
    if transaction is None and signs_in(state) and has_flushed:
        log.warning(
            "a sign-in in an exception view is not stored: the request's changes to the database, "
            "perhaps the user too, were rolled back"
        )
        return
    visit.conflict = "merge"
    try:
        save(visit, transaction)
    except Exception as error:
        # perhaps the COMMIT failed, after the cookie was prepared
        visit.cookie = None
        if transaction is not None:
            transaction.doom()
        if ends(state):
            raise
        log.warning("session changes of an exception view are not stored: %s", reason(error))
        # the cookie of a row whose COMMIT failed
        visit.cookie = None


def _has_flushed(request: Any) -> bool:
    return _FLUSHED in request.__dict__


def watch_flushes() -> None:
    """Note from now on which requests flush. Calling it again has no effect."""
    if not event.contains(Session, "after_flush", _note_flush):
        event.listen(Session, "after_flush", _note_flush)


def _note_flush(_session: Session, _context: Any) -> None:
    for info in manager.stack:
        if info["request"] is not None:
            info["request"].__dict__[_FLUSHED] = True
