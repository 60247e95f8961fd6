"""What the database keeps as it is without an error: row-level security, triggers and rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, make_url
from support.apps import Base, SessionRow, configurator, own_configurator, rows, serve
from support.docs.pages import DOCS, code_block
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import SessionConflict, SessionTableError
from pyramid_sqlsession.table.rows import Rows

KEPT = "on the session table 'sqlsession' changed nothing, and the database reported no"

SWALLOW = "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"


def policies(*allowed: str) -> list[str]:
    checks = {"INSERT": "WITH CHECK (true)"}
    return [
        "ALTER TABLE sqlsession ENABLE ROW LEVEL SECURITY",
        *(
            f"CREATE POLICY p_{it} ON sqlsession FOR {it} {checks.get(it, 'USING (true)')}"
            for it in allowed
        ),
    ]


def trigger(what: str) -> list[str]:
    function = "FOR EACH ROW EXECUTE FUNCTION swallow()"
    return [SWALLOW, f"CREATE TRIGGER swallow BEFORE {what} ON sqlsession {function}"]


def ignoring(what: str) -> list[str]:
    return [f"CREATE TRIGGER swallow BEFORE {what} ON sqlsession BEGIN SELECT RAISE(IGNORE); END"]


def rule(what: str) -> list[str]:
    return [f"CREATE RULE swallow AS ON {what} TO sqlsession DO INSTEAD NOTHING"]


# ---- what a request does, and which statements it needs


def write(request: Any) -> None:
    request.session["n"] = 2


def regenerate(request: Any) -> None:
    request.session.regenerate()


def step_up(request: Any) -> None:
    request.session["auth.userid"] = "alice"


def leave(request: Any) -> None:
    # with something that follows: the row stays, as a marker
    del request.session["auth.userid"]
    request.session["bye"] = True


def sign_out(request: Any) -> None:
    request.session.invalidate()


def revoke(request: Any) -> None:
    request.sqlsessions.revoke(request.session.id)


def revoke_user(request: Any) -> None:
    request.sqlsessions.revoke_user("alice")


def revoke_of_user(request: Any) -> None:
    request.sqlsessions.revoke(request.session.id, "alice")


Action = Callable[[Any], None]

UPDATING: list[Action] = [write, regenerate, step_up, leave]
DELETING: list[Action] = [sign_out, revoke, revoke_user, revoke_of_user]
INSERTING: list[Action] = [regenerate, step_up, leave]

# row-level security applies the policies of UPDATE to the lock before a DELETE too
KEEPING: dict[str, tuple[str, list[str], list[Action]]] = {
    "postgresql-policy-update": (
        "postgresql", policies("SELECT", "INSERT", "DELETE"), UPDATING + DELETING),
    "postgresql-policy-delete": ("postgresql", policies("SELECT", "INSERT", "UPDATE"), DELETING),
    "postgresql-trigger-update": ("postgresql", trigger("UPDATE"), UPDATING),
    "postgresql-trigger-delete": ("postgresql", trigger("DELETE"), DELETING),
    "postgresql-trigger-insert": ("postgresql", trigger("INSERT"), INSERTING),
    "postgresql-rule-delete": ("postgresql", rule("DELETE"), [sign_out, revoke]),
    "sqlite-trigger-update": ("sqlite", ignoring("UPDATE"), UPDATING),
    "sqlite-trigger-delete": ("sqlite", ignoring("DELETE"), DELETING),
    "sqlite-trigger-insert": ("sqlite", ignoring("INSERT"), INSERTING),
}  # fmt: skip

CASES = [
    pytest.param(kind, statements, action, id=f"{name}-{action.__name__}")
    for name, (kind, statements, actions) in KEEPING.items()
    for action in actions
]


def execute(engine: Engine, statements: list[str]) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.fixture
def url(backend: Backend) -> Iterator[str]:
    """The URL for an application that does not own the table, where there are owners."""
    engine = create_engine(backend.url)
    Base.metadata.create_all(engine)
    if backend.name != "postgresql":
        yield backend.url
        return
    execute(engine, ["CREATE ROLE app", "GRANT ALL ON ALL TABLES IN SCHEMA public TO app"])
    yield (
        make_url(backend.url)
        .update_query_dict({"options": "-c role=app"})
        .render_as_string(hide_password=False)
    )
    execute(engine, ["DROP OWNED BY app", "DROP ROLE app"])


def browser(
    url: str, way: str, level: str | None = None, views: Any = None, **settings: Any
) -> TestApp:
    if way == "own":
        more: dict[str, Any] = {"sqlalchemy.isolation_level": level} if level else {}
        config = own_configurator(url, model=SessionRow, **more, **settings)
    else:
        engine = create_engine(url, isolation_level=level) if level else create_engine(url)
        given = {f"sqlsession.{name}": value for name, value in settings.items()}
        config = configurator(engine, given, create=False)
    return serve(config, **(views or {}))


def sign_in(request: Any) -> None:
    request.session["auth.userid"] = "alice"
    request.session["n"] = 1


both_ways = pytest.mark.parametrize("way", ["dbsession", "own"])


@both_ways
@pytest.mark.parametrize(("backend", "statements", "action"), CASES, indirect=["backend"])
def test_what_the_database_keeps_is_an_error_and_never_a_silent_success(
    backend: Backend, url: str, way: str, statements: list[str], action: Action
) -> None:
    app = browser(url, way, views={"sign_in": sign_in, "act": action})
    app.get("/sign_in")
    owner = create_engine(backend.url)
    before = rows(owner)
    execute(owner, statements)
    with pytest.raises(SessionTableError, match=KEPT):
        app.get("/act")
    assert rows(owner) == before


@both_ways
@pytest.mark.parametrize(
    "level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"], ids=["rc", "rr", "ser"]
)
@pytest.mark.parametrize("action", [write, sign_out], ids=["write", "sign_out"])
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_it_is_so_at_each_isolation_level(
    backend: Backend, url: str, way: str, level: str, action: Action
) -> None:
    app = browser(url, way, level, {"sign_in": sign_in, "act": action})
    app.get("/sign_in")
    execute(create_engine(backend.url), policies("SELECT", "INSERT"))
    with pytest.raises(SessionTableError, match=KEPT):
        app.get("/act")


@both_ways
@pytest.mark.parametrize("backend", ["postgresql", "sqlite"], indirect=True)
def test_with_every_policy_and_without_a_trigger_it_works(
    backend: Backend, url: str, way: str
) -> None:
    actions = [write, regenerate, step_up, leave, sign_in, revoke_user, sign_in, sign_out]
    views = {f"act{number}": action for number, action in enumerate(actions)}
    app = browser(url, way, views={"sign_in": sign_in, **views})
    app.get("/sign_in")
    if backend.name == "postgresql":
        page = code_block(DOCS / "databases.rst", "postgres", "CREATE POLICY")
        execute(create_engine(backend.url), [page.replace("myapp", "app")])
    for name in views:
        app.get(f"/{name}")
    assert not [row for row in rows(create_engine(backend.url)) if row["user_id"] is not None]


@both_ways
@pytest.mark.parametrize("statements", [policies("SELECT", "INSERT"), trigger("INSERT")],
                         ids=["policy", "trigger"])  # fmt: skip
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_sign_in_is_not_acknowledged_either(
    backend: Backend, url: str, way: str, statements: list[str]
) -> None:
    app = browser(url, way, views={"write": write, "sign_in": sign_in})
    app.get("/write")
    execute(create_engine(backend.url), statements)
    with pytest.raises(SessionTableError, match=KEPT):
        app.get("/sign_in")


@both_ways
@pytest.mark.parametrize("statements", [policies("SELECT", "INSERT", "UPDATE"), trigger("DELETE")],
                         ids=["policy", "trigger"])  # fmt: skip
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_limit_on_a_users_sessions_says_that_it_is_not_kept(
    backend: Backend,
    url: str,
    way: str,
    statements: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = browser(url, way, views={"sign_in": sign_in}, max_sessions_per_user=1)
    app.get("/sign_in")
    execute(create_engine(backend.url), statements)
    app.reset()
    app.get("/sign_in")
    assert KEPT in caplog.text


@both_ways
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_session_that_cannot_be_locked_is_not_taken_for_one_that_has_ended(
    backend: Backend, url: str, way: str
) -> None:
    def require(request: Any) -> None:
        request.session.require_live()

    app = browser(url, way, views={"sign_in": sign_in, "require": require})
    app.get("/sign_in")
    execute(create_engine(backend.url), policies("SELECT", "INSERT", "DELETE"))
    with pytest.raises(SessionTableError, match=KEPT):
        app.get("/require")


@both_ways
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_visit_that_cannot_be_recorded_goes_unnoticed(
    backend: Backend, url: str, way: str
) -> None:
    app = browser(
        url, way, views={"sign_in": sign_in, "read": lambda request: dict(request.session)}
    )
    app.get("/sign_in")
    owner = create_engine(backend.url)
    execute(owner, [
        "UPDATE sqlsession SET last_seen = last_seen - 4000",
        *policies("SELECT", "INSERT", "DELETE"),
    ])  # fmt: skip
    assert app.get("/read").json["n"] == 1


@both_ways
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_trigger_that_puts_new_rows_into_a_partition_is_none_of_these(
    backend: Backend, url: str, way: str
) -> None:
    owner = create_engine(backend.url)
    execute(owner, [
        "CREATE TABLE part () INHERITS (sqlsession)",
        "GRANT ALL ON part TO app",
        ("CREATE FUNCTION route() RETURNS trigger LANGUAGE plpgsql AS "
         "'BEGIN INSERT INTO part SELECT new.*; RETURN NULL; END'"),
        "CREATE TRIGGER route BEFORE INSERT ON sqlsession FOR EACH ROW EXECUTE FUNCTION route()",
    ])  # fmt: skip
    app = browser(url, way, views={"sign_in": sign_in, "write": write, "sign_out": sign_out})
    app.get("/sign_in")
    app.get("/write")
    assert len(rows(owner)) == 1
    app.get("/sign_out")
    assert rows(owner) == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_row_that_is_hidden_beside_others_that_are_not_is_an_error(
    backend: Backend, url: str
) -> None:
    app = browser(url, "dbsession", views={"sign_in": sign_in, "write": write,
                                           "revoke_user": revoke_user})  # fmt: skip
    app.get("/sign_in")
    app.get("/write")
    app.reset()
    app.get("/sign_in")
    owner = create_engine(backend.url)
    execute(owner, [
        *policies("SELECT", "INSERT", "DELETE"),
        "CREATE POLICY p_some ON sqlsession FOR UPDATE USING (version = 1)",
    ])  # fmt: skip
    before = rows(owner)
    with pytest.raises(SessionTableError, match=KEPT):
        app.get("/revoke_user")
    assert rows(owner) == before


def test_a_row_that_another_request_changes_behind_a_lock_that_does_not_last_is_a_conflict(
    postgresql: Backend,
) -> None:
    """In AUTOCOMMIT a lock ends with its statement."""
    engine = create_engine(postgresql.url, isolation_level="AUTOCOMMIT")
    Base.metadata.create_all(engine)
    table, id = Rows(SessionRow), b"1" * 32
    values = {"version": 1, "created": 1, "last_seen": 1, "purge_after": 1, "data": b"{}"}
    with engine.connect() as connection:
        connection.execute(insert(SessionRow), {"id": id, "lineage": b"2" * 16, **values})
        assert isinstance(table.unwritten(connection, id, 1), SessionTableError)
        assert table.bump(connection, id, 1)
        assert isinstance(table.unwritten(connection, id, 1), SessionConflict)
    engine.dispose()
