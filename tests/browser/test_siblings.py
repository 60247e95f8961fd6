"""Cookies that another host of the same domain sets, in a real browser, over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser.conftest import served_securely
from playwright.sync_api import Page
from support.browser.chromium import Visit
from support.browser.surfing import cookie, expect_nobody, expect_user, sign_in

UNKNOWN = "A" * 43


@pytest.fixture(scope="module", params=["session", "__Host-session"])
def name(request: pytest.FixtureRequest) -> str:
    """The name of the cookie."""
    return str(request.param)


@pytest.fixture(scope="module")
def sibling_shop(
    served_shop: str,
    settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
) -> Iterator[str]:
    """The demo on ``shop.test``, and on ``evil.shop.test``, which is in the attacker's hands."""
    settings = {**settings, "sqlsession.cookie_name": name}
    with served_securely(tmp_path_factory.mktemp("siblings"), settings, "shop.test") as address:
        yield address


def surf(visit: Visit, shop: str) -> Page:
    """A browser that does not know who has signed the certificate."""
    return visit(shop, ignore_https_errors=True)


def plant(page: Page, shop: str, planted: str) -> None:
    """Have the sibling host set a cookie, and come back."""
    page.goto(shop.replace("shop.test", "evil.shop.test"))
    page.evaluate(
        "planted => { document.cookie = planted }", f"{planted}; Domain=shop.test; Secure"
    )
    page.goto(shop)


def sent(page: Page) -> str:
    """The Cookie header with which a page is read again."""
    response: Any = page.reload()
    return str(response.request.all_headers()["cookie"])


@pytest.mark.parametrize("path", ["/", "/cart"])
def test_the_name_in_the_value_of_a_siblings_cookie_signs_nobody_in(
    sibling_shop: str, visit: Visit, name: str, path: str
) -> None:
    """Cookies of longer paths come first in the header, and those of the same one by their age."""
    attacker, victim = surf(visit, sibling_shop), surf(visit, sibling_shop)
    sign_in(attacker, "bob")
    evil = f"a=b {name}={cookie(attacker, name)['value']}"
    plant(victim, sibling_shop, f"{evil}; Path={path}")
    victim.goto(path)
    assert evil in sent(victim)
    expect_nobody(victim)
    sign_in(victim)
    victim.goto(path)
    assert evil in sent(victim)
    expect_user(victim, "Alice")


@pytest.mark.parametrize("name", ["session"], indirect=True)
def test_a_siblings_cookie_of_the_same_name_signs_nobody_out(
    sibling_shop: str, visit: Visit, name: str
) -> None:
    """A browser keeps one for each path and domain, and sends both."""
    victim = surf(visit, sibling_shop)
    sign_in(victim)
    plant(victim, sibling_shop, f"{name}={UNKNOWN}; Path=/cart")
    victim.goto("/cart")
    assert sent(victim).startswith(f"{name}={UNKNOWN}; {name}=")
    expect_user(victim, "Alice")


@pytest.mark.parametrize("name", ["session"], indirect=True)
def test_signing_out_signs_out_of_a_second_cookie_too(
    sibling_shop: str, visit: Visit, name: str
) -> None:
    """Otherwise the page after it would have the user signed in still."""
    victim, elsewhere = surf(visit, sibling_shop), surf(visit, sibling_shop)
    for page in (victim, elsewhere):
        sign_in(page)
    second = f"{name}={cookie(elsewhere, name)['value']}"
    plant(victim, sibling_shop, second)
    assert second in sent(victim)
    victim.get_by_role("button", name="Sign out", exact=True).click()
    expect_nobody(victim)
    assert second in sent(victim)
    expect_nobody(victim)


def test_a_browser_takes_no_cookie_from_a_sibling_whose_name_says_host(
    sibling_shop: str, visit: Visit, name: str
) -> None:
    """What the prefix is for, and why a name in a value must not count."""
    victim = surf(visit, sibling_shop)
    plant(victim, sibling_shop, f"{name}={UNKNOWN}")
    kept = [it["value"] for it in victim.context.cookies(sibling_shop) if it.get("name") == name]
    assert (UNKNOWN in kept) is (name == "session")
