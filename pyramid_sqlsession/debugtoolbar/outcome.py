"""The outcome for a request's session, as a headline and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyramid_tm import is_tm_active

from ..events import CookieRejected, SessionConflicted, SessionEnded
from ..transactions import COMMIT_FAILED, COMMITTED, current_transaction, will_be_retried
from .observed import Observed, Statement
from .readable import described

_WRITES = {
    "mark": (
        "REGENERATE v1",
        "The session has a new token and a new row; the old row is left as a marker.",
    ),
    "insert": ("INSERT v1", "A new session was stored."),
    "update": ("UPDATE v{new}", "The session's row was changed, from version {old} to {new}."),
    "delete": ("DELETE", "The session was ended: its row was deleted."),
}
"""What a save did: the first of these kinds of statements that it executed."""

_REJECTED = {
    "malformed": "not a valid token: not looked up",
    "unknown": "unknown: no session has this token",
    "replaced": "the old token of a regenerated session, of which only the marker is left",
    "unreadable": "the token of a row that cannot be read; a warning below says why",
    "expiry": "the token of a session that has expired",
}

_KEPT = "The exception view's changes are kept."
_LOST = "The view's changes to the session were rolled back with its transaction."


@dataclass(frozen=True)
class Verdict:
    """The outcome for the session.

    ``style`` is Bootstrap's name of the colour: success, info, warning or danger; empty for none.
    """

    headline: str
    style: str
    sentence: str


def verdict_of(observed: Observed, request: Any) -> Verdict:
    """The outcome, after everything is committed or aborted."""
    visit, error = observed.visit, _error(observed, request)
    if visit.state.data is None:
        verdict = _unused(observed)
    elif visit.saved is not None:
        verdict = _written(observed, durable=visit.saved(), is_open=is_tm_active(request))
        if observed.lost is not None:
            verdict = _partly(verdict)
    else:
        verdict = _unwritten(observed)
    if error is None:
        return verdict
    sentence = f"{verdict.sentence} The request failed with {described(error)}"
    if will_be_retried(request, error):
        return Verdict(verdict.headline, "warning", f"{sentence} (pyramid_retry runs it again)")
    return Verdict(verdict.headline, verdict.style, sentence)


def _error(observed: Observed, request: Any) -> BaseException | None:
    rendered: BaseException | None = getattr(request, "exception", None)
    return observed.failure or rendered


def _unused(observed: Observed) -> Verdict:
    if observed.is_opened:
        return Verdict("ERROR", "danger", "The session could not be read.")
    return Verdict("not used", "", "The session was not used: no statement, no row, no cookie.")


def _written(observed: Observed, *, durable: bool, is_open: bool) -> Verdict:
    transaction = observed.visit.transaction
    saved = {
        it.kind: it
        for it in observed.statements
        # an earlier save may have been part of a failed view's transaction
        if it.is_of_save and it.has_hit and it.transaction is transaction
    }
    kind = next((kind for kind in _WRITES if kind in saved), None)
    if kind is None:
        ended = "The session was ended before it was stored: there was nothing to write."
        return _dropped(observed) or Verdict("nothing to write", "", ended)
    name, sentence = _described(observed, saved[kind])
    if observed.visit.merged is not None:
        sentence += " It was merged with the changes of a concurrent request."
    if durable:
        return Verdict(name, "success", sentence)
    if is_open:
        theirs = " The transaction is still open: the caller of the application ends it."
        return Verdict(name, "info", sentence + theirs)
    undone = " It was rolled back: the request's transaction was not committed."
    return Verdict(f"{name} rolled back", "danger", sentence + undone)


def _partly(verdict: Verdict) -> Verdict:
    style = "warning" if verdict.style == "success" else verdict.style
    return Verdict(verdict.headline, style, f"{verdict.sentence} {_KEPT} {_LOST}")


def _described(observed: Observed, statement: Statement) -> list[str]:
    loaded, found = observed.visit.state.loaded, statement.version or 0
    old = 0 if loaded is None else loaded.record.version
    return [text.format(old=old, new=found + 1) for text in _WRITES[statement.kind]]


def _unwritten(observed: Observed) -> Verdict:
    visit = observed.visit
    conflict = _conflict(observed, "raised")
    if conflict is not None:
        about = f" Keys: {list(conflict.keys)!r}." if conflict.keys else ""
        raised = "Another request changed the session at the same time: SessionConflict was raised."
        return Verdict("CONFLICT", "danger", raised + about)
    if visit.is_changed or observed.lost is not None:
        lost = "The changes to the session were not stored." if visit.is_changed else _LOST
        return _dropped(observed) or Verdict("NOT STORED", "danger", lost)
    if any(it.kind == "touch" and it.has_hit for it in observed.statements):
        return Verdict("TOUCH", "success", "The session was only read, and its activity recorded.")
    if visit.state.loaded is not None:
        version = visit.state.loaded.record.version
        return Verdict(f"read v{version}", "", "The session was only read: nothing was written.")
    return Verdict("empty", "", "The session is empty: no row, and no cookie.")


def _dropped(observed: Observed) -> Verdict | None:
    if _conflict(observed, "dropped") is None:
        return None
    late = "Another request ended or regenerated the session: nothing was stored."
    return Verdict("DROPPED", "warning", late)


def _conflict(observed: Observed, outcome: str) -> SessionConflicted | None:
    conflicts = [event for event in observed.events if isinstance(event, SessionConflicted)]
    return next((it for it in conflicts if it.outcome == outcome), None)


# ---- what came, and in which transaction


def cookie_received(observed: Observed, request: Any) -> str:
    """What the request's cookie is."""
    visit, state = observed.visit, observed.visit.state
    if not visit.tokens:
        return _REJECTED["malformed"] if visit.store.cookie.is_malformed(request) else "none"
    if state.data is None:
        return "a token, with which no session was opened"
    if state.loaded is not None:
        return "the token of a live session"
    reasons = [_reason(event) for event in observed.events]
    return next(filter(None, reasons), "a token that opens no session")


def _reason(event: Any) -> str | None:
    if isinstance(event, CookieRejected):
        return _REJECTED[event.reason]
    has_expired = isinstance(event, SessionEnded) and event.reason == "expiry"
    return _REJECTED["expiry"] if has_expired else None


def transaction_of(observed: Observed, request: Any) -> str:
    """The outcome of the transaction in which the session was to be stored."""
    transaction = observed.visit.transaction or observed.transaction
    if transaction is None:
        return "none: each write is committed on its own"
    if current_transaction(request) is transaction:
        return "still open: the caller of the application ends it"
    if transaction.status == COMMITTED:
        return "committed"
    failed = "its commit failed" if transaction.status == COMMIT_FAILED else "rolled back"
    return "doomed, and rolled back" if transaction.isDoomed() else failed
