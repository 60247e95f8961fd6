"""What must be true when requests of one browser have met, whatever the order of their steps.

Each promise is a function that looks at the committed rows and at all responses.
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
    Parties,
    Party,
    has_ended,
    identity,
    state,
)
from support.histories.steps import Ending

from pyramid_sqlsession import SessionConflict

# ---- no lost key


def no_acknowledged_change_is_lost(met: Meeting) -> bool:
    return all(
        _is_kept(met, one, others) for one, others in met.each() if one.action.is_kept is not None
    )


def _is_kept(met: Meeting, one: Party, others: Parties) -> bool:
    if one.dropped:
        # the one exception: whoever holds the old token must not write into the new session
        return any(other.acknowledged and other.action.is_about_the_token for other in others)
    assert one.action.is_kept is not None
    if one.token in met.live:
        return one.action.is_kept(met.live[one.token], one, others)
    anew = {other.token for other in others if other.action.ends}
    homes = [data for token, data in met.live.items() if token not in anew]
    kept = [one.action.is_kept(data, one, others) for data in homes]
    # a step-up that comes too late has a row of its own, with what it had loaded before
    is_kept = any(kept) if met.start == "signed in" else bool(kept) and all(kept)
    return is_kept or has_ended(others)


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
        one.found or any(other.acknowledged and other.action.is_about_the_token for other in others)
        for one, others in met.each()
    )


# ---- no revived session


def an_ended_session_is_not_revived(met: Meeting) -> bool:
    if not met.is_ended:
        return True
    loaded = [json.dumps(value) for key, value in ANONYMOUS.items() if key != "same"]
    of_nobody = _signed_in_beside_a_regenerated_one(met)
    stored = [
        json.dumps(value)
        for token, data in met.live.items()
        for value in data.values()
        if token not in of_nobody
    ]
    return met.token not in met.live and not any(
        # a list may have more in it by now
        value.startswith(old.removesuffix("]"))
        for old in loaded
        for value in stored
    )


def _signed_in_beside_a_regenerated_one(met: Meeting) -> set[str | None]:
    """The sessions of users that took over what an anonymous one held, which lived on and ended."""
    if met.start == "signed in" or not any(it.action.name == "regenerate" for it in met.parties):
        return set()
    return {party.token for party in met.parties if party.action.user and party.action.renews}


def who_has_signed_out_is_not_signed_in(met: Meeting) -> bool:
    # who signs in without having found the session has shown credentials, and who ends it too
    fresh = {
        party.token
        for party in met.parties
        if party.action.user and (party.action.ends or not party.flight.came_in_time)
    }
    old = [data for token, data in met.live.items() if token not in fresh]
    return met.start == "anonymous" or not (
        met.is_ended and any(data.get(USER) == "alice" for data in old)
    )


def an_end_that_was_acknowledged_takes_effect(met: Meeting) -> bool:
    return all(
        one.has_ended
        or has_ended(others)
        or any(
            # it had another token by then: whoever is anonymous does nothing to a user's session
            other.acknowledged
            and other.action.renews
            and (not one.flight.came_in_time or (met.start == "anonymous" and other.action.user))
            for other in others
        )
        for one, others in met.each()
        if one.action.ends
    )


# ---- a sign-in always takes effect


def a_sign_in_takes_effect(met: Meeting) -> bool:
    return all(_is_signed_in(met, one, others) for one, others in met.each() if one.action.user)


def _is_signed_in(met: Meeting, one: Party, others: Parties) -> bool:
    if one.token in met.live:
        return bool(met.live[one.token].get(USER) == one.action.user)
    # a sign-out beside a step-up, or of the session that has the new token, wins
    is_step_up = met.start == "signed in" and not one.action.ends
    return is_step_up and has_ended(others) and (one.dropped or one.token is not None)


def a_session_is_one_users(met: Meeting) -> bool:
    users = {(row["lineage"], row["user_id"]) for row in met.live_rows}
    return len(users) == len({lineage for lineage, _ in users})


def who_signs_in_or_follows_another_has_a_handle_of_their_own(met: Meeting) -> bool:
    whose = "alice" if met.start == "signed in" else None
    return all(
        row["user_id"] == whose and not met.is_ended
        for row in met.live_rows
        if row["lineage"] == met.lineage
    )


def a_sign_in_that_was_sent_twice_is_one_session(met: Meeting) -> bool:
    is_sent_twice = met.start == "anonymous" and all(
        party.action.user == met.parties[0].action.user and party.action.renews
        for party in met.parties
        if party.action.is_about_the_token
    )
    return not is_sent_twice or len({row["lineage"] for row in met.live_rows}) == 1


# ---- no cookie without a committed row


def every_cookie_names_a_committed_row(met: Meeting) -> bool:
    return all(
        one.token is None or one.token in met.live or has_ended(others)
        for one, others in met.each()
    ) and not any(party.flight.cookies for party in met.parties if not party.acknowledged)


def every_live_row_has_a_cookie(met: Meeting) -> bool:
    return len(met.live) == len(met.live_rows)


# ---- no write of an aborted request


def an_aborted_request_has_changed_nothing(met: Meeting) -> bool:
    if len(met.acknowledged) > 1:
        # together they leave what the other promises say
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


def each_session_was_started_by_somebody(met: Meeting) -> bool:
    starting = [party for party in met.acknowledged if party.action.is_about_the_token]
    if not starting:
        return list(met.live) == [met.token]
    at_least = 0 if met.is_ended else 1
    # a sign-in always takes effect, and starts a session of its own if it has to
    return at_least <= len(met.live_rows) <= len(starting)


def the_column_says_who_is_signed_in(met: Meeting) -> bool:
    return all(row["user_id"] == json.loads(row["data"]).get(USER) for row in met.live_rows)


def markers_hold_what_they_may(met: Meeting) -> bool:
    return all(_is_right_marker(met, marker) for marker in met.markers)


def _is_right_marker(met: Meeting, marker: dict[str, Any]) -> bool:
    data = json.loads(marker["data"])
    is_bare = data == {CSRF: "form"}
    is_bare_by_rule = met.start == "signed in" or met.is_ended
    is_alices = met.start == "signed in" and not met.is_ended
    return (
        marker["id"] == identity(met.token)
        and marker["lineage"] in {row["lineage"] for row in met.live_rows}
        and marker["user_id"] == ("alice" if is_alices else None)
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
    a_session_is_one_users,
    who_signs_in_or_follows_another_has_a_handle_of_their_own,
    a_sign_in_that_was_sent_twice_is_one_session,
    every_cookie_names_a_committed_row,
    every_live_row_has_a_cookie,
    an_aborted_request_has_changed_nothing,
    a_request_fails_only_by_a_conflict,
    each_session_was_started_by_somebody,
    the_column_says_who_is_signed_in,
    markers_hold_what_they_may,
)
