"""Who is signed in: tokens that are regenerated, beside other requests with the old one.

The requests are real threads on real database connections, taken step by step: see
:mod:`support.races`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest
from pyramid.authentication import SessionAuthenticationHelper
from sqlalchemy import Engine, select
from support.apps import Clock, Note, SessionRow, configurator, rows, serve, session_cookies, show
from support.places import (
    Place,
    everywhere,
    in_places,
    open_place,
    step_by_step,
    where_late_writes_merge,
)
from support.races import Action, Site, both, drop, put

from pyramid_sqlsession import (
    CookieRejected,
    SessionConflicted,
    SessionCreated,
    SessionEnded,
    SessionEvent,
    SessionRegenerated,
)

USER = "auth.userid"
GRACE = 30


def sign_in(user: Any) -> Action:
    return put(USER, user)


sign_out = drop(USER)


def regenerate(session: Any) -> None:
    session.regenerate()


def invalidate(session: Any) -> None:
    session.invalidate()


def last(seconds: int | None) -> Action:
    """Give the session a lifetime of its own; with None leave it as it is."""
    return lambda session: None if seconds is None else setattr(session, "max_age", seconds)


def nothing(session: Any) -> None:
    """A request that only reads."""


def live(site: Site) -> list[dict[str, Any]]:
    """The committed rows that are sessions."""
    return [row for row in rows(site.engine) if row["replaced"] is None]


def seen(site: Site, token: str) -> dict[str, Any]:
    """What a request with this token finds in its session."""
    found: dict[str, Any] = site.visit(dict, token).result
    return found


def user_of(site: Site, token: str) -> Any:
    return seen(site, token).get(USER)


def max_age_of(site: Site, token: str) -> int | None:
    """The lifetime that a session has of its own."""
    row = site.row(token)
    assert row is not None
    max_age: int | None = row["max_age"]
    return max_age


def marker(site: Site, token: str) -> dict[str, Any]:
    row = site.row(token)
    assert row is not None
    assert row["replaced"] is not None
    return row


@pytest.fixture
def sqlite_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with open_place(request, "sqlite-wal") as place:
        yield place
        place.start_again()


@pytest.fixture
def sqlite_site(sqlite_place: Place) -> Site:
    return sqlite_place.serve()


# ---- one request after the other


def test_signing_in_gives_the_session_a_new_token_and_keeps_its_data(sqlite_site: Site) -> None:
    site = sqlite_site
    old = site.start(cart=["tea"])
    planted = site.handle(old)
    new = site.visit(sign_in("alice"), old).token
    assert new != old
    assert site.data(new) == {"cart": ["tea"], USER: "alice"}
    assert [row["user_id"] for row in live(site)] == ["alice"]
    # whoever planted the session does not know what it is called now
    marker(site, old)
    assert site.handle(old) == site.handle(new) != planted


def test_the_old_token_signs_nobody_in(sqlite_site: Site) -> None:
    old = sqlite_site.start(cart=["tea"])
    sqlite_site.visit(sign_in("alice"), old)
    assert seen(sqlite_site, old) == {}


def test_signing_in_again_regenerates_too(sqlite_site: Site) -> None:
    first = sqlite_site.start(**{USER: "alice", "cart": ["tea"]})
    second = sqlite_site.visit(sign_in("alice"), first).token
    assert second != first
    assert sqlite_site.data(second) == {USER: "alice", "cart": ["tea"]}
    assert sqlite_site.data(first) == {}
    assert sqlite_site.handle(second) == sqlite_site.handle(first)


def test_signing_out_drops_what_the_request_did_not_set(sqlite_site: Site) -> None:
    site = sqlite_site
    old = site.start(**{USER: "alice", "cart": ["tea"], "note": "secret"})
    alices = site.handle(old)

    def action(session: Any) -> None:
        session["cart"].append("milk")
        del session[USER]
        session["language"] = "de"
        session.flash("Goodbye.")

    new = site.visit(action, old).token
    assert site.data(new) == {"language": "de", "_f_": ["Goodbye."]}
    assert [row["user_id"] for row in live(site)] == [None]
    assert site.data(old) == {}
    # of her session nothing is left but what tells a late request, in the one that follows
    assert marker(site, old)["user_id"] is None
    assert site.handle(old) == site.handle(new) != alices


def test_signing_out_with_nothing_left_ends_the_session(sqlite_site: Site) -> None:
    old = sqlite_site.start(**{USER: "alice", "cart": ["tea"]})
    (cookie,) = sqlite_site.visit(sign_out, old).cookies
    assert "Max-Age=0" in cookie
    assert rows(sqlite_site.engine) == []


def test_clearing_the_session_of_a_user_is_a_sign_out(sqlite_site: Site) -> None:
    old = sqlite_site.start(**{USER: "alice", "cart": ["tea"]})
    (cookie,) = sqlite_site.visit(lambda session: session.clear(), old).cookies
    assert "Max-Age=0" in cookie
    assert rows(sqlite_site.engine) == []


def test_clearing_the_session_of_a_user_who_got_a_csrf_token_later_is_a_sign_out(
    sqlite_site: Site,
) -> None:
    old = sqlite_site.start(**{USER: "alice"})
    sqlite_site.visit(lambda session: session.get_csrf_token(), old)
    (cookie,) = sqlite_site.visit(lambda session: session.clear(), old).cookies
    assert "Max-Age=0" in cookie
    assert rows(sqlite_site.engine) == []


def test_changing_users_takes_nothing_over(sqlite_site: Site) -> None:
    old = sqlite_site.start(**{USER: "alice", "cart": ["tea"]})
    alices = sqlite_site.handle(old)
    new = sqlite_site.visit(both(sign_in("bob"), put("theme", "dark")), old).token
    assert sqlite_site.handle(new) != alices
    assert sqlite_site.data(new) == {USER: "bob", "theme": "dark"}
    assert [row["user_id"] for row in live(sqlite_site)] == ["bob"]


def test_a_user_who_is_left_takes_remember_me_along(sqlite_site: Site) -> None:
    def remember(session: Any) -> None:
        session[USER], session.max_age = "alice", 3600

    old = sqlite_site.visit(remember).token
    new = sqlite_site.visit(sign_in("bob"), old).token
    assert max_age_of(sqlite_site, new) is None


def test_a_user_that_is_changed_in_place_regenerates(sqlite_site: Site) -> None:
    old = sqlite_site.start(**{USER: ["alice"], "_csrft_": "planted", "cart": []})
    new = sqlite_site.visit(lambda session: session[USER].append("admin"), old).token
    assert new != old
    assert sqlite_site.data(new) == {USER: ["alice", "admin"]}


def test_the_csrf_token_of_before_the_sign_in_is_dropped(sqlite_site: Site) -> None:
    old = sqlite_site.start(_csrft_="planted", cart=[])
    new = sqlite_site.visit(sign_in("alice"), old).token
    assert "_csrft_" not in sqlite_site.data(new)


@pytest.mark.parametrize("order", list(permutations(["sign in", "new csrf"])), ids=str)
def test_a_csrf_token_made_in_the_request_of_the_sign_in_stays(
    sqlite_site: Site, order: tuple[str, str]
) -> None:
    def new_csrf(session: Any) -> None:
        session.new_csrf_token()

    steps: dict[str, Action] = {"sign in": sign_in("alice"), "new csrf": new_csrf}
    old = sqlite_site.start(_csrft_="planted")
    new = sqlite_site.visit(both(*(steps[name] for name in order)), old).token
    assert sqlite_site.data(new)["_csrft_"] not in ("planted", "")


def test_a_form_made_after_the_sign_in_has_the_token_that_is_stored(sqlite_site: Site) -> None:
    def action(session: Any) -> Any:
        session[USER] = "alice"
        return session.get_csrf_token()

    flight = sqlite_site.visit(action, sqlite_site.start(_csrft_="planted"))
    assert sqlite_site.data(flight.token)["_csrft_"] == flight.result != "planted"


def test_regenerating_by_hand_keeps_everything_but_the_csrf_token(sqlite_site: Site) -> None:
    def fill(session: Any) -> None:
        session.update({USER: "alice", "cart": ["tea"], "_csrft_": "known"})
        session.max_age = 3600

    old = sqlite_site.visit(fill).token
    before = sqlite_site.row(old)
    new = sqlite_site.visit(regenerate, old).token
    after = sqlite_site.row(new)
    assert before is not None
    assert after is not None
    kept = ("lineage", "created", "max_age", "user_id")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert sqlite_site.data(new) == {USER: "alice", "cart": ["tea"]}


def test_regenerating_copies_the_applications_own_columns(engine: Engine) -> None:
    def fill(request: Any) -> Any:
        request.session["cart"] = []
        return {}

    def attach(request: Any) -> Any:
        note = Note(text="hers")
        request.dbsession.add(note)
        request.dbsession.flush()
        lineage = bytes.fromhex(request.session.id)
        row = request.dbsession.scalars(select(SessionRow).filter_by(lineage=lineage)).one()
        row.note_id = note.id
        return {}

    def sign_in_view(request: Any) -> Any:
        request.session[USER] = "alice"
        return {}

    browser = serve(configurator(engine), fill=fill, attach=attach, enter=sign_in_view)
    for path in ("/fill", "/attach", "/enter"):
        browser.get(path)
    (alice,) = (row for row in rows(engine) if row["replaced"] is None)
    assert alice["note_id"] is not None


def test_pyramids_helper_for_sessions_regenerates_by_itself(engine: Engine) -> None:
    helper = SessionAuthenticationHelper()

    def enter(request: Any) -> Any:
        helper.remember(request, "alice")
        return {}

    def leave(request: Any) -> Any:
        helper.forget(request)
        return {}

    browser = serve(configurator(engine), enter=enter, leave=leave, show=show)
    browser.get("/enter")
    first = browser.cookies["session"]
    browser.get("/enter")
    assert browser.cookies["session"] != first
    assert browser.get("/show").json == {USER: "alice"}
    browser.get("/leave")
    assert "session" not in browser.cookies
    assert browser.get("/show").json == {}


def test_an_attacker_who_planted_the_session_has_nothing_after_the_sign_in(engine: Engine) -> None:
    def fill(request: Any) -> Any:
        request.session["cart"] = ["planted"]
        return {}

    def enter(request: Any) -> Any:
        request.session[USER] = "alice"
        return {}

    config = configurator(engine)
    attacker = serve(config, fill=fill, enter=enter, show=show)
    attacker.get("/fill")
    planted = attacker.cookies["session"]
    attacker.get("/enter", headers={"Cookie": f"session={planted}"})
    attacker.reset()
    attacker.set_cookie("session", planted)
    assert attacker.get("/show").json == {}


def test_an_aborted_sign_in_regenerates_nothing(engine: Engine) -> None:
    def fill(request: Any) -> Any:
        request.session["cart"] = ["tea"]
        return {}

    def fail(request: Any) -> Any:
        request.session[USER] = "alice"
        request.tm.doom()
        return {}

    browser = serve(configurator(engine), fill=fill, fail=fail, show=show)
    browser.get("/fill")
    before = rows(engine)
    assert not session_cookies(browser.get("/fail"))
    assert rows(engine) == before
    assert browser.get("/show").json == {"cart": ["tea"]}


def test_the_absolute_timeout_counts_from_the_sign_in(engine: Engine) -> None:
    clock = Clock()

    def fill(request: Any) -> Any:
        request.session["cart"] = []
        return {}

    def enter(request: Any) -> Any:
        request.session[USER] = "alice"
        return {}

    def again(request: Any) -> Any:
        request.session.regenerate()
        return {}

    config = configurator(engine, clock=clock, ttl=50, absolute_ttl=100)
    browser = serve(config, fill=fill, enter=enter, again=again, show=show)
    browser.get("/fill")
    clock.advance(45)
    browser.get("/enter")
    for _ in range(2):
        clock.advance(45)
        assert browser.get("/show").json[USER] == "alice"
        browser.get("/again")
    clock.advance(9)
    assert USER in browser.get("/show").json
    clock.advance(1)
    assert browser.get("/show").json == {}


def test_after_its_grace_the_old_token_is_one_like_any_other(engine: Engine) -> None:
    clock = Clock()

    def change(request: Any) -> Any:
        request.session[request.GET["key"]] = "x"
        return {}

    config = configurator(engine, clock=clock, regenerate_grace=GRACE)
    browser = serve(config, change=change, show=show)
    browser.get("/change?key=cart")
    old = browser.cookies["session"]
    browser.get(f"/change?key={USER}")
    late = {"Cookie": f"session={old}"}
    clock.advance(GRACE - 1)
    assert not session_cookies(browser.get("/change?key=a", headers=late))
    clock.advance(1)
    assert session_cookies(browser.get("/change?key=a", headers=late))


def test_without_grace_nothing_is_recognized(sqlite_place: Place) -> None:
    site = sqlite_place.serve(regenerate_grace=0)
    old = site.start(cart=[])
    new = site.visit(sign_in("alice"), old).token
    assert site.visit(put("a", 1), old).token not in (old, new)
    assert user_of(site, new) == "alice"


# ---- late requests with the old token


@step_by_step
def test_a_late_request_stores_nothing_and_sends_no_cookie(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    site = place.serve()
    old = site.start(cart=["tea"], _csrft_="form")
    new = site.visit(sign_in("alice"), old).token
    before = rows(site.engine)
    assert seen(site, old) == {"_csrft_": "form"}
    for action in (put("a", 1), regenerate, invalidate, both(invalidate, put("a", 1))):
        late = site.visit(action, old)
        assert not late.cookies
        assert rows(site.engine) == before
    assert user_of(site, new) == "alice"
    assert len(caplog.records) == 3
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@step_by_step
@pytest.mark.parametrize("user", [None, "alice"], ids=["anonymous", "signed in"])
def test_a_request_in_flight_beside_a_sign_in_cannot_write_into_the_new_session(
    place: Place, user: str | None
) -> None:
    site = place.serve()
    data: dict[str, Any] = {"cart": ["tea"]} if user is None else {USER: user, "cart": ["tea"]}
    old = site.start(**data)
    enter, late = site.load(old, sign_in("alice"), put("a", 1))
    new = enter.finish().token
    late.finish()
    assert not late.cookies
    assert late.ok != place.late_fails
    assert site.data(new) == {"cart": ["tea"], USER: "alice"}
    assert len(live(site)) == 1


@step_by_step
def test_a_sign_in_that_comes_after_a_write_takes_it_over(place: Place) -> None:
    site = place.serve(3)
    old = site.start(cart=["tea"])
    write, enter = site.load(old, put("a", 1), sign_in("alice"))
    write.finish()
    new = enter.finish().token
    assert site.data(new) == {"cart": ["tea"], "a": 1, USER: "alice"}
    assert len(live(site)) == 1


@step_by_step
def test_a_sign_out_that_comes_after_a_write_takes_nothing_over(place: Place) -> None:
    site = place.serve(3)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    write, leave = site.load(old, put("secret", 1), both(sign_out, put("bye", 1)))
    write.finish()
    new = leave.finish().token
    assert site.data(new) == {"bye": 1}
    assert site.data(old) == {}


@step_by_step
def test_two_sign_ins_at_once_both_take_effect(place: Place) -> None:
    site = place.serve(3)
    old = site.start(cart=["tea"])
    first, second = site.load(old, sign_in("alice"), both(sign_in("alice"), put("tab", 2)))
    one, two = first.finish().token, second.finish().token
    assert len({old, one, two}) == 3
    # one device, which one sign-out ends
    assert site.handle(one) == site.handle(two)
    assert site.data(one) == {"cart": ["tea"], USER: "alice"}
    assert site.data(two) == {"cart": ["tea"], USER: "alice", "tab": 2}
    assert seen(site, old) == {}


@where_late_writes_merge
@pytest.mark.parametrize("own", [None, 3600])
def test_two_sign_ins_at_once_last_as_long_as_the_session_did(
    place: Place, own: int | None
) -> None:
    site = place.serve()
    old = site.visit(both(put("cart", ["tea"]), last(own))).token
    for flight in site.load(old, sign_in("alice"), sign_in("alice")):
        assert max_age_of(site, flight.finish().token) == own


@step_by_step
def test_a_sign_in_with_the_old_token_takes_the_anonymous_data_over(place: Place) -> None:
    site = place.serve()
    old = site.start(cart=["tea"], _csrft_="form")
    new = site.visit(sign_in("alice"), old).token
    again = site.visit(sign_in("bob"), old).token
    assert site.data(again) == {"cart": ["tea"], USER: "bob"}
    assert site.handle(again) != site.handle(new)


def test_a_sign_in_with_the_old_token_of_a_user_takes_nothing_over(sqlite_site: Site) -> None:
    old = sqlite_site.start(**{USER: "alice", "cart": ["tea"]})
    sqlite_site.visit(sign_in("alice"), old)
    assert sqlite_site.data(sqlite_site.visit(sign_in("bob"), old).token) == {USER: "bob"}


@step_by_step
def test_a_sign_in_with_the_old_token_takes_the_messages_over(place: Place) -> None:
    def enter(session: Any) -> Any:
        session[USER] = "alice"
        shown = session.pop_flash()
        session.flash("Welcome.")
        return shown

    site = place.serve()
    old = site.visit(lambda session: session.flash("In your cart: tea.")).token
    site.visit(sign_in("alice"), old)
    again = site.visit(enter, old)
    assert again.result == []
    assert site.data(again.token)["_f_"] == ["In your cart: tea.", "Welcome."]


@step_by_step
def test_two_step_ups_at_once_log_nobody_out(place: Place) -> None:
    site = place.serve(3)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    first, second = site.load(old, sign_in("alice"), sign_in("alice"))
    one, two = first.finish().token, second.finish().token
    assert user_of(site, one) == user_of(site, two) == "alice"
    assert site.handle(one) == site.handle(two) == site.handle(old)


@step_by_step
def test_ten_regenerations_at_once_log_nobody_out(place: Place) -> None:
    site = place.serve(3)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    flights = site.load(old, *[regenerate] * 10)
    for flight in flights:
        flight.finish()
    (new,) = [flight.token for flight in flights if flight.cookies]
    assert all(flight.ok for flight in flights)
    assert site.data(new) == {USER: "alice", "cart": ["tea"]}
    assert len(live(site)) == 1


# ---- signing out beside other requests


@step_by_step
@pytest.mark.parametrize(
    ("leave", "follows"),
    [(sign_out, {}), (invalidate, {}), (both(sign_out, put("bye", 1)), {"bye": 1})],
    ids=["forget", "invalidate", "forget and go on"],
)
@pytest.mark.parametrize("renew", [sign_in("alice"), regenerate], ids=["step-up", "by hand"])
def test_a_sign_out_ends_the_session_that_was_regenerated_meanwhile(
    place: Place, leave: Action, follows: dict[str, Any], renew: Action
) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    stay, go = site.load(old, renew, leave)
    new = stay.finish().token
    go.finish()
    if place.late_fails:
        # the conflict is an error, and the browser was not told that it is signed out
        assert not go.ok
        assert user_of(site, new) == "alice"
        return
    assert user_of(site, new) is None
    if follows:
        assert seen(site, go.token) == follows
    else:
        assert "Max-Age=0" in go.cookies[0]
    assert [row["user_id"] for row in live(site)] == [None] * len(follows)


@step_by_step
def test_a_sign_out_beside_a_step_up_wins(place: Place) -> None:
    site = place.serve(3)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    step_up, leave = site.load(old, sign_in("alice"), sign_out)
    assert "Max-Age=0" in leave.finish().cookies[0]
    step_up.finish()
    # also where it is run again, and finds nobody signed in
    assert step_up.attempts == 1 + place.late_fails
    assert not step_up.cookies
    assert rows(site.engine) == []


@step_by_step
@pytest.mark.parametrize("leave", [sign_out, invalidate], ids=["forget", "invalidate"])
@pytest.mark.parametrize("renew", [sign_in("alice"), regenerate], ids=["step-up", "by hand"])
def test_a_sign_out_that_is_run_again_ends_the_session_that_was_regenerated_meanwhile(
    place: Place, leave: Action, renew: Action
) -> None:
    site = place.serve(3)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    stay, go = site.load(old, renew, leave)
    new = stay.finish().token
    assert "Max-Age=0" in go.finish().cookies[0]
    assert user_of(site, new) is None
    assert live(site) == []


@where_late_writes_merge
def test_a_sign_out_that_leaves_a_message_beside_a_step_up_wins(place: Place) -> None:
    site = place.serve(3)
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    step_up, leave = site.load(
        old, sign_in("alice"), both(sign_out, lambda session: session.flash("Goodbye."))
    )
    bye = leave.finish().token
    step_up.finish()
    assert not step_up.cookies
    assert [row["user_id"] for row in live(site)] == [None]
    assert site.data(bye) == {"_f_": ["Goodbye."]}


@where_late_writes_merge
def test_a_sign_in_on_a_session_that_was_ended_starts_one_with_what_it_set(place: Place) -> None:
    site = place.serve()
    old = site.start(cart=["tea"])
    enter, end = site.load(old, both(sign_in("alice"), put("a", 1)), invalidate)
    end.finish()
    assert site.data(enter.finish().token) == {USER: "alice", "a": 1}


@where_late_writes_merge
@pytest.mark.parametrize("own", [None, 60])
def test_a_sign_in_on_a_session_that_was_ended_takes_no_remember_me_along(
    place: Place, own: int | None
) -> None:
    site = place.serve()
    old = site.visit(both(put("cart", ["tea"]), last(3600))).token
    enter, end = site.load(old, both(sign_in("alice"), last(own)), invalidate)
    end.finish()
    assert max_age_of(site, enter.finish().token) == own


@where_late_writes_merge
def test_another_user_who_signs_in_on_an_ended_session_starts_one(place: Place) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice", "cart": ["tea"]})
    enter, end = site.load(old, sign_in("bob"), sign_out)
    end.finish()
    assert site.data(enter.finish().token) == {USER: "bob"}


@where_late_writes_merge
def test_an_anonymous_logout_does_nothing_to_a_session_that_was_signed_in(place: Place) -> None:
    site = place.serve()
    old = site.start(cart=["tea"])
    enter, end = site.load(old, sign_in("alice"), invalidate)
    new = enter.finish().token
    assert end.finish().ok
    assert not end.cookies
    assert user_of(site, new) == "alice"


@step_by_step
def test_invalidate_and_remember_leaves_a_marker_with_the_csrf_token_only(place: Place) -> None:
    site = place.serve()
    old = site.start(cart=["tea"], _csrft_="form")
    new = site.visit(both(invalidate, sign_in("alice")), old).token
    assert site.data(new) == {USER: "alice"}
    assert site.data(old) == {"_csrft_": "form"}
    marker(site, old)


@where_late_writes_merge
@pytest.mark.parametrize("user", [None, "alice"], ids=["anonymous", "signed in"])
def test_invalidate_and_remember_twice_at_once_log_nobody_out(
    place: Place, user: str | None
) -> None:
    site = place.serve()
    old = site.start(**{USER: user, "cart": ["tea"]})
    action = both(invalidate, sign_in("alice"))
    first, second = site.load(old, action, action)
    one, two = first.finish().token, second.finish().token
    assert user_of(site, one) == user_of(site, two) == "alice"


@where_late_writes_merge
def test_invalidate_and_remember_beside_a_sign_in_takes_nothing_over(place: Place) -> None:
    site = place.serve()
    old = site.start(cart=["tea"])
    enter, anew = site.load(old, sign_in("alice"), both(invalidate, sign_in("alice")))
    site.visit(put("meanwhile", 1), old)
    assert site.data(enter.finish().token) == {"cart": ["tea"], "meanwhile": 1, USER: "alice"}
    assert site.data(anew.finish().token) == {USER: "alice"}


@in_places(["own-postgresql", "postgresql-read-committed", "mariadb-repeatable-read"])
def test_a_regeneration_that_waited_for_another_one_logs_nobody_out(place: Place) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    first, second = site.load(old, regenerate, regenerate)
    first.save()
    second.release()
    place.wait_until_somebody_waits()
    new = first.finish().token
    second.finish()
    assert second.ok
    assert not second.cookies
    assert user_of(site, new) == "alice"


def test_a_sign_out_of_a_session_that_ended_under_its_new_token_finds_nothing_to_do(
    sqlite_site: Site,
) -> None:
    old = sqlite_site.start(**{USER: "alice"})
    (leave,) = sqlite_site.load(old, sign_out)
    new = sqlite_site.visit(regenerate, old).token
    sqlite_site.visit(invalidate, new)
    assert not leave.finish().cookies
    assert rows(sqlite_site.engine) == []


def test_a_step_up_in_flight_beside_two_others_logs_nobody_out(sqlite_site: Site) -> None:
    old = sqlite_site.start(**{USER: "alice"})
    (late,) = sqlite_site.load(old, sign_in("alice"))
    second = sqlite_site.visit(sign_in("alice"), old).token
    third = sqlite_site.visit(sign_in("alice"), second).token
    assert user_of(sqlite_site, late.finish().token) == user_of(sqlite_site, third) == "alice"


def test_two_step_ups_at_once_of_a_user_without_user_id_log_nobody_out(sqlite_site: Site) -> None:
    user = "x" * 300
    old = sqlite_site.start(**{USER: user})
    first, second = sqlite_site.load(old, sign_in(user), sign_in(user))
    one, two = first.finish().token, second.finish().token
    assert user_of(sqlite_site, one) == user_of(sqlite_site, two) == user


def test_a_sign_out_that_shows_the_messages_keeps_none(sqlite_site: Site) -> None:
    def start(session: Any) -> None:
        session[USER] = "alice"
        session.flash("for alice")

    def leave(session: Any) -> Any:
        del session[USER]
        return session.pop_flash()

    leaving = sqlite_site.visit(leave, sqlite_site.visit(start).token)
    assert leaving.result == ["for alice"]
    assert rows(sqlite_site.engine) == []


def test_a_sign_out_keeps_no_message_that_it_cleared(sqlite_site: Site) -> None:
    def leave(session: Any) -> None:
        session.flash("Saved.")
        session.clear()

    leaving = sqlite_site.visit(leave, sqlite_site.start(**{USER: "alice"}))
    assert "Max-Age=0" in leaving.cookies[0]
    assert rows(sqlite_site.engine) == []


# ---- events


@where_late_writes_merge
@pytest.mark.parametrize(
    ("policy", "outcome", "level"), [("strict", "raised", "INFO"), ("merge", "won", "WARNING")]
)
def test_a_conflict_is_told_with_its_keys(
    place: Place, policy: str, outcome: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pyramid_sqlsession")
    told: list[Any] = []
    site = place.serve(conflict=policy)
    token = site.start(a=1)
    handle = site.handle(token)
    site.app.registry.registerHandler(told.append, [SessionConflicted])
    first, second = site.load(token, put("a", 2), put("a", 3))
    first.finish()
    second.finish()
    assert [(event.keys, event.outcome) for event in told] == [(("a",), outcome)]
    (line,) = [record for record in caplog.records if record.getMessage() == str(told[0])]
    assert line.levelname == level
    assert handle in line.getMessage()


EVENTS = (SessionCreated, SessionRegenerated, SessionEnded, SessionConflicted)


@everywhere
@pytest.mark.parametrize(
    ("start", "action", "expected"),
    [
        ({}, sign_in("alice"), ["SessionCreated"]),
        ({"a": 1}, sign_in("alice"), ["SessionRegenerated"]),
        ({"a": 1}, regenerate, ["SessionRegenerated"]),
        ({"a": 1}, invalidate, ["SessionEnded: logout"]),
        ({USER: "alice"}, sign_out, ["SessionEnded: logout"]),
        ({USER: "alice"}, sign_in("bob"), ["SessionEnded: logout", "SessionCreated"]),
        ({"a": 1}, put("a", 2), []),
        ({"a": 1}, nothing, []),
    ],
)
def test_events_tell_what_happened_to_the_session(
    place: Place, start: dict[str, Any], action: Action, expected: list[str]
) -> None:
    told: list[Any] = []
    site = place.serve()
    token = site.start(**start) if start else None
    site.app.registry.registerHandler(told.append, [SessionEvent])
    flight = site.visit(action, token)
    names = [
        type(event).__name__ + (f": {event.reason}" if isinstance(event, SessionEnded) else "")
        for event in told
        if isinstance(event, EVENTS)
    ]
    assert names == expected
    for event in told:
        assert len(event.handle) == 32
        assert token is None or token not in f"{event} {event!r}"
        assert (
            not flight.cookies
            or "Max-Age=0" in flight.cookies[0]
            or (flight.token not in f"{event} {event!r}")
        )


# ---- what a review found


@pytest.mark.parametrize(
    "action",
    [
        both(drop("a"), regenerate),
        both(drop("a"), sign_in("alice"), sign_out),
        both(drop("a"), sign_in(None), sign_out),
    ],
    ids=["by hand", "signed in and out", "nobody"],
)
def test_an_emptied_session_gets_a_new_token_too(sqlite_site: Site, action: Action) -> None:
    old = sqlite_site.start(a=1)
    new = sqlite_site.visit(action, old).token
    assert new != old
    assert sqlite_site.data(new) == {}


def test_a_subscriber_of_a_rejected_cookie_may_use_the_session(engine: Engine) -> None:
    def note(event: Any) -> None:
        event.request.session["rejected"] = event.reason

    config = configurator(engine)
    config.add_subscriber(note, CookieRejected)
    browser = serve(config, show=show)
    browser.set_cookie("session", "junk")
    assert browser.get("/show").json == {"rejected": "malformed"}
    assert browser.cookies["session"] != "junk"


@where_late_writes_merge
@pytest.mark.parametrize(
    "action", [sign_in("bob"), both(invalidate, sign_in("bob"))], ids=["switch", "invalidate"]
)
def test_a_change_of_users_beside_a_step_up_ends_the_session_of_the_first(
    place: Place, action: Action
) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    (switch,) = site.load(old, action)
    up = site.visit(sign_in("alice"), old).token
    bob = switch.finish().token
    assert user_of(site, up) is None
    assert user_of(site, bob) == "bob"


@where_late_writes_merge
def test_two_changes_of_users_at_once_log_nobody_out(place: Place) -> None:
    site = place.serve()
    old = site.start(**{USER: "alice"})
    first, second = site.load(old, sign_in("bob"), sign_in("bob"))
    one, two = first.finish().token, second.finish().token
    assert user_of(site, one) == user_of(site, two) == "bob"


@where_late_writes_merge
def test_a_csrf_token_made_by_another_request_meanwhile_is_dropped_too(place: Place) -> None:
    site = place.serve(3)
    old = site.start(cart=1)
    first, second = site.load(old, sign_in("alice"), sign_in("alice"))
    site.visit(lambda session: session.get_csrf_token(), old)
    one, two = first.finish().token, second.finish().token
    assert site.data(one) == site.data(two) == {"cart": 1, USER: "alice"}


@where_late_writes_merge
def test_a_session_that_was_ended_leaves_no_remember_me_behind(place: Place) -> None:
    def remember(session: Any) -> None:
        session[USER], session.max_age = "alice", 3600

    site = place.serve()
    old = site.visit(remember).token
    (again,) = site.load(old, both(invalidate, sign_in("alice")))
    site.visit(put("a", 1), old)
    assert max_age_of(site, again.finish().token) is None
