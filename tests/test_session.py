"""ISession, and a session as a mapping, through real requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

import pytest
from pyramid.authentication import SessionAuthenticationHelper
from pyramid.csrf import LegacySessionCSRFStoragePolicy, SessionCSRFStoragePolicy
from pyramid.httpexceptions import HTTPFound
from pyramid.interfaces import ISession
from pyramid.security import forget, remember
from sqlalchemy import Engine, create_engine
from support.apps import EPOCH, Clock, configurator, rows, serve, session_cookies, statements
from support.servers import Backend
from webtest import TestApp
from zope.interface.verify import verifyObject

from pyramid_sqlsession import SessionTableError, SQLSession
from pyramid_sqlsession.cookie import id_of


@pytest.fixture
def database(sqlite: Backend) -> Any:
    engine = create_engine(sqlite.url)
    yield engine
    engine.dispose()


def browser(engine: Engine, *steps: Callable[[Any], Any], clock: Any = None) -> TestApp:
    """A browser for an application that serves each step at ``/0``, ``/1`` and so on."""
    views = {str(number): step for number, step in enumerate(steps)}
    return serve(configurator(engine, clock=clock), **views)


def play(engine: Engine, *steps: Callable[[Any], Any]) -> list[Any]:
    """What each step returns, one request each, all of one visitor."""
    app = browser(engine, *(lambda request, step=step: step(request.session) for step in steps))
    return [app.get(f"/{number}").json for number in range(len(steps))]


def fill(session: Any) -> None:
    session.update({"a": 1, "b": [1, 2], "c": {"d": None}})


def test_it_provides_pyramids_interface(database: Engine) -> None:
    assert play(database, lambda session: verifyObject(ISession, session)) == [True]


def test_what_is_set_is_there_in_the_next_request(engine: Engine) -> None:
    assert play(engine, fill, dict)[1] == {"a": 1, "b": [1, 2], "c": {"d": None}}


def test_values_of_every_kind_survive_on_every_database(engine: Engine) -> None:
    data = {"text": "Zo\u00eb \U0001f600 \0", "n": 2**70, "f": 0.1, "none": None, "yes": True}

    def store(session: Any) -> None:
        session.update(data, large="x" * 200_000)

    _, read = play(engine, store, dict)
    assert read == {**data, "large": "x" * 200_000}


def test_it_reads_as_a_dict_does(database: Engine) -> None:
    def read(session: Any) -> Any:
        assert isinstance(session, SQLSession)
        assert len(session) == 3
        assert list(session) == list(session.keys()) == ["a", "b", "c"]
        assert list(reversed(session)) == ["c", "b", "a"]
        assert list(session.values()) == [1, [1, 2], {"d": None}]
        assert next(iter(session.items())) == ("a", 1)
        assert "a" in session
        assert "x" not in session
        assert session["a"] == session.get("a") == 1
        assert session.get("x") is None
        assert session.get("x", 5) == 5
        assert bool(session)
        with pytest.raises(KeyError, match="x"):
            session["x"]
        return True

    assert play(database, fill, read)[1]


def test_it_is_compared_joined_and_copied_as_a_dict_is(database: Engine) -> None:
    def check(session: Any) -> Any:
        plain = {"a": 1, "b": [1, 2], "c": {"d": None}}
        assert session == plain
        assert plain == session
        assert session != {}
        assert session | {"a": 2} == {**plain, "a": 2}
        assert {"a": 2, "z": 1} | session == {"z": 1, **plain}
        assert type(session | {}) is type({} | session) is type(session.copy()) is dict
        with pytest.raises(TypeError):
            session | [1]
        with pytest.raises(TypeError):
            [1] | session
        copy = session.copy()
        copy["a"] = 99
        assert session["a"] == 1
        assert json.loads(json.dumps(dict(session))) == plain
        with pytest.raises(TypeError, match="not JSON serializable"):
            json.dumps(session)
        return True

    assert play(database, fill, check)[1]


def test_it_changes_as_a_dict_does(database: Engine) -> None:
    def change(session: Any) -> Any:
        assert session.setdefault("a", 9) == 1
        assert session.setdefault("e", 5) == 5
        assert session.pop("a") == 1
        assert session.pop("a", "gone") == "gone"
        with pytest.raises(KeyError):
            session.pop("a")
        assert session.popitem() == ("e", 5)
        del session["c"]
        with pytest.raises(KeyError):
            del session["c"]
        session.update(x=1)
        session |= {"y": 2}
        return dict(session)

    _, during, after = play(database, fill, change, dict)
    assert during == after == {"b": [1, 2], "x": 1, "y": 2}


def test_its_copies_are_plain_dicts(database: Engine) -> None:
    def check(session: Any) -> bool:
        shallow, deep = copy(session), deepcopy(session)
        session["b"].append(3)
        assert type(shallow) is type(deep) is dict
        return bool(shallow["b"] == [1, 2, 3] and deep["b"] == [1, 2])

    assert play(database, fill, check)[1]


def test_an_attribute_that_it_does_not_have_cannot_be_set_by_mistake(database: Engine) -> None:
    def mistake(session: Any) -> Any:
        with pytest.raises(AttributeError):
            session.maxage = 5
        with pytest.raises(TypeError, match="unhashable"):
            hash(session)
        return True

    assert play(database, mistake) == [True]


def test_a_nested_change_is_noticed_without_changed(engine: Engine) -> None:
    def nested(session: Any) -> None:
        session["b"].append(3)
        session["c"]["d"] = {"e": 1}

    _, _, after = play(engine, fill, nested, dict)
    assert after == {"a": 1, "b": [1, 2, 3], "c": {"d": {"e": 1}}}


@pytest.mark.parametrize(
    "way",
    [
        lambda session: session["b"],
        lambda session: session.get("b"),
        lambda session: session.setdefault("b", []),
        lambda session: list(session.values())[1],
        lambda session: dict(session.items())["b"],
        lambda session: dict(session)["b"],
        lambda session: session.copy()["b"],
        lambda session: copy(session)["b"],
        lambda session: (session | {})["b"],
        lambda session: ({} | session)["b"],
    ],
    ids=("[]", "get", "setdefault", "values", "items", "dict", "copy", "copy.copy", "|", "or"),
)
def test_a_nested_change_is_noticed_however_the_value_was_reached(
    database: Engine, way: Callable[[Any], list[int]]
) -> None:
    _, _, after = play(database, fill, lambda session: way(session).append(3), dict)
    assert after["b"] == [1, 2, 3]


def test_a_message_that_is_changed_where_it_is_queued_is_stored(database: Engine) -> None:
    steps = [
        lambda session: session.flash(["tea"]),
        lambda session: session.peek_flash()[0].append("milk"),
        lambda session: session.pop_flash(),
    ]
    assert play(database, *steps)[2] == [["tea", "milk"]]


class Counting:
    """JSON that counts how often a session is serialized."""

    count = 0

    def dumps(self, data: dict[Any, Any]) -> bytes:
        self.count += 1
        return json.dumps(data).encode()

    def loads(self, stored: bytes) -> dict[Any, Any]:
        loaded: dict[Any, Any] = json.loads(stored)
        return loaded


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (lambda session: [session["a"], session.get("z"), "b" in session, list(session)], 0),
        (lambda session: session["b"], 1),
        (lambda session: session.update(a=2), 1),
    ],
    ids=("plain values are read", "a list is read", "it is changed"),
)
def test_a_session_is_serialized_at_most_once_and_not_if_nothing_can_have_changed(
    database: Engine, step: Callable[[Any], Any], expected: int
) -> None:
    serializer = Counting()
    config = configurator(database, clock=Clock(), serializer=serializer)
    app = serve(
        config,
        fill=lambda request: fill(request.session),
        step=lambda request: step(request.session),
    )
    app.get("/fill")
    serializer.count = 0
    app.get("/step")
    assert serializer.count == expected


def test_changed_may_be_called_and_writes_nothing_by_itself(database: Engine) -> None:
    play(database, fill, lambda session: session.changed())
    assert rows(database)[0]["version"] == 1


def test_setting_what_is_there_already_writes_nothing(database: Engine) -> None:
    play(database, fill, fill)
    assert rows(database)[0]["version"] == 1


def test_a_cleared_session_keeps_its_row(database: Engine) -> None:
    _, _, after = play(database, fill, lambda session: session.clear(), dict)
    assert after == {}
    (row,) = rows(database)
    assert (row["data"], row["version"]) == (b"{}", 2)


def test_an_empty_session_makes_no_row_even_with_a_max_age(database: Engine) -> None:
    def plan(session: Any) -> None:
        session.max_age = 60
        session["x"] = 1
        del session["x"]

    app = browser(database, lambda request: plan(request.session))
    assert session_cookies(app.get("/0")) == []
    assert rows(database) == []


def test_new_and_created_and_id_tell_where_a_session_comes_from(database: Engine) -> None:
    def tell(request: Any) -> Any:
        session = request.session
        session["x"] = 1
        return [session.new, session.created, session.id]

    clock = Clock()
    app = browser(database, tell, clock=clock)
    assert app.get("/0").json == [True, EPOCH, None]
    clock.advance(50)
    (row,) = rows(database)
    assert app.get("/0").json == [False, EPOCH, row["lineage"].hex()]


def test_its_repr_shows_neither_token_nor_data(database: Engine) -> None:
    def show(request: Any) -> Any:
        before = repr(request.session)
        request.session["password"] = "hunter2"
        return [before, repr(request.session)]

    app = browser(database, show)
    assert app.get("/0").json == ["<SQLSession, not loaded>", "<SQLSession new with 1 keys>"]
    before, after = app.get("/0").json
    assert before == "<SQLSession, not loaded>"
    (row,) = rows(database)
    assert after == f"<SQLSession {row['lineage'].hex()} with 1 keys>"


# ---- invalidate


def test_invalidate_deletes_the_row_and_the_cookie(engine: Engine) -> None:
    app = browser(
        engine, lambda request: fill(request.session), lambda request: request.session.invalidate()
    )
    app.get("/0")
    response = app.get("/1")
    (header,) = session_cookies(response)
    assert header.startswith("session=; Max-Age=0; Path=/; ")
    assert rows(engine) == []
    assert "session" not in app.cookies


def test_invalidate_reads_the_session_and_deletes_it(database: Engine) -> None:
    app = browser(
        database,
        lambda request: fill(request.session),
        lambda request: request.session.invalidate(),
    )
    app.get("/0")
    with statements(database) as seen:
        app.get("/1")
    # what else belongs to the session is looked for before and after, behind SQLite's lock
    verbs = [statement.split()[0] for statement in seen]
    assert verbs == ["SELECT", "UPDATE", "SELECT", "DELETE", "SELECT"]


def test_invalidate_without_a_session_does_nothing(database: Engine) -> None:
    app = browser(database, lambda request: request.session.invalidate())
    with statements(database) as seen:
        assert session_cookies(app.get("/0")) == []
    assert seen == []


def test_invalidate_of_an_unknown_session_does_not_clear_the_cookie(database: Engine) -> None:
    app = browser(database, lambda request: request.session.invalidate())
    app.set_cookie("session", "x" * 43)
    assert session_cookies(app.get("/0")) == []


def test_a_session_used_after_invalidate_is_a_new_one(engine: Engine) -> None:
    def begin(request: Any) -> Any:
        fill(request.session)
        return request.session.get_csrf_token()

    def restart(request: Any) -> Any:
        session = request.session
        assert session["a"] == 1
        session.max_age = 60
        session.flash("old")
        session.invalidate()
        assert (dict(session), session.new, session.id) == ({}, True, None)
        assert session.max_age is None
        session["fresh"] = True
        return True

    app = browser(
        engine,
        begin,
        restart,
        lambda request: dict(request.session),
    )
    csrf_token = app.get("/0").json
    old = app.cookies["session"]
    response = app.get("/1")
    assert response.json
    assert len(session_cookies(response)) == 1
    assert app.cookies["session"] != old
    stored = {row["id"]: row for row in rows(engine)}
    row = stored.pop(id_of(app.cookies["session"]))
    assert row["max_age"] is None
    assert row["replaced"] is None
    (marker,) = stored.values()
    assert marker["id"] == id_of(old)
    assert marker["replaced"] is not None
    assert marker["lineage"] == row["lineage"]
    assert json.loads(marker["data"]) == {"_csrft_": csrf_token}
    assert app.get("/2").json == {"fresh": True}
    app.reset()
    app.set_cookie("session", old)
    assert app.get("/2").json == {"_csrft_": csrf_token}


# ---- flash and CSRF


def test_flash_messages_wait_for_the_next_request(engine: Engine) -> None:
    def flash(session: Any) -> None:
        session.flash("one")
        session.flash("two")
        session.flash("one")
        session.flash("one", allow_duplicate=False)
        session.flash("bad", "error")
        session.flash({"level": 3}, queue="error", allow_duplicate=False)

    def look(session: Any) -> Any:
        return [session.peek_flash(), session.peek_flash("error"), session.peek_flash("none")]

    def pop(session: Any) -> Any:
        return [session.pop_flash(), session.pop_flash("error"), session.pop_flash("none")]

    messages = [["one", "two", "one"], ["bad", {"level": 3}], []]
    _, looked, popped, after = play(engine, flash, look, pop, dict)
    assert looked == popped == messages
    assert after == {}


def test_flash_queues_have_pyramids_own_keys(database: Engine) -> None:
    def flash(session: Any) -> Any:
        session.flash("x")
        session.flash("y", "q")
        return dict(session)

    assert play(database, flash) == [{"_f_": ["x"], "_f_q": ["y"]}]


def test_popping_an_empty_queue_writes_nothing(database: Engine) -> None:
    assert play(database, fill, lambda session: session.pop_flash())[1] == []
    assert rows(database)[0]["version"] == 1


def test_a_message_popped_and_flashed_again_is_there_once(database: Engine) -> None:
    def again(session: Any) -> None:
        session.flash("x")
        assert session.pop_flash() == ["x"]
        session.flash("x")

    assert play(database, again, lambda session: session.pop_flash())[1] == ["x"]


def test_the_csrf_token_is_made_once_and_renewed_on_demand(engine: Engine) -> None:
    def get(session: Any) -> Any:
        return session.get_csrf_token()

    def renew(session: Any) -> Any:
        return [session.new_csrf_token(), session["_csrft_"]]

    first, second, (renewed, stored), last = play(engine, get, get, renew, get)
    assert first == second != renewed
    assert stored == renewed == last
    assert len(first) == 40


@pytest.mark.parametrize("policy", [LegacySessionCSRFStoragePolicy, SessionCSRFStoragePolicy])
def test_both_of_pyramids_csrf_policies_work(engine: Engine, policy: Any) -> None:
    config = configurator(engine)
    config.set_csrf_storage_policy(policy())
    config.set_default_csrf_options(require_csrf=True)

    def token(request: Any) -> Any:
        from pyramid.csrf import get_csrf_token

        return get_csrf_token(request)

    app = serve(config, token=token, act=lambda request: "done")
    app.post("/act", status=400)
    right = app.get("/token").json
    assert app.post("/act", {"csrf_token": right}).json == "done"
    app.post("/act", {"csrf_token": "wrong"}, status=400)


def test_pyramids_session_authentication_helper_works(engine: Engine) -> None:
    helper = SessionAuthenticationHelper()

    class Policy:
        def identity(self, request: Any) -> Any:
            return helper.authenticated_userid(request)

        authenticated_userid = identity

        def permits(self, request: Any, context: Any, permission: Any) -> bool:
            return True

        def remember(self, request: Any, userid: Any, **kw: Any) -> Any:
            return helper.remember(request, userid, **kw)

        def forget(self, request: Any, **kw: Any) -> Any:
            return helper.forget(request, **kw)

    config = configurator(engine)
    config.set_security_policy(Policy())
    app = serve(
        config,
        who=lambda request: request.authenticated_userid,
        login=lambda request: remember(request, "alice"),
        logout=lambda request: forget(request),
    )
    assert app.get("/who").json is None
    app.get("/login")
    assert app.get("/who").json == "alice"
    app.get("/logout")
    assert app.get("/who").json is None


# ---- what goes wrong


def test_a_value_that_json_cannot_hold_is_an_error_and_changes_nothing(engine: Engine) -> None:
    def break_it(session: Any) -> None:
        session["a"] = 2
        session["cart"] = [object()]

    app = browser(
        engine,
        lambda request: fill(request.session),
        lambda request: break_it(request.session),
        lambda request: dict(request.session),
    )
    app.get("/0")
    with pytest.raises(ValueError, match=r"session\['cart'\]\[0\] is of type object"):
        app.get("/1")
    assert app.get("/2").json["a"] == 1


def test_a_session_that_is_too_large_is_an_error_and_changes_nothing(engine: Engine) -> None:
    config = configurator(engine, {"sqlsession.max_size": "1 KiB"})
    app = serve(
        config,
        small=lambda request: request.session.update(a=1),
        large=lambda request: request.session.update(a="x" * 1024),
        read=lambda request: dict(request.session),
    )
    app.get("/small")
    with pytest.raises(ValueError, match=r"sqlsession.max_size allows 1024"):
        app.get("/large")
    assert app.get("/read").json == {"a": 1}


def test_an_update_that_the_database_swallows_is_an_error_that_says_so(
    postgresql: Backend,
) -> None:
    engine = create_engine(postgresql.url)
    app = browser(engine, lambda request: request.session.update(n=request.session.get("n", 0) + 1))
    app.get("/0")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER swallow BEFORE UPDATE ON sqlsession FOR EACH ROW "
            "EXECUTE FUNCTION swallow()"
        )
    with pytest.raises(SessionTableError, match="a trigger or rule on the table"):
        app.get("/0")


def test_a_raised_redirect_warns_of_a_change_that_could_not_have_been_stored(
    database: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def redirect(request: Any) -> Any:
        request.session["x"] = object()
        raise HTTPFound("/elsewhere")

    app = browser(database, lambda request: fill(request.session), redirect)
    app.get("/0")
    app.get("/1", status=302)
    assert "tm.commit_veto" in caplog.text


def test_max_age_must_be_sensible(database: Engine) -> None:
    def set_it(session: Any) -> Any:
        for wrong in (0, -5, "60", 1.5, True, 10**12):
            with pytest.raises(
                ValueError, match=r"is not valid: expected whole seconds from 1 to 315360000"
            ):
                session.max_age = wrong
        session.max_age = 60
        session.max_age = None
        return session.max_age

    assert play(database, set_it) == [None]


def test_popitem_of_an_empty_session_is_a_key_error(sqlite: Backend) -> None:
    def pop(request: Any) -> Any:
        with pytest.raises(KeyError):
            request.session.popitem()
        return {}

    assert serve(configurator(create_engine(sqlite.url)), pop=pop).get("/pop").json == {}


def test_pyramids_json_renderer_shows_what_the_session_holds(database: Engine) -> None:
    app = serve(
        configurator(database),
        fill=lambda request: fill(request.session),
        session=lambda request: request.session,
        nested=lambda request: {"session": request.session},
    )
    app.get("/fill")
    data = {"a": 1, "b": [1, 2], "c": {"d": None}}
    assert app.get("/session").json == data
    assert app.get("/nested").json == {"session": data}
