"""Encryption of the data: with keys of the settings, with the cookie's token, or with both."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest
import transaction
import zope.sqlalchemy
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError
from sqlalchemy import (
    JSON,
    Engine,
    LargeBinary,
    Text,
    TypeDecorator,
    create_engine,
    delete,
    insert,
    update,
)
from sqlalchemy.orm import Session, mapped_column
from support.apps import (
    EPOCH,
    NO_CLEANING,
    TABLE,
    Base,
    Clock,
    SessionRow,
    configurator,
    listening,
    own_configurator,
    prefixed,
    put,
    rows,
    serve,
    show,
    statements,
)
from support.servers import Backend
from webtest import TestApp

from pyramid_sqlsession import SessionDataError, SessionMixin, SessionTooLarge, SQLSessionFactory
from pyramid_sqlsession.cookie import id_of
from pyramid_sqlsession.data.codec import Codec
from pyramid_sqlsession.data.encryption import Encryption
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.model import SQLSessionRow
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.purge import Purge

DAY = 86400
USER = "auth.userid"
CANARY = "the-canary-of-alice"
CSRF = "_csrft_"

TOKEN = "Ab-_" * 10 + "xyz"
OTHER_TOKEN = "Ab-_" * 10 + "xyZ"
OLD, NEW, THIRD = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
DATA = b'{"secret":"the-canary-of-alice"}'
PREFIX = {False: b"sqls:e1:", True: b"sqls:s1:"}


def ini(*keys: bytes) -> str:
    """Keys as an ini file has them."""
    return "\n".join(base64.b64encode(key).decode() for key in keys)


KINDS: dict[str, dict[str, Any]] = {
    "keys": {"encryption_keys": ini(NEW)},
    "seal": {"seal": "true"},
    "both": {"encryption_keys": ini(NEW), "seal": "true"},
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)

ENCRYPTIONS: dict[str, Callable[..., Encryption]] = {
    "keys": lambda **more: encryption(NEW, OLD, **more),
    "seal": lambda **more: encryption(seal=True, **more),
    "both": lambda **more: encryption(NEW, OLD, seal=True, **more),
}
every_encryption = pytest.mark.parametrize("make", ENCRYPTIONS.values(), ids=ENCRYPTIONS)


def encryption(*keys: bytes, seal: bool = False, migrate: bool = False) -> Encryption:
    return Encryption(keys, seal=seal, migrates=lambda: migrate)


def hkdf(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    """The first 32 bytes of HKDF-SHA256, as RFC 5869 writes it down."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


# ---- the envelope


@every_encryption
@given(data=st.binary(max_size=500))
def test_what_was_encrypted_is_decrypted(make: Callable[..., Encryption], data: bytes) -> None:
    this = make()
    assert this.decrypt(this.encrypt(data, TOKEN), TOKEN) == (data, True)


@every_encryption
def test_an_envelope_says_its_kind_and_nothing_of_what_is_in_it(
    make: Callable[..., Encryption], request: pytest.FixtureRequest
) -> None:
    envelope = make().encrypt(DATA, TOKEN)
    assert envelope.startswith(PREFIX["keys" not in request.node.callspec.id])
    assert len(envelope) == 8 + 12 + len(DATA) + 16
    for secret in (DATA, b"canary", TOKEN.encode(), NEW, OLD):
        assert secret not in envelope


@every_encryption
def test_two_envelopes_of_one_text_have_nothing_in_common(make: Callable[..., Encryption]) -> None:
    this = make()
    envelopes = {this.encrypt(DATA, TOKEN) for _ in range(100)}
    assert len({envelope[8:20] for envelope in envelopes}) == 100
    assert len({envelope[20:] for envelope in envelopes}) == 100


def test_an_envelope_of_a_key_is_what_rfc_5869_and_aes_gcm_make_of_it() -> None:
    envelope = encryption(NEW, OLD).encrypt(DATA, TOKEN)
    handle = hashlib.sha256(TOKEN.encode()).digest()
    key = hkdf(NEW, handle, b"pyramid_sqlsession encrypt 1")
    opened = AESGCM(key).decrypt(envelope[8:20], envelope[20:], b"sqls:e1:" + handle)
    assert opened == DATA


@pytest.mark.parametrize("keys", [(), (NEW, OLD)], ids=["seal", "both"])
def test_an_envelope_of_a_seal_is_what_rfc_5869_and_aes_gcm_make_of_it(
    keys: tuple[bytes, ...],
) -> None:
    envelope = encryption(*keys, seal=True).encrypt(DATA, TOKEN)
    handle = hashlib.sha256(TOKEN.encode()).digest()
    key = hkdf(TOKEN.encode(), keys[0] if keys else None, b"pyramid_sqlsession seal 1")
    opened = AESGCM(key).decrypt(envelope[8:20], envelope[20:], b"sqls:s1:" + handle)
    assert opened == DATA


@pytest.mark.parametrize(
    ("this", "stored"),
    [
        (
            encryption(NEW),
            (
                "73716c733a65313a000102030405060708090a0b"
                "2d44dc37e4522421100d809e0e814b675b8dfbc9b50ba9d3bb1625f9df1efe44"
                "78716f78d3b73aff15a9c9b709f3a333"
            ),
        ),
        (
            encryption(seal=True),
            (
                "73716c733a73313a000102030405060708090a0b"
                "c90b465d36355572c9432c89b36e91b30381fc2b5a56df064a41f50233c8eb17"
                "519f37c0efa3aa00fd97fc60ded39176"
            ),
        ),
        (
            encryption(NEW, seal=True),
            (
                "73716c733a73313a000102030405060708090a0b"
                "95f120399b685db34b85fc46b7d4aa136b201232dfb02a818e84bdf10fbc2852"
                "3b4d01d20a843f9d8d9142a6dce6c3f7"
            ),
        ),
    ],
    ids=KINDS,
)
def test_what_version_1_0_has_stored_is_read_for_ever(this: Encryption, stored: str) -> None:
    assert this.decrypt(bytes.fromhex(stored), TOKEN) == (DATA, True)


def test_nothing_that_the_server_keeps_opens_a_seal() -> None:
    envelope = encryption(NEW, seal=True).encrypt(DATA, TOKEN)
    handle = id_of(TOKEN)
    infos = (b"pyramid_sqlsession seal 1", b"pyramid_sqlsession encrypt 1")
    secrets = (handle, handle.hex().encode(), NEW)
    keys = {hkdf(secret, salt, info) for secret in secrets for salt in (None, NEW, handle)
            for info in infos}  # fmt: skip
    for key in keys | {handle, NEW}:
        with pytest.raises(InvalidTag):
            AESGCM(key).decrypt(envelope[8:20], envelope[20:], b"sqls:s1:" + handle)


def test_every_row_has_a_key_of_its_own() -> None:
    # or one key would meet so many nonces that two of them could be equal
    this = encryption(NEW)
    one, other = this.encrypt(DATA, TOKEN), this.encrypt(DATA, OTHER_TOKEN)
    key = hkdf(NEW, id_of(TOKEN), b"pyramid_sqlsession encrypt 1")
    AESGCM(key).decrypt(one[8:20], one[20:], b"sqls:e1:" + id_of(TOKEN))
    with pytest.raises(InvalidTag):
        AESGCM(key).decrypt(other[8:20], other[20:], b"sqls:e1:" + id_of(OTHER_TOKEN))


# ---- keys


@pytest.mark.parametrize("seal", [False, True], ids=["keys", "both"])
def test_every_key_decrypts_and_the_newest_encrypts(seal: bool) -> None:
    rotated = encryption(NEW, OLD, THIRD, seal=seal)
    for key, is_newest in ((NEW, True), (OLD, False), (THIRD, False)):
        stored = encryption(key, seal=seal).encrypt(DATA, TOKEN)
        assert rotated.decrypt(stored, TOKEN) == (DATA, is_newest)
    stored = rotated.encrypt(DATA, TOKEN)
    assert encryption(NEW, seal=seal).decrypt(stored, TOKEN) == (DATA, True)
    for key in (OLD, THIRD):
        with pytest.raises(SessionDataError, match="no key decrypts"):
            encryption(key, seal=seal).decrypt(stored, TOKEN)


def test_a_seal_with_keys_needs_both() -> None:
    stored = encryption(NEW, seal=True).encrypt(DATA, TOKEN)
    without_the_key = encryption(seal=True)
    with_another_key = encryption(OLD, seal=True)
    for this, token in (
        (without_the_key, TOKEN),
        (with_another_key, TOKEN),
        (encryption(NEW, seal=True), OTHER_TOKEN),
    ):
        with pytest.raises(SessionDataError, match="no key decrypts"):
            this.decrypt(stored, token)


def test_a_seal_alone_is_not_opened_by_a_seal_with_keys() -> None:
    stored = encryption(seal=True).encrypt(DATA, TOKEN)
    with pytest.raises(SessionDataError, match="no key decrypts"):
        encryption(NEW, seal=True).decrypt(stored, TOKEN)
    assert encryption(NEW, seal=True, migrate=True).decrypt(stored, TOKEN) == (DATA, False)


# ---- what is not as it was


@every_encryption
@pytest.mark.parametrize("migrate", [False, True])
def test_an_envelope_that_was_cut_off_is_an_error_at_every_length(
    make: Callable[..., Encryption], migrate: bool
) -> None:
    codec = Codec("json", LargeBinary(), 2**20, make(migrate=migrate))
    stored = codec.to_column({"secret": CANARY}, TOKEN)
    for length in range(len(stored)):
        with pytest.raises(SessionDataError):
            codec.from_column(stored[:length], TOKEN)
    with pytest.raises(SessionDataError):
        codec.from_column(stored + b"\0", TOKEN)


@every_encryption
@pytest.mark.parametrize("migrate", [False, True])
def test_an_envelope_with_any_bit_changed_is_an_error(
    make: Callable[..., Encryption], migrate: bool
) -> None:
    codec = Codec("json", LargeBinary(), 2**20, make(migrate=migrate))
    stored = codec.to_column({"secret": CANARY}, TOKEN)
    for position in range(len(stored)):
        for flipped in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            changed = bytearray(stored)
            changed[position] ^= flipped
            with pytest.raises(SessionDataError):
                codec.from_column(bytes(changed), TOKEN)


@every_encryption
def test_an_envelope_opens_in_its_own_row_only(make: Callable[..., Encryption]) -> None:
    one, other = make(), make(migrate=True)
    mine, theirs = one.encrypt(DATA, TOKEN), one.encrypt(b'{"n":1}', OTHER_TOKEN)
    for this in (one, other):
        with pytest.raises(SessionDataError, match="belongs to another row"):
            this.decrypt(mine, OTHER_TOKEN)
        with pytest.raises(SessionDataError, match="belongs to another row"):
            this.decrypt(theirs, TOKEN)
        # the halves of two
        with pytest.raises(SessionDataError, match="belongs to another row"):
            this.decrypt(mine[:20] + theirs[20:], OTHER_TOKEN)


def test_the_kind_of_an_envelope_is_authenticated() -> None:
    # both have the same keys: what tells them apart is the prefix alone
    for seal in (False, True):
        stored = encryption(NEW, seal=seal).encrypt(DATA, TOKEN)
        changed = PREFIX[not seal] + stored[8:]
        for this in (
            encryption(NEW, seal=seal),
            encryption(NEW, seal=not seal),
            encryption(NEW, seal=seal, migrate=True),
        ):
            with pytest.raises(SessionDataError):
                this.decrypt(changed, TOKEN)
        derived = (
            hkdf(TOKEN.encode(), NEW, b"pyramid_sqlsession seal 1")
            if seal
            else hkdf(NEW, id_of(TOKEN), b"pyramid_sqlsession encrypt 1")
        )
        with pytest.raises(InvalidTag):
            AESGCM(derived).decrypt(stored[8:20], stored[20:], PREFIX[not seal] + id_of(TOKEN))


@every_encryption
@pytest.mark.parametrize(
    "stored", [b"", b"{}", DATA, b"sqls:", b"sqls:e2:" + bytes(60), b"SQLS:E1:" + bytes(60)]
)
def test_what_is_no_envelope_is_an_error_that_names_the_setting_for_migrations(
    make: Callable[..., Encryption], stored: bytes
) -> None:
    with pytest.raises(SessionDataError, match=r"not encrypted .*sqlsession\.encryption_migrate"):
        make().decrypt(stored, TOKEN)


@every_encryption
@given(stored=st.binary(max_size=100))
@pytest.mark.parametrize("prefix", [b"", *PREFIX.values()])
def test_no_bytes_are_anything_but_an_error(
    make: Callable[..., Encryption], prefix: bytes, stored: bytes
) -> None:
    with pytest.raises(SessionDataError):
        make().decrypt(prefix + stored, TOKEN)


# ---- migrations


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(encryption(NEW), {"seal": True, "keys": (NEW,)}, id="keys-to-both"),
        pytest.param(
            encryption(NEW, seal=True), {"seal": False, "keys": (NEW,)}, id="both-to-keys"
        ),
        pytest.param(encryption(seal=True), {"seal": True, "keys": (NEW,)}, id="seal-to-both"),
        pytest.param(encryption(NEW), {"seal": True, "keys": (THIRD, NEW)}, id="and-a-new-key"),
        pytest.param(encryption(seal=True), {"seal": False, "keys": (NEW,)}, id="seal-to-keys"),
        pytest.param(None, {"seal": False, "keys": (NEW,)}, id="plain-to-keys"),
        pytest.param(None, {"seal": True, "keys": ()}, id="plain-to-seal"),
    ],
)
def test_what_was_stored_in_another_way_is_read_by_a_migration_only(
    before: Encryption | None, after: dict[str, Any]
) -> None:
    stored = DATA if before is None else before.encrypt(DATA, TOKEN)
    migrating = encryption(*after["keys"], seal=after["seal"], migrate=True)
    assert migrating.decrypt(stored, TOKEN) == (DATA, False)
    with pytest.raises(SessionDataError):
        encryption(*after["keys"], seal=after["seal"]).decrypt(stored, TOKEN)
    anew = migrating.encrypt(DATA, TOKEN)
    assert encryption(*after["keys"], seal=after["seal"]).decrypt(anew, TOKEN) == (DATA, True)
    if before is not None:
        with pytest.raises(SessionDataError):
            migrating.decrypt(stored, OTHER_TOKEN)


def test_a_migration_does_not_open_what_it_has_no_key_for() -> None:
    stored = encryption(OLD).encrypt(DATA, TOKEN)
    for this in (encryption(NEW, migrate=True), encryption(seal=True, migrate=True)):
        with pytest.raises(SessionDataError, match="no key decrypts"):
            this.decrypt(stored, TOKEN)


# ---- applications


def sign_in(request: Any) -> Any:
    request.session[USER] = request.GET.get("user", "alice")
    return {}


def sign_out(request: Any) -> Any:
    request.session.pop(USER, None)
    return {}


def keep(request: Any) -> Any:
    request.session["secret"] = CANARY
    return {}


def renew(request: Any) -> Any:
    request.session.regenerate()
    return {}


def csrf(request: Any) -> Any:
    return request.session.get_csrf_token()


def of_alice(request: Any) -> Any:
    return [it.handle for it in request.sqlsessions.of_user("alice")]


def revoke(request: Any) -> Any:
    return request.sqlsessions.revoke(request.GET["handle"])


VIEWS = (put, show, sign_in, sign_out, keep, renew, csrf, of_alice, revoke)


def browser(engine: Engine, clock: Clock | None = None, **options: Any) -> TestApp:
    config = configurator(engine, clock=clock or Clock(), **options)
    return serve(config, **{view.__name__: view for view in VIEWS})


def with_cookie_of(app: TestApp, other: TestApp) -> TestApp:
    """The browser *app*, with the session cookie of another one."""
    # the jar keeps it in quotes
    app.reset()
    app.set_cookie("session", other.cookies["session"].strip('"'))
    return app


def row_of(engine: Engine, token: str) -> dict[str, Any]:
    (row,) = (row for row in rows(engine) if row["id"] == id_of(token))
    return row


def handle_of(engine: Engine, app: TestApp) -> str:
    return str(row_of(engine, app.cookies["session"].strip('"'))["lineage"].hex())


def set_row(engine: Engine, token: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(TABLE).where(TABLE.c.id == id_of(token)).values(values))


@pytest.fixture
def database(sqlite: Backend) -> Iterator[Engine]:
    engine = create_engine(sqlite.url)
    yield engine
    engine.dispose()


@every_kind
def test_a_session_works_while_its_data_cannot_be_read_in_the_database(
    engine: Engine, kind: dict[str, Any]
) -> None:
    app = browser(engine, **kind)
    app.get("/keep")
    app.get("/put")
    assert app.get("/put").json == {}
    assert app.get("/show").json == {"secret": CANARY, "cart": [1, 1]}
    (row,) = rows(engine)
    assert row["version"] == 3
    data = bytes(row["data"])
    assert data.startswith(PREFIX["seal" in kind])
    assert CANARY.encode() not in data
    with pytest.raises(ValueError, match=r"decode|JSON|Expecting"):
        json.loads(data)


@every_kind
def test_an_engine_of_the_stores_own_encrypts_too(backend: Backend, kind: dict[str, Any]) -> None:
    views = {view.__name__: view for view in VIEWS}
    config = own_configurator(backend.url, **kind)
    app = serve(config, **views)
    app.get("/keep")
    assert app.get("/show").json == {"secret": CANARY}
    engine = create_engine(backend.url)
    (row,) = rows(engine, SQLSessionRow.__table__)
    engine.dispose()
    assert bytes(row["data"]).startswith(PREFIX["seal" in kind])


def truncated(engine: Engine, mine: str, theirs: str) -> bytes:
    return bytes(row_of(engine, mine)["data"])[:-1]


def flipped(engine: Engine, mine: str, theirs: str) -> bytes:
    data = bytearray(row_of(engine, mine)["data"])
    data[25] ^= 1
    return bytes(data)


def replayed(engine: Engine, mine: str, theirs: str) -> bytes:
    return bytes(row_of(engine, theirs)["data"])


def of_another_key(engine: Engine, mine: str, theirs: str) -> bytes:
    data = bytes(row_of(engine, mine)["data"])
    this = encryption(THIRD, seal=data.startswith(PREFIX[True]))
    return this.encrypt(b'{"forged":1}', mine)


def plain(engine: Engine, mine: str, theirs: str) -> bytes:
    return b'{"forged":1}'


def empty(engine: Engine, mine: str, theirs: str) -> bytes:
    return b""


@every_kind
@pytest.mark.parametrize(
    "damage",
    [truncated, flipped, replayed, of_another_key, plain, empty],
    ids=lambda it: it.__name__,
)
def test_a_row_that_was_tampered_with_is_an_empty_session_and_a_log_line(
    engine: Engine,
    kind: dict[str, Any],
    damage: Callable[[Engine, str, str], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="pyramid_sqlsession")
    alice, bob = browser(engine, **kind), browser(engine, **kind)
    alice.get("/keep")
    bob.get("/put")
    mine, theirs = bob.cookies["session"], alice.cookies["session"]
    set_row(engine, mine, data=damage(engine, mine, theirs))
    caplog.clear()
    response = bob.get("/show")
    assert (response.status_int, response.json) == (200, {})
    warnings = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"cannot read row {id_of(mine).hex()}")
    # a session that starts now is a new one, and works
    assert bob.get("/put").json == {}
    assert bob.cookies["session"] not in (mine, theirs)
    assert bob.get("/show").json == {"cart": [1]}
    assert alice.get("/show").json == {"secret": CANARY}
    for secret in (mine, theirs, CANARY, bob.cookies["session"]):
        assert secret not in caplog.text


@every_kind
def test_rows_that_were_swapped_are_two_empty_sessions(
    engine: Engine, kind: dict[str, Any]
) -> None:
    alice, bob = browser(engine, **kind), browser(engine, **kind)
    alice.get("/keep")
    bob.get("/put")
    tokens = (alice.cookies["session"], bob.cookies["session"])
    one, other = (row_of(engine, token)["data"] for token in tokens)
    set_row(engine, tokens[0], data=other)
    set_row(engine, tokens[1], data=one)
    assert alice.get("/show").json == bob.get("/show").json == {}
    # put back, they are what they were
    set_row(engine, tokens[0], data=one)
    set_row(engine, tokens[1], data=other)
    assert alice.get("/show").json == {"secret": CANARY}
    assert bob.get("/show").json == {"cart": [1]}


def test_a_lost_key_is_a_new_session_for_everybody_and_no_error(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    app = browser(engine, encryption_keys=ini(OLD))
    app.get("/keep")
    old = app.cookies["session"]
    later = with_cookie_of(browser(engine, encryption_keys=ini(NEW)), app)
    for _ in range(2):
        assert later.get("/show").json == {}
    assert caplog.text.count("cannot read row") == 2
    later.get("/put")
    assert later.get("/show").json == {"cart": [1]}
    assert later.cookies["session"] != old
    assert app.get("/show").json == {"secret": CANARY}


@every_kind
def test_what_another_request_stored_is_merged_and_encrypted(
    engine: Engine, kind: dict[str, Any]
) -> None:
    app = browser(engine, **kind)

    def change_beside(request: Any) -> Any:
        request.session["mine"] = 1
        app.get("/put")

    config = configurator(engine, clock=Clock(), **kind)
    other = serve(config, change_beside=change_beside)
    app.get("/keep")
    with_cookie_of(other, app).get("/change_beside")
    assert app.get("/show").json == {"secret": CANARY, "cart": [1], "mine": 1}
    (row,) = rows(engine)
    assert bytes(row["data"]).startswith(PREFIX["seal" in kind])


# ---- what is not encrypted


@every_kind
def test_users_are_found_and_their_sessions_ended_without_the_key(
    engine: Engine, kind: dict[str, Any]
) -> None:
    clock = Clock()
    first, second = browser(engine, clock, **kind), browser(engine, clock, **kind)
    for app in (first, second):
        app.get("/keep")
        app.get("/sign_in")
    live = [row for row in rows(engine) if row["replaced"] is None]
    assert [row["user_id"] for row in live] == ["alice", "alice"]
    handles = {handle_of(engine, app) for app in (first, second)}
    admin = browser(engine, clock, encryption_keys=ini(THIRD))
    assert set(admin.get("/of_alice").json) == handles
    revoked = handle_of(engine, first)
    assert admin.get("/revoke", {"handle": revoked}).json is True
    assert admin.get("/of_alice").json == list(handles - {revoked})
    assert first.get("/show").json == {}
    assert second.get("/show").json == {"secret": CANARY, USER: "alice"}


@every_kind
def test_the_purge_needs_no_key(engine: Engine, kind: dict[str, Any]) -> None:
    clock = Clock()
    app = browser(engine, clock, ttl="1h", **kind)
    app.get("/keep")
    purge = Purge(Rows(SessionRow), Lifetime(Settings.from_options({"ttl": "1h"})), clock)
    assert sum(purge.batches(engine, 100)) == 0
    clock.advance(DAY)
    assert sum(purge.batches(engine, 100)) == 1
    assert rows(engine) == []


# ---- turning it on


@every_kind
def test_plain_rows_of_a_live_table_are_read_with_encryption_migrate_only(
    engine: Engine, kind: dict[str, Any]
) -> None:
    before = browser(engine)
    before.get("/keep")
    (plain_row,) = rows(engine)
    assert bytes(plain_row["data"]) == DATA
    without = with_cookie_of(browser(engine, **kind), before)
    assert without.get("/show").json == {}
    assert rows(engine) == [plain_row]

    migrating = with_cookie_of(browser(engine, encryption_migrate=True, **kind), before)
    assert migrating.get("/show").json == {"secret": CANARY}
    (row,) = rows(engine)
    assert bytes(row["data"]).startswith(PREFIX["seal" in kind])
    assert row == {**plain_row, "data": row["data"]}
    # once it is done it is not done again
    with statements(engine) as seen:
        assert migrating.get("/show").json == {"secret": CANARY}
    assert [it for it in seen if it.startswith("UPDATE")] == []
    assert rows(engine) == [row]
    # and then nobody needs the setting any more
    assert without.get("/show").json == {"secret": CANARY}


# the day on which the tests' clock begins, in UTC
TODAY = "2027-01-15"
MIDNIGHT = 1_800_057_600


@pytest.mark.parametrize("until", [TODAY, date(2027, 1, 15)], ids=["text", "date"])
@every_kind
def test_a_migration_ends_with_its_last_day(
    database: Engine, kind: dict[str, Any], until: Any
) -> None:
    before, clock = browser(database), Clock()
    before.get("/keep")
    (plain_row,) = rows(database)
    app = browser(database, clock, encryption_migrate=until, **kind)
    with_cookie_of(app, before)
    clock.now = MIDNIGHT
    assert app.get("/show").json == {}
    assert rows(database) == [plain_row]
    clock.now = MIDNIGHT - 1
    assert app.get("/show").json == {"secret": CANARY}


@pytest.mark.parametrize(
    ("before", "after"), [("seal", "both"), ("keys", "both"), ("both", "keys")]
)
def test_what_was_encrypted_in_another_way_is_refused_after_the_last_day(
    database: Engine, before: str, after: str
) -> None:
    old, clock = browser(database, **KINDS[before]), Clock(MIDNIGHT)
    old.get("/keep")
    app = browser(database, clock, encryption_migrate=TODAY, **KINDS[after])
    with_cookie_of(app, old)
    assert app.get("/show").json == {}
    clock.now = MIDNIGHT - 1
    assert app.get("/show").json == {"secret": CANARY}


@pytest.mark.parametrize("until", [True, "2027-01-15"], ids=str)
def test_a_migration_is_a_warning_at_the_start(
    database: Engine, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    browser(database, Clock(MIDNIGHT - 1), encryption_migrate=until, **KINDS["keys"])
    (line,) = [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]
    assert line.startswith(f"sqlsession.encryption_migrate = {str(until).lower()}: sessions that")
    assert "anyone who can write to the database can forge one" in line


@pytest.mark.parametrize(("until", "said"), [(TODAY, 1), (False, 0)], ids=["over", "off"])
def test_no_migration_is_no_warning(
    database: Engine, until: Any, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyramid_sqlsession")
    browser(database, Clock(MIDNIGHT), encryption_migrate=until, **KINDS["keys"])
    assert [it for it in caplog.records if it.levelno == logging.WARNING] == []
    assert (
        caplog.text.count("encryption_migrate = 2027-01-15 has passed: remove the setting") == said
    )


@pytest.mark.parametrize(
    ("before", "after", "how"),
    [
        (None, "keys", "in plain text"),
        (None, "seal", "in plain text"),
        ("keys", "both", "encrypted differently"),
        ("both", "keys", "encrypted differently"),
        ("seal", "both", "encrypted differently"),
        ("seal", "keys", "encrypted differently"),
    ],
)
def test_each_row_that_only_the_migration_accepts_is_one_line_of_the_log(
    database: Engine, before: str | None, after: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = browser(database, **({} if before is None else KINDS[before]))
    old.get("/keep")
    app = with_cookie_of(browser(database, encryption_migrate=True, **KINDS[after]), old)
    caplog.set_level(logging.INFO, "pyramid_sqlsession")
    caplog.clear()
    for _ in range(3):
        assert app.get("/show").json == {"secret": CANARY}
    token = old.cookies["session"]
    (line,) = [it.getMessage() for it in caplog.records]
    assert line == (
        f"row {id_of(token).hex()} was accepted by sqlsession.encryption_migrate: it is {how}"
    )


def test_a_row_of_an_older_key_is_no_line_of_the_log(
    database: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    old = browser(database, encryption_keys=ini(OLD))
    old.get("/keep")
    app = browser(database, encryption_keys=ini(NEW, OLD), encryption_migrate=True)
    caplog.set_level(logging.INFO, "pyramid_sqlsession")
    caplog.clear()
    assert with_cookie_of(app, old).get("/show").json == {"secret": CANARY}
    assert caplog.records == []


@pytest.mark.parametrize("keys", [(), (OLD,)], ids=["without", "another"])
def test_a_row_that_is_sealed_without_the_configured_key_is_an_empty_session(
    database: Engine, keys: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
) -> None:
    # whoever can write to the database knows the token of a session of their own
    app = browser(database, **KINDS["both"])
    app.get("/keep")
    token = app.cookies["session"]
    forged = encryption(*keys, seal=True).encrypt(b'{"auth.userid":"alice"}', token)
    set_row(database, token, data=forged)
    assert app.get("/show").json == {}
    assert "cannot read row" in caplog.text


# ---- rows that are put back


@every_kind
def test_an_older_state_can_be_put_back_into_its_own_row_only(
    database: Engine, kind: dict[str, Any]
) -> None:
    alice, bob = browser(database, **kind), browser(database, **kind)
    alice.get("/keep")
    token = alice.cookies["session"]
    old = row_of(database, token)
    alice.get("/put")
    set_row(database, token, data=old["data"])
    assert alice.get("/show").json == {"secret": CANARY}
    bob.get("/put")
    set_row(database, bob.cookies["session"], data=old["data"])
    assert bob.get("/show").json == {}


@every_kind
def test_a_row_that_is_put_back_after_the_sign_out_opens_with_its_cookie_only(
    database: Engine, kind: dict[str, Any]
) -> None:
    app = browser(database, **kind)
    app.get("/keep")
    app.get("/sign_in")
    token = app.cookies["session"]
    old = row_of(database, token)
    app.get("/sign_out")
    with database.begin() as connection:
        connection.execute(delete(TABLE))
        connection.execute(insert(TABLE).values(old))
    app.reset()
    assert app.get("/show").json == {}
    app.set_cookie("session", token)
    assert app.get("/show").json[USER] == "alice"


@every_kind
def test_a_write_of_a_migration_stores_an_envelope(engine: Engine, kind: dict[str, Any]) -> None:
    before = browser(engine)
    before.get("/keep")
    app = with_cookie_of(browser(engine, encryption_migrate=True, **kind), before)
    app.get("/put")
    (row,) = rows(engine)
    assert row["version"] == 2
    assert bytes(row["data"]).startswith(PREFIX["seal" in kind])
    after = with_cookie_of(browser(engine, **kind), before)
    assert after.get("/show").json == {"secret": CANARY, "cart": [1]}


@pytest.mark.parametrize("more", [{}, {"seal": "true"}], ids=["keys", "both"])
def test_a_key_is_rotated_without_losing_a_session(engine: Engine, more: dict[str, Any]) -> None:
    before = browser(engine, encryption_keys=ini(OLD), **more)
    before.get("/keep")
    (old_row,) = rows(engine)
    during = with_cookie_of(browser(engine, encryption_keys=ini(NEW, OLD), **more), before)
    assert during.get("/show").json == {"secret": CANARY}
    (row,) = rows(engine)
    assert row == {**old_row, "data": row["data"]}
    assert row["data"] != old_row["data"]
    with statements(engine) as seen:
        during.get("/show")
    assert [it for it in seen if it.startswith("UPDATE")] == []
    # the old key can go
    after = with_cookie_of(browser(engine, encryption_keys=ini(NEW), **more), before)
    assert after.get("/show").json == {"secret": CANARY}
    assert before.get("/show").json == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("keys", "both"),
        ("both", "keys"),
        ("seal", "both"),
        ("seal", "keys"),
    ],
)
def test_the_kind_of_encryption_is_changed_without_losing_a_session(
    engine: Engine, old: str, new: str
) -> None:
    before = browser(engine, **KINDS[old])
    before.get("/keep")
    (old_row,) = rows(engine)
    without = with_cookie_of(browser(engine, **KINDS[new]), before)
    assert without.get("/show").json == {}
    assert rows(engine) == [old_row]
    during = with_cookie_of(browser(engine, encryption_migrate=True, **KINDS[new]), before)
    assert during.get("/show").json == {"secret": CANARY}
    (row,) = rows(engine)
    assert row == {**old_row, "data": row["data"]}
    assert bytes(row["data"]).startswith(PREFIX["seal" in KINDS[new]])
    assert without.get("/show").json == {"secret": CANARY}


def test_activity_is_recorded_and_the_data_encrypted_anew_by_one_request(engine: Engine) -> None:
    clock = Clock()
    before = browser(engine, clock, encryption_keys=ini(OLD))
    before.get("/keep")
    clock.advance(DAY)
    during = with_cookie_of(browser(engine, clock, encryption_keys=ini(NEW, OLD)), before)
    during.get("/show")
    (row,) = rows(engine)
    assert (row["last_seen"], row["version"]) == (EPOCH + DAY, 1)
    after = with_cookie_of(browser(engine, clock, encryption_keys=ini(NEW)), before)
    assert after.get("/show").json == {"secret": CANARY}


def rotating(engine: Engine, **views: Callable[[Any], Any]) -> tuple[TestApp, TestApp]:
    """A browser whose session has the old key, and one with its cookie where a new one came."""
    before = browser(engine, encryption_keys=ini(OLD))
    before.get("/keep")
    config = configurator(engine, clock=Clock(), encryption_keys=ini(NEW, OLD))
    return before, with_cookie_of(serve(config, put=put, show=show, **views), before)


def test_the_rewrite_loses_no_write_that_came_between(engine: Engine) -> None:
    def read_while_another_writes(request: Any) -> Any:
        data = dict(request.session)
        before.get("/put")
        return data

    before, during = rotating(engine, read_while_another_writes=read_while_another_writes)
    assert during.get("/read_while_another_writes").json == {"secret": CANARY}
    (row,) = rows(engine)
    assert row["version"] == 2
    assert before.get("/show").json == {"secret": CANARY, "cart": [1]}
    # the next read does it
    assert during.get("/show").json == {"secret": CANARY, "cart": [1]}
    assert before.get("/show").json == {}


def test_a_write_that_was_loaded_before_the_rewrite_is_no_conflict(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def write_after_a_rewrite(request: Any) -> Any:
        request.session["mine"] = 1
        during.get("/show")

    _, during = rotating(engine, write_after_a_rewrite=write_after_a_rewrite)
    other = TestApp(during.app)
    with_cookie_of(other, during).get("/write_after_a_rewrite")
    assert during.get("/show").json == {"secret": CANARY, "mine": 1}
    assert rows(engine)[0]["version"] == 2
    assert "another request" not in caplog.text
    assert "concurrent change" not in caplog.text


def test_the_rewrite_brings_no_session_back_that_was_ended(engine: Engine) -> None:
    def end_beside(request: Any) -> Any:
        data = dict(request.session)
        with engine.begin() as connection:
            connection.execute(TABLE.delete())
        return data

    _, during = rotating(engine, end_beside=end_beside)
    assert during.get("/end_beside").json == {"secret": CANARY}
    assert rows(engine) == []


def test_a_rewrite_that_fails_is_a_log_line(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    before, during = rotating(engine)
    token = before.cookies["session"]

    def refuse(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE sqlsession SET data"):
            raise OSError("the disk is full")

    (old_row,) = rows(engine)
    with listening(engine, "before_cursor_execute", refuse):
        response = during.get("/show")
    assert (response.status_int, response.json) == (200, {"secret": CANARY})
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == (
        f"the data of session {old_row['lineage'].hex()} was not re-encrypted: the disk is full"
    )
    assert rows(engine) == [old_row]
    assert token not in caplog.text
    # and is tried again
    during.get("/show")
    assert rows(engine) != [old_row]


def test_on_a_connection_whose_transaction_is_anothers_nothing_is_encrypted_anew(
    database: Engine,
) -> None:
    before = browser(database, encryption_keys=ini(OLD))
    before.get("/keep")
    (old_row,) = rows(database)
    with database.connect() as connection:
        config = configurator(database, clock=Clock(), encryption_keys=ini(NEW, OLD))
        during = with_cookie_of(serve(config, show=show), before)
        manager = transaction.TransactionManager(explicit=True)
        manager.begin()
        dbsession = Session(connection)
        zope.sqlalchemy.register(dbsession, transaction_manager=manager)
        environ = {"tm.active": True, "tm.manager": manager, "app.dbsession": dbsession}
        assert during.get("/show", extra_environ=environ).json == {"secret": CANARY}
        manager.abort()
        connection.commit()
    assert rows(database) == [old_row]


# ---- new tokens


@every_kind
def test_a_session_that_gets_a_new_token_is_encrypted_for_that(
    engine: Engine, kind: dict[str, Any]
) -> None:
    this = encryption(*[NEW] * ("encryption_keys" in kind), seal="seal" in kind)
    app = browser(engine, **kind)
    app.get("/keep")
    for view in ("/renew", "/sign_in", "/renew"):
        old = app.cookies["session"]
        app.get(view)
        new = app.cookies["session"]
        assert new != old
        data = bytes(row_of(engine, new)["data"])
        assert json.loads(this.decrypt(data, new)[0])["secret"] == CANARY
        with pytest.raises(SessionDataError):
            this.decrypt(data, old)
        assert app.get("/show").json["secret"] == CANARY


@every_kind
def test_a_late_request_reads_the_csrf_token_of_the_row_that_was_replaced(
    engine: Engine, kind: dict[str, Any]
) -> None:
    app, late = browser(engine, **kind), browser(engine, **kind)
    app.get("/keep")
    app.get("/sign_in")
    csrf_token = app.get("/csrf").json
    with_cookie_of(late, app)
    old = app.cookies["session"]
    app.get("/renew")
    new = app.cookies["session"]
    assert new != old
    assert app.get("/csrf").json != csrf_token
    # the old row holds it, encrypted for the old token, and nothing else
    marker = row_of(engine, old)
    assert marker["replaced"] is not None
    assert marker["lineage"] == row_of(engine, new)["lineage"]
    assert csrf_token.encode() not in bytes(marker["data"])
    this = encryption(*[NEW] * ("encryption_keys" in kind), seal="seal" in kind)
    assert json.loads(this.decrypt(bytes(marker["data"]), old)[0]) == {CSRF: csrf_token}
    response = late.get("/csrf")
    assert response.json == csrf_token
    assert late.get("/show").json == {CSRF: csrf_token}


@every_kind
def test_a_sign_in_that_comes_twice_takes_over_what_an_anonymous_row_kept(
    engine: Engine, kind: dict[str, Any]
) -> None:
    app, late = browser(engine, **kind), browser(engine, **kind)
    app.get("/keep")
    with_cookie_of(late, app)
    app.get("/sign_in")
    late.get("/sign_in")
    assert late.cookies["session"] != app.cookies["session"]
    for one in (app, late):
        assert one.get("/show").json == {"secret": CANARY, USER: "alice"}


def test_a_marker_that_cannot_be_opened_is_an_empty_one(engine: Engine) -> None:
    app = browser(engine, encryption_keys=ini(OLD))
    app.get("/keep")
    late = with_cookie_of(browser(engine, encryption_keys=ini(NEW)), app)
    app.get("/renew")
    assert late.get("/show").json == {}
    late.get("/sign_in")
    assert late.get("/show").json == {USER: "alice"}


# ---- sizes


@every_kind
def test_max_size_counts_what_is_encrypted_and_not_the_envelope(
    engine: Engine, kind: dict[str, Any]
) -> None:
    def fill(request: Any) -> Any:
        # {"x":""} has eight bytes
        request.session["x"] = "x" * (int(request.GET["size"]) - 8)

    app = serve(configurator(engine, clock=Clock(), max_size=1024, **kind), fill=fill, show=show)
    app.get("/fill", {"size": 1024})
    assert len(bytes(rows(engine)[0]["data"])) == 1024 + 36
    with pytest.raises(SessionTooLarge, match="has 1025 bytes"):
        app.get("/fill", {"size": 1025})
    assert len(app.get("/show").json["x"]) == 1024 - 8


@every_kind
def test_the_longest_session_that_can_be_configured_fits_the_column(
    backend: Backend, kind: dict[str, Any]
) -> None:
    # PyMySQL sends two characters a byte, and the server takes 16 MiB
    engine = create_engine(
        backend.with_driver("mysql+mysqldb") if backend.dialect == "mysql" else backend.url
    )
    size = 15 * 1024**2

    def fill(request: Any) -> Any:
        request.session["x"] = "x" * (size - 8)

    def length(request: Any) -> Any:
        return len(request.session["x"])

    config = configurator(engine, clock=Clock(), max_size="15 MiB", **kind)
    app = serve(config, fill=fill, length=length)
    app.get("/fill")
    assert app.get("/length").json == size - 8


# ---- what does not fit


class Wrapped(TypeDecorator[str]):
    """A type of an application that wraps Text."""

    impl = Text
    cache_ok = True


class Bytes(TypeDecorator[bytes]):
    """A type of an application that wraps LargeBinary."""

    impl = LargeBinary
    cache_ok = True


def application(engine: Engine, model: Any, **settings: Any) -> Any:
    values = prefixed({"model": model, **settings})
    return configurator(engine, values, create=False).make_wsgi_app()


@every_kind
@pytest.mark.parametrize("type_", [Text, JSON, Wrapped])
def test_data_that_is_text_cannot_be_encrypted(
    database: Engine, base: Any, kind: dict[str, Any], type_: Any
) -> None:
    class Textual(SessionMixin, base):  # type: ignore[misc]
        data = mapped_column(type_, nullable=False)

    application(database, Textual)
    with pytest.raises(ConfigurationError) as caught:
        application(database, Textual, **kind)
    assert str(caught.value).startswith(
        "sqlsession.encryption_keys and sqlsession.seal require a data column of type LargeBinary"
    )
    assert_no_key_in(str(caught.value))


def test_a_type_that_wraps_bytes_can_be_encrypted(database: Engine, base: Any) -> None:
    class Binary(SessionMixin, base):  # type: ignore[misc]
        data = mapped_column(Bytes, nullable=False)

    base.metadata.create_all(database)
    settings = {"sqlsession.model": Binary, "sqlsession.seal": "true", **NO_CLEANING}
    app = serve(configurator(database, settings, create=False), put=put, show=show)
    app.get("/put")
    assert app.get("/show").json == {"cart": [1]}
    (row,) = rows(database, Binary.__table__)
    assert row["data"].startswith(b"sqls:s1:")


@every_kind
def test_without_the_library_the_error_says_how_to_install_it(
    database: Engine, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name == "cryptography" or name.startswith("cryptography."):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.delitem(sys.modules, "pyramid_sqlsession.data.encryption")
    with pytest.raises(ConfigurationError) as caught:
        application(database, SessionRow, **kind)
    assert str(caught.value).endswith(": pip install 'pyramid_sqlsession[encryption]'")
    assert_no_key_in(str(caught.value))
    # whoever does not encrypt does not need it
    application(database, SessionRow)


def test_nothing_but_encryption_imports_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith("pyramid_sqlsession"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    __import__("pyramid_sqlsession.cli.main")


# ---- secrets


def assert_no_key_in(text: str) -> None:
    for key in (OLD, NEW, THIRD):
        for shown in (base64.b64encode(key).decode(), key.hex(), repr(key)[2:-1]):
            assert shown not in text
            # nor a part of it
            assert shown[:12] not in text


def test_no_repr_shows_a_key() -> None:
    settings = Settings.from_ini({"sqlsession.encryption_keys": ini(NEW, OLD)})
    assert settings.encryption_keys == (NEW, OLD)
    for shown in (repr(settings), str(settings), repr(encryption(NEW)), f"{settings}"):
        assert_no_key_in(shown)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (ini(NEW) + "!", "key 1 is not valid base64"),
        (ini(NEW)[:-1], "key 1 is not valid base64"),
        (ini(OLD) + "\n" + ini(NEW)[1:], "key 2 is not valid base64"),
        (ini(NEW[:31]), "key 1 is not 32 bytes long"),
        (ini(NEW + OLD), "key 1 is not 32 bytes long"),
        (ini(NEW, OLD[:16]), "key 2 is not 32 bytes long"),
        (ini(NEW, OLD, NEW), "duplicate key"),
        ([NEW[:31]], "key 1 is not 32 bytes long"),
        ([NEW, NEW], "duplicate key"),
        ([NEW, base64.b64encode(NEW).decode()], "duplicate key"),
        ([NEW.decode()], "key 1 is not valid base64"),
        ([list(NEW)], "key 1 is not 32 bytes long"),
    ],
)
def test_the_error_about_a_key_does_not_show_it(database: Engine, keys: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        application(database, SessionRow, encryption_keys=keys)
    error: BaseException | None = caught.value
    assert message in str(error)
    assert "sqlsession.encryption_keys is not valid: expected base64 of 32" in str(error)
    # a traceback shows the causes too
    while error is not None:
        assert_no_key_in(str(error))
        error = error.__cause__ or error.__context__
    with pytest.raises(ConfigurationError) as caught:
        SQLSessionFactory(encryption_keys=keys)
    assert_no_key_in(str(caught.value))


@pytest.mark.parametrize("migrate", ["false", "true"])
def test_no_log_shows_a_key_or_a_token_or_data(
    engine: Engine, caplog: pytest.LogCaptureFixture, migrate: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="pyramid_sqlsession")
    before = browser(engine, encryption_keys=ini(OLD))
    before.get("/keep")
    app = with_cookie_of(
        browser(engine, encryption_keys=ini(NEW, OLD), seal="true", encryption_migrate=migrate),
        before,
    )
    tokens = [before.cookies["session"]]
    for path in ("/show", "/sign_in", "/renew", "/put", "/csrf", "/show", "/sign_out", "/show"):
        app.get(path)
        tokens.append(app.cookies.get("session") or tokens[-1])
    assert "sessions are stored in table sqlsession" in caplog.text
    assert_no_key_in(caplog.text)
    for secret in (*tokens, CANARY):
        assert secret not in caplog.text


def test_the_settings_of_an_ini_file_reach_the_rows(database: Engine) -> None:
    Base.metadata.create_all(database)
    settings = {
        "sqlsession.encryption_keys": f"\n  {ini(NEW)}\n  {ini(OLD)}\n",
        "sqlsession.seal": "yes",
    }
    config: Configurator = configurator(database, settings)
    app = serve(config, keep=keep, show=show)
    app.get("/keep")
    assert app.get("/show").json == {"secret": CANARY}
    token = app.cookies["session"]
    data = bytes(row_of(database, token)["data"])
    assert encryption(NEW, seal=True).decrypt(data, token) == (DATA, True)


def test_an_envelope_is_not_read_by_an_application_without_encryption(engine: Engine) -> None:
    app = browser(engine, **KINDS["keys"])
    app.get("/keep")
    without = with_cookie_of(browser(engine), app)
    assert without.get("/show").json == {}
    without.get("/put")
    assert without.get("/show").json == {"cart": [1]}
    assert app.get("/show").json == {"secret": CANARY}


def test_a_sign_out_ends_a_session_that_its_host_has_no_key_for(engine: Engine) -> None:
    app = browser(engine, **KINDS["keys"])
    app.get("/keep")

    def sign_out(request: Any) -> None:
        request.session.invalidate()

    without = with_cookie_of(serve(configurator(engine), sign_out=sign_out), app)
    without.get("/sign_out")
    assert app.get("/show").json == {}
    assert rows(engine) == []


def test_two_rows_with_one_data_are_one_session_and_an_empty_one(engine: Engine) -> None:
    app = browser(engine, **KINDS["keys"])
    app.get("/keep")
    copied = {**row_of(engine, app.cookies["session"]), "id": id_of(TOKEN)}
    with engine.begin() as connection:
        connection.execute(insert(TABLE).values(copied))
    thief = browser(engine, **KINDS["keys"])
    thief.set_cookie("session", TOKEN)
    assert thief.get("/show").json == {}
    assert app.get("/show").json == {"secret": CANARY}
