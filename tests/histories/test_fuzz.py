"""Whatever a cookie, a row or an envelope holds: no error, and nothing of another visitor's."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, insert, select, update
from support.apps import EPOCH, TABLE, Clock, configurator, rows, serve, statements
from support.cookies import read_by_hand
from support.places import journal
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession.cookie import id_of
from pyramid_sqlsession.data.encryption import Encryption

CANARY = "the-canary-of-another-visitor"
USER = "auth.userid"
KEY = bytes(range(32))
LAST_SECOND = 253_402_300_799
IN_TOKENS = frozenset(string.ascii_letters + string.digits + "-_")
PREFIXES = (b"sqls:e1:", b"sqls:s1:")

# each test builds its application once, for all examples
fuzz = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# on a server
fuzz_a_little = settings(fuzz, max_examples=25)


def look(request: Any) -> Any:
    return sorted(map(ascii, request.session.items()))


def write(request: Any) -> Any:
    request.session["mine"] = 1
    return look(request)


def sign_in(request: Any) -> Any:
    request.session[USER] = "bob"
    return look(request)


def sign_out(request: Any) -> Any:
    request.session.pop(USER, None)
    return look(request)


def renew(request: Any) -> Any:
    request.session.regenerate()
    return look(request)


def end(request: Any) -> Any:
    request.session.invalidate()
    return look(request)


def devices(request: Any) -> Any:
    user = request.session.get(USER)
    return [it.handle for it in request.sqlsessions.of_user(user)]


def times(request: Any) -> Any:
    session = request.session
    return [session.created, session.last_seen, session.expires_at, session.max_age, session.new]


def csrf(request: Any) -> Any:
    return str(request.session.get_csrf_token())


VIEWS = (look, write, sign_in, sign_out, renew, end, devices, times, csrf)


def keep(request: Any) -> Any:
    request.session.update({"secret": CANARY, USER: "alice"})


@dataclass
class Site:
    """An application with two visitors: one whose things nobody may see, and one to be fuzzed.

    :ivar canary: the token of the one.
    :ivar token: the token of the other.
    :ivar pristine: the rows of both.
    """

    engine: Engine
    clock: Clock
    app: TestApp
    canary: str
    token: str
    pristine: list[dict[str, Any]]

    def row(self, token: str) -> dict[str, Any]:
        """The row of a token, as it was."""
        (row,) = (row for row in self.pristine if row["id"] == id_of(token))
        return row

    def start_again(self) -> None:
        """Store both rows as they were."""
        self.clock.now = EPOCH
        with self.engine.begin() as connection:
            connection.execute(TABLE.delete())
            connection.execute(insert(TABLE), self.pristine)

    def change(self, columns: dict[str, Any]) -> None:
        """Store something else in the row of the fuzzed visitor."""
        handle = id_of(self.token)
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                # past the types of the model
                sets = ", ".join(f"{name} = ?" for name in columns)
                statement = f"UPDATE sqlsession SET {sets} WHERE id = ?"
                connection.exec_driver_sql(statement, (*columns.values(), handle))
            else:
                connection.execute(update(TABLE).where(TABLE.c.id == handle).values(columns))

    def get(self, view: str, header: str) -> Any:
        """What a view answers to a Cookie header."""
        self.app.reset()
        response = self.app.get(f"/{view}", extra_environ={"HTTP_COOKIE": header}, status=200)
        assert CANARY not in response.text
        assert CANARY not in str(response.headers)
        return response.json

    def stored(self, token: str) -> dict[str, Any]:
        """The row of a token, as it is."""
        with self.engine.connect() as connection:
            found = connection.execute(select(TABLE).where(TABLE.c.id == id_of(token)))
            return dict(found.mappings().one())

    def is_marker(self, token: str) -> bool:
        """Whether the session of a token has another one."""
        this = select(TABLE.c.replaced.is_not(None)).where(TABLE.c.id == id_of(token))
        with self.engine.connect() as connection:
            return bool(connection.scalar(this))

    def visit(self, view: str) -> Any:
        """Visit with a row that may be nonsense, go on with what one gets, and harm nobody."""
        answer = self.get(view, f"session={self.token}")
        token = self.app.cookies.get("session", self.token)
        for name in ("write", "look"):
            last = self.get(name, f"session={token}")
            token = self.app.cookies.get("session", token)
        if "('mine', 1)" not in last:
            # only a session that has another token takes nothing
            assert self.is_marker(token)
        assert self.stored(self.canary) == self.row(self.canary)
        return answer


def open_site(engine: Engine, **options: Any) -> Site:
    clock = Clock()
    config = configurator(engine, clock=clock, ttl="14d", **options)
    app = serve(config, keep=keep, **{view.__name__: view for view in VIEWS})
    tokens = []
    for view in ("keep", "write"):
        app.reset()
        app.get(f"/{view}")
        tokens.append(app.cookies["session"])
    # what signing in has left is not needed
    return Site(engine, clock, app, tokens[0], tokens[1], rows(engine))


@pytest.fixture
def database(sqlite: Backend) -> Iterator[Engine]:
    engine = create_engine(sqlite.url)
    journal(engine, "WAL")
    yield engine
    engine.dispose()


@pytest.fixture
def site(database: Engine) -> Site:
    return open_site(database)


@pytest.fixture(params=["postgresql", "mariadb", "mysql"])
def server_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    backend: Backend = request.getfixturevalue(request.param)
    engine = create_engine(backend.url)
    yield open_site(engine)
    engine.dispose()


# ---- the Cookie header


def is_token(text: str) -> bool:
    return len(text) == 43 and set(text) <= IN_TOKENS


def check_header(site: Site, header: str) -> None:
    tokens = list(dict.fromkeys(filter(is_token, read_by_hand(header, "session"))))[:4]
    # visitors see what is theirs
    if site.canary in tokens:
        return
    with statements(site.engine) as seen:
        answer = site.get("look", header)
    assert answer == (["('mine', 1)"] if site.token in tokens else [])
    # a token that is none costs nothing, one that is costs a query, and several are one
    assert [it.split()[0] for it in seen] == (["SELECT"] if tokens else [])
    assert "session" not in site.app.cookies


headers = (
    st.binary(max_size=300).map(lambda raw: raw.decode("latin-1"))
    | st.text(st.characters(max_codepoint=255))
    | st.text(st.characters(codec="utf-8")).map(lambda text: text.encode().decode("latin-1"))
    | st.text(st.sampled_from('session=;, \t\r\n"\\%-_aA0\x80\xff'))
)


@fuzz
@given(header=headers, named=st.booleans())
@example(header='"\xff"', named=True)
@example(header='"\\377"', named=True)
@example(header='x=\\200; session="', named=False)
@example(header="\n\r;=", named=False)
def test_no_cookie_header_is_an_error_or_opens_a_session(
    site: Site, header: str, named: bool
) -> None:
    check_header(site, f"session={header}" if named else header)


mutations = st.sampled_from(
    (
        lambda token, at, text: token[:at],
        lambda token, at, text: token[at:],
        lambda token, at, text: token[:at] + text + token[at:],
        lambda token, at, text: token[:at] + text + token[at + 1 :],
        lambda token, at, text: token[:at] + token[at : at + 1].swapcase() + token[at + 1 :],
        lambda token, at, text: token.swapcase(),
        lambda token, at, text: token[::-1],
        lambda token, at, text: token * 2,
        lambda token, at, text: text + token,
        lambda token, at, text: token + text,
        lambda token, at, text: f'"{token[:at]}{text}{token[at:]}"',
        lambda token, at, text: f'"{token}',
        lambda token, at, text: f"{token}; session={text}",
        lambda token, at, text: f"{text}; session={token}",
        lambda token, at, text: f"{token}; Session={token}",
        lambda token, at, text: f"{token}\\012",
        lambda token, at, text: token.replace(token[at : at + 1] or "A", "%41"),
    )
)
scraps = (
    st.sampled_from(
        (" ", "\t", "\n", "\r\n", '"', "'", "\\", ";", ",", "=", "+", "/", "%00", "\0", "\x7f",
         "\u00e9", "\u00c3\u00a9", "\u0663".encode().decode("latin-1"), "\u00ad", "-", "_", "A")
    )
    | st.text(st.characters(max_codepoint=255), max_size=5)
)  # fmt: skip


@fuzz
@given(mutate=mutations, at=st.integers(0, 42), text=scraps, whose=st.sampled_from(["a", "b"]))
def test_a_token_that_was_changed_opens_no_session(
    site: Site, mutate: Any, at: int, text: str, whose: str
) -> None:
    token = site.canary if whose == "a" else site.token
    check_header(site, f"session={mutate(token, at, text)}")


@fuzz
@given(
    at=st.integers(0, 42),
    length=st.integers(1, 43),
    other=st.sampled_from(sorted(set("!#$&*+./:=?@^`|~\u00e9%'()<>[]{}"))),
)
def test_nothing_but_43_characters_of_a_token_is_looked_for(
    site: Site, at: int, length: int, other: str
) -> None:
    token = site.canary
    for value in (
        token[:at],
        token[at + 1 :],
        token + token[:length],
        token[:at] + other + token[at + 1 :],
        token + other,
        other + token,
        token[:at] + other + token[at:],
    ):
        encoded = f"session={value}".encode().decode("latin-1")
        with statements(site.engine) as seen:
            assert site.get("look", encoded) == []
        assert seen == []


# ---- the bytes of a row


keys = st.sampled_from([USER, "_csrft_", "_f_", "_f_greetings", "mine", "secret"])
# no NaN and no infinity, see below
jsonish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats().filter(math.isfinite),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)
serialized = (
    st.binary(max_size=200)
    | jsonish.map(lambda data: json.dumps(data).encode())
    | st.dictionaries(keys, jsonish, max_size=4).map(lambda data: json.dumps(data).encode())
    | st.dictionaries(keys, jsonish, max_size=4).map(
        lambda data: json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    | st.text(st.sampled_from('{}[]":,0123456789.-truefalsn\\ "')).map(str.encode)
    | st.tuples(st.sampled_from(PREFIXES), st.binary(max_size=60)).map(b"".join)
)
numbers = st.sampled_from(
    [0, 1, -1, 30, EPOCH, EPOCH - 1, EPOCH + 1, EPOCH * 1000, 2**31 - 2, 2**31 - 1]
)
int32 = st.integers(-(2**31), 2**31 - 1) | numbers.filter(lambda number: number < 2**31)
int64 = (
    st.integers(-(2**63), 2**63 - 1)
    | numbers
    | st.sampled_from([2**31, 2**63 - 1, -(2**63), LAST_SECOND, LAST_SECOND + 1])
)
NUMERIC = ("version", "created", "last_seen", "purge_after")


def columns_of_a_row(**strategies: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these columns, or all."""
    return st.fixed_dictionaries({}, optional=strategies).filter(bool)


# what is left out is an error, see below
anything = int64 | st.text(st.characters(codec="utf-8"), min_size=1) | st.binary(min_size=1)
anything_or_float = anything | st.floats(allow_nan=False)
sqlite_rows = columns_of_a_row(
    data=serialized | st.text(st.characters(codec="utf-8")) | st.integers(-5, 5) | st.floats(0, 1),
    **dict.fromkeys(NUMERIC, anything_or_float),
    max_age=st.none() | anything_or_float.filter(lambda it: type(it) is not int or it < 2 * 10**11),
    lineage=anything_or_float,
    replaced=st.none() | anything_or_float,
    user_id=st.none() | anything_or_float,
)
server_rows = columns_of_a_row(
    data=serialized,
    version=int32,
    created=int64,
    last_seen=int64,
    max_age=st.none() | int32,
    purge_after=int64,
    lineage=st.binary(max_size=16),
    replaced=st.none() | int64,
    user_id=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
)
view_names = st.sampled_from([view.__name__ for view in VIEWS])


# before it, at once, when the row is touched, later
moments = st.sampled_from([-86400, 0, 400, 86400, 30 * 86400])


@fuzz
@given(columns=sqlite_rows, view=view_names, later=moments)
@example(columns={"replaced": EPOCH}, view="sign_in", later=0)
@example(columns={"replaced": EPOCH, "user_id": "alice"}, view="end", later=0)
@example(columns={"replaced": "soon"}, view="look", later=0)
@example(columns={"lineage": b"short"}, view="times", later=0)
@example(columns={"lineage": "text"}, view="end", later=0)
@example(columns={"version": 2**31 - 2}, view="write", later=0)
@example(columns={"max_age": 0}, view="look", later=0)
@example(columns={"max_age": 1}, view="times", later=0)
@example(columns={"last_seen": LAST_SECOND}, view="times", later=0)
@example(columns={"data": b'{"_f_":5,"_csrft_":[]}'}, view="csrf", later=0)
@example(columns={"data": b'{"auth.userid":{"a":[]}}'}, view="renew", later=0)
@example(columns={"data": b'{"auth.userid":"\\ud800\\u0000"}'}, view="renew", later=0)
@example(columns={"data": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"}, view="look", later=0)
@example(columns={"data": b'{"a":' + b"9" * 5000 + b"}"}, view="look", later=0)
def test_no_row_is_an_error_or_shows_what_is_anothers(
    site: Site, columns: dict[str, Any], view: str, later: int
) -> None:
    site.start_again()
    site.change(columns)
    site.clock.advance(later)
    site.visit(view)


@pytest.mark.parametrize(
    ("column", "value", "view"),
    [
        # json reads what it does not write
        ("data", "CAST('{\"a\":NaN}' AS BLOB)", "look"),
        ("data", "CAST('{\"a\":-Infinity}' AS BLOB)", "look"),
        ("data", "CAST('{\"a\":1e999}' AS BLOB)", "look"),
        ("data", 'CAST(\'{"a":' + "[" * 101 + "]" * 101 + "}' AS BLOB)", "write"),
        # it counts as no lifetime at all, and then is one
        ("max_age", "''", "look"),
        ("max_age", "x''", "look"),
        # the cookie would expire after the year 9999
        ("max_age", "252000000000", "look"),
        # nothing is left for the new row, whose data is not null
        ("data", "CAST('{}' AS BLOB)", "renew"),
        ("data", "CAST('{\"auth.userid\":null}' AS BLOB)", "sign_out"),
        # sqlite3 raises OperationalError
        ("data", "CAST(x'ff' AS TEXT)", "look"),
        ("user_id", "CAST(x'ff' AS TEXT)", "look"),
    ],
)
def test_a_row_that_was_an_error_once_is_none(
    site: Site, column: str, value: str, view: str
) -> None:
    with site.engine.begin() as connection:
        statement = f"UPDATE sqlsession SET {column} = {value} WHERE id = ?"
        connection.exec_driver_sql(statement, (id_of(site.token),))
    site.clock.advance(400)
    site.visit(view)


# who ends it, or leaves its user, ends the other one's too: it is one session
sparing = st.sampled_from([it.__name__ for it in (look, write, renew, devices, times, csrf)])


@fuzz
@given(columns=sqlite_rows, view=sparing)
def test_a_row_of_anothers_session_shows_nothing_of_it(
    site: Site, columns: dict[str, Any], view: str
) -> None:
    site.start_again()
    lineage = site.row(site.canary)["lineage"]
    site.change({**columns, "lineage": lineage, "user_id": "alice"})
    site.visit(view)


@fuzz_a_little
@given(columns=server_rows, view=view_names, later=moments)
@example(columns={"last_seen": 2**63 - 1}, view="look", later=0)
@example(columns={"created": -(2**63), "last_seen": 2**63 - 1}, view="write", later=0)
@example(columns={"version": 2**31 - 1}, view="write", later=0)
@example(columns={"version": 2**31 - 2}, view="write", later=0)
@example(columns={"max_age": 2**31 - 1}, view="times", later=86400)
@example(columns={"last_seen": LAST_SECOND, "max_age": 2**31 - 1}, view="write", later=0)
@example(columns={"replaced": EPOCH}, view="sign_in", later=0)
@example(columns={"replaced": 2**63 - 1}, view="sign_in", later=0)
@example(columns={"replaced": -(2**63)}, view="end", later=0)
@example(columns={"lineage": b""}, view="end", later=0)
@example(columns={"data": b""}, view="sign_in", later=0)
@example(columns={"data": b'{"auth.userid":"\\u0000"}'}, view="renew", later=0)
@example(columns={"data": b'{"auth.userid":"\\ud800"}'}, view="renew", later=0)
def test_no_row_of_a_server_is_an_error_or_shows_what_is_anothers(
    server_site: Site, columns: dict[str, Any], view: str, later: int
) -> None:
    server_site.start_again()
    server_site.change(columns)
    server_site.clock.advance(later)
    server_site.visit(view)


# ---- envelopes


@pytest.fixture(
    params=[
        {"encryption_keys": [KEY]},
        {"seal": True},
        {"encryption_keys": [KEY], "seal": True},
    ],
    ids=["keys", "seal", "both"],
)
def encrypted(request: pytest.FixtureRequest, database: Engine) -> Site:
    return open_site(database, **request.param)


@pytest.fixture(params=[{"encryption_keys": [KEY]}, {"seal": True}], ids=["keys", "seal"])
def migrating(request: pytest.FixtureRequest, database: Engine) -> Site:
    return open_site(database, encryption_migrate=True, **request.param)


envelopes = (
    st.binary(max_size=200)
    | serialized
    | st.tuples(st.sampled_from(PREFIXES), st.binary(max_size=100)).map(b"".join)
)


@fuzz
@given(data=envelopes, view=view_names)
def test_no_bytes_are_an_envelope(encrypted: Site, data: bytes, view: str) -> None:
    encrypted.start_again()
    encrypted.change({"data": data})
    assert encrypted.get("look", f"session={encrypted.token}") == []
    encrypted.visit(view)


changes = st.sampled_from(
    (
        lambda mine, theirs, at, raw: mine[:at],
        lambda mine, theirs, at, raw: mine[at:],
        lambda mine, theirs, at, raw: mine[:at] + raw + mine[at:],
        lambda mine, theirs, at, raw: mine[:at] + raw + mine[at + len(raw) :],
        lambda mine, theirs, at, raw: raw + mine,
        lambda mine, theirs, at, raw: mine + raw,
        lambda mine, theirs, at, raw: mine[:at] + theirs[at:],
        lambda mine, theirs, at, raw: theirs[:at] + mine[at:],
        lambda mine, theirs, at, raw: theirs,
        lambda mine, theirs, at, raw: mine + theirs,
        lambda mine, theirs, at, raw: mine.swapcase(),
        lambda mine, theirs, at, raw: mine[::-1],
        lambda mine, theirs, at, raw: PREFIXES[0] + mine[8:],
        lambda mine, theirs, at, raw: PREFIXES[1] + mine[8:],
        lambda mine, theirs, at, raw: mine.hex().encode(),
    )
)


@fuzz
@given(change=changes, at=st.integers(0, 60), raw=st.binary(max_size=20), view=view_names)
def test_an_envelope_that_was_changed_is_an_empty_session(
    encrypted: Site, change: Any, at: int, raw: bytes, view: str
) -> None:
    encrypted.start_again()
    mine, theirs = (
        bytes(encrypted.row(token)["data"]) for token in (encrypted.token, encrypted.canary)
    )
    data = change(mine, theirs, at, raw)
    encrypted.change({"data": data})
    expected = ["('mine', 1)"] if data == mine else []
    assert encrypted.get("look", f"session={encrypted.token}") == expected
    encrypted.visit(view)


@fuzz
@given(
    change=changes, at=st.integers(0, 60), raw=st.binary(max_size=20) | serialized, view=view_names
)
def test_a_migration_is_fooled_by_no_envelope_that_was_changed(
    migrating: Site, change: Any, at: int, raw: bytes, view: str
) -> None:
    migrating.start_again()
    mine, theirs = (
        bytes(migrating.row(token)["data"]) for token in (migrating.token, migrating.canary)
    )
    migrating.change({"data": change(mine, theirs, at, raw)})
    migrating.visit(view)


@fuzz
@given(data=st.binary(max_size=100), token=st.sampled_from(["a", "b"]))
def test_an_envelope_made_with_another_key_is_an_empty_session(
    encrypted: Site, data: bytes, token: str
) -> None:
    encrypted.start_again()
    of = encrypted.token if token == "a" else encrypted.canary
    for seal in (False, True):
        forged = Encryption((bytes(32),), seal=seal, migrates=lambda: False).encrypt(data, of)
        encrypted.change({"data": forged})
        assert encrypted.get("look", f"session={encrypted.token}") == []
