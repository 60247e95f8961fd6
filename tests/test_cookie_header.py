"""The Cookie header: whatever else is in it, the session's own cookies are found, and only they."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.session import SignedCookieSessionFactory
from pyramid_retry import RetryableException
from sqlalchemy import Engine, update
from support.apps import (
    TABLE,
    Clock,
    Resource,
    add_views,
    configurator,
    own_configurator,
    put,
    rows,
    serve,
    session_cookies,
    show,
    statements,
)
from support.cookies import read_by_hand
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import CookieRejected, SessionEnded, cookie_values
from pyramid_sqlsession.cookie import Cookie, id_of, new_token
from pyramid_sqlsession.settings.options import Settings

NAME = "__Host-id"
TOKEN = "Ab-_" * 10 + "xyz"


def with_header(header: str) -> Request:
    request = Request.blank("/")
    # WSGI gives the bytes of the header as characters
    request.environ["HTTP_COOKIE"] = header
    return request


# ---- the values of one name


PIECES = [*'=;"\\, \t\n\0\x1f\x85\xa0\xff', "id", "Id", "x", "id=", ";id=", '"x"']


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_the_values_of_a_cookie_are_those_that_a_reader_by_hand_finds(header: str) -> None:
    assert cookie_values(with_header(header), "id") == read_by_hand(header, "id")


SPACE = st.text(alphabet=" \t", max_size=3)
VALUE = st.text(alphabet=st.characters(max_codepoint=255, exclude_characters=";"), max_size=80)
OURS = st.tuples(st.just(NAME), st.sampled_from([TOKEN, "", "short", "a=b", f"{NAME}={TOKEN}"]))
NAMES = ["id", "__host-id", f"{NAME}2", f"x{NAME}", f"{NAME} ", f"{NAME}\xa0", f"\x1f{NAME}", ""]
THEIRS = st.tuples(st.sampled_from(NAMES), VALUE)


@given(st.lists(st.tuples(SPACE, st.one_of(OURS, THEIRS), SPACE, st.booleans()), max_size=8))
def test_no_neighbour_adds_a_value_or_hides_one(cookies: list[Any]) -> None:
    header = ";".join(
        f'{before}{name}="{value}"{after}' if is_quoted else f"{before}{name}={value}{after}"
        for before, (name, value), after, is_quoted in cookies
    )
    expected = [value for _, (name, value), _, _ in cookies if name == NAME]
    assert cookie_values(with_header(header), NAME) == expected


@given(st.one_of(st.none(), st.binary(), st.text(), st.integers()))
def test_no_environ_is_an_error(value: Any) -> None:
    request = with_header(value)
    assert cookie_values(request, NAME) == []
    assert Cookie(Settings.from_options({})).tokens(request) == ()


HOSTILE: dict[str, Callable[[int], str]] = {
    "letters": lambda size: "a" * size,
    "semicolons": lambda size: ";" * size,
    "spaces": lambda size: " " * size,
    "spaces between": lambda size: (";" + " " * 99) * (size // 100),
    "quotes": lambda size: '"' * size,
    "backslashes": lambda size: 'a="' + "\\" * size,
    "cookies": lambda size: "a=b;" * (size // 4),
    "cookies of the name": lambda size: f"{NAME}=x;" * (size // 12),
    "tokens": lambda size: "".join(f"{NAME}={new_token()};" for _ in range(size // 54)),
    "the name and a long value": lambda size: f"{NAME}=" + "a" * size,
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE)
def test_eight_times_the_header_takes_about_eight_times_as_long(
    header: Callable[[int], str],
) -> None:
    cookie = Cookie(Settings.from_options({"cookie_name": NAME}))

    def cost(size: int) -> float:
        request, seconds = with_header(header(size)), list[float]()
        for _ in range(5):
            start = thread_time()
            cookie.tokens(request)
            cookie.is_malformed(request)
            seconds.append(thread_time() - start)
        return min(seconds)

    # what takes quadratic time would take 64 times as long, and seconds
    assert cost(64 * 1024) < 30 * cost(8 * 1024) + 0.01


# ---- an application


def keep(request: Any) -> Any:
    request.session["who"] = request.params["who"]
    return {}


def sign_in(request: Any) -> Any:
    request.session["auth.userid"] = request.params["user"]
    return {}


def invalidate(request: Any) -> Any:
    request.session.invalidate()
    return {}


def forget(request: Any) -> Any:
    del request.session["auth.userid"]
    return {}


def say_goodbye(request: Any) -> Any:
    request.session.invalidate()
    request.session.flash("Goodbye")
    return {}


def change_user(request: Any) -> Any:
    request.session["auth.userid"] = "carol"
    return {}


def revoke(request: Any) -> Any:
    return request.sqlsessions.revoke(request.session.id)


def revoke_unread(request: Any) -> Any:
    return request.sqlsessions.revoke(request.params["handle"])


def revoke_user(request: Any) -> Any:
    return request.sqlsessions.revoke_user("alice")


def devices(request: Any) -> Any:
    found = request.sqlsessions.of_user("alice")
    return {it.handle: it.current for it in found}


def handle(request: Any) -> Any:
    return request.session.id


VIEWS = (
    keep, show, put, sign_in, invalidate, forget, say_goodbye, change_user, revoke, revoke_unread,
    revoke_user, devices, handle,
)  # fmt: skip


def site(config: Configurator) -> TestApp:
    return serve(config, **{view.__name__: view for view in VIEWS})


def begun(app: TestApp, path: str) -> str:
    """The token of a browser that has begun a session by visiting this path."""
    browser = TestApp(app.app)
    browser.get(path)
    return str(browser.cookies["session"]).strip('"')


def get(app: TestApp, path: str, *tokens: str) -> Any:
    """The response for a browser with these cookies, and none of its own."""
    header = "; ".join(f"session={token}" for token in tokens)
    return TestApp(app.app).get(path, headers={"Cookie": header} if tokens else {})


@pytest.fixture(params=["dbsession", "own engine"])
def app(request: pytest.FixtureRequest, backend: Backend) -> TestApp:
    """An application on each database, both ways."""
    if request.param == "own engine":
        return site(own_configurator(backend.url))
    return site(configurator(request.getfixturevalue("engine")))


def test_the_name_in_the_value_of_another_cookie_signs_nobody_in(sqlite_engine: Engine) -> None:
    app = site(configurator(sqlite_engine, {"sqlsession.cookie_name": NAME}))
    https = {"wsgi.url_scheme": "https"}
    tokens = {}
    for user in ("attacker", "victim"):
        response = TestApp(app.app).get(f"/sign_in?user={user}", extra_environ=https)
        (tokens[user],) = (it[len(NAME) + 1 :][:43] for it in response.headers.getall("Set-Cookie"))
    evil, own = (f"{NAME}={tokens[user]}" for user in ("attacker", "victim"))
    for planted in (f"a=b {evil}", f'a="b {evil}"', f"a={evil}", f"a=b,{evil}", f"a {evil}"):
        assert app.get("/show", headers={"Cookie": planted}).json == {}
        for header in (f"{planted}; {own}", f"{own}; {planted}"):
            assert app.get("/show", headers={"Cookie": header}).json == {"auth.userid": "victim"}


@pytest.mark.parametrize(
    "header",
    [
        "a=\xff\xfe; {}", "{}; a=\xff\xfe", "a=\\\x80; {}",
        'a="; {}; b="', "a='; {}; b='", 'a="; {}', "a; {}; b", "=; {}; =",
        ";;{};;", "  {}\t", "a=b;{};c=d", "$Version=1; {}; $Path=/",
        "session; {}", "SESSION=x; {}", "session=x; {}; session=y", "a=\0; {}", "a=(@?<>[]{{}}; {}",
    ],
)  # fmt: skip
def test_no_neighbour_hides_the_session(sqlite_engine: Engine, header: str) -> None:
    app = site(configurator(sqlite_engine))
    own = f"session={begun(app, '/keep?who=me')}"
    assert app.get("/show", headers={"Cookie": header.format(own)}).json == {"who": "me"}


@pytest.mark.parametrize(
    "header",
    [
        "session={}", 'session="{}"', "a=b; session={}", "session={}; a=b", "a=b;session={};c=d",
        "theme=dark; _ga=GA1.2.3.4; session={}; lang=de-AT",
        'a="x y"; session={}', "a=; session={}",
    ],
)  # fmt: skip
def test_what_browsers_send_is_read_as_pyramids_own_sessions_read_it(
    sqlite_engine: Engine, header: str
) -> None:
    pyramids = configurator(sqlite_engine, include=False)
    pyramids.set_session_factory(SignedCookieSessionFactory("secret"))
    for config in (pyramids, configurator(sqlite_engine)):
        app = serve(config, keep=keep, show=show)
        cookie = begun(app, "/keep?who=me")
        assert app.get("/show", headers={"Cookie": header.format(cookie)}).json == {"who": "me"}


def test_a_long_header_costs_an_application_little(sqlite_engine: Engine) -> None:
    app = site(configurator(sqlite_engine))

    def cost(header: str) -> float:
        start = thread_time()
        assert app.get("/show", headers={"Cookie": header}).json == {}
        return thread_time() - start

    ordinary = min(cost("session=x") for _ in range(5))
    assert min(cost("a" * 64 * 1024) for _ in range(3)) < 5 * ordinary + 0.01


# ---- several cookies of the name


@pytest.mark.parametrize("place", range(4))
def test_the_first_cookie_that_opens_a_session_counts(app: TestApp, place: int) -> None:
    mine, other = begun(app, "/keep?who=me"), begun(app, "/keep?who=other")
    tokens = [*(new_token() for _ in range(place)), mine, other][:4]
    assert get(app, "/show", *tokens).json == {"who": "me"}
    assert session_cookies(get(app, "/show", *tokens)) == []


def test_a_fifth_cookie_is_not_looked_at(sqlite_engine: Engine) -> None:
    app = site(configurator(sqlite_engine))
    mine = begun(app, "/keep?who=me")
    assert get(app, "/show", *(new_token() for _ in range(4)), mine).json == {}
    assert get(app, "/show", *(["short"] * 9), mine).json == {"who": "me"}


def test_several_cookies_are_one_statement_and_one_is_the_one_it_was(
    sqlite_engine: Engine,
) -> None:
    app = site(configurator(sqlite_engine))
    mine, unknown = begun(app, "/keep?who=me"), new_token()
    with statements(sqlite_engine) as seen:
        get(app, "/show", unknown, mine)
        get(app, "/show", mine)
        get(app, "/show", mine, "short", mine)
    several, one, twice = seen
    assert " IN (" in several
    assert one.rstrip().endswith("sqlsession.id = ?")
    assert twice == one


@pytest.mark.parametrize("spoiled", [{"data": b"no json"}, {"version": -1}])
def test_a_row_that_cannot_be_read_hides_no_other(
    sqlite_engine: Engine, spoiled: dict[str, Any]
) -> None:
    app = site(configurator(sqlite_engine))
    other, mine = begun(app, "/keep?who=other"), begun(app, "/keep?who=me")
    with sqlite_engine.begin() as connection:
        connection.execute(update(TABLE).where(TABLE.c.id == id_of(other)).values(spoiled))
    assert get(app, "/show", other).json == {}
    assert get(app, "/show", other, mine).json == {"who": "me"}


def test_a_change_goes_to_the_session_that_counts(app: TestApp) -> None:
    mine, other = begun(app, "/keep?who=me"), begun(app, "/keep?who=other")
    get(app, "/put", new_token(), mine, other)
    assert get(app, "/show", mine).json == {"who": "me", "cart": [1]}
    assert get(app, "/show", other).json == {"who": "other"}


def test_a_live_session_counts_before_a_marker_and_a_marker_before_nothing(app: TestApp) -> None:
    old = begun(app, "/keep?who=me")
    response = get(app, "/sign_in?user=alice", old)
    new = session_cookies(response)[0][len("session=") :][:43]
    signed_in = {"who": "me", "auth.userid": "alice"}
    assert get(app, "/show", old, new).json == signed_in
    assert get(app, "/show", new, old).json == signed_in
    # a form that was sent twice, beside somebody's stale cookie
    response = get(app, "/sign_in?user=alice", new_token(), old)
    again = session_cookies(response)[0][len("session=") :][:43]
    assert get(app, "/show", again).json == signed_in
    assert get(app, "/handle", again).json == get(app, "/handle", new).json


def test_a_sign_in_replaces_the_session_that_counts(app: TestApp) -> None:
    mine, other = begun(app, "/keep?who=me"), begun(app, "/sign_in?user=bob")
    response = get(app, "/sign_in?user=alice", new_token(), mine, other)
    new = session_cookies(response)[0][len("session=") :][:43]
    assert get(app, "/show", mine, new, other).json == {"who": "me", "auth.userid": "alice"}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    "path",
    [
        "/invalidate", "/forget", "/say_goodbye", "/change_user", "/revoke", "/revoke_unread",
        "/revoke_user",
    ],
)  # fmt: skip
def test_a_sign_out_leaves_none_of_the_users_cookies_that_opens_a_session(
    app: TestApp, path: str, is_first: bool
) -> None:
    tokens = [begun(app, "/sign_in?user=alice") for _ in range(2)]
    elsewhere = begun(app, "/sign_in?user=alice")
    counting = get(app, "/handle", *tokens).json
    sent = tokens if is_first else [new_token(), *tokens]
    response = get(app, f"{path}?handle={counting}", *sent)
    (cookie,) = session_cookies(response)
    for token in tokens:
        assert get(app, "/show", token).json == {}
    assert get(app, "/show", *tokens).json == {}
    is_followed = path in ("/say_goodbye", "/change_user")
    assert ("Max-Age=0" in cookie) is not is_followed
    is_here = get(app, "/show", elsewhere).json == {"auth.userid": "alice"}
    assert is_here is (path != "/revoke_user")


def test_a_sign_out_tells_of_each_session_that_it_ends(sqlite_engine: Engine) -> None:
    ended = list[SessionEnded]()
    config = configurator(sqlite_engine)
    config.add_subscriber(ended.append, SessionEnded)
    app = site(config)
    tokens = [begun(app, "/sign_in?user=alice") for _ in range(3)]
    handles = {get(app, "/handle", token).json for token in tokens}
    get(app, "/invalidate", *tokens)
    assert {it.handle for it in ended} == handles
    assert {(it.reason, it.user_id) for it in ended} == {("logout", "alice")}
    assert rows(sqlite_engine) == []


def test_a_sign_out_ends_no_session_of_another_user_or_of_nobody(app: TestApp) -> None:
    alice, bob = (begun(app, f"/sign_in?user={user}") for user in ("alice", "bob"))
    nobody, other = (begun(app, f"/keep?who={who}") for who in ("nobody", "other"))
    get(app, "/invalidate", alice, bob, nobody)
    assert get(app, "/show", alice, bob).json == {"auth.userid": "bob"}
    get(app, "/invalidate", nobody, other)
    assert get(app, "/show", nobody, other).json == {"who": "other"}


def test_a_sign_out_ends_the_session_whose_old_token_another_cookie_holds(app: TestApp) -> None:
    mine, old = (begun(app, "/sign_in?user=alice") for _ in range(2))
    response = get(app, "/sign_in?user=alice", old)
    new = session_cookies(response)[0][len("session=") :][:43]
    get(app, "/invalidate", old, mine)
    for token in (mine, old, new):
        assert get(app, "/show", token).json == {}


@pytest.mark.parametrize("stepped_up", [(0,), (1,), (0, 1)])
def test_a_sign_out_that_is_run_again_ends_the_sessions_of_all_cookies(
    engine: Engine, stepped_up: tuple[int, ...]
) -> None:
    def vote() -> None:
        raise RetryableException("again")

    def leave(request: Any) -> Any:
        assert len(request.session) == (0 if request.environ["retry.attempt"] and all_are else 1)
        if request.environ["retry.attempt"] == 0:
            for n in stepped_up:
                response = get(app, "/sign_in?user=alice", tokens[n])
                tokens.append(session_cookies(response)[0][len("session=") :][:43])
            request.tm.get().join(Resource(vote))
        request.session.invalidate()
        return {}

    config = configurator(engine, retry=True)
    add_views(config, leave=leave)
    app, all_are = site(config), len(stepped_up) == 2
    tokens = [begun(app, "/sign_in?user=alice") for _ in range(2)]
    get(app, "/leave", *tokens)
    assert len(tokens) == 2 + len(stepped_up)
    for token in tokens:
        assert get(app, "/show", token).json == {}


def test_the_session_that_counts_is_the_current_one_of_the_users_devices(app: TestApp) -> None:
    mine, other = (begun(app, "/sign_in?user=alice") for _ in range(2))
    handles = [get(app, "/handle", token).json for token in (mine, other)]
    unknown = new_token()
    assert get(app, "/devices", unknown, mine, other).json == dict(
        zip(handles, (True, False), strict=True)
    )
    # to end the other one is no sign-out
    response = get(app, f"/revoke_unread?handle={handles[1]}", unknown, mine, other)
    assert session_cookies(response) == []
    assert get(app, "/show", mine).json == {"auth.userid": "alice"}


def test_one_cookie_that_is_rejected_beside_a_session_is_not_told(sqlite_engine: Engine) -> None:
    told, clock = list[Any](), Clock()
    config = configurator(sqlite_engine, clock=clock, ttl="1h")
    for event in (CookieRejected, SessionEnded):
        config.add_subscriber(told.append, event)
    app = site(config)
    expired = begun(app, "/keep?who=me")
    clock.advance(3600)
    mine = begun(app, "/keep?who=me")
    get(app, "/show", expired, new_token(), mine)
    assert told == []
    get(app, "/show", new_token(), expired)
    assert [it.reason for it in told] == ["expiry"]
    get(app, "/show", new_token(), new_token())
    get(app, "/show", "short", "")
    assert [it.reason for it in told[1:]] == ["unknown", "malformed"]
