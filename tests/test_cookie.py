from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyramid.request import Request
from pyramid.response import Response
from sqlalchemy import Engine
from support.apps import configurator, put, rows, serve, session_cookies, statements
from support.docs.pages import DOCS, code_blocks, execute

from pyramid_sqlsession.cookie import Cookie, id_of, new_token, vary_on_cookie
from pyramid_sqlsession.settings.options import Settings

TOKEN = "Ab-_" * 10 + "xyz"


def cookie(**options: Any) -> Cookie:
    return Cookie(Settings.from_options(options))


def sent(url: str = "http://localhost/", max_age: int | None = None, **options: Any) -> str:
    response = Response()
    cookie(**options).set(Request.blank(url), response, TOKEN, max_age)
    (header,) = response.headers.getall("Set-Cookie")
    return str(header)


def removed(url: str = "http://localhost/", **options: Any) -> str:
    response = Response()
    cookie(**options).set(Request.blank(url), response, None, None)
    (header,) = response.headers.getall("Set-Cookie")
    return str(header)


def test_a_token_has_256_bits_and_is_never_the_same() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {43}


def test_the_id_of_a_row_is_the_sha256_of_the_token_as_it_is_written() -> None:
    assert id_of(TOKEN) == hashlib.sha256(TOKEN.encode()).digest()


@pytest.mark.parametrize(
    "value",
    [
        "", "x", TOKEN[:-1], TOKEN + "x", TOKEN[:-1] + "=", TOKEN[:-1] + "+", TOKEN[:-1] + "\u00e9",
        TOKEN[:-1] + "\u0663", f'"{TOKEN}\\012"', " " * 43, "a" * 100_000,
    ],
    ids=range(11),
)  # fmt: skip
def test_a_cookie_that_is_no_token_is_ignored(value: str) -> None:
    request = Request.blank("/")
    request.environ["HTTP_COOKIE"] = f"session={value}".encode().decode("latin-1")
    assert cookie().tokens(request) == ()


def test_a_token_is_read_under_the_configured_name() -> None:
    request = Request.blank("/", cookies={"sid": TOKEN})
    assert cookie(cookie_name="sid").tokens(request) == (TOKEN,)
    assert cookie().tokens(request) == ()


def test_a_header_that_is_no_utf_8_is_an_empty_session(engine: Engine) -> None:
    app = serve(configurator(engine), look=lambda request: dict(request.session))
    assert app.get("/look", headers={"Cookie": "session=\\\x80"}).json == {}


@given(st.binary(max_size=200))
def test_no_cookie_header_is_an_error(header: bytes) -> None:
    request = Request.blank("/")
    request.environ["HTTP_COOKIE"] = b"session=".decode() + header.decode("latin-1")
    cookie().tokens(request)


@pytest.mark.parametrize("value", ["x", TOKEN[:-1] + "=", '"' + TOKEN, "\xff\xfe", "a" * 5000])
def test_a_garbage_cookie_costs_no_query_and_gives_an_empty_session(
    engine: Engine, value: str
) -> None:
    app = serve(configurator(engine), look=lambda request: dict(request.session))
    app.get("/look")
    with statements(engine) as seen:
        response = app.get("/look", headers={"Cookie": f"session={value}"})
    assert response.json == {}
    assert seen == []
    assert session_cookies(response) == []


def test_a_token_that_the_browser_chose_is_never_adopted(engine: Engine) -> None:
    def change(request: Any) -> None:
        request.session["key"] = 1

    app = serve(configurator(engine), change=change)
    response = app.get("/change", headers={"Cookie": f"session={TOKEN}"})
    (row,) = rows(engine)
    assert row["id"] != id_of(TOKEN)
    assert TOKEN not in session_cookies(response)[0]


def test_the_token_is_nowhere_in_the_row(engine: Engine) -> None:
    def change(request: Any) -> None:
        request.session["key"] = 1

    app = serve(configurator(engine), change=change)
    app.get("/change")
    (row,) = rows(engine)
    assert app.cookies["session"].encode() not in b"".join(
        value for value in row.values() if isinstance(value, bytes)
    )
    assert row["id"] == id_of(app.cookies["session"])


def test_the_default_attributes() -> None:
    assert sent() == f"session={TOKEN}; Path=/; HttpOnly; SameSite=Lax"


def test_every_attribute_can_be_set() -> None:
    header = sent(
        cookie_name="__Secure-sid",
        cookie_path="/app",
        cookie_domain="example.org",
        cookie_samesite="None",
        cookie_httponly=False,
        cookie_partitioned=True,
        max_age=60,
    )
    assert header.startswith(f"__Secure-sid={TOKEN}; Domain=example.org; Max-Age=60; Path=/app; ")
    assert header.endswith("; secure; SameSite=None; Partitioned")
    assert "HttpOnly" not in header


def test_no_samesite_attribute_can_be_had() -> None:
    assert "SameSite" not in sent(cookie_samesite="")


@pytest.mark.parametrize(
    ("url", "secure", "expected"),
    [
        ("http://localhost/", "auto", False),
        ("https://localhost/", "auto", True),
        ("http://localhost/", "true", True),
        ("https://localhost/", "false", False),
    ],
)
def test_secure_is_automatic_or_as_configured(url: str, secure: str, expected: bool) -> None:
    assert ("secure" in sent(url, cookie_secure=secure)) is expected


def test_a_host_prefix_forces_secure() -> None:
    assert "secure" in sent(cookie_name="__Host-session")


@pytest.mark.parametrize(
    "options", [{"cookie_name": "__Host-s"}, {"cookie_name": "__Secure-s"}, {"cookie_secure": True}]
)
def test_a_secure_cookie_that_is_set_over_http_is_one_warning(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    writer = cookie(**options)
    http, https = Request.blank("http://localhost/"), Request.blank("https://localhost/")
    # to remove one is to give up on it
    for request, token in ((https, TOKEN), (http, None)):
        writer.set(request, Response(), token, None)
    assert caplog.messages == []
    for _ in range(2):
        writer.set(http, Response(), TOKEN, None)
    (message,) = caplog.messages
    name = options.get("cookie_name", "session")
    assert message.startswith(f"the cookie {name} is Secure but was set over http")
    assert TOKEN not in message


@pytest.mark.parametrize("secure", ["auto", "false"])
def test_a_cookie_that_browsers_take_over_http_is_no_warning(
    caplog: pytest.LogCaptureFixture, secure: str
) -> None:
    sent(cookie_secure=secure)
    assert caplog.messages == []


def domain_of(request: Any) -> Any:
    return request.headers.get("X-Domain")


@pytest.mark.parametrize("domain", [domain_of, f"{__name__}.domain_of", f"{__name__}:domain_of"])
def test_the_domain_may_depend_on_the_request(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture, domain: Any
) -> None:
    def leave(request: Any) -> None:
        request.session.invalidate()

    config = configurator(sqlite_engine, {"sqlsession.cookie_domain": domain})
    app = serve(config, put=put, leave=leave)

    def set_for(domain: str | None) -> set[str]:
        headers = {} if domain is None else {"X-Domain": domain}
        (begun,) = session_cookies(app.get("/put", headers=headers))
        headers["Cookie"] = begun.partition(";")[0]
        (ended,) = session_cookies(app.get("/leave", headers=headers))
        return {it.partition("Domain=")[2].partition(";")[0] for it in (begun, ended)}

    assert set_for("example.org") == {"example.org"}
    assert set_for("b.example.com") == {"b.example.com"}
    assert set_for(None) == {""}
    assert caplog.messages == []
    for wrong in ("a b", "example.org:80", "a; Path=/x", "\u00e9.org"):
        assert set_for(wrong) == {""}
    assert (
        f"sqlsession.cookie_domain returned {'a; Path=/x'!r}; expected a domain name or None"
        in caplog.text
    )


def test_the_function_on_the_page_gives_the_domain() -> None:
    (block,) = code_blocks(DOCS / "cookies.rst", "python")
    function = execute(block)["cookie_domain"]
    shown = sent("http://shop.example.org/", cookie_domain=function)
    assert "; Domain=example.org; " in shown
    assert "Domain" not in sent("http://shop.example.com/", cookie_domain=function)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cookie_domain": domain_of},
        {"cookie_name": "__Host-s", "cookie_samesite": "Strict"},
        {"cookie_name": "__Host-s", "cookie_samesite": "None", "cookie_partitioned": True},
        {"cookie_path": "/app", "cookie_domain": "example.org", "cookie_httponly": False},
    ],
)
def test_a_cookie_is_removed_with_the_attributes_that_it_was_set_with(
    options: dict[str, Any],
) -> None:
    def attributes(header: str) -> set[str]:
        _, *rest = header.split("; ")
        return {part for part in rest if not part.startswith(("Max-Age", "expires"))}

    assert attributes(removed(**options)) == attributes(sent(**options))
    assert "Max-Age=0" in removed(**options)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {"no-store"}),
        ("public, max-age=600", {"private", "max-age=600"}),
        ("max-age=600, s-maxage=900", {"private", "max-age=600"}),
        ("no-store", {"no-store"}),
        ("no-cache", {"no-cache", "private"}),
        ("private, max-age=5", {"private", "max-age=5"}),
        ("s-maxage=5", {"private"}),
        ("public, s-maxage=5, no-store", {"no-store"}),
        ("Public, S-MaxAge=5, Max-Age=5", {"private", "Max-Age=5"}),
        ("No-Store, public", {"No-Store"}),
        ('private="Set-Cookie", no-cache="Set-Cookie"', {"private", "no-cache=Set-Cookie"}),
    ],
)
def test_a_response_with_a_cookie_is_kept_out_of_shared_caches(
    before: str | None, after: set[str]
) -> None:
    response = Response()
    if before is not None:
        response.headers["Cache-Control"] = before
    cookie().set(Request.blank("/"), response, TOKEN, None)
    assert set(response.headers["Cache-Control"].split(", ")) == after


def test_no_header_for_shared_caches_alone_has_them_keep_a_response_with_a_cookie() -> None:
    names = ("CDN-Cache-Control", "cdn-cache-control", "Cloudflare-CDN-Cache-Control")
    for own, expected in ((None, "no-store"), ("max-age=5", "max-age=5, private")):
        response = Response()
        for name in (*names, "Surrogate-Control", "surrogate-control"):
            response.headerlist.append((name, "public, max-age=600"))
        if own is not None:
            response.headers["Cache-Control"] = own
        cookie().set(Request.blank("/"), response, TOKEN, None)
        assert [name for name in response.headers if "ontrol" in name] == ["Cache-Control"]
        assert response.headers["Cache-Control"] == expected


def test_several_cache_control_headers_are_taken_together() -> None:
    response = Response()
    response.headerlist.append(("Cache-Control", "no-store"))
    response.headerlist.append(("Cache-Control", "public, max-age=5"))
    cookie().set(Request.blank("/"), response, TOKEN, None)
    assert response.headers.getall("Cache-Control") == ["max-age=5, no-store"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "Cookie"),
        ("Accept-Encoding", "Accept-Encoding, Cookie"),
        ("cookie", "cookie"),
        ("*", "*"),
    ],
)
def test_a_response_that_depends_on_the_session_varies_on_the_cookie(
    before: str | None, after: str
) -> None:
    response = Response()
    if before:
        response.headers["Vary"] = before
    vary_on_cookie(response)
    assert response.headers["Vary"] == after


def test_a_request_that_does_not_use_its_session_has_no_vary_header(engine: Engine) -> None:
    def touch_nothing(request: Any) -> str:
        return repr(request.session)

    app = serve(configurator(engine), unused=lambda request: 1, touch_nothing=touch_nothing)
    assert "Vary" not in app.get("/unused").headers
    response = app.get("/touch_nothing")
    assert response.json == "<SQLSession, not loaded>"
    assert "Vary" not in response.headers


def test_a_public_response_with_a_new_session_becomes_private(engine: Engine) -> None:
    def cached(request: Any) -> Response:
        request.session["x"] = 1
        response = Response("cached")
        response.cache_expires(600)
        response.cache_control.public = True
        return response

    response = serve(configurator(engine), cached=cached).get("/cached")
    assert "public" not in response.headers["Cache-Control"]
    assert "private" in response.headers["Cache-Control"]
    assert response.headers["Vary"] == "Cookie"
