from __future__ import annotations

import base64
import posixpath
from dataclasses import FrozenInstanceError, fields
from datetime import date, datetime
from os.path import basename
from typing import Any

import pytest
from pyramid.exceptions import ConfigurationError

from pyramid_sqlsession import SQLSessionFactory
from pyramid_sqlsession.settings.options import Settings

KEY, OLD_KEY = bytes(range(32)), b"\xff" * 32
TEXT, OLD_TEXT = base64.b64encode(KEY).decode(), base64.b64encode(OLD_KEY).decode()


def test_every_option_says_what_it_takes_and_what_it_is_for() -> None:
    for option in fields(Settings):
        assert option.metadata["allowed"]
        assert option.metadata["meaning"].endswith(".")


def test_every_default_passes_its_own_converter() -> None:
    converted = Settings.from_options(
        {o.name: o.metadata["default"] for o in fields(Settings) if o.name != "sqlalchemy"}
    )
    assert converted == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().ttl = 5  # type: ignore[misc]  # that is the test


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (90, 90),
        ("45s", 45),
        ("30m", 1800),
        ("12h", 43200),
        ("14d", 1209600),
        (" 5 m ", 300),
    ],
)
def test_a_duration_is_seconds_or_a_number_with_a_unit(text: Any, seconds: int) -> None:
    assert Settings.from_options({"absolute_ttl": text}).absolute_ttl == seconds


@pytest.mark.parametrize("text", ["-5", "1.5", "5w", "m", "1h30m", "\u0663", "9" * 13, True, []])
def test_anything_else_is_no_duration(text: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a duration from 1 s to 10 years"):
        Settings.from_options({"absolute_ttl": text})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dbsession", "db", "db"),
        ("dbsession", "", None),
        ("fallback_memory", "true", True),
        ("create_table", "false", False),
        ("create_table", "", None),
        ("absolute_ttl", "8h", 28800),
        ("absolute_ttl", "none", None),
        ("touch_interval", "60", 60),
        ("conflict", "MERGE", "merge"),
        ("max_size", "64 KiB", 65536),
        ("max_size", "15MiB", 15 * 1024**2),
        ("max_size", 4096, 4096),
        ("cookie_secure", "auto", None),
        ("cookie_secure", "yes", True),
        ("cookie_secure", False, False),
        ("cookie_httponly", "0", False),
        ("cookie_samesite", "", None),
        ("cookie_samesite", None, None),
        ("cookie_samesite", "strict", "Strict"),
        ("cookie_domain", "example.org", "example.org"),
        ("cookie_domain", "none", None),
        # a module, which is no function
        ("cookie_domain", "os.path", "os.path"),
        ("cookie_domain", "os.path.basename", basename),
        ("cookie_domain", "os.path:basename", basename),
        ("cookie_domain", basename, basename),
        ("serializer", "json", "json"),
        ("encryption_keys", "", ()),
        ("encryption_keys", "none", ()),
        ("encryption_keys", None, ()),
        ("encryption_keys", [], ()),
        ("encryption_keys", TEXT, (KEY,)),
        ("encryption_keys", f"\n  {TEXT}\n\n  {OLD_TEXT}\r\n", (KEY, OLD_KEY)),
        ("encryption_keys", f"{OLD_TEXT} {TEXT}", (OLD_KEY, KEY)),
        ("encryption_keys", [TEXT, OLD_KEY], (KEY, OLD_KEY)),
        ("encryption_keys", (KEY,), (KEY,)),
        ("encryption_keys", KEY, (KEY,)),
        ("seal", "yes", True),
        ("seal", False, False),
        ("userid_key", "user", "user"),
        ("userid_key", " my user ", "my user"),
        ("userid_key", "b\u00e9n\u00e9ficiaire", "b\u00e9n\u00e9ficiaire"),
        ("regenerate_grace", "0", 0),
        ("regenerate_grace", 0, 0),
        ("regenerate_grace", "5m", 300),
        ("regenerate_grace", "45s", 45),
        ("max_sessions_per_user", "1", 1),
        ("max_sessions_per_user", 5, 5),
        ("max_sessions_per_user", "none", None),
        ("max_sessions_per_user", "", None),
        ("extra_columns", "os.path.join", posixpath.join),
        ("extra_columns", len, len),
        ("extra_columns", "", None),
        ("extra_columns", "none", None),
    ],
)
def test_a_setting_is_converted(name: str, value: Any, expected: Any) -> None:
    assert getattr(Settings.from_ini({f"sqlsession.{name}": value}), name) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("true", True),
        (False, False),
        ("0", False),
        (" 2030-12-31\n", date(2030, 12, 31)),
        (date(2030, 12, 31), date(2030, 12, 31)),
    ],
)
def test_a_migration_is_a_boolean_or_a_day(value: Any, expected: Any) -> None:
    options = {"encryption_migrate": value, "seal": True}
    assert Settings.from_options(options).encryption_migrate == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ttl", "0"),
        ("ttl", "11000d"),
        ("ttl", ""),
        ("fallback_memory", "maybe"),
        ("conflict", "panic"),
        ("max_size", "1"),
        ("max_size", "16 MiB"),
        ("max_size", "many"),
        ("max_size", True),
        ("cookie_name", ""),
        ("cookie_samesite", "sometimes"),
        ("cookie_httponly", ""),
        ("model", "no.such.module.Model"),
        ("serializer", "math.pi"),
        ("serializer", "no.such.module"),
        ("encryption_migrate", "perhaps"),
        ("encryption_migrate", ""),
        ("encryption_migrate", "2030-02-30"),
        ("encryption_migrate", "20301231"),
        ("encryption_migrate", "2030-W01-1"),
        ("encryption_migrate", "2030-12-31 12:00"),
        ("encryption_migrate", datetime(2030, 12, 31)),  # noqa: DTZ001  # refused as any is
        ("seal", "perhaps"),
        ("seal", TEXT),
        ("userid_key", ""),
        ("userid_key", "  "),
        ("userid_key", "a\nb"),
        ("regenerate_grace", "301"),
        ("regenerate_grace", "6m"),
        ("regenerate_grace", "-1"),
        ("regenerate_grace", "none"),
        ("regenerate_grace", None),
        ("max_sessions_per_user", "0"),
        ("max_sessions_per_user", 0),
        ("max_sessions_per_user", "-1"),
        ("max_sessions_per_user", "1.5"),
        ("max_sessions_per_user", "many"),
        ("max_sessions_per_user", True),
        ("max_sessions_per_user", "1000001"),
        ("extra_columns", "no.such.module.function"),
        ("extra_columns", "math.pi"),
        ("extra_columns", {"note_id": 5}),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_setting_and_what_is_allowed(
    name: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_ini({f"sqlsession.{name}": value})
    message = str(caught.value)
    assert f"sqlsession.{name} = {value!r}" in message
    assert "is not valid: expected " in message
    assert "``" not in message


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("regenerate_grace", "301", "expected a duration from 0 to 300 seconds"),
        ("max_sessions_per_user", "0", "expected a number from 1, or none"),
        ("userid_key", "", "expected a top-level key of the session"),
        ("extra_columns", "math.pi", "or its dotted name (3.141592653589793 cannot be called)"),
        ("extra_columns", "no.such.module", "(No module named 'no')"),
        ("seal", "perhaps", "expected a boolean"),
        ("encryption_migrate", "perhaps", "expected a boolean"),
    ],
)
def test_the_error_says_why(name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_ini({f"sqlsession.{name}": value})
    assert allowed in str(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (TEXT[:-1], "key 1 is not valid base64"),
        (f"{TEXT},{OLD_TEXT}", "key 1 is not valid base64"),
        ("\u00e9" * 44, "key 1 is not valid base64"),
        # what tokens are made of, and keys are not
        (base64.urlsafe_b64encode(OLD_KEY).decode(), "key 1 is not valid base64"),
        (KEY.hex(), "key 1 is not 32 bytes long"),
        (f"{TEXT}\nhunter2!", "key 2 is not valid base64"),
        (f"{TEXT}\nhunter22", "key 2 is not 32 bytes long"),
        ([KEY, "none", KEY[1:]], "key 3 is not 32 bytes long"),
        ([KEY, 7], "key 2 is not 32 bytes long"),
        (KEY + KEY, "key 1 is not 32 bytes long"),
        (f"{TEXT} {OLD_TEXT} {TEXT}", "duplicate key"),
        ([TEXT, KEY], "duplicate key"),
        (7, "'int' object is not iterable"),
        (True, "'bool' object is not iterable"),
    ],
)
def test_a_wrong_key_is_an_error_that_says_which_one_and_does_not_show_it(
    value: Any, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_ini({"sqlsession.encryption_keys": value})
    assert str(caught.value) == (
        "sqlsession.encryption_keys is not valid: expected base64 of 32 random bytes, one key per "
        f"line, the newest first ({reason})"
    )


def test_no_key_is_in_the_repr() -> None:
    settings = Settings.from_options({"encryption_keys": f"{TEXT}\n{OLD_TEXT}", "seal": True})
    for secret in (
        TEXT[:10],
        OLD_TEXT[:10],
        KEY.hex(),
        repr(KEY),
        repr(OLD_KEY),
        "encryption_keys",
    ):
        assert secret not in repr(settings)


def test_an_unknown_setting_is_an_error_that_names_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean sqlsession.cookie_secure?"):
        Settings.from_ini({"sqlsession.cookie_secur": "true"})


def test_an_unknown_setting_that_resembles_none_lists_them_all() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SQLSessionFactory(zzz=1)  # type: ignore[call-arg]
    assert str(caught.value).startswith("unknown setting zzz. Known settings: ")
    assert "touch_interval" in str(caught.value)


def test_settings_of_others_are_left_alone() -> None:
    assert Settings.from_ini({"sqlalchemy.url": "sqlite://", "ttl": "5"}) == Settings()


def test_the_engine_settings_are_collected() -> None:
    settings = Settings.from_ini(
        {"sqlsession.sqlalchemy.url": "sqlite://", "sqlsession.sqlalchemy.pool_size": "3"}
    )
    assert settings.sqlalchemy == {"url": "sqlite://", "pool_size": "3"}


def test_the_password_of_the_database_is_not_in_the_repr() -> None:
    assert "secret" not in repr(Settings(sqlalchemy={"url": "postgresql://me:secret@db/x"}))


@pytest.mark.parametrize(
    "settings",
    [
        {"sqlsession.sqlalchemy": "postgresql://me:hunter2@db/x"},
        {"sqlsession.sqlalchemy": "x", "sqlsession.sqlalchemy.url": "postgresql://me:hunter2@db/x"},
    ],
)
def test_a_misplaced_url_is_an_error_that_does_not_repeat_its_password(
    settings: dict[str, str],
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"expected sqlsession.sqlalchemy.url and"
    ) as caught:
        Settings.from_ini(settings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"dbsession": "db", "sqlalchemy.url": "sqlite://"},
            "sqlsession.dbsession and sqlsession.sqlalchemy.url are both set",
        ),
        ({"sqlalchemy.echo": "true"}, "sqlsession.sqlalchemy.url is missing or empty"),
        (
            {"ttl": "60", "touch_interval": "60"},
            "touch_interval = 60 must be less than sqlsession.ttl",
        ),
        (
            {"cookie_max_age": "1m", "touch_interval": "2m"},
            "must be less than sqlsession.cookie_max_age",
        ),
        ({"absolute_ttl": "1m", "touch_interval": "2m"}, "less than sqlsession.absolute_ttl"),
        ({"cookie_name": "a b"}, "expected a cookie name"),
        ({"cookie_name": "s\u00e9ance"}, "expected a cookie name"),
        ({"cookie_path": "app"}, "starts with /"),
        ({"cookie_path": "/a;b"}, "no space or semicolon"),
        ({"cookie_domain": "a b"}, "expected a domain name, or none"),
        ({"cookie_domain": "os.no_such_name"}, "no_such_name"),
        ({"cookie_domain": "os:sep"}, "expected a domain name, or none"),
        (
            {"cookie_name": "__Host-s", "cookie_domain": basename},
            "needs sqlsession.cookie_path = /",
        ),
        ({"cookie_name": "__Host-s", "cookie_path": "/app"}, "needs sqlsession.cookie_path = /"),
        ({"cookie_name": "__Host-s", "cookie_domain": "x.org"}, "needs sqlsession.cookie_path = /"),
        ({"cookie_name": "__Secure-s", "cookie_secure": "false"}, "is refused by browsers"),
        ({"cookie_samesite": "None"}, "set sqlsession.cookie_secure = true"),
        ({"cookie_partitioned": "true"}, "set sqlsession.cookie_secure = true"),
        # browsers take the prefixes in capitals or not
        (
            {"cookie_name": "__host-s", "cookie_path": "/app"},
            "__host-s needs sqlsession.cookie_path",
        ),
        ({"cookie_name": "__HOST-s", "cookie_domain": "x.org"}, "needs sqlsession.cookie_path = /"),
        ({"cookie_name": "__HoSt-s", "cookie_secure": "false"}, "is refused by browsers"),
        ({"cookie_name": "__secure-s", "cookie_secure": "false"}, "is refused by browsers"),
        ({"cookie_name": "__SECURE-s", "cookie_secure": "false"}, "is refused by browsers"),
        (
            {"cookie_name": "__Http-s", "cookie_httponly": "false"},
            "cookie_name = __Http-s needs sqlsession.cookie_httponly = true",
        ),
        ({"cookie_name": "__http-s", "cookie_httponly": "false"}, "cookie_httponly = true"),
        ({"cookie_name": "__Http-s", "cookie_secure": "false"}, "is refused by browsers"),
        ({"cookie_name": "__Host-Http-s", "cookie_httponly": "false"}, "cookie_httponly = true"),
        ({"cookie_name": "__host-http-s", "cookie_httponly": "false"}, "cookie_httponly = true"),
        ({"cookie_name": "__host-HTTP-s", "cookie_path": "/app"}, "needs sqlsession.cookie_path"),
        ({"cookie_name": "__Host-Http-s", "cookie_secure": "false"}, "is refused by browsers"),
        (
            {"encryption_migrate": "true"},
            "encryption_migrate = true needs sqlsession.encryption_keys or sqlsession.seal = true",
        ),
        ({"encryption_migrate": "true", "seal": "false"}, "without them it would do nothing"),
        ({"encryption_migrate": "2030-12-31"}, "encryption_migrate = 2030-12-31 needs sqlsession."),
        ({"encryption_migrate": "true", "encryption_keys": ""}, "needs sqlsession.encryption_keys"),
    ],
)
def test_settings_that_do_not_go_together_are_an_error_that_says_what_to_do(
    settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_ini({f"sqlsession.{name}": value for name, value in settings.items()})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"cookie_samesite": "None", "cookie_secure": "true"},
        {"cookie_name": "__Host-session", "cookie_samesite": "None", "cookie_partitioned": "true"},
        {"cookie_name": "__Secure-session", "cookie_domain": "example.org"},
        {"touch_interval": "59", "ttl": "60"},
        {"cookie_name": "__host-session"},
        {"cookie_name": "__HOST-session", "cookie_httponly": "false"},
        {"cookie_name": "__secure-session", "cookie_samesite": "None"},
        {"cookie_name": "__Http-session"},
        {"cookie_name": "__http-session", "cookie_domain": "x.org", "cookie_partitioned": "true"},
        {"cookie_name": "__Host-Http-session", "cookie_secure": "auto"},
        # these are no prefixes
        {"cookie_name": "_Host-session", "cookie_secure": "false", "cookie_path": "/app"},
        {"cookie_name": "http-session", "cookie_secure": "false", "cookie_httponly": "false"},
        {"encryption_migrate": "true", "seal": "true"},
        {"encryption_migrate": "true", "encryption_keys": TEXT},
        {"encryption_migrate": "false"},
        {"encryption_keys": TEXT, "seal": "true"},
    ],
)
def test_settings_that_go_together_are_accepted(settings: dict[str, str]) -> None:
    Settings.from_ini({f"sqlsession.{name}": value for name, value in settings.items()})
