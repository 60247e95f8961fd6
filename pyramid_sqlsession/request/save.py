"""Saves the changes of a request to its session."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ..exceptions import SessionBusy, SessionConflict
from ..frames import discreet
from ..session.intent import Intent, intent_of
from ..session.who import ends, steps_up
from ..table.record import Record
from ..transactions import Attempt, fail_to_commit, remember_attempt
from .alone import repeated
from .conflict import current_row, merged_with_row
from .regenerate import begin, drop, end, regenerate, sign_in, sign_in_late, step_up_late
from .visit import Phase, Visit
from .writer import Writer


class Answers(NamedTuple):
    """What an intent does, depending on the row.

    ``write``
      The row is as it was loaded, or newer and merged.
    ``replaced``
      The session was regenerated.
    ``gone``
      The session has ended.
    """

    write: Callable[[Writer, Record, Any], bool]
    replaced: Callable[[Writer, Record], None]
    gone: Callable[[Writer], None]


ANSWERS = {
    Intent.WRITE: Answers(Writer.update, drop, drop),
    Intent.REGENERATE: Answers(regenerate, drop, drop),
    Intent.STEP_UP: Answers(regenerate, step_up_late, drop),
    Intent.SIGN_IN: Answers(sign_in, sign_in_late, begin),
}
"""A request with an old token must not write to the new session; a sign-in always succeeds."""


@discreet
def flush(visit: Visit, transaction: Any, *, has_veto: bool) -> bool:
    """Flush what the application has changed, whose listeners may change the session.

    If that fails, the error is left to the COMMIT, and False is returned: nothing can be saved.
    There may never be a COMMIT, for example if a form with errors is shown again.

    :param has_veto: whether the response decides if there is one.
    :raises Exception: the application's error, if the session has changed and would be committed.
    """
    if transaction is None:
        return True
    is_asked_for = visit.is_used and bool(visit.state.loaded or visit.state.may_have_changed)
    try:
        visit.store.database.flush(visit.request, transaction, is_asked_for)
    except Exception as error:
        if not (has_veto or transaction.isDoomed()) and visit.is_changed:
            raise
        fail_to_commit(transaction, error)
        return False
    return True


@discreet
def save(visit: Visit, transaction: Any) -> None:
    """Write the session if it changed, in the transaction, or in a separate one if that is None.

    :raises SessionDataError: if the session holds something that cannot be stored.
    :raises SessionConflict: on a concurrent change, if this request should be run again.
    :raises SessionBusy: on a concurrent change, if this request has no transaction.
    """
    if visit.is_missed or not visit.is_used:
        return
    intent = intent_of(visit.state, visit.store.codec)
    if intent is Intent.NOTHING:
        return
    if intent is Intent.DROP:
        visit.tell_conflict((), "dropped")
        return
    remember(visit)
    write = partial(_write_in, transaction, visit, intent)
    try:
        visit.saved = repeated(write) if transaction is None else write()
    except (SessionConflict, SessionBusy) as conflict:
        visit.tell_conflict(conflict.keys, "raised")
        raise


def _write_in(transaction: Any, visit: Visit, intent: Intent) -> Callable[[], bool]:
    """Write the session; returns a function that tells whether that is durable."""
    writer, visit.cookie = Writer(visit, intent), None
    # subscribers of the events below must not change the session any more
    visit.end(Phase.CLOSED, transaction)
    with visit.store.database.writing(visit.request, transaction) as (connection, committed):
        writer.connection = connection
        _write(writer, intent)
    return committed


def remember(visit: Visit) -> None:
    """Store for the next attempt what it cannot see itself."""
    # the view's own changes, without those of an exception view
    state = visit.state.failed or visit.state
    if state.loaded is None or state.data is None:
        return
    if ends(state) or steps_up(state):
        attempt = Attempt(state.loaded.record.lineage, state.user, ends(state))
        remember_attempt(visit.request, attempt)


def _write(writer: Writer, intent: Intent) -> None:
    if intent is Intent.END:
        end(writer)
    elif intent is Intent.CREATE:
        begin(writer)
    else:
        _write_row(writer, ANSWERS[intent])


def _write_row(writer: Writer, answers: Answers) -> None:
    visit, loaded = writer.visit, writer.state.loaded
    if loaded is not None and answers.write(writer, loaded.record, writer.data):
        return
    row = current_row(visit, writer.connection)
    if row is not None and row.replaced is not None:
        answers.replaced(writer, row)
    elif row is None or loaded is None:
        answers.gone(writer)
    else:
        data = merged_with_row(visit, loaded, row, writer.cookies_token)
        if not answers.write(writer, row, writer.encoded(data)):
            raise visit.store.rows.unwritten(writer.connection, writer.cookies_id, row.version)
