"""Three requests of one browser and more: who is signed in when all are through.

The requests are real threads on real database connections, taken step by step: see races.py. What
has to be true of each is in the table of intents, in pyramid_sqlsession/request/save.py.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from support.apps import TABLE, rows
from support.places import Place, in_places, step_by_step
from support.races import Action, Flight, Site, both, drop, put

USER = "auth.userid"
ATTEMPTS = pytest.mark.parametrize("attempts", [None, 3], ids=["once", "retried"])
NAMES = pytest.mark.parametrize("name", ["alice", "bob"])


def sign_in(user: str) -> Action:
    return put(USER, user)


sign_out = drop(USER)


def regenerate(session: Any) -> None:
    session.regenerate()


def invalidate(session: Any) -> None:
    session.invalidate()


def flash(session: Any) -> None:
    session.flash("Goodbye.")


def live(site: Site) -> list[dict[str, Any]]:
    return [row for row in rows(site.engine) if row["replaced"] is None]


def lineages(site: Site, user: str) -> set[bytes]:
    """The sessions in which a user is signed in."""
    return {row["lineage"] for row in live(site) if row["user_id"] == user}


def user_of(site: Site, token: str) -> Any:
    return site.visit(lambda session: session.get(USER), token).result


def handle_of(site: Site, token: str) -> str:
    row = site.row(token)
    assert row is not None
    handle: str = row["lineage"].hex()
    return handle


def removes_the_cookie(flight: Flight) -> bool:
    return any("Max-Age=0" in cookie for cookie in flight.cookies)


def was_refused(place: Place, flight: Flight, attempts: int | None) -> bool:
    """Whether the database has refused a request for good, and the browser was told so."""
    if flight.ok:
        return False
    assert place.late_fails or place.waiting_fails
    assert attempts is None or place.engine.dialect.name == "sqlite"
    assert not flight.cookies
    return True


# ---- the user signs out, and in again, meanwhile


@step_by_step
@ATTEMPTS
@pytest.mark.parametrize("leave", [sign_out, invalidate, both(sign_out, flash)])
def test_a_step_up_in_flight_revives_nothing_when_the_user_has_signed_out_and_in_again(
    place: Place, attempts: int | None, leave: Action
) -> None:
    site = place.serve(attempts)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    (step_up,) = site.load(old, sign_in("alice"))
    left = site.visit(leave, old)
    new = site.visit(sign_in("alice"), None if removes_the_cookie(left) else left.token).token
    again = lineages(site, "alice")
    step_up.finish()
    was_refused(place, step_up, attempts)
    assert not step_up.cookies
    assert lineages(site, "alice") == again
    assert user_of(site, new) == "alice"


@step_by_step
@ATTEMPTS
@NAMES
@pytest.mark.parametrize("leave", [sign_out, invalidate])
def test_a_slow_sign_out_ends_nothing_when_the_user_has_signed_out_and_in_again(
    place: Place, attempts: int | None, leave: Action, name: str
) -> None:
    site = place.serve(attempts)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    (slow,) = site.load(old, leave)
    site.visit(both(sign_out, flash), old)
    # as a browser does that kept its cookie: the marker of the session that has ended
    new = site.visit(sign_in(name), old).token
    slow.finish()
    was_refused(place, slow, attempts)
    assert not slow.cookies
    assert user_of(site, new) == name


@step_by_step
@ATTEMPTS
def test_a_slow_end_of_an_anonymous_session_ends_nothing_when_it_was_signed_in_and_regenerated(
    place: Place, attempts: int | None
) -> None:
    site = place.serve(attempts)
    old = site.start(cart=["tea"])
    (slow,) = site.load(old, invalidate)
    first = site.visit(sign_in("alice"), old).token
    second = site.visit(regenerate, first).token
    slow.finish()
    was_refused(place, slow, attempts)
    assert not slow.cookies
    assert user_of(site, second) == "alice"


@step_by_step
@ATTEMPTS
def test_a_write_in_flight_is_dropped_when_the_session_was_regenerated_twice(
    place: Place, attempts: int | None
) -> None:
    site = place.serve(attempts)
    old = site.start(**{USER: "alice"})
    (late,) = site.load(old, put("a", 1))
    second = site.visit(regenerate, site.visit(regenerate, old).token).token
    late.finish()
    was_refused(place, late, attempts)
    assert not late.cookies
    assert site.data(second) == {USER: "alice"}
    assert len(live(site)) == 1


# ---- invalidate() and remember() of a user who is signed in


@step_by_step
@ATTEMPTS
@NAMES
@pytest.mark.parametrize("other", [sign_in("alice"), regenerate], ids=["step up", "regenerate"])
@pytest.mark.parametrize("first", ["renewed", "restarted"])
def test_invalidate_and_remember_beside_a_new_token_leaves_its_own_session_only(
    place: Place, attempts: int | None, name: str, other: Action, first: str
) -> None:
    site = place.serve(attempts)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    before = lineages(site, "alice")
    flights = dict(
        zip(
            ("renewed", "restarted"),
            site.load(old, other, both(invalidate, sign_in(name))),
            strict=True,
        )
    )
    flights.pop(first).finish()
    ((_, second),) = flights.items()
    second.finish()
    if was_refused(place, second, attempts):
        return
    assert not lineages(site, "alice") & before
    assert [row["user_id"] for row in live(site)] == [name]
    assert len(lineages(site, name)) == 1


# ---- one device


@step_by_step
@ATTEMPTS
@pytest.mark.parametrize("clicks", [2, 3, 4])
def test_a_sign_in_that_is_clicked_several_times_is_one_device(
    place: Place, attempts: int | None, clicks: int
) -> None:
    site = place.serve(attempts)
    old = site.start(cart=["tea"], _csrft_="form")
    flights = site.load(old, *[sign_in("alice")] * clicks)
    for flight in flights:
        flight.finish()
    tokens = [flight.token for flight in flights if not was_refused(place, flight, attempts)]
    assert [user_of(site, token) for token in tokens] == ["alice"] * len(tokens)
    assert all("_csrft_" not in site.data(token) for token in tokens)
    assert len(lineages(site, "alice")) == 1
    assert removes_the_cookie(site.visit(sign_out, tokens[-1]))
    assert live(site) == []


@step_by_step
@ATTEMPTS
def test_another_user_who_signs_in_at_once_has_a_session_of_their_own(
    place: Place, attempts: int | None
) -> None:
    site = place.serve(attempts)
    old = site.start(cart=["tea"])
    alice, bob, again = site.load(old, sign_in("alice"), sign_in("bob"), sign_in("alice"))
    for flight in (alice, bob, again):
        flight.finish()
    if was_refused(place, bob, attempts) or was_refused(place, again, attempts):
        return
    assert len(lineages(site, "alice")) == len(lineages(site, "bob")) == 1
    assert lineages(site, "alice") != lineages(site, "bob")
    assert handle_of(site, alice.token) == handle_of(site, again.token)
    site.visit(sign_out, again.token)
    assert user_of(site, alice.token) is None
    assert user_of(site, bob.token) == "bob"


@step_by_step
@ATTEMPTS
def test_a_late_click_does_not_bring_the_session_back_that_was_signed_out_of(
    place: Place, attempts: int | None
) -> None:
    site = place.serve(attempts)
    old = site.start(cart=["tea"])
    first, late = site.load(old, sign_in("alice"), sign_in("alice"))
    token = first.finish().token
    handle = handle_of(site, token)
    assert removes_the_cookie(site.visit(sign_out, token))
    late.finish()
    if was_refused(place, late, attempts):
        return
    # a sign-in always takes effect: with another session
    assert user_of(site, late.token) == "alice"
    assert handle_of(site, late.token) != handle


# ---- any order


@step_by_step
@ATTEMPTS
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("leave", [sign_out, invalidate, both(invalidate, sign_in("bob"))])
def test_a_sign_out_beside_two_requests_for_new_tokens_wins_in_every_order(
    place: Place, attempts: int | None, order: tuple[int, ...], leave: Action
) -> None:
    site = place.serve(attempts)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    flights = site.load(old, leave, sign_in("alice"), regenerate)
    for number in order:
        flights[number].finish()
    if was_refused(place, flights[0], attempts):
        return
    assert lineages(site, "alice") == set()
    assert {row["user_id"] for row in live(site)} <= {"bob"}


@step_by_step
@ATTEMPTS
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_who_signs_out_is_signed_out_of_every_token_that_the_session_had(
    place: Place, attempts: int | None, order: tuple[int, ...]
) -> None:
    site = place.serve(attempts)
    old = site.start(**{USER: "alice"})
    (on_old,) = site.load(old, sign_in("alice"))
    second = site.visit(regenerate, old).token
    (on_second,) = site.load(second, regenerate)
    third = site.visit(sign_in("alice"), second).token
    (leave,) = site.load(third, sign_out)
    flights = [on_old, on_second, leave]
    for number in order:
        flights[number].finish()
    if was_refused(place, leave, attempts):
        return
    assert lineages(site, "alice") == set()
    for token in (old, second, third):
        assert user_of(site, token) is None


@step_by_step
@pytest.mark.parametrize("leave", [sign_out, invalidate], ids=["forget", "invalidate"])
def test_a_sign_out_beside_new_tokens_at_the_same_moment_leaves_nobody_signed_in(
    place: Place, leave: Action
) -> None:
    site = place.serve(5)
    for _ in range(6):
        old = site.start(**{USER: "alice", "cart": ["tea"]})
        flights = site.load(old, leave, sign_in("alice"), regenerate, sign_in("alice"))
        for flight in flights:
            flight.release()
        for flight in flights:
            flight.finish()
        if not was_refused(place, flights[0], 5):
            assert removes_the_cookie(flights[0])
            assert lineages(site, "alice") == set()
        with place.engine.begin() as connection:
            connection.execute(TABLE.delete())


# ---- markers


@in_places(["sqlite-wal", "own-postgresql", "postgresql-repeatable-read", "own-mariadb"])
def test_invalidate_with_the_old_token_of_a_user_who_is_signed_in_ends_the_session(
    place: Place,
) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    new = site.visit(regenerate, old).token
    assert removes_the_cookie(site.visit(invalidate, old))
    assert user_of(site, new) is None
    assert rows(site.engine) == []


@in_places(["sqlite-wal", "own-postgresql", "postgresql-repeatable-read", "own-mariadb"])
def test_invalidate_with_the_old_token_of_an_anonymous_session_does_nothing(place: Place) -> None:
    site = place.serve()
    old = site.start(cart=["tea"])
    new = site.visit(sign_in("alice"), old).token
    before = rows(site.engine)
    assert not site.visit(invalidate, old).cookies
    assert rows(site.engine) == before
    assert user_of(site, new) == "alice"
