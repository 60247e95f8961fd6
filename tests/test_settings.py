from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from pyramid.exceptions import ConfigurationError

from pyramid_sqlsession import SQLSessionFactory
from pyramid_sqlsession.settings import Settings


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
    with pytest.raises(ConfigurationError, match="takes a duration from 1 s to 10 years"):
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
        ("serializer", "json", "json"),
    ],
)
def test_a_setting_is_converted(name: str, value: Any, expected: Any) -> None:
    assert getattr(Settings.from_ini({f"sqlsession.{name}": value}), name) == expected


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
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_setting_and_what_is_allowed(
    name: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_ini({f"sqlsession.{name}": value})
    message = str(caught.value)
    assert f"sqlsession.{name} = {value!r}" in message
    assert "it takes" in message
    assert "``" not in message


def test_an_unknown_setting_is_an_error_that_names_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean sqlsession.cookie_secure?"):
        Settings.from_ini({"sqlsession.cookie_secur": "true"})


def test_an_unknown_setting_that_resembles_none_lists_them_all() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SQLSessionFactory(zzz=1)
    assert str(caught.value).startswith("zzz is no setting of pyramid_sqlsession (there are ")
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
    with pytest.raises(ConfigurationError, match=r"takes sqlsession.sqlalchemy.url and") as caught:
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
        ({"cookie_name": "a b"}, "it takes a cookie name"),
        ({"cookie_name": "s\u00e9ance"}, "it takes a cookie name"),
        ({"cookie_path": "app"}, "starts with /"),
        ({"cookie_path": "/a;b"}, "no space or semicolon"),
        ({"cookie_domain": "a b"}, "it takes a domain name, or none"),
        ({"cookie_name": "__Host-s", "cookie_path": "/app"}, "needs sqlsession.cookie_path = /"),
        ({"cookie_name": "__Host-s", "cookie_domain": "x.org"}, "needs sqlsession.cookie_path = /"),
        ({"cookie_name": "__Secure-s", "cookie_secure": "false"}, "is refused by browsers"),
        ({"cookie_samesite": "None"}, "add sqlsession.cookie_secure = true"),
        ({"cookie_partitioned": "true"}, "add sqlsession.cookie_secure = true"),
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
    ],
)
def test_settings_that_go_together_are_accepted(settings: dict[str, str]) -> None:
    Settings.from_ini({f"sqlsession.{name}": value for name, value in settings.items()})
