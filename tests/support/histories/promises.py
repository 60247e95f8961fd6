"""What must be true when two requests of one browser have met, whatever the order of their steps.

Each promise is a function that looks at the committed rows and at both responses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pyramid_tm import IRetryableError
from support.histories.meetings import (
    ANONYMOUS,
    CSRF,
    QUEUE,
    USER,
    Data,
    Meeting,
    Party,
    identity,
    state,
)
from support.histories.steps import Ending

from pyramid_sqlsession import SessionConflict

# ---- no lost key


def no_acknowledged_change_is_lost(met: Meeting) -> bool:
    return all(
        _is_kept(met, one, other) for one, other in met.each() if one.action.is_kept is not None
    )


def _is_kept(met: Meeting, one: Party, other: Party) -> bool:
    if one.dropped:
        # the one exception: whoever holds the old token must not write into the new session
        return other.acknowledged and other.action.is_about_the_token
    home = one.token or (other.token if other.acknowledged else None) or met.token
    if home not in met.live:
        return other.has_ended
    is_anew = home == other.token and other.has_ended
    assert one.action.is_kept is not None
    return is_anew or one.action.is_kept(met.live[home], one, other)


def what_nobody_changed_stays(met: Meeting) -> bool:
    # a sign-in with the old token of a user finds nothing, and whoever ends a session keeps nothing
    is_bare = met.start == "signed in"
    fresh = {
        party.token for party in met.parties if party.action.ends or (is_bare and not party.found)
    }
    return met.is_ended or all(
        _has_the_rest(met, data) for token, data in met.live.items() if token not in fresh
    )


def _has_the_rest(met: Meeting, data: Data) -> bool:
    done = {party.action.name for party in met.acknowledged}
    is_shown = any(party.popped("old") for party in met.parties)
    return (
        ("kept" in data or "delete" in done)
        and data.get("cart", [])[:1] == ["tea"]
        and (data.get("same") == "as it was" or "put the same key" in done)
        and ("old" in data.get(QUEUE, []) or is_shown)
    )


def a_change_wins_only_in_the_last_attempt(met: Meeting) -> bool:
    return met.attempts is None or not any(party.won() for party in met.parties)


def nothing_is_done_twice(met: Meeting) -> bool:
    lists = (data.get(key, []) for data in met.live.values() for key in ("cart", QUEUE))
    return all(len(values) == len(set(values)) for values in lists)


def a_session_is_found_until_it_ends(met: Meeting) -> bool:
    return all(
        one.found or (other.acknowledged and other.action.is_about_the_token)
        for one, other in met.each()
    )


# ---- no revived session


def an_ended_session_is_not_revived(met: Meeting) -> bool:
    if not met.is_ended:
        return True
    loaded = [json.dumps(value) for key, value in ANONYMOUS.items() if key != "same"]
    stored = [json.dumps(value) for data in met.live.values() for value in data.values()]
    return met.token not in met.live and not any(
        # a list may have more in it by now
        value.startswith(old.removesuffix("]"))
        for old in loaded
        for value in stored
    )


def who_has_signed_out_is_not_signed_in(met: Meeting) -> bool:
    # whoever signs in without having found the session has shown credentials of their own
    fresh = {party.token for party in met.parties if party.action.user and not party.found}
    old = [data for token, data in met.live.items() if token not in fresh]
    return met.start == "anonymous" or not (
        met.is_ended and any(data.get(USER) == "alice" for data in old)
    )


def an_end_that_was_acknowledged_takes_effect(met: Meeting) -> bool:
    return all(
        one.has_ended
        or other.has_ended
        or (
            # it had another token by then: whoever is anonymous does nothing to a user's session
            other.acknowledged
            and other.action.renews
            and (met.start == "anonymous" or not one.flight.came_in_time)
        )
        for one, other in met.each()
        if one.action.ends
    )


# ---- a sign-in always takes effect


def a_sign_in_takes_effect(met: Meeting) -> bool:
    return all(_is_signed_in(met, one, other) for one, other in met.each() if one.action.user)


def _is_signed_in(met: Meeting, one: Party, other: Party) -> bool:
    if one.token in met.live:
        return bool(met.live[one.token].get(USER) == one.action.user)
    # a sign-out beside a step-up, or of the session that has the new token, wins
    return met.start == "signed in" and other.has_ended and (one.dropped or one.token is not None)


# ---- no cookie without a committed row


def every_cookie_names_a_committed_row(met: Meeting) -> bool:
    return all(
        one.token is None or one.token in met.live or other.has_ended for one, other in met.each()
    ) and not any(party.flight.cookies for party in met.parties if not party.acknowledged)


def every_live_row_has_a_cookie(met: Meeting) -> bool:
    return len(met.live) == len(met.live_rows)


# ---- no write of an aborted request


def an_aborted_request_has_changed_nothing(met: Meeting) -> bool:
    if len(met.acknowledged) == 2:
        return True
    survivor = next(iter(met.acknowledged), None)
    result = None if survivor is None else survivor.flight.result
    return (state(met.rows), result) == met.alone(survivor)


def a_request_fails_only_by_a_conflict(met: Meeting) -> bool:
    return all(
        party.acknowledged
        or (
            met.refusing
            and (
                isinstance(party.flight.error, SessionConflict)
                or IRetryableError.providedBy(party.flight.error)
            )
        )
        for party in met.parties
        if party.flight.ending is Ending.COMMIT
    )


# ---- the rows


def there_is_one_live_session(met: Meeting) -> bool:
    signed_in = [party for party in met.acknowledged if party.action.user]
    if not any(party.action.is_about_the_token for party in met.acknowledged):
        return list(met.live) == [met.token]
    at_least = 0 if met.is_ended else 1
    # a sign-in always takes effect, and starts a session of its own if it has to
    at_most = 2 if signed_in and len(met.acknowledged) == 2 else 1
    return at_least <= len(met.live_rows) <= at_most


def the_column_says_who_is_signed_in(met: Meeting) -> bool:
    return all(row["user_id"] == json.loads(row["data"]).get(USER) for row in met.live_rows)


def markers_hold_what_they_may(met: Meeting) -> bool:
    return all(_is_right_marker(met, marker) for marker in met.markers)


def _is_right_marker(met: Meeting, marker: dict[str, Any]) -> bool:
    sent = [identity(party.token) for party in met.acknowledged if party.token]
    data = json.loads(marker["data"])
    is_bare = data == {CSRF: "form"}
    is_bare_by_rule = met.start == "signed in" or met.is_ended
    return (
        marker["id"] == identity(met.token)
        and marker["successor"] in sent
        and marker["user_id"] == ("alice" if met.start == "signed in" else None)
        and is_bare == is_bare_by_rule
    )


PROMISES: tuple[Callable[[Meeting], bool], ...] = (
    no_acknowledged_change_is_lost,
    what_nobody_changed_stays,
    nothing_is_done_twice,
    a_session_is_found_until_it_ends,
    a_change_wins_only_in_the_last_attempt,
    an_ended_session_is_not_revived,
    who_has_signed_out_is_not_signed_in,
    an_end_that_was_acknowledged_takes_effect,
    a_sign_in_takes_effect,
    every_cookie_names_a_committed_row,
    every_live_row_has_a_cookie,
    an_aborted_request_has_changed_nothing,
    a_request_fails_only_by_a_conflict,
    there_is_one_live_session,
    the_column_says_who_is_signed_in,
    markers_hold_what_they_may,
)
