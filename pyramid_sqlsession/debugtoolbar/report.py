"""The observation of a request's session as texts for the panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..exceptions import SessionDataError
from ..request.visit import Visit
from ..session.found import CSRF
from ..session.merge import changed_keys
from .observed import Observed
from .outcome import cookie_received, transaction_of, verdict_of
from .readable import MASK, duration, masked, moment, represented

_LONG_ENOUGH = 16
"""Characters of a CSRF token, from which on it cannot be a part of some other text."""

_MOST_KEYS = 200
"""The toolbar keeps what is shown of many requests."""


@dataclass(frozen=True, repr=False)
class Versions:
    """The session's data as it was loaded, as the request left it, and as a merge stored it.

    ``merged`` is None if there was no merge. ``lost`` is the data of a failed view; None if nothing
    was rolled back with its transaction.
    """

    before: Mapping[Any, Any]
    after: Mapping[Any, Any]
    merged: Mapping[Any, Any] | None
    lost: Mapping[Any, Any] | None

    @property
    def stored(self) -> Mapping[Any, Any]:
        """The data that the row holds if the request commits."""
        return self.after if self.merged is None else self.merged


def report(observed: Observed, request: Any) -> dict[str, Any]:
    """All that the panel shows: texts, in lists and dicts, without tokens."""
    visit = observed.visit
    verdict = verdict_of(observed, request)
    data = _versions(observed)
    keys, more_keys = _keys(observed, data)
    statements = observed.statements
    total = sum(statement.milliseconds for statement in statements)
    glance = verdict.headline
    if statements:
        plural = "s" * (len(statements) > 1)
        glance += f", {len(statements)} statement{plural}, {total:.1f} ms"
    shown = {
        "glance": glance,
        "style": verdict.style,
        "sentence": verdict.sentence,
        "attempt": _attempt(request),
        "summary": [
            ["Cookie received", cookie_received(observed, request)],
            ["Cookie sent", "\n".join(map(_without_value, observed.cookies)) or "none"],
            ["Transaction", transaction_of(observed, request)],
            ["Database", str(visit.store.database)],
        ],
        "row": _row(visit),
        "size": _size(visit, data),
        "keys": keys,
        "more_keys": more_keys,
        "is_read_whole": observed.is_read_whole,
        "is_merged": data.merged is not None,
        "is_lost": data.lost is not None,
        "table": visit.store.rows.table.fullname,
        "statements": [
            {
                "kind": statement.kind,
                "milliseconds": f"{statement.milliseconds:.2f}",
                "rows": "" if statement.rows is None else str(statement.rows),
                "sql": statement.sql,
                "parameters": statement.parameters,
                "error": statement.error or "",
            }
            for statement in statements
        ],
        "events": [[type(event).__name__, str(event)] for event in observed.events],
        "warnings": observed.warnings,
    }
    safe: dict[str, Any] = masked(shown, _secrets(visit, data))
    return safe


def _attempt(request: Any) -> str:
    attempts = request.environ.get("retry.attempts", 1)
    number = request.environ.get("retry.attempt", 0) + 1
    return f"Attempt {number} of at most {attempts}" if attempts > 1 else ""


def _without_value(cookie: str) -> str:
    start, _, rest = cookie.partition("=")
    token, semicolon, attributes = rest.partition(";")
    return f"{start}={MASK if token else ''}{semicolon}{attributes}"


# ---- what was loaded


def _row(visit: Visit) -> list[list[str]]:
    """The row as it was loaded; empty if the cookie opened none."""
    loaded, lifetime, now = visit.state.loaded, visit.store.lifetime, visit.store.clock()
    if loaded is None:
        return []
    record = loaded.record
    created, last_seen, max_age, _ = record.times
    idle = lifetime.idle(record.times)
    own = " (its own)" if max_age is not None else ""
    rows = [
        ["Handle", record.handle],
        ["User", "nobody" if record.user_id is None else represented(record.user_id)],
        ["Version", str(record.version)],
        ["Created", moment(created, now)],
        ["Last seen", moment(last_seen, now)],
        ["Idle timeout", f"{duration(idle)}{own}: {moment(last_seen + idle, now)}"],
    ]
    absolute = lifetime.absolute
    if absolute is None:
        rows.append(["Absolute timeout", "none"])
    else:
        at = moment(created + absolute, now)
        rows.append(["Absolute timeout", f"{duration(absolute)}: {at}"])
    rows.append(["May be deleted", f"after {moment(record.purge_after, now)}"])
    return rows


def _size(visit: Visit, data: Versions) -> str:
    """The size of the data, before and after."""
    state, codec = visit.state, visit.store.codec
    before = 0 if state.loaded is None else len(state.loaded.serialized)
    try:
        after = str(len(codec.dumps(dict(data.stored))))
    except SessionDataError:
        after = "?"
    return f"{before} → {after} of at most {codec.max_size} bytes"


# ---- the keys


def _versions(observed: Observed) -> Versions:
    visit, state = observed.visit, observed.visit.state
    # after a conflict it is not stored
    merged = None if visit.merged is None or visit.saved is None else visit.merged.data
    if state.loaded is not None:
        before = visit.store.codec.loads(state.loaded.serialized)
    else:
        before = {} if state.marker is None else state.marker.visible
    lost = None if observed.lost is None else observed.lost.data
    return Versions(before, state.data or {}, merged, lost)


def _keys(observed: Observed, data: Versions) -> tuple[list[dict[str, Any]], str]:
    """A row for each key, and a sentence about the other keys."""
    changed = _changed(observed.visit, data.before, data.after)
    theirs = _changed(observed.visit, data.after, data.stored)
    failed = data.before if data.lost is None else data.lost
    lost = _changed(observed.visit, data.before, failed)
    used = {*changed, *theirs, *lost, *observed.keys}
    known = {**data.before, **data.after, **data.stored, **failed, **observed.keys}
    keys = sorted(known, key=lambda key: key not in used)
    rows = [
        {
            "key": represented(key),
            "is_read": key in observed.keys,
            "change": _change(key, data) if key in changed else "",
            "is_theirs": key in theirs,
            "is_lost": key in lost,
            "before": _shown(key, data.before),
            "after": _shown(key, data.after),
            "stored": _shown(key, data.stored),
            "lost": _shown(key, failed) if key in lost else "",
        }
        for key in keys[:_MOST_KEYS]
    ]
    return sorted(rows, key=lambda row: str(row["key"])), _left_out(len(keys) - _MOST_KEYS)


def _left_out(number: int) -> str:
    text = f"{number} more keys were neither read nor changed one by one."
    return text if number > 0 else ""


def _changed(visit: Visit, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> list[Any]:
    try:
        return changed_keys(old, new, visit.store.codec.differ)
    except SessionDataError:
        # a value cannot be serialized, so compare the values themselves
        return changed_keys(old, new, _are_unequal)


def _are_unequal(_key: Any, one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except Exception:  # noqa: BLE001  # the truth value of an array is ambiguous
        return one is not other


def _change(key: Any, data: Versions) -> str:
    if key not in data.before:
        return "set"
    return "changed" if key in data.after else "deleted"


def _shown(key: Any, data: Mapping[Any, Any]) -> str:
    if key not in data:
        return ""
    return MASK if key == CSRF else represented(data[key])


def _secrets(visit: Visit, data: Versions) -> set[str]:
    """The tokens of this request, wherever the application put them."""
    sent = (visit.cookie or (None, None))[0]
    versions = (data.before, data.after, data.stored, data.lost or {})
    values = (version.get(key) for version in versions for key in visit.store.csrf_keys)
    csrf = [value for value in values if isinstance(value, str)]
    return {*filter(None, (*visit.tokens, sent)), *(it for it in csrf if len(it) >= _LONG_ENOUGH)}
