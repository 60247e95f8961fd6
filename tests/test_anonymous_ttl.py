"""How long a session lives in which nobody is signed in."""

from __future__ import annotations

from typing import Any

import pytest
from pyramid.exceptions import ConfigurationError
from pyramid.interfaces import ISessionFactory
from sqlalchemy import Engine, update
from support.apps import EPOCH, TABLE, Clock, SessionRow, configurator, rows, serve, show

from pyramid_sqlsession.database.aside import maintaining
from pyramid_sqlsession.lifetime import Lifetime
from pyramid_sqlsession.settings.options import Settings
from pyramid_sqlsession.table.rows import Rows
from pyramid_sqlsession.upkeep.census import Census
from pyramid_sqlsession.upkeep.purge import Purge

DAY = 86400
USER = "auth.userid"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(request: Any) -> int:
    request.session["n"] = 1
    return int(request.session.expires_at)


def sign_in(request: Any) -> int:
    request.session[USER] = request.params.get("user", "alice")
    return int(request.session.expires_at)


def sign_out(request: Any) -> None:
    del request.session[USER]
    request.session["n"] = 2


def expiry(request: Any) -> int:
    return int(request.session.expires_at)


def remember(request: Any) -> None:
    request.session.max_age = 30 * DAY


def site(engine: Engine, clock: Clock, **options: Any) -> Any:
    options = {"ttl": "14d", "anonymous_ttl": "1d", **options}
    config = configurator(engine, clock=clock, **options)
    return serve(
        config, put=put, show=show, sign_in=sign_in, sign_out=sign_out, expiry=expiry,
        remember=remember,
    )  # fmt: skip


def purge(engine: Engine, clock: Clock, **options: Any) -> int:
    """Delete what has expired, due or not; how many it were."""
    settings = Settings.from_options({"ttl": "14d", "anonymous_ttl": "1d", **options})
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(purge_after=0))
    return sum(Purge(Rows(SessionRow), Lifetime(settings), clock).batches(engine, 500))


def test_an_anonymous_session_lives_as_long_as_it_says(engine: Engine, clock: Clock) -> None:
    app = site(engine, clock)
    assert app.get("/put").json == EPOCH + DAY
    clock.advance(DAY - 1)
    assert app.get("/show").json == {"n": 1}
    clock.advance(DAY)
    assert app.get("/show").json == {}


def test_signing_in_makes_it_ttl_and_signing_out_takes_it_back(
    engine: Engine, clock: Clock
) -> None:
    app = site(engine, clock)
    app.get("/put")
    assert app.get("/sign_in").json == EPOCH + 14 * DAY
    assert app.get("/expiry").json == EPOCH + 14 * DAY
    clock.advance(13 * DAY)
    assert app.get("/show").json == {USER: "alice", "n": 1}
    app.get("/sign_out")
    assert app.get("/expiry").json == clock.now + DAY
    clock.advance(DAY)
    assert app.get("/show").json == {}


def test_a_user_who_does_not_fit_the_column_counts_as_nobody(
    engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app = site(engine, clock)
    app.get("/sign_in", {"user": "x" * 256})
    assert rows(engine)[0]["user_id"] is None
    assert app.get("/expiry").json == EPOCH + DAY
    clock.advance(DAY)
    assert app.get("/show").json == {}
    assert purge(engine, clock) == 1


@pytest.mark.parametrize("path", ["put", "sign_in"])
@pytest.mark.parametrize(
    ("options", "anonymous", "signed_in"),
    [
        ({}, DAY, 14 * DAY),
        ({"anonymous_ttl": "20d"}, 20 * DAY, 14 * DAY),
        ({"anonymous_ttl": None}, 14 * DAY, 14 * DAY),
        ({"cookie_max_age": "3d"}, 3 * DAY, 3 * DAY),
        ({"absolute_ttl": "12h"}, DAY // 2, DAY // 2),
    ],
)
def test_visitors_and_cleaners_agree(
    engine: Engine, clock: Clock, path: str, options: Any, anonymous: int, signed_in: int
) -> None:
    app = site(engine, clock, **options)
    app.get(f"/{path}")
    lifetime = anonymous if path == "put" else signed_in
    assert app.get("/expiry").json == EPOCH + lifetime
    assert rows(engine)[0]["purge_after"] >= EPOCH + lifetime
    clock.advance(lifetime - 1)
    assert purge(engine, clock, **options) == 0
    clock.advance(1)
    assert app.get("/show").json == {}
    assert purge(engine, clock, **options) == 1


def test_a_session_of_its_own_lifetime_keeps_that(engine: Engine, clock: Clock) -> None:
    app = site(engine, clock)
    app.get("/put")
    app.get("/remember")
    clock.advance(29 * DAY)
    assert purge(engine, clock) == 0
    assert app.get("/show").json == {"n": 1}


def test_the_census_counts_by_it(engine: Engine, clock: Clock) -> None:
    app = site(engine, clock)
    app.get("/put")
    app.reset()
    app.get("/sign_in")
    clock.advance(2 * DAY)
    settings = Settings.from_options({"ttl": "14d", "anonymous_ttl": "1d"})
    with maintaining(engine) as connection:
        figures = Census(Rows(SessionRow), Lifetime(settings), clock).take(connection)
    assert (figures.live, figures.signed_in, figures.expired) == (1, 1, 1)


def test_visits_are_recorded_in_time_for_it(engine: Engine, clock: Clock) -> None:
    app = site(engine, clock, anonymous_ttl="100")
    app.get("/put")
    for _ in range(40):
        clock.advance(50)
        assert app.get("/show").json == {"n": 1}


@pytest.mark.parametrize("name", ["ttl", "anonymous_ttl", "absolute_ttl", "cookie_max_age"])
def test_an_interval_as_long_as_any_lifetime_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"touch_interval = 60 must .*{name} = 60 "):
        Settings.from_options({name: "1m", "touch_interval": "1m"}, "sqlsession.")


def test_it_is_set_in_an_ini_file(engine: Engine) -> None:
    config = configurator(engine, {"sqlsession.anonymous_ttl": "2h"})
    serve(config)
    factory: Any = config.registry.getUtility(ISessionFactory)
    assert factory.settings.anonymous_ttl == 7200
